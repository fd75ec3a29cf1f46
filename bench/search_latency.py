"""Latency of single queries through SearchEngine: p50 and p99 by stage, one query at a time, and the machine.

python bench/search_latency.py INDEX_DIRECTORY --encoder lookalike-mini      a built release, real text queries
python bench/search_latency.py --items 100000 --dim 256 --recipe ivf_pq  random clustered vectors, item queries
"""

import argparse
import hashlib
import os
import platform
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from index_builder.build import build
from index_builder.delta_source import DeltaSource
from index_builder.reader import open_index
from lookalike.contracts.encoder import Encoder, Picture
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.query import Box, Filter, QueryPart, SearchQuery
from lookalike.contracts.settings import IntakeSettings, Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.search.engine import SearchEngine
from lookalike.storage.delta import DeltaTables

WARM_UP = 20
Stages = dict[str, list[float]]
Plans = set[Literal["index", "exact"]]


class NoEncoder:
    """Stands where no text or picture is ever asked for: items are looked up by their stored vectors."""

    def __init__(self, space: EmbeddingSpace) -> None:
        self.space = space


def no_pictures(data: bytes, box: Box | None = None) -> Picture:
    """Queries of this bench carry no pictures."""
    raise NotImplementedError


def random_release(folder: Path, items: int, dim: int, recipe: str) -> Path:
    """Build an index of clustered random vectors on a 64-dimensional manifold, through real Delta tables."""
    random = np.random.default_rng(0)
    inner = min(dim, 64)
    centres = random.normal(size=(max(items // 500, 16), inner))
    points = centres[random.integers(0, len(centres), items)] + 0.7 * random.normal(size=(items, inner))
    vectors = (points @ random.normal(size=(inner, dim))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    digest = {part: hashlib.sha256(f"random {part} {dim}".encode()).hexdigest() for part in ("w", "p", "t")}
    space = EmbeddingSpace(
        encoder="random", weights_sha256=digest["w"], preprocessing_sha256=digest["p"],
        tokenizer_sha256=digest["t"], dim=dim,
    )  # fmt: skip
    settings = Settings(home=folder)
    tables = DeltaTables(settings.tables_root)
    ids = [f"item-{at:09d}" for at in range(items)]
    brands = [f"brand {at % 20}" for at in range(items)]
    fixed = {"version": 1, "title": "random", "image_path": "none.png", "content_hash": "0" * 64, "width": 1,
             "height": 1, "source": "bench", "snapshot_id": "bench", "deleted": False, "shard": 0}  # fmt: skip
    silver = {name: [fixed.get(name)] * items for name in SILVER.schema.names}
    prices = random.random(items).round(4)
    tables.append(SILVER, pa.table(silver | {"item_id": ids, "brand": brands, "price": prices}, schema=SILVER.schema))
    offsets = pa.array(np.arange(0, items * dim + 1, dim, dtype=np.int32))
    columns = {"item_id": ids, "space": [space.fingerprint] * items, "content_hash": ["0" * 64] * items,
               "item_version": [1] * items, "encoder_version": ["1"] * items,
               "vector": pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel())),
               "l2_norm": [1.0] * items}  # fmt: skip
    tables.append(EMBEDDINGS, pa.table(columns, schema=EMBEDDINGS.schema))
    build(settings, DeltaSource.newest(tables, space), folder / "index", LogProgress(), recipe)
    return folder / "index"


def measure(engine: SearchEngine, queries: list[SearchQuery]) -> tuple[Stages, Plans]:
    """Milliseconds of each stage per query, after a warm-up; and the plans that were used."""
    for query in queries[:WARM_UP]:
        engine.search(query)
    stages: Stages = {}
    plans: Plans = set()
    for query in queries:
        answer = engine.search(query)
        plans.add(answer.plan)
        for stage, value in answer.took_ms.items():
            stages.setdefault(stage, []).append(value)
    return stages, plans


def show(name: str, stages: Stages, plans: Plans) -> None:
    """One line per query kind."""
    figures = "  ".join(
        f"{stage} {np.percentile(values, 50):.2f}/{np.percentile(values, 99):.2f}" for stage, values in stages.items()
    )
    print(f"{name:<22} {'+'.join(sorted(plans)):<12} ms p50/p99: {figures}")


def machine() -> str:
    """Processor, cores and load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def main() -> None:
    """Parse arguments, open or build an index, print a line per kind of query."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, help="a built index; without it, random vectors")
    parser.add_argument("--encoder", help="encoder of the index, for text queries")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--recipe", default="ivf_pq")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--k", type=int, default=24)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.directory or random_release(
            Path(scratch), arguments.items, arguments.dim, arguments.recipe
        )
        index = open_index(directory)
        manifest = index.manifest
        encoder: Encoder = NoEncoder(manifest.space)  # type: ignore[assignment]
        if arguments.encoder:
            from models.encoders import open_encoder

            encoder = open_encoder(arguments.encoder, device="cpu", threads=1)
        engine = SearchEngine(index, encoder, "bench", decode=no_pictures, limits=IntakeSettings())
        print(f"{manifest.items:,} items, {manifest.space.dim} dimensions, recipe {manifest.recipe.name}; {machine()}")
        rows = np.random.default_rng(1).integers(0, manifest.items, arguments.queries)
        some = [index.columns["item_id"][int(row)].as_py() for row in rows]
        by_item = [SearchQuery(parts=(QueryPart(item_id=item_id),), k=arguments.k) for item_id in some]
        show("like an item", *measure(engine, by_item))
        brand = engine.facets()["brand"]
        if brand:
            one = Filter(field="brand", any_of=(brand[0]["value"],))
            filtered = [query.model_copy(update={"filters": (one,)}) for query in by_item]
            show(f"… in {brand[0]['count']:,} of a brand", *measure(engine, filtered))
        if arguments.encoder:
            titles = [index.columns["title"][int(row)].as_py() for row in rows]
            show(
                "words",
                *measure(engine, [SearchQuery(parts=(QueryPart(text=text),), k=arguments.k) for text in titles]),
            )


if __name__ == "__main__":
    main()
