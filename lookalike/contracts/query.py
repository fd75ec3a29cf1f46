"""Search requests and answers as typed values, parsed once at the edge (HTTP, command line) and used everywhere."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_PARTS = 16
MAX_K = 200
MAX_DEPTH = 2_000
"""Deepest rank that a cursor can reach."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(_Frozen):
    """Crop in fractions of the picture: left, top, width, height, each within 0..1."""

    left: float = Field(ge=0, lt=1)
    top: float = Field(ge=0, lt=1)
    width: float = Field(gt=0, le=1)
    height: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.left + self.width > 1 + 1e-6 or self.top + self.height > 1 + 1e-6:
            raise ValueError("the crop leaves the picture: left + width and top + height may be at most 1")
        return self


class QueryPart(_Frozen):
    """One thing to look for. Exactly one of text, picture (encoded bytes), item_id; a negative weight pushes away."""

    text: str | None = Field(default=None, min_length=1, max_length=2_000)
    picture: bytes | None = None
    item_id: str | None = None
    crop: Box | None = None
    weight: float = Field(default=1.0, ge=-10, le=10)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(value is not None for value in (self.text, self.picture, self.item_id)) != 1:
            raise ValueError("a query part has exactly one of: text, picture, item_id")
        if self.crop is not None and self.text is not None:
            raise ValueError("a crop goes with a picture or an item_id, not with text")
        if self.weight == 0:
            raise ValueError("weight 0 has no effect: leave the part out")
        return self


class Filter(_Frozen):
    """Keep rows by a column (brand, category, tags, price, stock, licence, or attributes.NAME)."""

    field: str
    any_of: tuple[str, ...] | None = Field(default=None, description="one of these values")
    none_of: tuple[str, ...] | None = None
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(value is None for value in (self.any_of, self.none_of, self.at_least, self.at_most)):
            raise ValueError("a filter needs any_of, none_of, at_least or at_most")
        return self


class SearchQuery(_Frozen):
    """A whole request: weighted parts, filters, page size and the cursor of the page before."""

    parts: tuple[QueryPart, ...] = Field(min_length=1, max_length=MAX_PARTS)
    filters: tuple[Filter, ...] = ()
    k: int = Field(default=24, ge=1, le=MAX_K)
    cursor: str | None = None
    exclude_query_items: bool = True


class Hit(_Frozen):
    """One found item; `product` has its columns but the keywords.

    `score` is the cosine to the fused query, `part_scores` the cosine to each part in order.
    """

    item_id: str
    score: float
    part_scores: tuple[float, ...]
    product: dict[str, Any]


class SearchAnswer(_Frozen):
    """The hits, best first, and how they were found."""

    release: str
    hits: tuple[Hit, ...]
    next_cursor: str | None = None
    plan: Literal["index", "exact"]
    matching: int = Field(description="items that pass the filters")
    fresh: int = Field(default=0, description="hits that changed since the release was built")
    took_ms: dict[str, float] = Field(description="milliseconds by stage: encode, search, enrich, total")
