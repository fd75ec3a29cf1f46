"""The HTTP form of requests and answers: what the OpenAPI document shows, and the step from JSON to typed values."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from lookalike.contracts.change import decode_token
from lookalike.contracts.feedback import SEARCH_ID, FeedbackEvent
from lookalike.contracts.query import MAX_K, MAX_PARTS, Box, Filter, QueryPart, SearchQuery
from lookalike.serving.problems import FieldProblem, InvalidRequest, invalid_values

MAX_TOKEN_LENGTH = 10_000
MAX_FEEDBACK = 1_000
"""Events of one request."""
PICTURE_EXAMPLE = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR42mO8oyHHwMAAAAZ2ASSxu+OmAAAAAElFTkSuQmCC"
"""Two red pixels as PNG."""

SEARCH_EXAMPLES: dict[str, dict[str, Any]] = {
    "words": {"summary": "By words", "value": {"parts": [{"text": "red apple"}], "k": 12}},
    "mixed": {
        "summary": "An item, pulled towards words and away from others",
        "value": {
            "parts": [
                {"item_id": "noto:red-apple", "weight": 1.0},
                {"text": "green", "weight": 0.6},
                {"text": "cartoon", "weight": -0.3},
            ],
            "filters": [{"field": "brand", "none_of": ["noto"]}, {"field": "price", "at_most": 20}],
            "k": 24,
        },
    },
    "picture": {
        "summary": "By a picture with a crop",
        "value": {
            "parts": [
                {
                    "picture": PICTURE_EXAMPLE,
                    "crop": {"left": 0.0, "top": 0.0, "width": 0.5, "height": 1.0},
                }
            ]
        },
    },
}
UPLOAD_EXAMPLE = '{"parts": [{"upload": 0}, {"text": "on a white plate", "weight": 0.5}], "k": 24}'

SEARCH_ID_EXAMPLE = "01a207d921001f0e1d2c3b4a59687786"
FEEDBACK_EXAMPLES: dict[str, dict[str, Any]] = {
    "click": {
        "summary": "A click, now",
        "value": {"search_id": SEARCH_ID_EXAMPLE, "item_id": "twemoji:red-apple", "event": "click"},
    },
    "several": {
        "summary": "What a shop sends later, with times",
        "value": [
            {
                "search_id": SEARCH_ID_EXAMPLE,
                "item_id": "twemoji:red-apple",
                "event": event,
                "at": f"2026-11-23T10:0{minute}:00Z",
            }
            for minute, event in enumerate(("click", "cart", "purchase"))
        ],
    },
}

PRODUCT_EXAMPLE: dict[str, Any] = {
    "title": "red apple",
    "brand": "twemoji",
    "category_path": ["food-drink", "food-fruit"],
    "tags": ["apple", "fruit", "red"],
    "group_id": "red-apple",
    "price": 12.4,
    "currency": "EUR",
    "stock": 31,
    "licence": "CC-BY-4.0",
    "licence_url": "https://creativecommons.org/licenses/by/4.0/",
    "author": "Twitter",
    "author_url": "https://github.com/twitter/twemoji",
    "synthetic": ["price", "stock"],
    "picture_url": "/v1/items/twemoji%3Ared-apple/picture?v=0f3a9c1d2e4b",
}


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartRequest(_Request):
    """One thing to look for: exactly one of text, picture, item_id, upload."""

    text: str | None = Field(default=None, min_length=1, max_length=2_000)
    picture: str | None = Field(default=None, description="base64 of an encoded picture; a data: URI is taken too")
    item_id: str | None = Field(default=None, description="an item of the release: its own vector is used")
    upload: int | None = Field(default=None, ge=0, description="number of the uploaded file (multipart only), from 0")
    crop: Box | None = Field(default=None, description="part of the picture, in fractions of its size")
    weight: float = Field(default=1.0, ge=-10, le=10, description="below 0 pushes away; 0 is not allowed")


class SearchRequest(_Request):
    """A weighted mix of words, pictures and items, with filters."""

    parts: list[PartRequest] = Field(min_length=1, max_length=MAX_PARTS)
    filters: list[Filter] = Field(default_factory=list)
    k: int = Field(default=24, ge=1, le=MAX_K, description="hits per page")
    cursor: str | None = Field(default=None, description="next_cursor of the page before, of the same query")
    exclude_query_items: bool = Field(default=True, description="leave out the items named in the parts")
    min_token: str | None = Field(
        default=None, max_length=MAX_TOKEN_LENGTH, description="token of a change: wait until it is visible here"
    )
    max_wait_ms: int | None = Field(default=None, ge=0, description="... at most so long; the server has its own limit")


class HitResponse(BaseModel):
    """One found item."""

    item_id: str
    score: float = Field(description="cosine to the fused query")
    part_scores: list[float] = Field(description="cosine to each part, in order")
    product: dict[str, Any]


class SearchResponse(BaseModel):
    """Hits of one page, best first, all from the release that is named."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "search_id": SEARCH_ID_EXAMPLE,
                "release": "7",
                "hits": [
                    {
                        "item_id": "twemoji:red-apple",
                        "score": 0.83,
                        "part_scores": [0.83],
                        "product": PRODUCT_EXAMPLE,
                    }
                ],
                "next_cursor": "eyJyIjoiNyIsIm8iOjI0fQ",
                "plan": "index",
                "matching": 8113,
                "fresh": 1,
                "took_ms": {"encode": 1.9, "filter": 0.0, "search": 0.6, "enrich": 0.3, "total": 2.8},
            }
        }
    )

    search_id: str = Field(description="of this answer, for /v1/feedback; also in the header Lookalike-Search")
    release: str
    hits: list[HitResponse]
    next_cursor: str | None
    plan: Literal["index", "exact"]
    matching: int = Field(description="items that pass the filters")
    fresh: int = Field(description="hits that changed since the release was built")
    took_ms: dict[str, float]


