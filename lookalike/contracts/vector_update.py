"""VectorUpdate: one message of the topic `vector-updates`, the whole state of an item with its vectors.

Whole states, not differences, so that the latest message of an item is enough (the topic is compacted) and that a
server may join the log anywhere. A vector is left out only when the release that was live when the item was first
changed holds it already, for the same content hash. A message without a state is a progress mark: everything of its
origin's partition up to that offset has been dealt with.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.change import SCHEMA, ChangeKind, Position
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.item_state import ItemState

PROGRESS_KEY = "\x00progress:"
"""Keys of progress marks; no item id begins with a control character."""


class UnknownSchema(LookalikeError):
    """A message of a newer schema than this code reads: update this process first."""


@dataclass(frozen=True)
class VectorUpdate:
    """`vectors`: space fingerprint → unit vector, float32, shape (dim,), of the picture `state.content_hash`.

    `origin` is the place in `catalogue-changes` of its cause; `kind` and `event_time` are that change's.
    """

    origin: Position
    state: ItemState | None = None
    kind: ChangeKind | None = None
    event_time: datetime | None = None
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """Key of the message: the item id, or that of the partition's progress mark."""
        return (f"{PROGRESS_KEY}{self.origin.partition}" if self.state is None else self.state.item_id).encode()

    def encode(self) -> bytes:
        """As the message's value."""
        vectors = {
            space: base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
            for space, vector in self.vectors.items()
        }
        body = {
            "schema": SCHEMA,
            "origin": [self.origin.partition, self.origin.offset],
            "state": None if self.state is None else self.state.to_dict(),
            "kind": self.kind,
            "event_time": None if self.event_time is None else self.event_time.astimezone(UTC).isoformat(),
            "vectors": vectors,
        }
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, value: bytes) -> "VectorUpdate":
        """Read a message's value. Raises UnknownSchema."""
        body = json.loads(value)
        if body["schema"] > SCHEMA:
            raise UnknownSchema(
                f"a message of vector-updates has schema {body['schema']}, this process reads up to {SCHEMA}; update it"
            )
        at = body["event_time"]
        return cls(
            origin=Position(*body["origin"]),
            state=None if body["state"] is None else ItemState.from_dict(body["state"]),
            kind=None if body["kind"] is None else ChangeKind(body["kind"]),
            event_time=None if at is None else datetime.fromisoformat(at),
            vectors={
                space: np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)
                for space, text in body["vectors"].items()
            },
        )
