"""Do the files of an artifact still have the checksums of its manifest? Read again, byte by byte."""

import hashlib
from pathlib import Path

from lookalike.contracts.manifest import Manifest


def corrupt_files(directory: Path, manifest: Manifest) -> list[str]:
    """One sentence per file that is missing or differs in size or sha256; empty when all are as written.

    A name that leads out of `directory` is a fault too: a manifest must not point at other people's files.
    """
    faults = []
    for name, record in sorted(manifest.files.items()):
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            faults.append(f"{name}: lies outside the artifact")
        elif not path.is_file():
            faults.append(f"{name}: missing")
        elif (size := path.stat().st_size) != record.bytes:
            faults.append(f"{name}: {size:,} bytes, the manifest says {record.bytes:,}")
        elif (digest := _sha256(path)) != record.sha256:
            faults.append(f"{name}: sha256 {digest[:12]}…, the manifest says {record.sha256[:12]}…")
    return faults if manifest.files else ["the manifest lists no files"]


def bytes_on_disk(directory: Path) -> int:
    """Size of all files of the artifact as they lie there, whatever the manifest says."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
