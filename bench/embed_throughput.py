"""Pictures per second of the Spark embedding job and of a bare torch loop, in turns, on the same pictures and cores.

    python bench/embed_throughput.py --home var [--rounds 3] [--pictures 4000]

HOME must hold an ingested catalogue (`lookalike ingest`). The bare loop is one process per core, each with one torch
thread, reading, decoding, preparing and encoding batches one after another: nothing else runs beside it. The Spark job
is the real one, on a copy of the tables without vectors. Counted on both sides: reading, decoding, preparing, encoding
and keeping the vectors. Left out on both sides: start of processes and JVM, opening the encoder, one warm-up. The whole
Spark job (with its plan and its MERGE) is printed beside it.
"""

import argparse
import hashlib
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike.contracts.encoder import Prepared
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings, load_settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.releases.encoder_in_use import encoder_in_use
from lookalike.storage.delta import DeltaTables
from spark import tables
from spark.embed import embed
from spark.embed_rows import CPU_BATCH
from spark.session import start, stop

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BAR = 0.8


def bare_worker(settings: Settings, paths: list[str], gate: Any, answers: Any) -> None:
    """One process of the bare loop: encode all `paths` whenever the gate opens."""
    from lookalike.catalogue.intake import decode_picture
    from models.encoders import open_encoder

    encoder = open_encoder(encoder_in_use(settings), device=settings.encoder.device, threads=1)
    size, root = settings.embed.batch_size or CPU_BATCH, settings.pictures_root

    def load(path: str) -> Prepared:
        data = (root / path).read_bytes()
        hashlib.sha256(data).hexdigest()  # the job checks it too
        return encoder.prepare(decode_picture(data))

    encoder.encode_prepared([load(path) for path in paths[:size]])
    while gate.get():
        started = time.perf_counter()
        kept = [
            encoder.encode_prepared([load(path) for path in paths[place : place + size]])
            for place in range(0, len(paths), size)
        ]
        assert sum(map(len, kept)) == len(paths)
        answers.put((started, time.perf_counter()))


class BareLoop:
    """The bare loop's processes, kept warm between rounds."""

    def __init__(self, settings: Settings, paths: list[str], cores: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.gates = [context.SimpleQueue() for _ in range(cores)]
        self.answers = context.SimpleQueue()
        self.count = len(paths)
        self.processes = [
            context.Process(target=bare_worker, args=(settings, paths[core::cores], gate, self.answers), daemon=True)
            for core, gate in enumerate(self.gates)
        ]
        for process in self.processes:
            process.start()

    def round(self) -> float:
        """Pictures per second from the first start to the last end."""
        for gate in self.gates:
            gate.put(True)
        times = [self.answers.get() for _ in self.gates]
        return self.count / (max(end for _, end in times) - min(begin for begin, _ in times))

    def close(self) -> None:
        for gate in self.gates:
            gate.put(False)
        for process in self.processes:
            process.join()


def forget_vectors(settings: Settings, session: "SparkSession") -> None:
    """Empty EMBEDDINGS in the scratch copy by making it anew."""
    shutil.rmtree(Path(settings.tables_root) / EMBEDDINGS.name, ignore_errors=True)
    tables.ensure_tables(session, settings)


def keep_only(settings: Settings, pictures: int) -> None:
    """Drop all but the first `pictures` content hashes from the scratch copy of SILVER."""
    from deltalake import DeltaTable

    known = DeltaTables(settings.tables_root)
    hashes = sorted(set(known.read(SILVER, ["content_hash"], where="NOT deleted")["content_hash"].to_pylist()))
    if len(hashes) > pictures:
        DeltaTable(known.uri(SILVER.name)).delete(f"content_hash >= '{hashes[pictures]}'")


def measure(settings: Settings, rounds: int) -> list[tuple[float, float, float]]:
    """(bare, Spark encoding, whole Spark job) in pictures per second, one row per round."""
    silver = DeltaTables(settings.tables_root).read(SILVER, ["content_hash", "image_path"], where="NOT deleted")
    hashes, all_paths = silver["content_hash"].to_pylist(), silver["image_path"].to_pylist()
    paths = sorted(dict(zip(hashes, all_paths, strict=True)).values())
    cores = len(os.sched_getaffinity(0))
    session, bare, results = start(settings, "embed-throughput"), BareLoop(settings, paths, cores), []
    for number in range(rounds + 1):
        bare_rate = bare.round()
        forget_vectors(settings, session)
        report = embed(session, settings, LogProgress())
        assert report.pictures == len(paths), (report, len(paths))
        row = (bare_rate, report.pictures_per_second, report.pictures / report.seconds)
        name = f"round {number}" if number else "warm-up"
        spark = f"Spark {row[1]:,.0f} ({row[1] / row[0]:.2f}), whole job {row[2]:,.0f} ({row[2] / row[0]:.2f})"
        print(f"{name}: bare {row[0]:,.0f}, {spark} pictures/s", flush=True)
        if number:
            results.append(row)
    bare.close()
    stop()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=4_000)
    given = parser.parse_args()
    source = load_settings(home=given.home)
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        for name in (SILVER.name, "bronze", "refused"):
            shutil.copytree(Path(source.tables_root) / name, Path(scratch) / name)
        settings = source.model_copy(update={"tables": source.tables.model_copy(update={"root": scratch})})
        keep_only(settings, given.pictures)
        results = measure(settings, given.rounds)
    bare, encoding, whole = (statistics.median(column) for column in zip(*results, strict=True))
    ratio = statistics.median(row[1] / row[0] for row in results)
    print(
        f"machine: {os.cpu_count()} cores, {platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"bare loop {bare:,.0f}, Spark {encoding:,.0f}, whole Spark job {whole:,.0f} pictures/s (medians)")
    print(f"Spark / bare = {ratio:.2f} (bar: {BAR})")
    sys.exit(0 if ratio >= BAR else 1)


if __name__ == "__main__":
    main()
