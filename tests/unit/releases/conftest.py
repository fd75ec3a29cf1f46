"""Sealed folders and releases as values; nothing here starts the registry."""

from datetime import UTC, datetime

import pytest

from lookalike.contracts.manifest import MANIFEST_NAME, IndexRecipe, Manifest
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.verdict import Check, Verdict
from lookalike.releases.release import Release

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def manifest():
    space = EmbeddingSpace(
        encoder="tiny", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=8
    )
    return Manifest(
        created_at=NOON,
        space=space,
        recipe=IndexRecipe(name="exact", description="all pairs", factory="Flat"),
        chosen_because="few items",
        items=3,
        table_versions={"silver": 4, "embeddings": 2},
        files={},
    )


@pytest.fixture
def sealed(tmp_path, manifest):
    folder = tmp_path / "releases" / "first"
    folder.mkdir(parents=True)
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return folder


@pytest.fixture
def passed(manifest):
    check = Check(name="recall@10", passed=True, observed="0.98", bar="at least 0.95")
    return Verdict(at=NOON, manifest_sha256=manifest.sha256, checks=(check,))


@pytest.fixture
def release(sealed, manifest, passed, tmp_path):
    return Release(
        version="1",
        index_dir=sealed,
        encoder_dir=tmp_path / "encoder",
        encoder_version="1",
        manifest_sha256=manifest.sha256,
        space=manifest.space.fingerprint,
        items=manifest.items,
        recipe="exact",
        table_versions=manifest.table_versions,
        created_at=NOON,
        actor="ada",
        verdict_sha256=passed.sha256,
    )
