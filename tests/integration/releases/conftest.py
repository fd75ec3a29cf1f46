"""An empty MLflow on SQLite, sealed folders and verdicts for it."""

from datetime import UTC, datetime

import pytest

from lookalike.contracts.manifest import MANIFEST_NAME, IndexRecipe, Manifest
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.verdict import Check, Verdict
from lookalike.releases.registry import Registry


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """Migrations take seconds: made once, copied for each test."""
    home = tmp_path_factory.mktemp("migrated")
    assert Registry(Settings(home=home)).releases() == []
    return (home / "mlflow.db").read_bytes()


class Shelf:
    """Makes registered and judged releases below one home."""

    def __init__(self, settings):
        self.settings, self.registry, self.count = settings, Registry(settings), 0
        self.encoder = settings.home / "encoder"
        self.encoder.mkdir()
        (self.encoder / "encoder.json").write_text("{}")

    def register(self):
        self.count += 1
        folder = self.settings.releases_root / f"build-{self.count}"
        folder.mkdir(parents=True)
        manifest = Manifest(
            created_at=datetime(2026, 3, 1, tzinfo=UTC),
            space=EmbeddingSpace(
                encoder="tiny", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=8
            ),
            recipe=IndexRecipe(name="exact", description="all pairs", factory="Flat"),
            chosen_because="few items",
            items=self.count,
            table_versions={"silver": 4},
            files={},
        )
        (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
        return self.registry.register(folder, self.encoder, "builder")

    def judge(self, version, passed=True):
        check = Check(name="recall@10", passed=passed, observed="0.98", bar="at least 0.95")
        release = self.registry.release(version)
        verdict = Verdict(at=datetime.now(UTC), manifest_sha256=release.manifest_sha256, checks=(check,))
        return self.registry.record_verdict(version, verdict, "gate")

    def judged(self, passed=True):
        return self.judge(self.register().version, passed)

    def by_hand(self, version, alias="live"):
        """What a person does in MLflow's page or client."""
        from mlflow import MlflowClient

        uri = self.settings.tracking_uri
        MlflowClient(uri, uri).set_registered_model_alias("lookalike-index", alias, version)

    def with_settings(self, **sections):
        return Registry(self.settings.model_copy(update=sections))


@pytest.fixture
def shelf(tmp_path, migrated):
    home = tmp_path / "home"
    home.mkdir()
    (home / "mlflow.db").write_bytes(migrated)
    return Shelf(Settings(home=home))
