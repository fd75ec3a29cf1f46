"""What becomes of a change: a table of cases, and random orders against a naive last-writer-wins table."""

import random
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from beam.elements import Change, SeenPicture, SilverItem, Wait
from beam.settle import Dropped, KnownItem, Parking, settle
from lookalike.catalogue.intake import PictureInfo
from lookalike.contracts.change import CatalogueEvent, ChangeKind, Position, Topic
from lookalike.contracts.item_state import unknown_item
from lookalike.contracts.product import Product, Refusal, RefusalReason

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ATTEMPTS = 3
NOBODY = KnownItem(unknown_item("a"))


def info(digest="1" * 64):
    return PictureInfo(10, 20, "PNG", digest)


def change(kind, version, topic=Topic.CHANGES, **more):
    columns = {"price": float(version)} if kind == "attributes" else {}
    product = Product(item_id="a", version=version, title=f"t{version}", image_path="p") if kind == "upsert" else None
    event = CatalogueEvent(
        kind=kind, item_id="a", version=version, event_time=NOON, source="shop", product=product, columns=columns
    )
    return Change(topic, 5, 4, Position(0, 5), 0, b"{}", event=event, **more)


def upsert(version, digest="1" * 64, topic=Topic.CHANGES, vectors=None):
    return change("upsert", version, topic, picture=SeenPicture(info(digest), vectors or {}))


def known(version=10):
    return settle(upsert(version, vectors={"s": np.ones(2)}), NOBODY, ATTEMPTS)


def test_an_upsert_describes_an_item_and_brings_its_vectors():
    item = known(7)
    assert (item.state.version, item.state.columns["title"]) == (7, "t7")
    assert item.state.columns["content_hash"] == "1" * 64 and list(item.vectors) == ["s"]


@pytest.mark.parametrize("kind", ["upsert", "attributes"])
def test_the_same_version_again_is_repeated(kind):
    item = known(7)
    if kind == "attributes":
        item = settle(change("attributes", 9), item, ATTEMPTS)
        assert settle(change("attributes", 9), item, ATTEMPTS) is Dropped.REPEATED
    else:
        assert settle(upsert(7), item, ATTEMPTS) is Dropped.REPEATED


@pytest.mark.parametrize("kind", ["upsert", "attributes", "delete"])
def test_behind_is_refused_at_first_sight_and_dropped_after_it_was_parked(kind):
    late = upsert(3) if kind == "upsert" else change(kind, 3)
    refused = settle(late, known(7), ATTEMPTS)
    assert isinstance(refused, Refusal) and refused.reason is RefusalReason.VERSION_BEHIND
    assert "version 3" in refused.detail and "7" in refused.detail
    assert settle(replace(late, topic=Topic.LATER), known(7), ATTEMPTS) is Dropped.OVERTAKEN


def test_attributes_keep_the_vectors_and_a_new_picture_replaces_them():
    item = settle(change("attributes", 11), known(10), ATTEMPTS)
    assert list(item.vectors) == ["s"] and item.state.columns["price"] == 11.0
    other = settle(upsert(12, "2" * 64, vectors={"t": np.ones(2)}), item, ATTEMPTS)
    assert list(other.vectors) == ["t"]


@pytest.mark.parametrize("kind", ["attributes", "restore"])
def test_an_unknown_item_is_waited_for_and_then_refused(kind):
    assert settle(change(kind, 3), NOBODY, ATTEMPTS) == Parking(0)
    parked = change(kind, 3, Topic.LATER, silver=SilverItem(None))
    for tries in range(ATTEMPTS - 1):
        assert settle(replace(parked, tries=tries), NOBODY, ATTEMPTS) == Parking(tries + 1)
    refused = settle(replace(parked, tries=ATTEMPTS - 1), NOBODY, ATTEMPTS)
    assert isinstance(refused, Refusal) and refused.reason is RefusalReason.UNKNOWN_ITEM


def test_a_parked_change_finds_its_item_in_silver():
    silver = SilverItem(known(5).state, {"s": np.ones(2)})
    item = settle(change("attributes", 6, Topic.LATER, silver=silver), NOBODY, ATTEMPTS)
    assert (item.state.base_version, item.state.columns["price"], list(item.vectors)) == (5, 6.0, ["s"])


def test_a_delete_of_an_unknown_item_is_a_bare_tombstone():
    item = settle(change("delete", 3), NOBODY, ATTEMPTS)
    assert item.state.deleted and not item.state.described
    assert settle(change("attributes", 4), item, ATTEMPTS) == Parking(0)


def test_a_fetch_under_way_is_no_failed_try_and_a_failed_one_ends():
    waiting = change("upsert", 3, Topic.LATER, wait=Wait.UNDER_WAY, tries=2)
    assert settle(waiting, NOBODY, ATTEMPTS) == Parking(2)
    fault = Refusal(RefusalReason.PICTURE_UNAVAILABLE, "503")
    failed = change("upsert", 3, Topic.LATER, wait=Wait.FAILED, refusal=fault, tries=1)
    assert settle(failed, NOBODY, ATTEMPTS) == Parking(2)
    refused = settle(replace(failed, tries=2), NOBODY, ATTEMPTS)
    assert refused.reason is RefusalReason.PICTURE_UNAVAILABLE and refused.item_id == "a"


@pytest.mark.parametrize("seed", range(20))
def test_any_order_gives_what_a_naive_table_gives(seed):
    draw = random.Random(seed)
    kinds = [draw.choice(["upsert", "attributes", "delete", "restore"]) for _ in range(12)]
    changes = [upsert(100)] + [
        upsert(version, f"{version % 3}" * 64) if kind == "upsert" else change(kind, version)
        for version, kind in zip(draw.sample(range(101, 200), 12), kinds, strict=True)
    ]
    price, title, digest, deleted = {}, {}, {}, {}
    for each in changes:  # naive: per column, the value by version
        version, kind = each.event.version, each.event.kind
        if kind is ChangeKind.UPSERT:
            price[version], deleted[version] = None, False
            title[version], digest[version] = f"t{version}", each.picture.info.content_hash
        elif kind is ChangeKind.ATTRIBUTES:
            price[version] = float(version)
        else:
            deleted[version] = kind is ChangeKind.DELETE
    item = NOBODY
    rest = changes[1:]
    draw.shuffle(rest)
    for each in [changes[0], *rest]:
        settled = settle(each, item, ATTEMPTS)
        item = settled if isinstance(settled, KnownItem) else item
    columns = item.state.columns
    assert columns["price"] == price[max(price)] and columns["title"] == title[max(title)]
    assert columns["content_hash"] == digest[max(digest)] and item.state.deleted == deleted[max(deleted)]