class FeedbackRequest(_Request):
    """One event on one item of an answer."""

    search_id: str = Field(pattern=SEARCH_ID, description="of the answer that showed the item")
    item_id: str = Field(min_length=1, max_length=512)
    event: FeedbackEvent
    at: AwareDatetime | None = Field(default=None, description="when, ISO 8601 with its zone; default: now")


class FeedbackResponse(BaseModel):
    """What was taken."""

    model_config = ConfigDict(json_schema_extra={"example": {"accepted": 3, "not_kept": 0}})

    accepted: int = Field(description="events that are durable in the log now")
    not_kept: int = Field(description="events on searches that the server does not note (all of them, or by sampling)")


@dataclass(frozen=True)
class Asked:
    """A checked query, and the changes that it shall see (offset by partition), waiting at most `max_wait_ms`."""

    query: SearchQuery
    wanted: Mapping[int, int] = field(default_factory=dict)
    max_wait_ms: int | None = None


def parse_search(body: bytes, uploads: Sequence[bytes] = ()) -> Asked:
    """JSON to a checked query. Raises InvalidRequest, MalformedBody or BadQuery, naming each wrong value."""
    try:
        request = SearchRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid_values(error) from error
    parts = tuple(_part(number, part, uploads) for number, part in enumerate(request.parts))
    query = SearchQuery(
        parts=parts,
        filters=tuple(request.filters),
        k=request.k,
        cursor=request.cursor,
        exclude_query_items=request.exclude_query_items,
    )
    return Asked(query, wanted_by(request.min_token), request.max_wait_ms)


def wanted_by(min_token: str | None) -> dict[int, int]:
    """Offsets by partition that a request shall see. Raises BadQuery for what is no token."""
    return {} if min_token is None else decode_token(min_token)


def _part(number: int, part: PartRequest, uploads: Sequence[bytes]) -> QueryPart:
    where = f"#/parts/{number}"
    if sum(value is not None for value in (part.text, part.picture, part.item_id, part.upload)) != 1:
        raise InvalidRequest([FieldProblem(pointer=where, detail="exactly one of: text, picture, item_id, upload")])
    picture = _from_base64(part.picture, where) if part.picture is not None else None
    if part.upload is not None:
        if part.upload >= len(uploads):
            detail = f"{len(uploads)} files were uploaded (multipart field `picture`); they are counted from 0"
            raise InvalidRequest([FieldProblem(pointer=f"{where}/upload", detail=detail)])
        picture = uploads[part.upload]
    try:
        return QueryPart(text=part.text, picture=picture, item_id=part.item_id, crop=part.crop, weight=part.weight)
    except ValidationError as error:
        raise invalid_values(error, ("parts", number)) from error


def _from_base64(text: str, where: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = f"not base64 ({error}); send larger pictures as multipart/form-data"
        raise InvalidRequest([FieldProblem(pointer=f"{where}/picture", detail=detail)]) from error
