"""Shards that Spark encodes are those of one machine, byte for byte; run again, it does only what is missing."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from index_builder.build import encode_missing
from index_builder.delta_source import DeltaSource
from index_builder.facts import read_facts
from index_builder.merge import missing_shards
from index_builder.pin import make_pin
from index_builder.shard import shard_folder
from index_builder.train import train
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IndexSettings, load_settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.storage.delta import DeltaTables

pytestmark = pytest.mark.slow

DIM, ITEMS, SHARD_ITEMS = 32, 2_400, 900
SPACE = EmbeddingSpace(
    encoder="test", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=DIM
)


def add(tables: DeltaTables, ids: list[str], vectors: np.ndarray | None, hashes: list[str] | None = None) -> None:
    """Items with these vectors, or without any; `hashes`: of the pictures that the vectors are of."""
    own = [hashlib.sha256(item_id.encode()).hexdigest() for item_id in ids]
    constant = {"version": 1, "title": "t", "image_path": "x.png", "width": 1, "height": 1, "source": "s",
                "snapshot_id": "1", "deleted": False, "shard": 0, "tags": ["a", None], "price": 1.5,
                "attributes": [("colour", "red")]}  # fmt: skip
    silver = {name: [constant.get(name)] * len(ids) for name in SILVER.schema.names}
    silver |= {"item_id": ids, "content_hash": own, "brand": [["é", None, "c"][at % 3] for at in range(len(ids))]}
    tables.append(SILVER, pa.table(silver, schema=SILVER.schema))
    if vectors is not None:
        columns = {"item_id": ids, "space": [SPACE.fingerprint] * len(ids), "content_hash": hashes or own,
                   "item_version": [1] * len(ids), "encoder_version": ["1"] * len(ids), "vector": list(vectors),
                   "l2_norm": [1.0] * len(ids)}  # fmt: skip
        tables.append(EMBEDDINGS, pa.table(columns, schema=EMBEDDINGS.schema))


def unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def home(tmp_path) -> Path:
    """Items in no order in two files each, some without a vector, some with one of an older picture only."""
    tables = DeltaTables(load_settings(home=tmp_path / "home").tables_root)
    ids = [f"item-{at:05d}" for at in np.random.default_rng(1).permutation(ITEMS)]
    vectors = unit(ITEMS, 0)
    for part in np.array_split(np.arange(ITEMS), 2):
        add(tables, [ids[at] for at in part], vectors[part])
    add(tables, ["item-00004x", "Ω", "'"], None)
    add(tables, ["item-00005y"], unit(1, 3), ["0" * 64])
    return tmp_path / "home"


def prepared(home: Path, work: Path):
    """Settings, source and pin of a trained build of three shards in `work`."""
    index = IndexSettings(recipe="ivf_pq", shard_items=SHARD_ITEMS)
    settings = load_settings(home=home, spark={"master": "local[2]"}, index=index.model_dump())
    source = DeltaSource.newest(DeltaTables(settings.tables_root), SPACE)
    pin = make_pin(settings, source)
    train(work, pin, source, LogProgress())
    assert len(pin.shards) == 3
    return settings, source, pin


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "facts.json"}


def test_spark_and_this_machine_write_the_same_shards(home, tmp_path, spark_session):
    from spark.encode_shards import encode_shards

    settings, source, pin = prepared(home, tmp_path / "local")
    shutil.copytree(tmp_path / "local", tmp_path / "cluster")
    encode_missing(tmp_path / "local", pin, source, settings.index, LogProgress())
    items = encode_shards(spark_session, settings, tmp_path / "cluster", pin, [0, 1, 2], LogProgress())
    assert items == ITEMS and missing_shards(tmp_path / "cluster", pin) == []
    for number in range(3):
        ours, theirs = (shard_folder(tmp_path / each, number) for each in ("local", "cluster"))
        assert contents(ours) == contents(theirs) and len(contents(ours)) == 5
        assert read_facts(ours).coverage == read_facts(theirs).coverage

    before = shard_folder(tmp_path / "cluster", 0).stat().st_mtime_ns
    expected = contents(shard_folder(tmp_path / "cluster", 1))
    shutil.rmtree(shard_folder(tmp_path / "cluster", 1))  # as a job that was killed leaves it
    assert encode_shards(spark_session, settings, tmp_path / "cluster", pin, [1], LogProgress()) < ITEMS
    assert contents(shard_folder(tmp_path / "cluster", 1)) == expected
    assert shard_folder(tmp_path / "cluster", 0).stat().st_mtime_ns == before


def test_unfit_vectors_stop_spark_with_their_ids(home, tmp_path, spark_session):
    from spark.encode_shards import encode_shards

    settings, _, before = prepared(home, tmp_path / "work")
    add(DeltaTables(settings.tables_root), ["item-00007z"], unit(1, 5) * np.float32("nan"))
    versions = DeltaSource.newest(DeltaTables(settings.tables_root), SPACE).versions
    pin = before.model_copy(update={"table_versions": versions})
    with pytest.raises(Exception, match=r"hold NaN or infinity: item-00007z"):
        encode_shards(spark_session, settings, tmp_path / "work", pin, [0, 1, 2], LogProgress())
    assert 0 in missing_shards(tmp_path / "work", pin)
