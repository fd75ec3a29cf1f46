"""Reading 200 random rows of a file of codes, cold and warm: one after the other, and all asked for at once.

python bench/cold_reads.py --folder var
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from index_builder.finest_codes import PagedRows

BYTES, ROW, ROWS, ROUNDS = 512 * 2**20, 512, 200, 40


def write(path: Path) -> None:
    """Random bytes on disk."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(BYTES // 2**20):
            file.write(random.bytes(2**20))
        file.flush()
        os.fsync(file.fileno())


def forget(path: Path) -> None:
    """Out of the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(path: Path, cold: bool, ask: bool) -> float:
    """Median ms of ROUNDS reads."""
    random, paged, took = np.random.default_rng(1), PagedRows(path, BYTES // ROW, ROW), []
    for _ in range(ROUNDS):
        rows = random.integers(0, BYTES // ROW, ROWS)
        if cold:
            forget(path)
        else:
            paged.rows[rows].sum()
        started = time.perf_counter()
        if ask:
            paged.ask_for(rows)
        paged.rows[rows].copy()
        took.append((time.perf_counter() - started) * 1000)
    return median(took)


def main() -> None:
    """Print one line per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("var"), help="on the disk to be measured")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "rows"
        write(path)
        for cold in (True, False):
            for ask in (False, True):
                name = f"{'cold' if cold else 'warm'}, {'all at once' if ask else 'one after the other'}"
                print(f"{name:32} {measure(path, cold, ask):8.3f} ms for {ROWS} rows")


if __name__ == "__main__":
    main()
