"""Price and stock, which no picture source has: made from a seeded hash of the item_id and marked as synthetic."""

import hashlib
from typing import Any

SYNTHETIC = ("price", "currency", "stock")
_LOWEST, _SPAN = 0.99, 200.0  # prices from 0.99 to 198, evenly in the logarithm
_MAX_STOCK = 250


def generated_offer(item_id: str, seed: int, currency: str) -> dict[str, Any]:
    """The columns price, currency, stock and synthetic of one item: the same for the same seed and id, anywhere."""
    digest = hashlib.sha256(f"{seed}:{item_id}".encode()).digest()
    part = int.from_bytes(digest[:8]) / 2**64
    # One item in eight is sold out.
    stock = 0 if digest[8] < 32 else 1 + int.from_bytes(digest[9:13]) % _MAX_STOCK
    return {
        "price": round(_LOWEST * _SPAN**part, 2),
        "currency": currency,
        "stock": stock,
        "synthetic": list(SYNTHETIC),
    }
