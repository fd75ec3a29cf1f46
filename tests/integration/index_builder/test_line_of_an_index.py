"""The index as its users meet it: built in a process of its own, killed and built again, searched page by page."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from index_builder.reader import open_index
from lookalike.contracts.query import Filter, QueryPart, SearchQuery
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.settings import IntakeSettings, Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.search.engine import SearchEngine
from lookalike.storage.delta import DeltaTables

pytestmark = pytest.mark.slow

DIM, ITEMS = 64, 10_000
SPACE = EmbeddingSpace(
    encoder="test", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=DIM
)
BUILD = """
import sys
from pathlib import Path
from index_builder.build import build
from index_builder.delta_source import DeltaSource
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.storage.delta import DeltaTables
home, target, recipe, space = sys.argv[1:]
settings = Settings(home=Path(home))
tables = DeltaTables(settings.tables_root)
source = DeltaSource.newest(tables, EmbeddingSpace.model_validate_json(space))
build(settings, source, Path(target), LogProgress(), recipe)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Silver and embeddings of 10,000 items around 500 centres."""
    home = tmp_path_factory.mktemp("home")
    tables = DeltaTables(Settings(home=home).tables_root)
    random = np.random.default_rng(0)
    centres = random.normal(size=(500, DIM))
    vectors = centres[random.integers(0, 500, ITEMS)] + 0.7 * random.normal(size=(ITEMS, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"item-{at:05d}" for at in random.permutation(ITEMS)]
    hashes = [hashlib.sha256(item_id.encode()).hexdigest() for item_id in ids]
    constant = {"version": 1, "title": "t", "image_path": "x.png", "width": 1, "height": 1, "source": "s",
                "snapshot_id": "1", "deleted": False, "shard": 0}  # fmt: skip
    silver = {name: [constant.get(name)] * ITEMS for name in SILVER.schema.names}
    silver |= {"item_id": ids, "content_hash": hashes, "brand": [["a", "b", "c"][at % 3] for at in range(ITEMS)]}
    tables.append(SILVER, pa.table(silver, schema=SILVER.schema))
    flat = pa.ListArray.from_arrays(pa.array(np.arange(0, ITEMS * DIM + 1, DIM, dtype=np.int32)), vectors.ravel())
    columns = {"item_id": ids, "space": [SPACE.fingerprint] * ITEMS, "content_hash": hashes,
               "item_version": [1] * ITEMS, "encoder_version": ["1"] * ITEMS, "vector": flat,
               "l2_norm": [1.0] * ITEMS}  # fmt: skip
    tables.append(EMBEDDINGS, pa.table(columns, schema=EMBEDDINGS.schema))
    return home


def start_build(home: Path, target: Path, recipe: str, threads: int = 1) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILD, str(home), str(target), recipe, SPACE.model_dump_json()]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, env=environment)


@pytest.fixture(scope="module", params=["hnsw", "ivf_pq"])
def folder(request, home, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("built") / request.param
    assert start_build(home, target, request.param).wait(300) == 0
    return target


class FixedEncoder:
    """Encoder port whose texts are numbers of directions."""

    space = SPACE

    def encode_texts(self, texts):
        rows = np.stack([np.random.default_rng(int(text)).normal(size=DIM) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("filters", [(), (Filter(field="brand", any_of=("a", "b")),)], ids=["all", "filtered"])
def test_pages_down_to_the_deepest_rank(folder, filters):
    index = open_index(folder)
    engine = SearchEngine(index, FixedEncoder(), "1", decode=lambda data, box: data, limits=IntakeSettings())
    query = SearchQuery(parts=(QueryPart(text="5"),), k=90, filters=filters)
    found, pages, plans = [], 0, set()
    while True:
        answer = engine.search(query)
        found += [hit.item_id for hit in answer.hits]
        pages += 1
        if pages == 1:
            plans.add(answer.plan)
        if answer.next_cursor is None:
            break
        query = query.model_copy(update={"cursor": answer.next_cursor})
    assert len(found) == len(set(found)) == 2_000
    assert plans == {"index"}  # comparing half of all rows costs more than a search
    allowed = None
    if filters:
        allowed = RowSet.of(np.isin(np.array(index.columns["brand"].to_pylist()), ["a", "b"]))
    truth = index.search(engine._encoder.encode_texts(["5"]), 2_000, allowed, exact=True)[1][0]
    expected = {index.columns["item_id"][int(row)].as_py() for row in truth}
    assert len(expected & set(found)) >= 1_900


def test_another_process_with_other_threads_builds_the_same_bytes(folder, home, tmp_path):
    assert start_build(home, tmp_path / "again", folder.name, threads=2).wait(300) == 0
    for name in ("index.faiss", "items.arrow"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_killed_build_leaves_nothing_that_could_be_opened(home, tmp_path):
    target = tmp_path / "index"
    process = start_build(home, target, "hnsw")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".tmp-*/work/shards/.tmp-*/vectors.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not target.exists()
    assert start_build(home, target, "hnsw").wait(300) == 0
    assert open_index(target).manifest.items == ITEMS
