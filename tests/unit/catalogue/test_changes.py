import json
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest

from lookalike.catalogue.changes import apply_change, encode_change, message_key, parse_change
from lookalike.catalogue.intake import PictureInfo
from lookalike.catalogue.validation import parse_product
from lookalike.contracts.change import CatalogueEvent, ChangeKind
from lookalike.contracts.item_state import PATCHABLE, STATE_COLUMNS, Outcome, unknown_item
from lookalike.contracts.product import Product, Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings

NOW = 1_795_000_000_000
LIMITS = IntakeSettings(max_version_lead_seconds=60)
AT = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)
HEAD = {"schema": 1, "item_id": "a:1", "version": 17, "event_time": "2026-11-18T10:00:00.000Z", "source": "shop"}
PRODUCT = {"title": "red apple", "image_path": "ab/abc.png"}
UPSERT = HEAD | {"kind": "upsert", "product": PRODUCT}
ATTRIBUTES = HEAD | {"kind": "attributes", "columns": {"price": 9.5}}
DELETE = HEAD | {"kind": "delete"}
PICTURE = PictureInfo(30, 20, "PNG", "c" * 64)


def parse(body, limits=LIMITS):
    return parse_change(body if isinstance(body, bytes) else json.dumps(body).encode(), NOW, limits)


def without(body, name):
    return {key: value for key, value in body.items() if key != name}


