import random

from lookalike.catalogue.latest import latest_wins
from lookalike.contracts.product import Product, RefusalReason


def product(item_id, version):
    return Product(item_id=item_id, version=version, title="t", image_path="p")


def naive(rows):
    """For each id look at all rows: the highest version, and of equals the first row."""
    kept = []
    for item_id in {row.item_id for _, row in rows}:
        same = [(number, row) for number, row in rows if row.item_id == item_id]
        highest = max(row.version for _, row in same)
        kept.append(min(number for number, row in same if row.version == highest))
    return sorted(kept)


def test_like_a_naive_loop_in_any_order():
    chance = random.Random(5)
    for _ in range(60):
        rows = [(n, product(f"i{chance.randrange(6)}", chance.randrange(4))) for n in range(chance.randrange(20))]
        expected = naive(rows)
        chance.shuffle(rows)
        kept, refused = latest_wins(iter(rows))
        assert [number for number, _ in kept] == expected
        assert [number for number, _ in refused] == sorted({number for number, _ in rows} - set(expected))
        assert all(refusal.reason is RefusalReason.DUPLICATE_ID for _, refusal in refused)


def test_the_refusal_names_the_row_that_was_taken():
    _, [(number, refusal)] = latest_wins([(4, product("a", 1)), (9, product("a", 2))])
    assert (number, refusal.item_id) == (4, "a")
    assert "version 2 in row 9" in refusal.detail
