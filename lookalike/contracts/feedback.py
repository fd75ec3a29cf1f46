"""Feedback: what a search showed, and what people did with it, as messages of the topic `feedback`.

Nothing here names a person, a picture or a word that was searched for. A search id says by itself when the search was
and whether its impression was kept, so that any server and the nightly join know both without looking anything up.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike.contracts.change import SCHEMA
from lookalike.contracts.query import QueryPart, SearchQuery
from lookalike.contracts.vector_update import UnknownSchema

WINDOW = timedelta(hours=24)
"""So long after its search a click counts."""
POSITIONS = 10
"""Positions for which the online report has a rate of their own."""
UNKNOWN = "unknown"
"""Release and query kind of clicks whose impression is not there."""
RECORD_HEADER = "Lookalike-Record"
"""Header of a search request: with `no` (see `NOT_RECORDED`) its answer is no impression."""
NOT_RECORDED = {RECORD_HEADER: "no"}
"""What checks, load tests and benches send along: they are no shoppers."""
SEARCH_ID = r"^0[0-9a-f]{11}[01][0-9a-f]{19}$"
"""See `new_search_id`; the leading 0 keeps times within what a date can hold."""
_TIME_DIGITS = 12
_RANDOM_BYTES = 10


def new_search_id(at_ms: int, kept: bool) -> str:
    """Id of an answer: its time (ms since 1970), whether its impression is kept, and 76 random bits; 32 hex digits."""
    return f"{at_ms:0{_TIME_DIGITS}x}{int(kept)}{os.urandom(_RANDOM_BYTES).hex()[1:]}"


def searched_at(search_id: str) -> datetime:
    """When the search of a well-formed id was, UTC."""
    return datetime.fromtimestamp(int(search_id[:_TIME_DIGITS], 16) / 1000, UTC)


def impression_kept(search_id: str) -> bool:
    """Whether the server that gave this well-formed id kept what it showed."""
    return search_id[_TIME_DIGITS] == "1"


class QueryKind(StrEnum):
    """What was searched by."""

    WORDS = "words"
    PICTURE = "picture"
    ITEM = "item"
    MIXED = "mixed"


class FeedbackEvent(StrEnum):
    """What a person did with an item that was shown."""

    CLICK = "click"
    CART = "cart"
    PURCHASE = "purchase"


def query_kind(query: SearchQuery) -> QueryKind:
    """The kind of all parts, or MIXED."""
    kinds = {_part_kind(part) for part in query.parts}
    return kinds.pop() if len(kinds) == 1 else QueryKind.MIXED


def _part_kind(part: QueryPart) -> QueryKind:
    if part.text is not None:
        return QueryKind.WORDS
    return QueryKind.ITEM if part.item_id is not None else QueryKind.PICTURE


class _Feedback(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_: int = Field(default=SCHEMA, alias="schema")
    search_id: str = Field(pattern=SEARCH_ID)

    def encode(self) -> bytes:
        """As the message's value."""
        return self.model_dump_json(by_alias=True).encode()


class Impression(_Feedback):
    """One answer as it went out. `start`: items on the pages before it; `filters`: columns that were filtered by."""

    kind: Literal["impression"] = "impression"
    release: str
    query_kind: QueryKind
    start: int = Field(ge=0)
    items: tuple[str, ...]
    filters: tuple[str, ...]
    k: int


class Click(_Feedback):
    """One event on one item of an answer. `at`: when it was, with its zone."""

    kind: Literal["click"] = "click"
    item_id: str
    event: FeedbackEvent
    at: datetime


def decode_feedback(value: bytes) -> Impression | Click | None:
    """Read a message's value; None when it is neither. Raises UnknownSchema for one of a newer schema."""
    try:
        fields = json.loads(value)
        if fields["schema"] > SCHEMA:
            raise UnknownSchema(
                f"a message of the topic feedback has schema {fields['schema']}; this code reads up to {SCHEMA}. "
                "Update it first: what it does not know must not be lost"
            )
        kind = Impression if fields["kind"] == "impression" else Click
        return kind.model_validate_json(value)
    except (ValueError, KeyError, TypeError, ValidationError):
        return None
