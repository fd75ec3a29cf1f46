"""Latency of one text and of one picture on one core: median and 99th percentile, with the machine they were taken on.

    python bench/encoder_latency.py [--encoder lookalike-mini] [--calls 500] [--side 128] [--json]

A picture's time includes its preparation (resize from the size in which it lies in the catalogue), not its decoding.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch

from models.encoders import open_encoder

WARM_UP_CALLS = 20
QUERIES = (
    "red apple",
    "running shoes for men",
    "blue shirt",
    "wooden chair with a round seat",
    "birthday present for a child",
)


def processor() -> str:
    """Model name of the first core, as far as the system says it."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine()


def measure(call: Callable[[int], object], calls: int) -> dict[str, float]:
    """Median and p99 in ms of wall time, and CPU time per call, which other work on the machine does not lengthen."""
    for number in range(WARM_UP_CALLS):
        call(number)
    seconds, cpu = np.empty(calls), time.process_time()
    for number in range(calls):
        started = time.perf_counter()
        call(number)
        seconds[number] = time.perf_counter() - started
    return {
        "median_ms": float(np.median(seconds) * 1e3),
        "p99_ms": float(np.quantile(seconds, 0.99) * 1e3),
        "cpu_ms": (time.process_time() - cpu) / calls * 1e3,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="lookalike-mini")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--side", type=int, default=128, help="side of the random pictures, in pixels")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoder = open_encoder(options.encoder, device="cpu", threads=1)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (16, options.side, options.side, 3), dtype=np.uint8)
    result: dict[str, Any] = {
        "machine": f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, one thread used",
        "torch": torch.__version__,
        "encoder": f"{encoder.space.encoder} {encoder.space.fingerprint}",
        "text": measure(lambda number: encoder.encode_texts([QUERIES[number % len(QUERIES)]]), options.calls),
        "picture": measure(lambda number: encoder.encode_pictures([pictures[number % 16]]), options.calls),
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['encoder']} on {result['machine']}, torch {result['torch']}")
    for kind in ("text", "picture"):
        print(f"{kind:8} " + "  ".join(f"{name} {value:.2f}" for name, value in result[kind].items()))


if __name__ == "__main__":
    main()
