"""Cursor: where the next page starts, bound to the release and the query that it belongs to.

Opaque to the caller; a checksum tells a damaged cursor from one that merely belongs elsewhere. It is no secret: it
names nothing that the caller may not know.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from lookalike.contracts.errors import BadQuery, CursorExpired
from lookalike.contracts.query import MAX_DEPTH, SearchQuery

CHECKSUM_LENGTH = 12


@dataclass(frozen=True)
class Last:
    """The last result given: the next page holds only what comes after it, whatever has changed since."""

    score: float
    item_id: str


@dataclass(frozen=True)
class FirstSeen:
    """What the first page had seen of the changes: commit of an overlay, which only the process that made it knows."""

    overlay: str
    commit: int


@dataclass(frozen=True)
class Cursor:
    """`depth` results of this query on this release were already given; the rest only where items may change."""

    release: str
    query: str
    depth: int
    last: Last | None = None
    first: FirstSeen | None = None

    def encode(self) -> str:
        """As the opaque string that goes to the caller."""
        fields: list[Any] = [self.release, self.query, self.depth]
        if self.last is not None and self.first is not None:
            fields += [self.last.score, self.last.item_id, self.first.overlay, self.first.commit]
        body = json.dumps(fields, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(_checksum(body) + body).decode().rstrip("=")


def query_hash(query: SearchQuery) -> str:
    """Identity of what is asked: parts, filters and exclusion, but neither the page size nor the cursor."""
    parts = [
        part.model_dump(exclude={"picture"})
        | {"picture": hashlib.sha256(part.picture).hexdigest() if part.picture is not None else None}
        for part in query.parts
    ]
    asked = [parts, [each.model_dump() for each in query.filters], query.exclude_query_items]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def cursor_of(query: SearchQuery, release: str) -> Cursor | None:
    """The query's cursor, None for the first page.

    Raises BadQuery for a damaged cursor, CursorExpired for one of another release or query.
    """
    if query.cursor is None:
        return None
    cursor = decode(query.cursor)
    if cursor.release != release:
        raise CursorExpired(
            f"the cursor belongs to release {cursor.release!r}, but release {release!r} answers now; start again "
            f"without a cursor"
        )
    if cursor.query != query_hash(query):
        raise CursorExpired("the cursor belongs to another query (parts, weights or filters differ); start again")
    return cursor


def decode(text: str) -> Cursor:
    """Read a cursor. Raises BadQuery when it is not one that `encode` gave."""
    damaged = BadQuery("the cursor is damaged: pass next_cursor back unchanged, or start again without one")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise damaged from error
    body = data[CHECKSUM_LENGTH:]
    if data[:CHECKSUM_LENGTH] != _checksum(body):
        raise damaged
    release, query, depth, *rest = json.loads(body)
    cursor = Cursor(release, query, depth)
    if rest:
        cursor = replace(cursor, last=Last(*rest[:2]), first=FirstSeen(*rest[2:]))
    # A second spelling of the same bytes is refused as well: one cursor, one string.
    if cursor.encode() != text or not 0 < depth < MAX_DEPTH:
        raise damaged
    return cursor


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"lookalike cursor 1" + body).digest()[:CHECKSUM_LENGTH]
