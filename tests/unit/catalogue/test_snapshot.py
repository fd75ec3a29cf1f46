import json

import pytest

from lookalike.catalogue.generated import generated_offer
from lookalike.catalogue.snapshot import RECEIVED_SCHEMA, SNAPSHOT_SCHEMA, SnapshotWriter, read_snapshot
from lookalike.contracts.errors import CorruptArtifact, NotFound
from lookalike.contracts.product import Product


def write(root, titles, complete=True):
    writer = SnapshotWriter(root, "job")
    for part, title in enumerate(titles):
        writer.write(part, [{"item_id": str(part), "title": title, "attributes": [("a", "b")]}])
    return writer.finish("shop:a/b", complete)


def test_columns_are_those_of_the_product_contract():
    assert set(SNAPSHOT_SCHEMA.names) == set(RECEIVED_SCHEMA.names) == set(Product.model_fields)


def test_the_name_follows_from_the_content(tmp_path):
    first = write(tmp_path, ["x", "y"])
    assert first.snapshot_id.startswith("shop-a-b-")
    assert write(tmp_path, ["x", "y"]) == first
    others = {write(tmp_path, ["x", "z"]).snapshot_id, write(tmp_path, ["x", "y"], complete=False).snapshot_id}
    assert len(others | {first.snapshot_id}) == 3
    assert [row["attributes"] for row in first.rows()] == [{"a": "b"}] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others | {first.snapshot_id})


def test_a_lost_part_and_a_missing_snapshot_are_named(tmp_path):
    snapshot = write(tmp_path, ["x", "y"])
    described = json.loads((snapshot.folder / "snapshot.json").read_text())
    assert (described["items"], described["complete"], described["source"]) == (2, True, "shop:a/b")
    snapshot.parts[0].unlink()
    with pytest.raises(CorruptArtifact, match="1 rows but says 2"):
        read_snapshot(snapshot.folder)
    with pytest.raises(NotFound, match=r"snapshot\.json"):
        read_snapshot(tmp_path)


def test_generated_offers_are_fixed_spread_and_marked():
    offers = [generated_offer(f"noto:{number}", 20, "EUR") for number in range(2_000)]
    assert offers[0] == generated_offer("noto:0", 20, "EUR") != generated_offer("noto:0", 21, "EUR")
    prices = sorted(offer["price"] for offer in offers)
    assert 0.99 <= prices[0] < 1.2
    assert 170 < prices[-1] <= 198
    assert 0.09 < sum(offer["stock"] == 0 for offer in offers) / 2_000 < 0.16
    assert set(offers[0]["synthetic"]) == {"price", "currency", "stock"}
