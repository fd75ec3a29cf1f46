"""Answers as JSON: hits with the address of their picture, and without what concerns only the server."""

import json
from typing import Any
from urllib.parse import quote

from lookalike.contracts.query import SearchAnswer

PRIVATE = frozenset({"image_path", "base_version", "column_versions", "changed_at"})
"""Where a picture lies is the server's business (the caller gets `picture_url`), and so are the item's registers."""
HASH_DIGITS = 12


def picture_url(item_id: str, content_hash: str) -> str:
    """Address of an item's picture on this server. It changes with the picture, so that no cache shows an old one."""
    return f"/v1/items/{quote(item_id, safe='')}/picture?v={content_hash[:HASH_DIGITS]}"


def product_json(item_id: str, product: dict[str, Any]) -> dict[str, Any]:
    """Columns of an item as the caller sees them."""
    shown = {key: value for key, value in product.items() if key not in PRIVATE}
    return shown | {"picture_url": picture_url(item_id, product["content_hash"])}


def answer_json(answer: SearchAnswer) -> bytes:
    """A page of hits."""
    hits = [
        {
            "item_id": hit.item_id,
            "score": hit.score,
            "part_scores": hit.part_scores,
            "product": product_json(hit.item_id, hit.product),
        }
        for hit in answer.hits
    ]
    body = {
        "release": answer.release,
        "hits": hits,
        "next_cursor": answer.next_cursor,
        "plan": answer.plan,
        "matching": answer.matching,
        "fresh": answer.fresh,
        "took_ms": answer.took_ms,
    }
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
