"""ItemState against a naive oracle: for each register, look through all changes for the one of the highest version."""

import itertools
import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from lookalike.contracts.item_state import (
    DELETED,
    PATCHABLE,
    PICTURE,
    PICTURE_COLUMNS,
    PLAIN_COLUMNS,
    STATE_COLUMNS,
    UNSEEN,
    ItemState,
    Outcome,
    state_of_row,
    unknown_item,
)

START = datetime(2026, 11, 23, tzinfo=UTC)
LISTS, MAPS = ("category_path", "tags", "synthetic"), ("attributes", "keywords")


def value_of(column, rng):
    word = f"{column}-{rng.randrange(10**6)}"
    if column in LISTS:
        return [word] * rng.randrange(3)
    if column in MAPS:
        return {word: "x" if column == "attributes" else [word]} if rng.random() < 0.7 else {}
    return None if rng.random() < 0.2 and column != "title" else word


def change(version, rng):
    """One change as plain data: kind, version, time (not in the order of versions) and what it writes."""
    kind = rng.choices(["upsert", "set", "delete", "restore"], [3, 5, 2, 2])[0]
    at = None if kind == "upsert" and rng.random() < 0.3 else START + timedelta(seconds=rng.randrange(1_000))
    if kind == "upsert":
        columns = {name: value_of(name, rng) for name in PLAIN_COLUMNS}
        columns |= {name: f"{name}@{version}" for name in PICTURE_COLUMNS}
    else:
        columns = {name: value_of(name, rng) for name in rng.sample(PATCHABLE, rng.randint(1, 4))}
    return kind, version, at, columns if kind in ("upsert", "set") else {}


def history(rng, most=9):
    versions = rng.sample(range(40), rng.randint(1, most))
    return [change(version, rng) for version in versions]


def apply(state, one):
    kind, version, at, columns = one
    if kind == "upsert":
        return state.upsert(version, columns, at)
    if kind == "set":
        return state.set_columns(version, columns, at)
    return state.set_deleted(version, kind == "delete", at)


def after(changes, state=None):
    state = state or unknown_item("x")
    for one in changes:
        state = apply(state, one)[0]
    return state


def writes(one, register):
    kind, _, _, columns = one
    if register == DELETED:
        return kind != "set"
    return kind == "upsert" or register in columns


def oracle(changes):
    """What the item must be, without any merging: each register by itself, over all changes at once."""
    newest = max(changes, key=lambda one: one[1])
    seen = {"version": newest[1], "changed_at": newest[2], "deleted": False, "columns": {}, "versions": {}}
    for register in (*PLAIN_COLUMNS, PICTURE, DELETED):
        writers = [one for one in changes if writes(one, register)]
        if not writers:
            seen["versions"][register] = UNSEEN
            continue
        kind, version, _, columns = max(writers, key=lambda one: one[1])
        seen["versions"][register] = version
        if register == DELETED:
            seen["deleted"] = kind == "delete"
        else:
            names = PICTURE_COLUMNS if register == PICTURE else (register,)
            seen["columns"] |= {name: columns[name] for name in names}
    return seen


def facts(state):
    versions = {register: state.version_of(register) for register in (*PLAIN_COLUMNS, PICTURE, DELETED)}
    return {
        "version": state.version,
        "changed_at": state.changed_at,
        "deleted": state.deleted,
        "columns": dict(state.columns),
        "versions": versions,
    }


def test_any_order_of_changes_gives_what_the_oracle_says():
    rng = random.Random(1)
    for _ in range(1_500):
        changes = history(rng)
        expected = oracle(changes)
        for _ in range(4):
            assert facts(after(changes)) == expected
            rng.shuffle(changes)


def test_every_order_of_a_few_changes_gives_one_text():
    rng = random.Random(2)
    for _ in range(60):
        changes = history(rng, most=5)
        assert len({after(order).to_json() for order in itertools.permutations(changes)}) == 1


def test_repeats_and_late_ones_leave_no_trace():
    rng = random.Random(3)
    for _ in range(1_000):
        changes = history(rng)
        state = after(changes)
        for one in rng.choices(changes, k=5):
            again, outcome = apply(state, one)
            assert again == state
            assert outcome is not Outcome.CHANGED
        noisy = changes + rng.choices(changes, k=6)
        rng.shuffle(noisy)
        assert after(noisy).to_json() == state.to_json()


def test_merge_is_commutative_associative_and_idempotent():
    rng = random.Random(4)
    for _ in range(1_500):
        changes = history(rng, most=12)
        # Overlapping parts, as replicas have them.
        a, b, c = (after(rng.sample(changes, rng.randint(0, len(changes)))) for _ in range(3))
        assert a.merge(b).to_json() == b.merge(a).to_json()
        assert a.merge(b).merge(c).to_json() == a.merge(b.merge(c)).to_json()
        assert a.merge(a).to_json() == a.to_json()
        assert a.merge(b).merge(b).to_json() == a.merge(b).to_json()


