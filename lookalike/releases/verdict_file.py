"""Verdict files: beside the sealed folder, which is never written again, each under its own hash.

Judging a version again leaves the old verdict as evidence; which one counts is the hash that the registry names.
"""

from pathlib import Path

from pydantic import ValidationError

from lookalike.contracts.verdict import Verdict
from lookalike.storage.atomic import write_bytes


def verdict_path(index_dir: Path, verdict_sha256: str) -> Path:
    """Where a verdict of the artifact lies."""
    return index_dir.parent / f"{index_dir.name}.verdicts" / f"{verdict_sha256}.json"


def write_verdict(index_dir: Path, verdict: Verdict) -> Path:
    """Write the verdict beside the artifact; writing the same one again changes nothing."""
    path = verdict_path(index_dir, verdict.sha256)
    write_bytes(path, verdict.model_dump_json(indent=2).encode())
    return path


def read_verdict(index_dir: Path, verdict_sha256: str | None) -> Verdict | None:
    """The verdict file, or None when there is none, it is unreadable, or it is not the one the registry names."""
    if verdict_sha256 is None:
        return None
    try:
        verdict = Verdict.model_validate_json(verdict_path(index_dir, verdict_sha256).read_bytes())
    except (OSError, ValidationError):
        return None
    return verdict if verdict.sha256 == verdict_sha256 else None
