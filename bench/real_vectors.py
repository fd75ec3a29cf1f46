"""Real embeddings at scale: a million pictures and their texts, encoded; what other benchmarks here are run on.

    lookalike --home var/bench/home catalogue fetch icons --all
    lookalike --home var train --config lookalike_mini_512 --out var/bench/encoder-512
    python bench/real_vectors.py --home var/bench/home --encoder var/bench/encoder-512 --items 1000000

Items are all drawings of the icon package but some that are held out, and, beyond these, compositions of them as
`lookalike catalogue synthesise` makes them. Queries are held-out drawings and compositions that are no items, as
pictures and as their titles. Written below --out: items.npy, item_texts.npy, query_pictures.npy, query_texts.npy, all
float32 of shape (n, dim), row i of a pair being one product. A killed run goes on from its finished parts.
"""

import argparse
import io
import shutil
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.catalogue.intake import decode_picture
from lookalike.catalogue.synthesise import base_rows, compose, picture_of, title_of
from lookalike.catalogue.workers import worker_count, worker_pool
from lookalike.contracts.encoder import Encoder, Picture, Vectors
from lookalike.contracts.settings import load_settings
from lookalike.line.snapshots import find_snapshot
from lookalike.storage.atomic import write_bytes

PART, BATCH, SEED = 4_000, 100, 20_261_123
QUERIES = 2_000
"""Half of them held-out drawings, half compositions."""
PARTS = "parts"


def main() -> None:
    """Encode what is missing, then put the parts together."""
    chosen = _arguments()
    settings = load_settings(home=chosen.home)
    base, pictures = find_snapshot(settings, None), settings.pictures_root
    drawings = sum(1 for _ in base_rows(base))
    held_out = _held_out(drawings)
    # One line of products: the drawings that are items, compositions that are items, then the queries.
    items = np.setdiff1d(np.arange(drawings), held_out)[: chosen.items]
    composed = chosen.items - len(items) + len(held_out)
    line = np.concatenate([items, np.arange(-1, -1 - composed, -1)])
    line = np.concatenate([line[: chosen.items], held_out, line[chosen.items :]])
    folder = chosen.out / PARTS
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (folder / f"{start:09d}.npz", line[start : start + PART], base, pictures, chosen.encoder)
        for start in range(0, len(line), PART)
    ]
    print(f"{len(items):,} drawings, {len(line) - len(items) - len(held_out):,} compositions, {len(held_out)} held out")
    _encode_all([job for job in jobs if not job[0].exists()])
    _join([job[0] for job in jobs], chosen.items, chosen.out)
    shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("var/bench/home"))
    parser.add_argument("--encoder", type=Path, default=Path("var/bench/encoder-512"))
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("var/bench/vectors"))
    return parser.parse_args()


def _held_out(drawings: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(SEED).choice(drawings, QUERIES // 2, replace=False))


def _encode_all(jobs: list[Any]) -> None:
    started, done = time.monotonic(), 0
    with worker_pool(worker_count()) as pool:
        for count in pool.map(_encode_part, jobs):
            done += count
            rate = done / (time.monotonic() - started)
            print(f"\r{done:,} of {len(jobs) * PART:,} pictures, {rate:,.0f}/s ", end="", file=sys.stderr, flush=True)


def _encode_part(job: tuple[Path, NDArray[np.int64], Path, Path, Path]) -> int:
    target, numbers, base, root, encoder_path = job
    encoder, rows = _encoder(encoder_path), _rows(base)
    pictures, texts = [], []
    for start in range(0, len(numbers), BATCH):
        products = [_product(int(number), rows, root) for number in numbers[start : start + BATCH]]
        pictures.append(encoder.encode_pictures([picture for picture, _ in products]))
        texts.append(encoder.encode_texts([title for _, title in products]))
    buffer = io.BytesIO()
    np.savez(buffer, pictures=np.concatenate(pictures), texts=np.concatenate(texts))
    write_bytes(target, buffer.getvalue())
    return len(numbers)


def _product(number: int, rows: tuple[dict[str, Any], ...], root: Path) -> tuple[Picture, str]:
    """Picture and title: of a drawing from 0, of composition -1 - `number` below."""
    if number >= 0:
        return decode_picture((root / rows[number]["image_path"]).read_bytes()), str(rows[number]["title"])
    composition = compose(-1 - number, SEED, len(rows))
    shown = [rows[row] for row in composition.bases]
    return np.asarray(picture_of(composition, shown, root)), title_of(composition, shown)


@lru_cache(maxsize=1)
def _rows(base: Path) -> tuple[dict[str, Any], ...]:
    return tuple(base_rows(base))


@lru_cache(maxsize=1)
def _encoder(path: Path) -> Encoder:
    from models.encoders import open_encoder

    return open_encoder(str(path), device="cpu", threads=1)


def _join(parts: list[Path], items: int, out: Path) -> None:
    """Of both kinds one file of items and one of queries."""
    for kind, names in (("pictures", ("items", "query_pictures")), ("texts", ("item_texts", "query_texts"))):
        vectors: Vectors = np.concatenate([np.load(part)[kind] for part in parts])
        for name, chosen in zip(names, (vectors[:items], vectors[items:]), strict=True):
            np.save(out / f"{name}.npy", chosen)
            print(f"{out / name}.npy: {chosen.shape}")


if __name__ == "__main__":
    main()
