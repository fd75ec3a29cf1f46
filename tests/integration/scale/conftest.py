"""A small world for the long benches: a generator fitted on vectors made here, and 200,000 of its vectors indexed.

The build is the bench's own command, killed in the middle of encoding and run again, and watched from outside.
"""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
BENCH = ROOT / "bench"
DIM, REAL, KINDS = 64, 6_000, 24
ITEMS, SMALLER = 200_000, (50_000, 100_000)
SHARD_ITEMS = 65_536
RECALL = 0.95
CAP = 3 * 2**30
STEP_SECONDS = 600


@dataclass(frozen=True)
class Build:
    """What a run of bench/scale.py left, and what was seen of it meanwhile: most bytes at a time of memory (of all its
    processes) and, in its folder, of all files and of the finer codes."""

    folder: Path
    memory: int
    disk: int
    finer: int

    @property
    def index(self) -> Path:
        return self.folder / "index"


@dataclass(frozen=True)
class Resumed:
    """The build that was killed once. `before`: state of each shard's truth, which is written once all of it is read,
    of the shards that were finished then; `after`: of all shards in the end."""

    build: Build
    killed_with: int
    before: dict[str, tuple[int, int]]
    after: dict[str, tuple[int, int]]


def unit(points):
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Path:
    """Folder of pictures and the texts that belong to them: kinds of products, each with directions of its own, designs
    of these in three variants each, and texts that lean on their picture away from all pictures."""
    random, folder = np.random.default_rng(20), tmp_path_factory.mktemp("real")
    spread = np.linspace(1.0, 0.15, DIM)
    middles = 1.2 * random.normal(size=(KINDS, DIM)) * spread
    turns = np.stack([np.linalg.qr(random.normal(size=(DIM, DIM)))[0] for _ in range(KINDS)])
    kind = random.integers(KINDS, size=REAL // 3)
    own = random.normal(size=(len(kind), DIM)) * spread
    designs = np.repeat(middles[kind] + 0.8 * np.einsum("nd,nde->ne", own, turns[kind]), 3, axis=0)
    apart = random.choice([0.05, 0.3, 0.6], size=(REAL, 1))
    pictures = unit(designs + apart * random.normal(size=designs.shape) * spread)
    rest = 0.8 * random.normal(size=pictures.shape) * spread[::-1] + 0.8 * random.normal(size=DIM)
    np.save(folder / "pictures.npy", pictures)
    np.save(folder / "texts.npy", unit(0.55 * pictures + 0.8 * unit(rest)))
    return folder


@pytest.fixture(scope="session")
def mixture(real, tmp_path_factory) -> Path:
    """The generator, fitted by its command."""
    path = tmp_path_factory.mktemp("mixture") / "mixture.npz"
    given = ["--pictures", real / "pictures.npy", "--texts", real / "texts.npy", "--components", 12, "--out", path]
    finish(start("mixture_fit.py", *given))
    return path


@pytest.fixture(scope="session")
def resumed(mixture, tmp_path_factory) -> Resumed:
    """Killed as soon as a shard is finished, then run again to its end."""
    out = tmp_path_factory.mktemp("resumed")
    folder = out / str(ITEMS)
    shards, process = folder / "work" / "shards", build_of(ITEMS, mixture, out)
    try:
        while not finished(shards) and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {name: state(folder, name) for name in finished(shards)}
    assert before, "the build ended before a shard was finished"
    build = watched(build_of(ITEMS, mixture, out), folder)
    after = {path.stem: state(folder, path.stem) for path in (folder / "truth").glob("*.npz")}
    return Resumed(build, len(before), before, after)


@pytest.fixture(scope="session")
def built(resumed) -> Build:
    return resumed.build


@pytest.fixture(scope="session")
def sizes(built, mixture, tmp_path_factory) -> dict[int, Build]:
    """Builds of more and more of the same vectors."""
    out = tmp_path_factory.mktemp("sizes")
    return {items: watched(build_of(items, mixture, out), out / str(items)) for items in SMALLER} | {ITEMS: built}


@pytest.fixture(scope="session")
def vectors(mixture):
    """All of them, made again, in the order of their numbers."""
    with imported("mixture") as (module,):
        made = module.Mixture.load(mixture)
        return np.concatenate([made.block(1, number) for number in range(-(-ITEMS // module.BLOCK_ROWS))])[:ITEMS]


@pytest.fixture(scope="session")
def queries(built) -> dict:
    with np.load(built.folder / "queries.npz") as stored:
        return {kind: stored[kind] for kind in ("pictures", "texts")}


@pytest.fixture(scope="session")
def tenth(vectors, queries) -> dict:
    """By kind of query, the similarity of each one's true tenth, shape (q,)."""
    return {kind: nearest_tenth(vectors, these) for kind, these in queries.items()}


@pytest.fixture(scope="session")
def bench():
    """`with bench("scale", …) as modules:` imports modules of the bench as its scripts do."""
    return imported


@pytest.fixture(scope="session")
def run():
    """`run("scale.py", …)`: what a script of the bench printed; it must succeed."""
    return lambda script, *arguments: finish(start(script, *arguments))


@pytest.fixture(scope="session")
def judged():
    """`judged(vectors, asked, rows)`: the recall@10 of each query, shape (q,), by comparing everything; where the tenth
    of each is known, against that."""

    def recalls(vectors, asked, rows, tenth=None):
        return share(vectors, asked, rows, nearest_tenth(vectors, asked) if tenth is None else tenth)

    return recalls


@contextmanager
def imported(*names):
    """They import each other as scripts of one folder do; nothing of them stays."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCH))
    try:
        yield tuple(importlib.import_module(name) for name in names)
    finally:
        sys.path.remove(str(BENCH))
        for name in [name for name in sys.modules if name not in before]:
            if BENCH in place_of(sys.modules[name]).parents:
                del sys.modules[name]


def place_of(module) -> Path:
    """Of its file, or of the folder that is one."""
    return Path(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "/"))


def nearest_tenth(vectors, asked):
    """Shape (q,)."""
    found = np.empty(len(asked), np.float32)
    for start in range(0, len(asked), 50):
        scores = asked[start : start + 50] @ vectors.T
        found[start : start + 50] = np.partition(scores, -10, axis=1)[:, -10]
    return found


def share(vectors, asked, rows, tenth):
    """Of ten different rows of each query, those that are as near as the true tenth."""
    near = np.einsum("qd,qkd->qk", asked, vectors[rows]) >= tenth[:, None] - 1e-5
    first = np.array([[row not in own[:at] for at, row in enumerate(own)] for own in rows.tolist()])
    return (near & first & (rows >= 0)).sum(axis=1) / 10


def start(script, *arguments) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process) -> str:
    try:
        told = process.communicate(timeout=STEP_SECONDS)[0]
    finally:
        process.kill()
    assert process.returncode == 0, told[-4_000:]
    return told


def build_of(items, mixture, out) -> subprocess.Popen:
    given = ["--items", items, "--mixture", mixture, "--out", out, "--shard-items", SHARD_ITEMS, "--recall", RECALL]
    return start("scale.py", *given, "--processes", 2, "--memory", f"{CAP // 2**20}MiB")


def watched(process, folder) -> Build:
    """Looked at every few milliseconds until it ends, which it must well."""
    memory = disk = finer = 0
    try:
        while process.poll() is None:
            memory = max(memory, memory_of(process.pid))
            files = dict(files_of(folder))
            disk = max(disk, sum(size for _, size in files.values()))
            finer = max(finer, sum(size for name, size in files.values() if name.startswith("refine")))
            time.sleep(0.02)
        finish(process)
    finally:
        process.kill()
    return Build(folder, memory, disk, finer)


def memory_of(pid) -> int:
    """Resident bytes of a process and all that it started, now."""
    total, waiting = 0, [pid]
    while waiting:
        each = Path(f"/proc/{waiting.pop()}")
        try:
            told = re.search(r"VmRSS:\s+(\d+)", (each / "status").read_text())
            total += int(told[1]) * 1024 if told else 0
            waiting += [int(child) for task in each.glob("task/*") for child in (task / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
    return total


def files_of(folder):
    """Name and size by inode: a file of two names takes its bytes once."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it has just gone
                found = (Path(place) / name).stat()
                yield found.st_ino, (name, found.st_size)


def finished(shards) -> list[str]:
    return [path.name for path in shards.glob("[0-9]" * 5)]


def state(folder, shard) -> tuple[int, int]:
    found = (folder / "truth" / f"{shard}.npz").stat()
    return found.st_ino, found.st_mtime_ns
