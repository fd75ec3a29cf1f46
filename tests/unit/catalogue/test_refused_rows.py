import json
import random
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from lookalike.catalogue.changes import apply_change, parse_change
from lookalike.catalogue.intake import PictureInfo
from lookalike.catalogue.refused_rows import (
    KEPT_BYTES,
    RefusedChange,
    payload_bytes,
    payload_text,
    refused_change,
    refused_table,
)
from lookalike.catalogue.silver_rows import shard_of, silver_row
from lookalike.contracts.change import Position
from lookalike.contracts.item_state import state_of_row, unknown_item
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings
from lookalike.contracts.tables import REFUSED, SILVER
from lookalike.contracts.vector_update import UnknownSchema
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.limits import MESSAGE_BYTES

AT = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
REFUSAL = Refusal(RefusalReason.BAD_PRICE, "price = 'free'", "a:1")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"a": 1}',
        "Äpfel 🍎".encode(),
        b"\xff\x00\xfe",
        b"base64:",
        b"base64:aGFsbG8=",
        b"log:0:1",
        b"\x00" * 50,
        b"\n",
    ],
)
def test_payloads_come_back_to_the_byte(data):
    assert payload_bytes(payload_text(data)) == data


def test_random_payloads_come_back_and_never_swell_beyond_what_a_log_takes():
    rng = random.Random(0)
    for alphabet in (range(256), range(32), range(32, 127), b'"\\'):
        for size in (1, 100, 10_000):
            data = bytes(rng.choice(alphabet) for _ in range(size))
            text = payload_text(data)
            assert payload_bytes(text) == data
            assert len(json.dumps(text, ensure_ascii=False).encode()) <= 2 * size + 16


@pytest.mark.parametrize("data", [b"\x00" * KEPT_BYTES, b"\xff" * KEPT_BYTES, b'"' * KEPT_BYTES])
def test_the_largest_kept_payload_fits_a_message(data):
    change = refused_change(REFUSAL, Position(1, 7), data, AT)
    assert payload_bytes(change.payload) == data
    assert len(change.encode()) + len(change.key) < MESSAGE_BYTES


def test_a_payload_that_is_too_large_stays_in_the_log():
    change = refused_change(REFUSAL, Position(1, 7), b"x" * (KEPT_BYTES + 1), AT)
    assert payload_bytes(change.payload) == Position(1, 7)


def test_a_refused_change_survives_its_message_and_its_table(tmp_path):
    sent = [
        refused_change(REFUSAL, Position(1, 7), b'{"price": "free"}', AT, "shop"),
        refused_change(Refusal(RefusalReason.MALFORMED, "not JSON"), Position(0, 3), b"\xff", AT),
    ]
    assert [RefusedChange.decode(change.encode()) for change in sent] == sent
    assert [change.key for change in sent] == [b"a:1", b"0:3"]
    tables = DeltaTables(tmp_path)
    tables.append(REFUSED, refused_table(sent))
    rows = tables.read(REFUSED, order_by="row_number DESC").to_pylist()
    assert rows[0] == {
        "snapshot_id": "catalogue-changes-1", "row_number": 7, "source": "shop", "item_id": "a:1",
        "reason": "bad_price", "detail": "price = 'free'", "refused_at": AT, "payload": '{"price": "free"}',
    }  # fmt: skip
    assert (rows[1]["item_id"], rows[1]["source"], payload_bytes(rows[1]["payload"])) == (None, "unknown", b"\xff")
    assert refused_table([]).schema == REFUSED.schema


def test_a_refused_message_of_a_newer_schema_is_not_guessed_at():
    body = json.loads(refused_change(REFUSAL, Position(1, 7), b"", AT).encode()) | {"schema": 2, "more": 1}
    with pytest.raises(UnknownSchema, match=r"schema 2.*up to 1"):
        RefusedChange.decode(json.dumps(body).encode())


def test_a_state_survives_its_silver_row(tmp_path):
    head = {"schema": 1, "item_id": "a:1", "event_time": "2026-11-18T10:00:00.123456Z", "source": "shop"}
    product = {"title": "t", "image_path": "x", "tags": ["a"], "attributes": {"k": "v"}, "keywords": {"de": ["b", "c"]}}
    upsert = head | {"kind": "upsert", "version": 5, "product": product}
    price = head | {"kind": "attributes", "version": 9, "columns": {"price": 9.5, "tags": None}}
    state = unknown_item("a:1")
    for body, picture in ((upsert, PictureInfo(3, 2, "PNG", "c" * 64)), (price, None)):
        event = parse_change(json.dumps(body).encode(), 1_795_000_000_000, IntakeSettings())
        state, _ = apply_change(state, event, picture)
    row = silver_row(state, "snap", 4)
    assert set(row) == set(SILVER.schema.names)
    assert (row["version"], row["base_version"], row["column_versions"]) == (9, 5, {"price": 9, "tags": 9})
    assert (row["shard"], row["snapshot_id"], row["deleted"]) == (shard_of("a:1", 4), "snap", False)
    tables = DeltaTables(tmp_path)
    tables.append(SILVER, pa.Table.from_pylist([row], schema=SILVER.schema))
    assert state_of_row(tables.read(SILVER).to_pylist()[0]).to_json() == state.to_json()
    assert shard_of("123456789", 2**32) == 0xCBF43926  # the check value of CRC-32/ISO-HDLC


def test_what_nothing_describes_has_no_silver_row():
    with pytest.raises(ValueError, match="a:1"):
        silver_row(unknown_item("a:1").set_deleted(5, True, AT)[0], "snap", 4)
