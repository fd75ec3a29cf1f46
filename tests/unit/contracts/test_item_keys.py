"""Keys of ids are the same whatever holds the text, and find what a dictionary finds."""

import numpy as np
import pyarrow as pa
import pytest

from lookalike.contracts.item_keys import NO_KEY, NO_PLACE, ItemKeys, joined, keys_of, lowest

TEXTS = ["", "a", "b", "a\0", "abcdefgh", "abcdefghi", "abcdefg", "ü" * 9, "x" * 100, "x" * 101]


def test_different_texts_have_different_keys_and_null_has_none():
    keys = keys_of(pa.array([*TEXTS, None], pa.string()))
    assert len(set(keys.tolist())) == len(TEXTS) + 1
    assert keys[-1] == NO_KEY
    assert len(np.unique(keys_of(pa.array([f"brand-{i % 7}:{i}" for i in range(100_000)])))) == 100_000


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_keys_do_not_depend_on_type_slice_or_chunks(kind):
    whole = pa.array([*TEXTS, None, *TEXTS], pa.string())
    keys = keys_of(whole)
    chunked = pa.chunked_array([whole.slice(0, 3), whole.slice(3, 0), whole.slice(3)])
    assert keys_of(chunked.cast(kind)).tolist() == keys.tolist()
    assert all(keys_of(whole.slice(at)).tolist() == keys[at:].tolist() for at in range(len(whole)))
    assert keys_of(pa.array([], kind)).tolist() == []


def test_places_are_those_of_a_dictionary():
    keys = np.sort(keys_of(pa.array([f"item-{i}" for i in range(1_000)])))
    items, place = ItemKeys(keys), {key: at for at, key in enumerate(keys.tolist())}
    asked = keys_of(pa.array([f"item-{i}" for i in range(500, 1_500)]))
    assert items.find(asked).tolist() == [place.get(key, NO_PLACE) for key in asked.tolist()]
    assert ItemKeys(keys[:0]).find(asked).tolist() == [NO_PLACE] * 1_000


def test_a_pair_of_keys_has_an_order():
    first, second = keys_of(pa.array(["a", "b"])), keys_of(pa.array(["b", "a"]))
    assert len(set(joined(first, second).tolist())) == 2


def test_a_draw_is_even_and_repeats_no_item():
    keys = keys_of(pa.array([f"item-{i % 1_000}" for i in range(2_000)]))
    assert len(set(keys[lowest(keys, 300, 1)].tolist())) == 300
    assert len(lowest(keys, 5_000, 1)) == 1_000
    drawn = np.concatenate([lowest(keys[:1_000], 100, seed) for seed in range(50)])
    assert abs(drawn.mean() - 499.5) < 20  # 5,000 uniform draws: standard deviation of the mean 4.1
