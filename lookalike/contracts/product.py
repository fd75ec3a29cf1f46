"""Product: one catalogue item as a shop describes it, and the reasons for which a row can be refused."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

MAX_TITLE_LENGTH = 2_000


class Product(BaseModel):
    """One received catalogue row after parsing.

    `version` grows per item: of two rows of one item, the higher version is the truth. `group_id` says which items
    show the same product (a GTIN, a parent SKU); it is the exact relevance of every quality number. `synthetic` names
    the columns whose values were generated because no source has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    item_id: str = Field(min_length=1, max_length=512)
    version: int = Field(ge=0)
    title: str = Field(min_length=1, max_length=MAX_TITLE_LENGTH)
    image_path: str = Field(min_length=1, description="URI, absolute path, or path below the picture store")
    brand: str | None = None
    category_path: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    group_id: str | None = None
    price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    currency: str | None = None
    stock: int | None = Field(default=None, ge=0)
    licence: str | None = None
    licence_url: str | None = None
    author: str | None = None
    author_url: str | None = None
    attributes: dict[str, str] = Field(default_factory=dict)
    keywords: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="language tag -> words")
    synthetic: tuple[str, ...] = ()


class RefusalReason(StrEnum):
    """Why a row was refused. The value is what is stored and counted."""

    MALFORMED = "malformed"  # the row is not readable as a product at all
    MISSING_ID = "missing_id"
    DUPLICATE_ID = "duplicate_id"  # same id twice in one snapshot: the latest version wins, the rest lands here
    EMPTY_TITLE = "empty_title"
    BAD_PRICE = "bad_price"
    FUTURE_VERSION = "future_version"
    BAD_VALUE = "bad_value"  # any other column outside its contract; detail names it
    PICTURE_MISSING = "picture_missing"
    PICTURE_UNREADABLE = "picture_unreadable"  # truncated or corrupt
    PICTURE_FORMAT = "picture_format"  # not on the allow-list
    PICTURE_TOO_MANY_PIXELS = "picture_too_many_pixels"
    PICTURE_TOO_MANY_BYTES = "picture_too_many_bytes"
    PICTURE_FORBIDDEN_ADDRESS = "picture_forbidden_address"  # a private address, given or redirected to
    PICTURE_UNAVAILABLE = "picture_unavailable"  # a fault that may pass: time-out, 5xx, no connection
    # Of changes only:
    SCHEMA_VERSION = "schema_version"  # newer than this reader
    UNKNOWN_ITEM = "unknown_item"  # attributes of, or a restore of, an item that nothing describes
    VERSION_BEHIND = "version_behind"  # an older version than the item has


@dataclass(frozen=True)
class Refusal:
    """A row that was not taken, with its reason and a sentence that says what would be allowed."""

    reason: RefusalReason
    detail: str
    item_id: str | None = None
