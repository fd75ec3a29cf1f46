"""Sets of rows against Python's own sets."""

import numpy as np
import pytest

from lookalike.contracts.row_set import RowSet

SIZES = (0, 1, 7, 8, 9, 63, 64, 65, 1_000)


def drawn(items: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(items) < share


@pytest.mark.parametrize("items", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_a_set_is_what_the_mask_says(items, share):
    mask = drawn(items, share, 1)
    rows = RowSet.of(mask)
    expected = [row for row in range(items) if mask[row]]
    assert rows.items == items and rows.count == len(expected)
    assert rows.rows().tolist() == expected
    assert rows.has(np.arange(items)).tolist() == mask.tolist()
    assert not rows.bits.flags.writeable and len(rows.bits) % 8 == 0


@pytest.mark.parametrize("items", SIZES)
def test_joined_and_every(items):
    one, two = drawn(items, 0.6, 1), drawn(items, 0.6, 2)
    both = RowSet.of(one) & RowSet.of(two)
    assert set(both.rows().tolist()) == set(np.flatnonzero(one).tolist()) & set(np.flatnonzero(two).tolist())
    assert RowSet.every(items).rows().tolist() == list(range(items))
    assert (RowSet.every(items) & RowSet.of(one)).bits.tobytes() == RowSet.of(one).bits.tobytes()


def test_changed_rows_and_no_others():
    mask = drawn(1_000, 0.5, 3)
    before = RowSet.of(mask)
    rows = np.random.default_rng(4).choice(1_000, 300, replace=False)
    present = drawn(300, 0.5, 5)
    expected = set(np.flatnonzero(mask).tolist())
    for row, there in zip(rows.tolist(), present.tolist(), strict=True):
        (expected.add if there else expected.discard)(row)
    assert set(before.changed(rows, present).rows().tolist()) == expected
    assert before.rows().tolist() == np.flatnonzero(mask).tolist()


def both_forms(mask):
    """The same set as bits and as rows, whichever takes less room."""
    return RowSet.of(mask), RowSet(np.flatnonzero(mask).astype(np.int32), len(mask))


@pytest.mark.parametrize("items", SIZES)
@pytest.mark.parametrize("shares", [(0.02, 0.5), (0.5, 0.01), (0.0, 0.3), (1.0, 0.03)])
def test_bits_and_rows_are_the_same_set(items, shares):
    one, two = drawn(items, shares[0], 1), drawn(items, shares[1], 2)
    first, second = set(np.flatnonzero(one).tolist()), set(np.flatnonzero(two).tolist())
    asked = np.random.default_rng(3).permutation(items)
    for left in both_forms(one):
        assert left.count == len(first) and set(left.rows().tolist()) == first
        assert left.bits.tobytes() == RowSet.of(one).bits.tobytes()
        assert left.has(asked).tolist() == one[asked].tolist()
        assert (~left).rows().tolist() == np.flatnonzero(~one).tolist()
        assert left.changed(asked[::2], two[asked[::2]]).rows().tolist() == [
            row for row in range(items) if (two if row in set(asked[::2].tolist()) else one)[row]
        ]
        for right in both_forms(two):
            assert (left & right).rows().tolist() == sorted(first & second)
            assert RowSet.union([left, right], items).rows().tolist() == sorted(first | second)
    assert RowSet.union([], items).count == 0


def test_what_takes_less_room_is_held_and_read_again():
    for count, size in ((0, 0), (31, 4 * 31), (32, 128), (500, 128)):
        rows = np.sort(np.random.default_rng(1).choice(1_024, count, replace=False))
        held = RowSet.of_rows(rows, 1_024)
        assert held.data.nbytes == size and not held.data.flags.writeable
        assert RowSet.read(held.data.tobytes(), 1_024).rows().tolist() == rows.tolist()


@pytest.mark.parametrize("share", [0.001, 0.4])
def test_some_rows_are_of_the_set_and_from_everywhere(share):
    mask = drawn(200_000, share, 6)
    for rows in both_forms(mask):
        some = rows.some(50)
        assert mask[some].all() and (np.diff(some) > 0).all()
        assert some.min() < 20_000 and some.max() > 180_000 and 20 <= len(some) <= 150
        assert rows.some(rows.count).tolist() == np.flatnonzero(mask).tolist()


def test_sets_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="10 and 11 rows"):
        RowSet.every(10) & RowSet.every(11)
    with pytest.raises(ValueError, match="8 bytes for 3 rows; got 1"):
        RowSet(np.zeros(1, np.uint8), 3)
    with pytest.raises(ValueError, match="got int64"):
        RowSet(np.zeros(1, np.int64), 3)
