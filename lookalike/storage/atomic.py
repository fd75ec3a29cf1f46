"""Atomic writes: a file or folder is there whole or not at all, whatever kills the process.

Everything is written under a temporary name in the same folder (so that the rename stays on one file system),
flushed to disk, then renamed.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lookalike.contracts.errors import LookalikeError

TEMPORARY_PREFIX = ".tmp-"


def temporary_beside(target: Path) -> Path:
    """A fresh name in the target's folder; hidden, so that listings of finished things skip it."""
    return target.parent / f"{TEMPORARY_PREFIX}{target.name}-{secrets.token_hex(4)}"


def flush_folder(folder: Path) -> None:
    """Make the renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, replacing what was there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` when the block ends without an error.

    Raises LookalikeError when `target` is already there: a finished artifact is never edited in place.
    """
    if target.exists():
        raise LookalikeError(f"{target} exists already; a finished folder is never written again. Choose a new name.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        temporary.rename(target)
        flush_folder(target.parent)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)
