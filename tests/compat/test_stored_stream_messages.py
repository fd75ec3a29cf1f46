"""Messages of schema 1 as they lie in logs out there: this code must read them for as long as it says it does.

The samples were written by hand from the description of the format and are never changed; a new schema gets a folder
of its own beside them.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from lookalike.catalogue.changes import parse_change
from lookalike.catalogue.refused_rows import RefusedChange, payload_bytes
from lookalike.contracts.change import SCHEMA, CatalogueEvent, ChangeKind, Position
from lookalike.contracts.item_state import STATE_COLUMNS
from lookalike.contracts.product import Product, Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings
from lookalike.contracts.vector_update import UnknownSchema, VectorUpdate

FOLDER = Path(__file__).parent / "stream_schema_1"
RECEIVED = 1_795_514_400_000  # 2026-11-24
HEAD = {"item_id": "shop:1001", "source": "shop"}


def stored(name) -> bytes:
    return (FOLDER / f"{name}.json").read_bytes()


def at(second, microsecond=0):
    return datetime(2026, 11, 23, 10, 0, second, microsecond, tzinfo=UTC)


CHANGES = {
    "change_upsert": CatalogueEvent(
        **HEAD, kind=ChangeKind.UPSERT, version=1795000000017, event_time=at(0, 250_000),
        product=Product(
            item_id="shop:1001", version=1795000000017, title="Red apple, 1 kg",
            image_path="https://shop.example/pictures/1001.png", brand="Obsthof Äpfel",
            category_path=("food", "fruit"), tags=("red", "fresh"), group_id="04012345678901", price=2.99,
            currency="EUR", stock=120, licence="CC-BY-4.0",
            licence_url="https://creativecommons.org/licenses/by/4.0/", author="A. Author",
            author_url="https://shop.example/authors/1", attributes={"grams": "1000", "organic": "true"},
            keywords={"de": ("Apfel", "rot"), "fr": ("pomme",)}, synthetic=("stock",),
        ),
    ),
    "change_upsert_loose": CatalogueEvent(
        item_id="1002", source="shop", kind=ChangeKind.UPSERT, version=18,
        event_time=datetime.fromtimestamp(1_795_000_000.25, UTC),
        product=Product(
            item_id="1002", version=18, title="Pear", image_path="ab/abc.png", price=3.5, stock=7,
            attributes={"grams": "500"},
        ),
    ),
    "change_attributes": CatalogueEvent(
        item_id="shop:1001", source="prices", kind=ChangeKind.ATTRIBUTES, version=1795000000018, event_time=at(1),
        columns={"price": 2.49, "stock": 0, "tags": ("sale",), "brand": None},
    ),
    "change_delete": CatalogueEvent(**HEAD, kind=ChangeKind.DELETE, version=1795000000019, event_time=at(2)),
    "change_restore": CatalogueEvent(**HEAD, kind=ChangeKind.RESTORE, version=1795000000020, event_time=at(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_schema_1_is_read(name):
    assert parse_change(stored(name), RECEIVED, IntakeSettings()) == CHANGES[name]


def test_every_kind_of_change_has_a_sample():
    assert {event.kind for event in CHANGES.values()} == set(ChangeKind)
    assert {path.stem for path in FOLDER.glob("change_*.json")} == set(CHANGES)


def test_a_vector_update_of_schema_1_is_read():
    update = VectorUpdate.decode(stored("vector_update"))
    assert (update.origin, update.kind, update.event_time, update.key) == (
        Position(1, 41), ChangeKind.DELETE, at(2), b"shop:1001",
    )  # fmt: skip
    state = update.state
    assert set(state.columns) == set(STATE_COLUMNS)
    assert (state.base_version, state.version, state.deleted, state.changed_at) == (17, 19, True, at(2))
    assert (state.version_of("price"), state.version_of("title")) == (18, 17)
    assert (state.columns["price"], state.columns["keywords"]) == (2.49, {"de": ["Apfel"]})
    assert {space: vector.tolist() for space, vector in update.vectors.items()} == {
        "0123456789abcdef": [np.float32(0.6), np.float32(0.8)]
    }


def test_tombstones_and_progress_marks_of_schema_1_are_read():
    tombstone = VectorUpdate.decode(stored("vector_update_tombstone"))
    assert (tombstone.state.described, tombstone.state.deleted, tombstone.state.version) == (False, True, 19)
    mark = VectorUpdate.decode(stored("vector_update_progress"))
    assert (mark.origin, mark.state, mark.key) == (Position(0, 99), None, b"\x00progress:0")


def test_refused_changes_of_schema_1_are_read():
    assert RefusedChange.decode(stored("refused_change")) == RefusedChange(
        1, 42, "shop", "shop:1001", RefusalReason.PICTURE_MISSING,
        "https://shop.example/pictures/1001.png answered 404", at(4, 500_000), '{"schema":1,"kind":"delete"}',
    )  # fmt: skip
    assert payload_bytes(RefusedChange.decode(stored("refused_change_bytes")).payload) == b"\xff\xfe"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_the_next_schema_is_refused_in_words_and_not_guessed_at(path):
    data = json.dumps(json.loads(path.read_bytes()) | {"schema": SCHEMA + 1, "unheard": {"of": 1}}).encode()
    if path.stem.startswith("change_"):
        refused = parse_change(data, RECEIVED, IntakeSettings())
        assert isinstance(refused, Refusal)
        assert refused.reason is RefusalReason.SCHEMA_VERSION
        assert f"up to {SCHEMA}" in refused.detail
        return
    decode = VectorUpdate.decode if path.stem.startswith("vector_") else RefusedChange.decode
    with pytest.raises(UnknownSchema, match=f"schema {SCHEMA + 1}.*up to {SCHEMA}"):
        decode(data)
