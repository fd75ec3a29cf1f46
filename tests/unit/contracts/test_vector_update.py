import json
from datetime import UTC, datetime

import numpy as np
import pytest

from lookalike.contracts.change import ChangeKind, Position
from lookalike.contracts.item_state import STATE_COLUMNS, unknown_item
from lookalike.contracts.vector_update import PROGRESS_KEY, UnknownSchema, VectorUpdate

AT = datetime(2026, 11, 23, 10, 0, 0, 123456, tzinfo=UTC)


def test_every_bit_of_a_vector_and_every_column_survives():
    rng = np.random.default_rng(0)
    columns = dict.fromkeys(STATE_COLUMNS) | {"title": 'Äpfel "rot" 🍎', "tags": ["a"], "attributes": {"k": "v"}}
    state = unknown_item("ø:1").upsert(3, columns, AT)[0].set_columns(5, {"price": 0.1, "stock": 2**60}, AT)[0]
    vectors = {"a" * 16: rng.standard_normal(256).astype(np.float32), "b" * 16: np.array([1e-45, -0.0], np.float32)}
    sent = VectorUpdate(Position(1, 2**40), state, ChangeKind.UPSERT, AT, vectors)
    back = VectorUpdate.decode(sent.encode())
    assert (back.origin, back.state, back.kind, back.event_time) == (sent.origin, state, ChangeKind.UPSERT, AT)
    assert {space: vector.tobytes() for space, vector in back.vectors.items()} == {
        space: vector.tobytes() for space, vector in vectors.items()
    }
    assert back.key == "ø:1".encode()
    back.vectors["a" * 16][0] = 7  # a reader may write into its own copy


def test_a_progress_mark_has_no_state_and_a_key_that_no_item_has():
    mark = VectorUpdate.decode(VectorUpdate(Position(3, 9)).encode())
    assert (mark.origin, mark.state, mark.kind, mark.event_time, dict(mark.vectors)) == (
        Position(3, 9), None, None, None, {},
    )  # fmt: skip
    assert mark.key == f"{PROGRESS_KEY}3".encode()
    assert mark.key[0] < 0x20


def test_a_newer_schema_is_refused_in_words():
    body = json.loads(VectorUpdate(Position(0, 0)).encode()) | {"schema": 2}
    with pytest.raises(UnknownSchema, match=r"schema 2.*up to 1.*update"):
        VectorUpdate.decode(json.dumps(body).encode())
