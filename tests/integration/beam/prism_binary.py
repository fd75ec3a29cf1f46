"""Prism, Beam's portable runner for one machine, built from Beam's own Go module. Tests that need it say what lacks."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

VERSION = "v2.77.0"
MODULE = f"github.com/apache/beam/sdks/v2/go/cmd/prism@{VERSION}"
CACHE = Path(__file__).parents[3] / ".cache" / f"prism-{VERSION}"
BUILD_SECONDS = 800


def prism_binary() -> Path:
    """The binary, built once into the project's cache; skips with the reason where that cannot be done."""
    binary = CACHE / "prism"
    if binary.is_file():
        return binary
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"no `go` on PATH: with a Go toolchain this test builds Prism by `go install {MODULE}`")
    CACHE.mkdir(parents=True, exist_ok=True)
    building = CACHE / "building"
    environment = {**os.environ, "GOBIN": str(building)}
    built = subprocess.run(
        [go, "install", "-p", "1", MODULE], env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS
    )
    if built.returncode != 0:
        pytest.skip(f"`go install {MODULE}` failed, so Prism is not here:\n{built.stderr[-2000:]}")
    (building / "prism").replace(binary)
    return binary
