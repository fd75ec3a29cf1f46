"""Hashes of an encoder's files: weights with architecture, preprocessing, tokenizer. Its EmbeddingSpace follows."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha256_of_files(folder: Path, names: Iterable[str], also: str = "") -> str:
    """sha256 over names and contents of the files in `folder` in sorted order, and of the text `also`."""
    whole = hashlib.sha256(also.encode())
    for name in sorted(names):
        whole.update(b"\0" + name.encode() + b"\0" + bytes.fromhex(sha256_of_file(folder / name)))
    return whole.hexdigest()


def sha256_of_file(path: Path) -> str:
    """sha256 of one file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
