"""Files of an artifact, and the check of each against the manifest."""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.manifest import MANIFEST_NAME, Manifest

INDEX_NAME = "index.faiss"
REFINE_NAME = "refine.faiss"
CENTRES_NAME = "centres.faiss"
AXES_NAME = "axes.npz"
ITEMS_NAME = "items.arrow"


def checked_manifest(directory: Path, verify: bool) -> Manifest:
    """The manifest, after every file was checked against it; see `open_index`."""
    manifest = _read_manifest(directory)
    for name, expected in manifest.files.items():
        check_file(directory, name, expected.sha256 if verify else None, expected.bytes)
    for name in (INDEX_NAME, ITEMS_NAME):
        if name not in manifest.files:
            raise CorruptArtifact(f"{directory / MANIFEST_NAME} does not list {name}; build the index again")
    return manifest


def check_file(directory: Path, name: str, sha256: str | None, size: int) -> None:
    """Raise CorruptArtifact unless the file is there with this size and, when given, this sha256."""
    path = directory / name
    if Path(name).name != name:
        raise CorruptArtifact(f"{directory / MANIFEST_NAME} lists {name!r}, which is not a plain file name")
    if not path.is_file():
        raise CorruptArtifact(f"{path} is missing; the manifest lists it with {size:,} bytes. Build the index again.")
    actual = path.stat().st_size
    if actual != size:
        raise CorruptArtifact(f"{path} has {actual:,} bytes; the manifest says {size:,}. Build the index again.")
    if sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise CorruptArtifact(f"{path} has sha256 {found}; the manifest says {sha256}. Build the index again.")


def _read_manifest(directory: Path) -> Manifest:
    try:
        return Manifest.read(directory)
    except FileNotFoundError as error:
        raise CorruptArtifact(f"{directory / MANIFEST_NAME} is missing; this is not an index directory") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise CorruptArtifact(f"{directory / MANIFEST_NAME} is not a manifest of format 1: {error}") from error
