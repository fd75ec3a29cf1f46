"""What every adapter refuses before it writes: messages that the other adapter could not take either."""

from collections.abc import Sequence

from lookalike.contracts.errors import LookalikeError
from lookalike.storage.log.port import Message

FRAME_BYTES = 4096
BATCH_BYTES = 4 * 2**20
"""Largest batch on Kafka's wire; a topic is made with it and a producer keeps to it."""
MESSAGE_BYTES = BATCH_BYTES - FRAME_BYTES
"""Largest key and value together: what is left of a batch after its frame."""


class MessageTooLarge(LookalikeError):
    """A message is larger than the log takes. Trying again does not help."""


def check_sizes(messages: Sequence[Message]) -> None:
    """Raises MessageTooLarge that names the first such message."""
    for number, message in enumerate(messages):
        size = len(message.key) + len(message.value)
        if size > MESSAGE_BYTES:
            raise MessageTooLarge(
                f"message {number} of {len(messages)} (key {message.key[:80]!r}) has {size} bytes; the log takes key "
                f"and value of {MESSAGE_BYTES} bytes together at most. Nothing of this append was written."
            )


def check_place(partition: int, partitions: int, offset: int = 0) -> None:
    """Raises ValueError for a place that no log of so many partitions has."""
    if not 0 <= partition < partitions:
        raise ValueError(f"partition {partition}: this log has partitions 0 to {partitions - 1}")
    if offset < 0:
        raise ValueError(f"offset {offset} is below 0")
