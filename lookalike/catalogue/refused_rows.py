"""A refused change as a message of the topic `refused` and as a row of REFUSED, with its payload kept to the byte.

The payload is text where it can be read, so that people see what came; other bytes are kept as base64. Both give
the received bytes back for a replay. A payload too large for a message of its own stays where it lies in the log.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pyarrow as pa

from lookalike.contracts.change import SCHEMA, Position, Topic
from lookalike.contracts.product import Refusal
from lookalike.contracts.tables import REFUSED
from lookalike.contracts.vector_update import UnknownSchema

ENCODED = "base64:"
IN_LOG = "log:"
KEPT_BYTES = 1_900_000
"""Larger payloads stay in the log. As JSON a kept one has at most twice its bytes, which every log takes."""
SNAPSHOT_PREFIX = f"{Topic.CHANGES}-"
UNKNOWN_SOURCE = "unknown"


@dataclass(frozen=True)
class RefusedChange:
    """`partition` and `offset`: where the change lies in `catalogue-changes`. `payload`: see `payload_text`."""

    partition: int
    offset: int
    source: str
    item_id: str | None
    reason: str  # a RefusalReason, or one that a newer writer knows
    detail: str
    refused_at: datetime
    payload: str

    @property
    def key(self) -> bytes:
        """Key of the message: the item, or the place in the log where no item is known."""
        return (self.item_id or f"{self.partition}:{self.offset}").encode()

    def encode(self) -> bytes:
        """As the message's value."""
        body = {"schema": SCHEMA, **asdict(self), "refused_at": self.refused_at.astimezone(UTC).isoformat()}
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, value: bytes) -> "RefusedChange":
        """Read a message's value. Raises UnknownSchema."""
        body = json.loads(value)
        schema = body.pop("schema")
        if schema > SCHEMA:
            raise UnknownSchema(
                f"a message of refused has schema {schema}, this process reads up to {SCHEMA}; update it"
            )
        return cls(**body | {"refused_at": datetime.fromisoformat(body["refused_at"])})


def refused_change(
    refusal: Refusal, at: Position, payload: bytes, refused_at: datetime, source: str = UNKNOWN_SOURCE
) -> RefusedChange:
    """A refusal of the change that lies `at` a place in `catalogue-changes`, with the bytes that were received."""
    text = payload_text(payload) if len(payload) <= KEPT_BYTES else f"{IN_LOG}{at.partition}:{at.offset}"
    return RefusedChange(
        at.partition, at.offset, source, refusal.item_id, refusal.reason, refusal.detail, refused_at, text
    )


def payload_text(data: bytes) -> str:
    """Received bytes as text; "base64:…" where they are not UTF-8, would swell as JSON, or begin like a marked text."""
    encoded = ENCODED + base64.b64encode(data).decode()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return encoded
    swollen = len(json.dumps(text, ensure_ascii=False).encode()) > 2 * len(data) + 2
    return encoded if swollen or text.startswith((ENCODED, IN_LOG)) else text


def payload_bytes(text: str) -> bytes | Position:
    """The bytes that `payload_text` was given, or the place in `catalogue-changes` where a large payload lies."""
    if text.startswith(IN_LOG):
        partition, _, offset = text.removeprefix(IN_LOG).partition(":")
        return Position(int(partition), int(offset))
    return base64.b64decode(text.removeprefix(ENCODED)) if text.startswith(ENCODED) else text.encode()


def refused_table(changes: Sequence[RefusedChange]) -> pa.Table:
    """Rows of REFUSED; their snapshot is "catalogue-changes-PARTITION", their row number the offset."""
    rows = [
        {
            "snapshot_id": f"{SNAPSHOT_PREFIX}{change.partition}",
            "row_number": change.offset,
            "source": change.source,
            "item_id": change.item_id,
            "reason": str(change.reason),
            "detail": change.detail,
            "refused_at": change.refused_at,
            "payload": change.payload,
        }
        for change in changes
    ]
    return pa.Table.from_pylist(rows, schema=REFUSED.schema)