def test_applying_and_merging_commute():
    rng = random.Random(5)
    for _ in range(1_500):
        changes = history(rng, most=12)
        cut = rng.randint(0, len(changes))
        left, right = after(changes[:cut]), after(changes[cut:])
        both = left.merge(right)
        assert facts(both) == oracle(changes)
        one = change(41 + rng.randrange(5) if rng.random() < 0.5 else 40, rng)
        assert apply(left, one)[0].merge(right).to_json() == apply(both, one)[0].to_json()
        assert left.merge(apply(right, one)[0]).to_json() == apply(both, one)[0].to_json()


def test_the_columns_of_a_picture_never_mix():
    rng = random.Random(6)
    for _ in range(1_000):
        changes = history(rng)
        parts = [after(rng.sample(changes, rng.randint(1, len(changes)))) for _ in range(2)]
        for state in (*parts, parts[0].merge(parts[1])):
            if state.described:
                versions = {str(state.columns[name]).partition("@")[2] for name in PICTURE_COLUMNS}
                assert versions == {str(state.version_of(PICTURE))}


def test_registers_above_the_base_are_all_that_is_kept():
    rng = random.Random(7)
    for _ in range(500):
        state = after(history(rng))
        assert all(version > state.base_version for version in state.column_versions.values())
        assert state.described is (state.base_version > UNSEEN)
        assert not state.described or set(state.columns) == set(STATE_COLUMNS)


def test_states_survive_json():
    rng = random.Random(8)
    for _ in range(500):
        state = after(history(rng))
        back = ItemState.from_dict(json.loads(state.to_json()))
        assert back == state
        assert back.to_json() == state.to_json()


OUTCOMES = [
    ([("set", 5, ("price",))], ("set", 5, ("price",)), Outcome.REPEATED),
    ([("set", 5, ("price",))], ("set", 4, ("price",)), Outcome.BEHIND),
    ([("set", 5, ("price",))], ("set", 4, ("price", "stock")), Outcome.CHANGED),
    # The same change again, after a newer one took over one of its columns.
    ([("set", 5, ("price", "stock")), ("set", 6, ("price",))], ("set", 5, ("price", "stock")), Outcome.REPEATED),
    ([("set", 5, ("price", "stock")), ("set", 6, ("price", "stock"))], ("set", 5, ("price", "stock")), Outcome.BEHIND),
    ([("delete", 5, ())], ("restore", 5, ()), Outcome.REPEATED),
    ([("delete", 5, ())], ("restore", 4, ()), Outcome.BEHIND),
    ([("delete", 5, ())], ("restore", 6, ()), Outcome.CHANGED),
    ([("delete", 5, ())], ("upsert", 4, ()), Outcome.CHANGED),  # stays deleted, but is described
    ([("upsert", 5, ())], ("upsert", 5, ()), Outcome.REPEATED),
    ([("upsert", 5, ())], ("upsert", 4, ()), Outcome.BEHIND),
    ([("upsert", 5, ())], ("set", 5, ("price",)), Outcome.REPEATED),
    ([("upsert", 5, ())], ("delete", 4, ()), Outcome.BEHIND),
    ([("upsert", 5, ()), ("set", 9, ("price",))], ("upsert", 7, ()), Outcome.CHANGED),
]


@pytest.mark.parametrize(("before", "one", "expected"), OUTCOMES)
def test_outcomes(before, one, expected):
    rng = random.Random(9)

    def full(kind, version, names):
        columns = {name: value_of(name, rng) for name in (STATE_COLUMNS if kind == "upsert" else names)}
        return kind, version, START, columns

    _, outcome = apply(after([full(*each) for each in before]), full(*one))
    assert outcome is expected


def test_an_older_row_under_a_delete_stays_deleted_and_a_newer_one_comes_back():
    columns = dict.fromkeys(STATE_COLUMNS, "x")
    gone = unknown_item("x").set_deleted(5, True, START)[0]
    assert (gone.described, gone.deleted, gone.version) == (False, True, 5)
    assert gone.upsert(4, columns, START)[0].deleted
    assert not gone.upsert(6, columns, START)[0].deleted


def test_a_row_of_silver_from_before_there_were_registers():
    row = dict.fromkeys(STATE_COLUMNS) | {"item_id": "x", "version": 7, "title": "t", "attributes": [("a", "b")]}
    state = state_of_row(row | {"deleted": True, "snapshot_id": "s", "shard": 0})
    assert (state.base_version, state.version, dict(state.column_versions)) == (7, 7, {})
    assert (state.deleted, state.changed_at, state.columns["tags"]) == (True, None, [])
    assert state.columns["attributes"] == {"a": "b"}
    with_registers = state_of_row(row | {"base_version": 3, "column_versions": [("price", 7)]})
    assert (with_registers.version_of("price"), with_registers.version_of("title"), with_registers.version) == (7, 3, 7)


def test_of_two_values_of_one_version_the_first_stays():
    first = unknown_item("x").upsert(5, dict.fromkeys(STATE_COLUMNS, "first"), START)[0]
    second = unknown_item("x").upsert(5, dict.fromkeys(STATE_COLUMNS, "second"), START)[0]
    assert first.merge(second).columns == first.columns
    assert second.merge(first).columns == second.columns
    assert first.set_columns(5, {"price": "second"}, START)[0] == first
