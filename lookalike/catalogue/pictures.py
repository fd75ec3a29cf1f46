"""The picture store: files named by the sha256 of their bytes, written once and never changed."""

import hashlib
import os
import tempfile
from pathlib import Path


def picture_path(content_hash: str, suffix: str) -> str:
    """Path below the store: "ab/ab12….png"."""
    return f"{content_hash[:2]}/{content_hash}{suffix}"


def store_picture(root: Path, data: bytes, suffix: str) -> str:
    """Keep the bytes and return their path below `root`. The same bytes again change nothing."""
    path = picture_path(hashlib.sha256(data).hexdigest(), suffix)
    target = root / path
    if not target.is_file():
        write_atomically(target, data)
    return path


def write_atomically(target: Path, data: bytes) -> None:
    """Write beside the target and rename, so that a reader sees the whole file or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).rename(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