BAD = [
    (b"", RefusalReason.MALFORMED, "not JSON"),
    (b"{", RefusalReason.MALFORMED, "not JSON"),
    (b"[1]", RefusalReason.MALFORMED, "list"),
    (b"[" * 100_000, RefusalReason.MALFORMED, "not JSON"),
    (b'{"schema": ' + b"9" * 5_000 + b"}", RefusalReason.MALFORMED, "not JSON"),
    (b"\xff\xfe{}", RefusalReason.MALFORMED, "UTF-8"),
    (b"\xef\xbb\xbf{}", RefusalReason.MALFORMED, "BOM"),
    (without(UPSERT, "schema"), RefusalReason.MALFORMED, "schema is missing"),
    (UPSERT | {"schema": "1"}, RefusalReason.MALFORMED, "schema = '1'"),
    (UPSERT | {"schema": True}, RefusalReason.MALFORMED, "schema = True"),
    (UPSERT | {"schema": 0}, RefusalReason.MALFORMED, "from 1 to 1"),
    (UPSERT | {"schema": 2, "new": 1}, RefusalReason.SCHEMA_VERSION, "up to 1"),
    (without(UPSERT, "item_id"), RefusalReason.MISSING_ID, "item_id"),
    (UPSERT | {"item_id": "  "}, RefusalReason.MISSING_ID, "item_id"),
    (UPSERT | {"item_id": "x" * 513}, RefusalReason.BAD_VALUE, "513"),
    (UPSERT | {"item_id": "\x00progress:0"}, RefusalReason.BAD_VALUE, "control character"),
    (without(UPSERT, "kind"), RefusalReason.MALFORMED, "kind is missing: allowed are upsert"),
    (UPSERT | {"kind": "replace"}, RefusalReason.MALFORMED, "'replace'"),
    (UPSERT | {"kind": ["upsert"]}, RefusalReason.MALFORMED, "['upsert']"),
    (UPSERT | {"colour": "red"}, RefusalReason.MALFORMED, "'colour'"),
    (DELETE | {"product": PRODUCT}, RefusalReason.MALFORMED, "'product'"),
    (DELETE | {"columns": {}}, RefusalReason.MALFORMED, "'columns'"),
    (UPSERT | {"columns": {"price": 1}}, RefusalReason.MALFORMED, "'columns'"),
    (without(UPSERT, "product"), RefusalReason.MALFORMED, "product is missing"),
    (UPSERT | {"product": [1]}, RefusalReason.MALFORMED, "product = [1]"),
    (without(ATTRIBUTES, "columns"), RefusalReason.MALFORMED, "columns is missing"),
    (without(DELETE, "version"), RefusalReason.BAD_VALUE, "version is missing"),
    (DELETE | {"version": -1}, RefusalReason.BAD_VALUE, "version = -1"),
    (DELETE | {"version": 1.5}, RefusalReason.BAD_VALUE, "version = 1.5"),
    (DELETE | {"version": 2**63}, RefusalReason.BAD_VALUE, "version"),
    (DELETE | {"version": NOW + 60_001}, RefusalReason.FUTURE_VERSION, str(NOW + 60_000)),
    (without(DELETE, "event_time"), RefusalReason.BAD_VALUE, "event_time is missing"),
    (DELETE | {"event_time": "2026-11-18T10:00:00"}, RefusalReason.BAD_VALUE, "zone"),
    (DELETE | {"event_time": "2026-11-18"}, RefusalReason.BAD_VALUE, "ISO 8601"),
    (DELETE | {"event_time": "yesterday"}, RefusalReason.BAD_VALUE, "'yesterday'"),
    (DELETE | {"event_time": 1.5}, RefusalReason.BAD_VALUE, "event_time = 1.5"),
    (DELETE | {"event_time": True}, RefusalReason.BAD_VALUE, "event_time = True"),
    (DELETE | {"event_time": -1}, RefusalReason.BAD_VALUE, "from 1970"),
    (DELETE | {"event_time": 10**30}, RefusalReason.BAD_VALUE, "event_time"),
    (DELETE | {"event_time": NOW + 60_001}, RefusalReason.BAD_VALUE, "event_time"),
    (DELETE | {"event_time": "0001-01-01T00:00:00+14:00"}, RefusalReason.BAD_VALUE, "from 1970"),
    (DELETE | {"event_time": "9999-12-31T23:59:59-14:00"}, RefusalReason.BAD_VALUE, "event_time"),
    (without(DELETE, "source"), RefusalReason.BAD_VALUE, "source is missing"),
    (DELETE | {"source": "x" * 201}, RefusalReason.BAD_VALUE, "source"),
    (DELETE | {"source": ["shop"]}, RefusalReason.BAD_VALUE, "source"),
    (UPSERT | {"product": PRODUCT | {"item_id": "b"}}, RefusalReason.BAD_VALUE, "product.item_id = 'b'"),
    (UPSERT | {"product": PRODUCT | {"version": 16}}, RefusalReason.BAD_VALUE, "product.version = 16"),
    (UPSERT | {"product": PRODUCT | {"colour": "red"}}, RefusalReason.MALFORMED, "'colour'"),
    (UPSERT | {"product": without(PRODUCT, "image_path")}, RefusalReason.PICTURE_MISSING, "image_path"),
    (UPSERT | {"product": PRODUCT | {"title": "x" * 1_000_000}}, RefusalReason.BAD_VALUE, "1,000,000"),
    (ATTRIBUTES | {"columns": {}}, RefusalReason.BAD_VALUE, "columns is empty"),
    (ATTRIBUTES | {"columns": {"title": None}}, RefusalReason.EMPTY_TITLE, "title"),
    (ATTRIBUTES | {"columns": {"title": " "}}, RefusalReason.EMPTY_TITLE, "title"),
    (ATTRIBUTES | {"columns": {"\ud800": 1}}, RefusalReason.BAD_VALUE, "columns"),
    *(
        (ATTRIBUTES | {"columns": {name: "x"}}, RefusalReason.BAD_VALUE, name)
        for name in ("image_path", "content_hash", "group_id", "synthetic", "source", "deleted", "item_id", "version")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason", "words"), BAD)
def test_a_bad_change_is_refused_with_reason_place_and_what_is_allowed(body, reason, words):
    refused = parse(body)
    assert isinstance(refused, Refusal)
    assert refused.reason is reason
    assert words in refused.detail
    assert len(refused.detail) < 700
    refused.detail.encode()
    if isinstance(body, dict) and body.get("item_id") == "a:1" and "schema" not in refused.detail[:8]:
        assert refused.item_id == "a:1"


def test_a_change_larger_than_the_limit_is_not_even_parsed():
    limits = LIMITS.model_copy(update={"max_event_bytes": 1_024})
    refused = parse(b"{" + b" " * 1_024, limits)
    assert (refused.reason, "1,025 bytes, allowed are 1,024" in refused.detail) == (RefusalReason.BAD_VALUE, True)
    assert isinstance(parse(json.dumps(DELETE).encode().ljust(1_024), limits), CatalogueEvent)


ROWS = [
    {"price": "12.50"}, {"price": -1}, {"price": "1_000"}, {"price": float("nan")}, {"price": True}, {"price": ""},
    {"price": -0.0}, {"stock": "4"}, {"stock": -1}, {"stock": 1.5}, {"stock": 4.0}, {"stock": "9" * 5_000},
    {"tags": [" red ", ""]}, {"tags": "red"}, {"tags": [1]}, {"tags": ["\ud800"]}, {"category_path": ["a", "b"]},
    {"brand": 7}, {"brand": ["x"]}, {"brand": "\ud800"}, {"brand": " "}, {"currency": "EUR"}, {"licence": "MIT"},
    {"licence_url": "u"}, {"author": "a"}, {"author_url": "b"}, {"title": " x "}, {"title": ""}, {"title": "x" * 2_001},
    {"title": {"en": "x"}}, {"attributes": {"a": True, "b": 2, "c": None}}, {"attributes": [["a", "b"]]},
    {"attributes": {"a": ["b"]}}, {"attributes": {"\ud800": "x"}}, {"attributes": {"x": "\ud800"}}, {"attributes": "x"},
    {"keywords": {"de": ["Apfel"]}}, {"keywords": {"de": "Apfel"}}, {"keywords": {"de": ["\udfff"]}},
    {"keywords": None},
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_batch_upsert_and_attribute_change_accept_and_refuse_the_same_values(row):
    batch = parse_product(json.dumps(PRODUCT | row | {"item_id": "a:1", "version": 17}), NOW, LIMITS)
    upsert = parse(UPSERT | {"product": PRODUCT | row})
    change = parse(ATTRIBUTES | {"columns": row})
    if isinstance(batch, Refusal):
        assert upsert == batch
        assert change == batch
    else:
        assert upsert.product == batch
        assert change.columns == {name: getattr(batch, name) for name in row}
        json.dumps(change.columns, ensure_ascii=False).encode()


def test_a_whole_upsert():
    product = PRODUCT | {"item_id": "a:1", "version": "17", "price": "9.5", "tags": ["red"]}
    event = parse(UPSERT | {"product": product})
    assert event == CatalogueEvent(
        kind=ChangeKind.UPSERT, item_id="a:1", version=17, event_time=AT, source="shop",
        product=Product(item_id="a:1", version=17, title="red apple", image_path="ab/abc.png", price=9.5,
                        tags=("red",)),
    )  # fmt: skip


TIMES = [
    ("2026-11-18T10:00:00Z", AT),
    ("2026-11-18T12:00:00+02:00", AT),
    ("2026-11-18 10:00:00.250000+00:00", AT + timedelta(milliseconds=250)),
    (int(AT.timestamp() * 1_000) + 5, AT + timedelta(milliseconds=5)),
    (NOW + 60_000, datetime.fromtimestamp((NOW + 60_000) / 1_000, UTC)),
    (0, datetime(1970, 1, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("given", "expected"), TIMES)
def test_event_times(given, expected):
    event = parse(DELETE | {"event_time": given})
    assert event.event_time == expected
    assert event.event_time.utcoffset() == timedelta(0)


def events(rng):
    kind = rng.choice(list(ChangeKind))
    words = [rng.choice(["red", "Äpfel", "🍎", 'quote "', "tab\tline\n", "x" * 60]).strip() for _ in range(4)]
    columns = {
        "title": words[0], "brand": words[1], "category_path": tuple(words[:2]), "tags": (), "price": rng.random(),
        "currency": "EUR", "stock": rng.randrange(2**63), "licence": None, "licence_url": "u", "author": None,
        "author_url": "v", "attributes": {words[2]: words[3]}, "keywords": {"de": tuple(words)},
    }  # fmt: skip
    at = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=rng.randint(-12, 12))))
    version = rng.randrange(NOW)
    return CatalogueEvent(
        kind=kind,
        item_id=rng.choice(["a", "ø:1", "x" * 512]),
        version=version,
        event_time=at + timedelta(microseconds=rng.randrange(10**12)),
        source="shop",
        product=Product(item_id="a", version=version, image_path="https://x/y.png", group_id="g", **columns)
        if kind is ChangeKind.UPSERT
        else None,
        columns={name: columns[name] for name in rng.sample(PATCHABLE, 3)} if kind is ChangeKind.ATTRIBUTES else {},
    )


def test_encoding_is_the_inverse_of_parsing():
    rng = random.Random(0)
    for _ in range(2_000):
        event = events(rng)
        if event.product is not None:
            event = event.model_copy(update={"product": event.product.model_copy(update={"item_id": event.item_id})})
        assert parse(encode_change(event)) == event


def test_an_upsert_fills_every_column_with_plain_json_values():
    product = PRODUCT | {"tags": ["red"], "keywords": {"de": ["Apfel"]}, "attributes": {"a": 1}}
    state, outcome = apply_change(unknown_item("a:1"), parse(UPSERT | {"product": product}), PICTURE)
    assert outcome is Outcome.CHANGED
    assert set(state.columns) == set(STATE_COLUMNS)
    assert state.columns == json.loads(json.dumps(dict(state.columns)))
    assert (state.columns["width"], state.columns["height"], state.content_hash) == (30, 20, "c" * 64)
    assert (state.columns["source"], state.columns["image_path"], state.version) == ("shop", "ab/abc.png", 17)
    assert (state.columns["tags"], state.columns["category_path"], state.columns["price"]) == (["red"], [], None)
    with pytest.raises(ValueError, match="picture"):
        apply_change(state, parse(UPSERT), None)


def test_a_cleared_column_equals_one_that_an_upsert_left_out():
    given = {"tags": ["a"], "category_path": ["b"], "attributes": {"a": "b"}, "keywords": {"de": ["c"]}, "price": 1.5}
    given |= {"stock": 3, "brand": "Acme", "currency": "EUR", "licence": "MIT", "licence_url": "u", "author": "x"}
    given |= {"author_url": "v"}
    full, _ = apply_change(unknown_item("a:1"), parse(UPSERT | {"version": 5, "product": PRODUCT | given}), PICTURE)
    bare, _ = apply_change(unknown_item("a:1"), parse(UPSERT | {"version": 5}), PICTURE)
    clear = ATTRIBUTES | {"columns": dict.fromkeys(name for name in PATCHABLE if name != "title")}
    state, outcome = apply_change(full, parse(clear), None)
    assert outcome is Outcome.CHANGED
    assert state.columns == bare.columns
    assert full.columns != bare.columns


def test_deletes_and_restores():
    state, _ = apply_change(unknown_item("a:1"), parse(UPSERT | {"version": 5}), PICTURE)
    gone, outcome = apply_change(state, parse(DELETE | {"version": 6}), None)
    assert (gone.deleted, outcome, gone.changed_at) == (True, Outcome.CHANGED, AT)
    back, _ = apply_change(gone, parse(DELETE | {"kind": "restore", "version": 7}), None)
    assert (back.deleted, back.version, back.columns) == (False, 7, state.columns)
    assert apply_change(back, parse(DELETE | {"version": 6}), None) == (back, Outcome.BEHIND)
    assert apply_change(back, parse(DELETE | {"version": 7}), None) == (back, Outcome.REPEATED)


def test_the_key_of_a_message_is_its_item_where_there_is_one():
    assert message_key(json.dumps(UPSERT | {"item_id": " a:1 "}).encode()) == b"a:1"
    assert message_key(json.dumps({"item_id": 17, "kind": "?"}).encode()) == b"17"
    assert message_key(b"\xff") != message_key(b"\xfe")
    assert message_key(b"{") == message_key(b"{")
