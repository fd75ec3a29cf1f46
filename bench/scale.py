"""Builds an index of any number of vectors, real or generated, in steps that may be killed, and notes what it took.

    python bench/scale.py --items 100000000 --memory 18GiB --processes 2
    python bench/scale.py --items 1000000 --vectors var/bench/vectors

Generated vectors come from `bench/mixture.npz`, which `bench/mixture_fit.py` fitted on real ones. The folder,
var/bench/scale/ITEMS or ITEMS-real, gets the index, the queries with their exact nearest, and build.json. Run again it
goes on with the shards that are finished; then `bench/scale_latency.py FOLDER` measures.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from numbered_source import QUERIES_NAME, TRUTH, GeneratedVectors, NumberedSource, NumberedVectors, StoredVectors
from scale_latency import bytes_of
from search_latency import machine

from index_builder.build import encode_missing
from index_builder.merge import merge
from index_builder.pin import Pin, make_pin
from index_builder.shard import SHARDS
from index_builder.train import train
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings, load_settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.storage.atomic import TEMPORARY_PREFIX, new_directory, write_bytes

PIN, WORK, INDEX, BUILD = "pin.json", "work", "index", "build.json"
WHOLE_ROWS = 10_000_000
"""Up to so many items have all columns of a catalogue."""


def main() -> None:
    """Pin, train, encode, merge; each step once."""
    chosen = _arguments()
    vectors: NumberedVectors = (
        StoredVectors(chosen.vectors, chosen.items)
        if chosen.vectors
        else GeneratedVectors(chosen.mixture, chosen.items)
    )
    folder = chosen.out / (f"{chosen.items}-real" if chosen.vectors else str(chosen.items))
    (folder / TRUTH).mkdir(parents=True, exist_ok=True)
    if not (folder / QUERIES_NAME).exists():
        vectors.queries().save(folder / QUERIES_NAME)
    index = {"recipe": chosen.recipe, "recall": chosen.recall, "processes": chosen.processes,
             "build_memory_bytes": chosen.memory, "shard_items": chosen.shard_items}  # fmt: skip
    settings = load_settings(home=folder, index=index)
    build(folder, settings, NumberedSource(vectors, _space(vectors), folder, chosen.items <= WHOLE_ROWS))


def build(folder: Path, settings: Settings, source: NumberedSource) -> None:
    """What is finished stays; the seconds of each step are those of the runs that did it, added up."""
    if not (folder / INDEX).exists():
        _build(folder, settings, source)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    print((folder / BUILD).read_text())


def _build(folder: Path, settings: Settings, source: NumberedSource) -> None:
    progress, steps, work = LogProgress(30), _Steps(folder / BUILD), folder / WORK
    _remove_unfinished(folder, work, work / SHARDS)
    pin_file = folder / PIN
    if not pin_file.exists():
        pin = steps.timed("pin", lambda: make_pin(settings, source, words=True))
        write_bytes(pin_file, pin.model_dump_json().encode())
    pin = Pin.model_validate_json(pin_file.read_text())
    steps.timed("train", lambda: train(work, pin, source, progress, source.encode_texts))
    steps.timed("encode", lambda: encode_missing(work, pin, source, settings.index, progress))

    def seal() -> None:
        with new_directory(folder / INDEX) as target:
            merge(work, target, pin, source, progress, source.encode_texts)

    steps.timed("merge", seal)


def _remove_unfinished(*folders: Path) -> None:
    """What a killed run was about to write: a shard takes up to a gigabyte of disk, an index as much as it has."""
    for path in (path for folder in folders for path in folder.glob(f"{TEMPORARY_PREFIX}*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


class _Steps:
    """Seconds by step in a file; those of several runs of one step are added up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def timed(self, name: str, work: Any) -> Any:
        """Do it; a run that is killed counts too, as far as the last note of it."""
        started = time.monotonic()
        try:
            return work()
        finally:
            seconds = json.loads(self._path.read_text())["seconds"] if self._path.exists() else {}
            seconds[name] = round(seconds.get(name, 0) + time.monotonic() - started, 1)
            write_bytes(self._path, json.dumps({"machine": machine(), "seconds": seconds}, indent=2).encode())


def _space(vectors: NumberedVectors) -> EmbeddingSpace:
    return EmbeddingSpace(
        encoder=vectors.name, weights_sha256="0" * 64, preprocessing_sha256="0" * 64, tokenizer_sha256="0" * 64,
        dim=vectors.dim,
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--vectors", type=Path, help="folder of real vectors; default: generated ones")
    parser.add_argument("--mixture", type=Path, default=Path("bench/mixture.npz"))
    parser.add_argument("--recipe", default="ivf_pq")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--memory", type=bytes_of, default=bytes_of("8GiB"))
    parser.add_argument("--shard-items", type=int, default=2_000_000)
    parser.add_argument("--out", type=Path, default=Path("var/bench/scale"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
