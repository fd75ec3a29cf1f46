"""The tables that Spark makes: their constraints hold in Delta itself, whoever writes."""

import pytest

from lookalike.contracts.tables import EMBEDDINGS, SILVER
from spark import tables

pytestmark = pytest.mark.slow

GOOD_SILVER = {
    "item_id": "a", "version": 1, "title": "t", "image_path": "p", "content_hash": "0" * 64, "width": 1, "height": 1,
    "price": None, "source": "s", "snapshot_id": "x", "deleted": False, "shard": 0,
}  # fmt: skip
GOOD_VECTOR = {
    "item_id": "a", "space": "0" * 16, "content_hash": "0" * 64, "item_version": 1, "encoder_version": "e",
    "vector": [1.0], "l2_norm": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def home_with_tables(spark_session, tmp_path_factory):
    from lookalike.contracts.settings import load_settings

    settings = load_settings(home=tmp_path_factory.mktemp("tables"))
    tables.ensure_tables(spark_session, settings)
    tables.ensure_tables(spark_session, settings)
    return settings


def append(session, settings, contract, values):
    row = tuple(values.get(name) for name in contract.schema.names)
    schema = tables.spark_schema(contract)
    for column in schema.fields:
        column.nullable = True
    tables.append_once(session.createDataFrame([row], schema), settings, contract, f"t{values!r}")


@pytest.mark.parametrize(
    ("contract", "good", "bad", "constraint"),
    [
        (SILVER, GOOD_SILVER, {"item_id": ""}, "item_id_given"),
        (SILVER, GOOD_SILVER, {"title": "  "}, "title_given"),
        (SILVER, GOOD_SILVER, {"version": -1}, "version_not_negative"),
        (SILVER, GOOD_SILVER, {"price": -0.5}, "price_not_negative"),
        (SILVER, GOOD_SILVER, {"content_hash": "0"}, "content_hash_is_sha256"),
        (SILVER, GOOD_SILVER, {"source": None}, "NOT NULL"),
        (EMBEDDINGS, GOOD_VECTOR, {"space": "short"}, "space_is_fingerprint"),
        (EMBEDDINGS, GOOD_VECTOR, {"l2_norm": 0.5}, "norm_is_one"),
    ],
)
def test_delta_refuses_a_row_against_a_constraint(spark_session, home_with_tables, contract, good, bad, constraint):
    with pytest.raises(Exception, match=constraint):
        append(spark_session, home_with_tables, contract, good | bad)


def test_delta_takes_the_same_row_without_the_fault(spark_session, home_with_tables):
    for contract, good in ((SILVER, GOOD_SILVER), (EMBEDDINGS, GOOD_VECTOR)):
        append(spark_session, home_with_tables, contract, good)
        append(spark_session, home_with_tables, contract, good)
        rows = tables.read_table(spark_session, home_with_tables, contract)
        assert rows.count() == 1  # the second append was the same transaction
        assert rows.columns == contract.schema.names
        properties = tables.open_table(spark_session, home_with_tables, contract).detail().collect()[0]
        assert properties["partitionColumns"] == list(contract.partition_by)
        assert properties["properties"]["delta.enableChangeDataFeed"] == "true"
