"""The HTTP form of changes and of their answer, as the OpenAPI document shows it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lookalike.serving.problems import FieldProblem
from lookalike.serving.schemas import PICTURE_EXAMPLE

_HEAD: dict[str, Any] = {
    "schema": 1,
    "version": 1_795_428_000_000,
    "event_time": "2026-11-23T10:00:00Z",
    "source": "shop",
}
_APPLE = _HEAD | {"item_id": "shop:4711"}
CHANGE_EXAMPLES: dict[str, dict[str, Any]] = {
    "product": {
        "summary": "A product, new or replaced, with its picture",
        "value": _APPLE
        | {"kind": "upsert", "product": {"title": "red apple", "price": 0.5, "picture": PICTURE_EXAMPLE}},
    },
    "several": {
        "summary": "A price and a sold-out, a withdrawal, and one back again",
        "value": [
            _APPLE | {"kind": "attributes", "columns": {"price": 0.45, "stock": 0}},
            _HEAD | {"kind": "delete", "item_id": "shop:4712"},
            _HEAD | {"kind": "restore", "item_id": "shop:4713"},
        ],
    },
}
LINES_EXAMPLE = (
    '{"schema":1,"kind":"attributes","item_id":"shop:4711","version":1795428000001,'
    '"event_time":"2026-11-23T10:00:01Z","source":"shop","columns":{"stock":3}}\n'
    '{"schema":1,"kind":"delete","item_id":"shop:4712","version":1795428000002,'
    '"event_time":"2026-11-23T10:00:02Z","source":"shop"}\n'
)


class ChangeRequest(BaseModel):
    """One change. Of two changes of one column of an item the higher version is the truth, whatever came first."""

    model_config = ConfigDict(extra="forbid")

    schema_: Literal[1] = Field(alias="schema", description="version of this format")
    kind: Literal["upsert", "attributes", "delete", "restore"]
    item_id: str = Field(min_length=1, max_length=512)
    version: int = Field(ge=0, description="grows per item; milliseconds since 1970 do well")
    event_time: str | int = Field(description="ISO 8601 with its zone, or milliseconds since 1970")
    source: str = Field(min_length=1, max_length=200, description="the shop or system that sends this")
    product: dict[str, Any] | None = Field(
        default=None,
        description="of an upsert: the columns of a catalogue row, with `picture` (base64) or `image_path` "
        "(an address, or a path of the picture store)",
    )
    columns: dict[str, Any] | None = Field(
        default=None, description="of an attribute change: columns by name; null clears one"
    )


class ChangesResponse(BaseModel):
    """What was taken."""

    model_config = ConfigDict(json_schema_extra={"example": {"accepted": 3, "token": "0:118,1:97", "refused": []}})

    accepted: int = Field(description="changes that are durable in the log now")
    token: str = Field(description="for `min_token` of a search that shall see them")
    refused: list[FieldProblem] = Field(description="with accept=partial: the changes that were not taken, and why")
