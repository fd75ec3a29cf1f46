"""Proof: the verdict of a version, read from disk and bound to the artifact as it lies on disk now.

Promotion and the server ask the same question through the same function: may this artifact answer people? The
registry's own tags are never enough: they say what was once registered, not what the files are today.
"""

from pathlib import Path

from pydantic import ValidationError

from lookalike.contracts.errors import CorruptArtifact, NotPromotable
from lookalike.contracts.manifest import MANIFEST_NAME, Manifest
from lookalike.contracts.verdict import Verdict
from lookalike.releases.release import Release
from lookalike.releases.verdict_file import read_verdict, verdict_path


def read_manifest(index_dir: Path) -> Manifest:
    """Read the manifest. Raises CorruptArtifact when it is missing or not a manifest."""
    try:
        return Manifest.read(index_dir)
    except OSError as error:
        raise CorruptArtifact(f"{index_dir / MANIFEST_NAME} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise CorruptArtifact(f"{index_dir / MANIFEST_NAME} is not a manifest of this format: {error}") from error


def require_proof(release: Release) -> Verdict:
    """The passed verdict of exactly these files, or NotPromotable / CorruptArtifact saying what is wrong."""
    name = f"version {release.version}"
    on_disk = read_manifest(release.index_dir).sha256
    if on_disk != release.manifest_sha256:
        raise CorruptArtifact(
            f"{name}: {release.index_dir / MANIFEST_NAME} has sha256 {on_disk[:16]}…, registered was "
            f"{release.manifest_sha256[:16]}…. The artifact was changed after it was registered: build again."
        )
    if release.verdict_sha256 is None:
        raise NotPromotable(f"{name} has no verdict; judge it first with `lookalike gate`")
    verdict = read_verdict(release.index_dir, release.verdict_sha256)
    if verdict is None:
        raise NotPromotable(
            f"{name}: its verdict {verdict_path(release.index_dir, release.verdict_sha256)} is missing or was "
            f"changed; judge it again with `lookalike gate`"
        )
    if verdict.manifest_sha256 != on_disk:
        raise NotPromotable(
            f"{name}: the verdict judged artifact {verdict.manifest_sha256[:16]}…, but this is {on_disk[:16]}…; "
            f"judge it with `lookalike gate`"
        )
    decision = release.decision
    if decision is not None and release.refused:
        said = f" ({decision.comment})" if decision.comment else ""
        raise NotPromotable(
            f"{name} was refused by {decision.actor} at {decision.at:%Y-%m-%d %H:%M} UTC{said}; "
            f"`lookalike approve {release.version}` takes that back"
        )
    if not verdict.passed:
        failed = ", ".join(check.name for check in verdict.checks if not check.passed) or "it holds no check"
        raise NotPromotable(f"{name} did not pass the gate: {failed}")
    return verdict
