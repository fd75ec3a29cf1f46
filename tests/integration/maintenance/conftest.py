"""Homes with real Delta tables in many versions and a real MLflow on SQLite whose releases pin some of them."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from lookalike.contracts.manifest import MANIFEST_NAME, IndexRecipe, Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.contracts.verdict import Check, Verdict
from lookalike.releases.registry import Registry
from lookalike.storage.delta import DeltaTables

SPACE = EmbeddingSpace(
    encoder="tiny", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=4
)
KILLER = Path(__file__).with_name("killed_upkeep.py")


def silver_rows(numbers, price):
    common = dict.fromkeys(SILVER.schema.names) | {
        "version": 1, "image_path": "p.png", "width": 8, "height": 8, "price": price, "source": "shop",
        "snapshot_id": "s", "deleted": False, "attributes": [("colour", "red")], "tags": ["a"],
    }  # fmt: skip
    rows = [
        common | {"item_id": f"i{n:04d}", "title": f"t{n}", "content_hash": f"{n:064d}", "shard": n % 4}
        for n in numbers
    ]
    return pa.Table.from_pylist(rows, schema=SILVER.schema)


def embedding_rows(numbers):
    rows = [
        {"item_id": f"i{n:04d}", "space": SPACE.fingerprint, "content_hash": f"{n:064d}", "item_version": 1,
         "encoder_version": "tiny@a", "vector": [1.0, 0.0, 0.0, 0.0], "l2_norm": 1.0}
        for n in numbers
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EMBEDDINGS.schema)


class Home:
    """One home; `rows[name][version]` is what the table held when that version was the newest."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry(settings)
        self.tables = DeltaTables(settings.tables_root)
        self.rows: dict[str, dict[int, list]] = {"silver": {}, "embeddings": {}}
        self.encoder = settings.home / "given-encoder"
        self.encoder.mkdir()
        (self.encoder / "encoder.json").write_text("{}")

    def night(self, number: int) -> dict[str, int]:
        """Every item gets another price, all files are replaced, some vectors are new. Versions of the night."""
        from deltalake import DeltaTable

        if self.tables.exists("silver"):
            DeltaTable(self.tables.uri("silver")).delete()
        for start in range(0, 40, 10):
            self.tables.append(SILVER, silver_rows(range(start, start + 10), float(number)))
        self.tables.append(EMBEDDINGS, embedding_rows(range(number * 5, number * 5 + 5)))
        versions = {}
        for contract in (SILVER, EMBEDDINGS):
            version = versions[contract.name] = self.tables.version(contract.name)
            self.rows[contract.name][version] = self.read(contract, version)
        return versions

    def read(self, contract, version=None) -> list:
        return self.tables.read(contract, version=version, order_by="item_id").to_pylist()

    def release(self, name: str, versions: dict[str, int]) -> str:
        """Seal and register a folder that was built from these versions, judged well."""
        folder = self.settings.releases_root / name
        folder.mkdir(parents=True)
        manifest = Manifest(
            created_at=datetime.now(UTC), space=SPACE, chosen_because="few", items=3, table_versions=versions, files={},
            recipe=IndexRecipe(name="exact", description=name, factory="Flat"),
        )  # fmt: skip
        (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
        (folder / "index.faiss").write_bytes(b"x" * 1_000)
        version = self.registry.register(folder, self.encoder, "ada").version
        check = Check(name="recall@10", passed=True, observed="0.98", bar="at least 0.95")
        verdict = Verdict(at=datetime.now(UTC), manifest_sha256=manifest.sha256, checks=(check,))
        self.registry.record_verdict(version, verdict, "gate")
        return version

    def data_files(self, name: str) -> set[Path]:
        return {path for path in Path(self.tables.uri(name)).rglob("*.parquet") if "_delta_log" not in path.parts}


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory):
    """Migrations take seconds: made once, copied for each test."""
    home = tmp_path_factory.mktemp("registry")
    assert Registry(Settings(home=home)).releases() == []
    return (home / "mlflow.db").read_bytes()


@pytest.fixture
def home(tmp_path, empty_registry):
    root = tmp_path / "var"
    root.mkdir()
    (root / "mlflow.db").write_bytes(empty_registry)
    return Home(Settings(home=root, maintenance={"retention_hours": 0, "file_bytes": 2**20}))


@pytest.fixture
def progress():
    return LogProgress()


@pytest.fixture
def killed_upkeep():
    """Run `maintain` or `prune` again and again, each killed (SIGKILL) after one of the delays; how many were."""

    def run(what: str, settings: Settings, delays) -> int:
        words = [sys.executable, str(KILLER), what, settings.model_dump_json(), *map(str, delays)]
        return int(subprocess.run(words, check=True, capture_output=True, text=True, timeout=240).stdout)

    return run
