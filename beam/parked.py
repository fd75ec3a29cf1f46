"""Parked changes: messages of the topic `catalogue-changes-later`, the change as it came and how often it was tried.

How long one waits is not in the message: it may be taken settings.stream.retry_seconds after it was appended, so that
the topic stays in the order in which its records are due.
"""

import base64
import json
from dataclasses import dataclass

from beam.elements import Change
from lookalike.contracts.change import SCHEMA, Position
from lookalike.contracts.errors import LookalikeError


class UnreadableParked(LookalikeError):
    """A message of the lane of parked changes that this process cannot read."""


@dataclass(frozen=True)
class Parked:
    """`origin` and `received_ms`: place and time in `catalogue-changes`; `payload`: the bytes there."""

    origin: Position
    received_ms: int
    tries: int
    payload: bytes

    def encode(self) -> bytes:
        """As the message's value."""
        body = {
            "schema": SCHEMA,
            "origin": [self.origin.partition, self.origin.offset],
            "received_ms": self.received_ms,
            "tries": self.tries,
            "payload": base64.b64encode(self.payload).decode(),
        }
        return json.dumps(body, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, value: bytes) -> "Parked":
        """Read a message's value. Raises UnreadableParked."""
        try:
            body = json.loads(value)
            schema = body["schema"]
            if schema <= SCHEMA:
                payload = base64.b64decode(body["payload"], validate=True)
                return cls(Position(*body["origin"]), int(body["received_ms"]), int(body["tries"]), payload)
        except (ValueError, TypeError, KeyError) as error:
            raise UnreadableParked(
                f"a message of catalogue-changes-later is not a parked change ({type(error).__name__}: {error}); only "
                f"the stream writes there. What it begins with: {value[:80]!r}"
            ) from error
        raise UnreadableParked(f"a parked change has schema {schema}, this process reads up to {SCHEMA}; update it")


def parked(change: Change, tries: int) -> Parked:
    """The change, to be tried again; `tries` have failed."""
    return Parked(change.origin, change.received_ms, tries, change.payload)
