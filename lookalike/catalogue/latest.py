"""Latest version wins: of several rows of one item, which is the truth. The same rule in batch and in stream."""

from collections.abc import Iterable

from lookalike.contracts.product import Product, Refusal, RefusalReason


def latest_wins(rows: Iterable[tuple[int, Product]]) -> tuple[list[tuple[int, Product]], list[tuple[int, Refusal]]]:
    """Duplicates within one snapshot: for each item_id the highest version stays, the rest is refused.

    `rows` are (row number, product); of equal versions the lowest row number stays, so the result does not depend on
    the order of arrival. Returns (kept, refused), each by row number.
    """
    best: dict[str, tuple[int, Product]] = {}
    lost: list[tuple[int, Product]] = []
    for number, product in rows:
        held = best.get(product.item_id)
        if held is None:
            best[product.item_id] = (number, product)
        elif (product.version, -number) > (held[1].version, -held[0]):
            best[product.item_id] = (number, product)
            lost.append(held)
        else:
            lost.append((number, product))
    refused = [(number, _refusal(product, *best[product.item_id])) for number, product in sorted(lost, key=_by_number)]
    return sorted(best.values(), key=_by_number), refused


def _refusal(product: Product, winner_row: int, winner: Product) -> Refusal:
    return Refusal(
        RefusalReason.DUPLICATE_ID,
        f"item_id occurs more than once in this snapshot: version {winner.version} in row {winner_row} was taken, "
        f"this row has version {product.version}",
        product.item_id,
    )


def _by_number(row: tuple[int, Product]) -> int:
    return row[0]
