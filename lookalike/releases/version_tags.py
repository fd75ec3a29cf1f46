"""A release as the tags of a registered model version, and back: what MLflow shows and what we read from it."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.verdict import Check, Verdict
from lookalike.releases.model_tags import decision_from_json
from lookalike.releases.release import Release

DECISION = "decision"

_NOT_IN_KEYS = re.compile(r"[^\w.\- :/]")
"""What MLflow does not take in a tag's key; `recall@10` has one."""


def tags_of(manifest: Manifest, encoder_dir: Path, encoder_version: str, actor: str) -> dict[str, str]:
    """Tags of a fresh version."""
    return {
        "manifest_sha256": manifest.sha256,
        "space": manifest.space.fingerprint,
        "encoder": manifest.space.encoder,
        "encoder_dir": encoder_dir.as_uri(),
        "encoder_version": encoder_version,
        "items": str(manifest.items),
        "recipe": manifest.recipe.name,
        "table_versions": json.dumps(manifest.table_versions, sort_keys=True),
        "actor": actor,
    }


def verdict_tags(verdict: Verdict) -> dict[str, str]:
    """Tags of a judged version, in the order in which to set them: the hash that binds comes last."""
    tags = {f"check.{_NOT_IN_KEYS.sub('_', check.name)}": _outcome(check) for check in verdict.checks}
    return tags | {"verdict": "passed" if verdict.passed else "failed", "verdict_sha256": verdict.sha256}


def release_of(entry: Any) -> Release:
    """Read a `mlflow.entities.ModelVersion`. Raises CorruptArtifact when it lacks our tags."""
    tags = entry.tags
    try:
        return Release(
            version=str(entry.version),
            index_dir=local_path(entry.source),
            encoder_dir=local_path(tags["encoder_dir"]),
            encoder_version=tags["encoder_version"],
            manifest_sha256=tags["manifest_sha256"],
            space=tags["space"],
            items=int(tags["items"]),
            recipe=tags["recipe"],
            table_versions=json.loads(tags["table_versions"]),
            created_at=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
            actor=tags["actor"],
            verdict_sha256=tags.get("verdict_sha256"),
            last_decision=decision_from_json(tags[DECISION]) if DECISION in tags else None,
        )
    except KeyError as error:
        raise CorruptArtifact(
            f"{entry.name} version {entry.version} has no tag {error}: it was not registered by Lookalike"
        ) from error


def local_path(uri: str) -> Path:
    """Path of a file: URI or of a plain path."""
    return Path(unquote(urlparse(uri).path)) if uri.startswith("file:") else Path(uri)


def _outcome(check: Check) -> str:
    return f"{'passed' if check.passed else 'failed'}: {check.observed} (bar: {check.bar})"
