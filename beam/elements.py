"""What travels through the enriching pipeline: a change with what is known about it so far.

Elements are immutable; each stage passes on a copy with more in it. All that a later stage needs is in the element,
so that no stage asks another one's memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lookalike.catalogue.intake import PictureInfo
from lookalike.contracts.change import CatalogueEvent, ChangeKind, Position, Topic
from lookalike.contracts.encoder import Prepared
from lookalike.contracts.item_state import ItemState
from lookalike.contracts.product import Refusal

Vector = NDArray[np.float32]
"""Unit vector, float32, shape (dim,)."""


@dataclass(frozen=True, slots=True)
class SeenPicture:
    """A fetched and checked picture. Its bytes are let go: what has to be encoded is `prepared`, by space.

    `vectors`: known ones, by space. A space in neither is one in which nobody asks for a vector.
    """

    info: PictureInfo
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    prepared: Mapping[str, Prepared] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SilverItem:
    """What SILVER says of an item that neither the stream nor the live release knows; None: nothing."""

    state: ItemState | None
    vectors: Mapping[str, Vector] = field(default_factory=dict)


class Wait(StrEnum):
    """Why a change cannot be dealt with now."""

    UNDER_WAY = "under_way"  # its picture or its item is still being looked for: not a failed try
    FAILED = "failed"  # a try failed in a way that may pass


@dataclass(frozen=True, slots=True)
class Change:
    """`topic`, `offset`, `previous`: where it was read just now, and the offset read there before (-1: the first).

    `origin`: its place in `catalogue-changes`; `received_ms`: when it came there; `payload`: its bytes as received;
    `tries`: how many failed so far. `event` is absent where the payload could not be parsed. `refusal` without `wait`
    is the end of it; with `wait` it tells the fault that may pass. `fetched`: its picture was got now; `embedded`: and
    had to be encoded.
    """

    topic: Topic
    offset: int
    previous: int
    origin: Position
    received_ms: int
    payload: bytes
    tries: int = 0
    event: CatalogueEvent | None = None
    refusal: Refusal | None = None
    wait: Wait | None = None
    picture: SeenPicture | None = None
    fetched: bool = False
    embedded: bool = False
    silver: SilverItem | None = None

    @property
    def parked_before(self) -> bool:
        """Whether it comes from the lane of parked changes."""
        return self.topic is Topic.LATER

    @property
    def needs_item(self) -> bool:
        """Whether it means something for an item that is described only."""
        return self.event is not None and self.event.kind in (ChangeKind.ATTRIBUTES, ChangeKind.RESTORE)

    def refused(self, refusal: Refusal) -> "Change":
        """The same change, refused."""
        return replace(self, refusal=refusal, wait=None, picture=None)
