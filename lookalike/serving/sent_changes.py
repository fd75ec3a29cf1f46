"""Changes as callers send them over HTTP: a JSON object, an array, or lines; each checked before any is taken.

The check is the streaming job's own, so that a caller learns at once what the job would refuse. The job checks again,
against what it knows of the item. A picture that comes along is kept in the picture store, and the change names it.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.catalogue.changes import encode_change, parse_change
from lookalike.catalogue.intake import inspect_picture
from lookalike.catalogue.pictures import picture_path
from lookalike.contracts.change import CatalogueEvent, ChangeKind
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import Settings
from lookalike.serving.problems import FieldProblem, MalformedBody
from lookalike.storage.atomic import write_bytes
from lookalike.storage.log.port import Message

LINES = "application/x-ndjson"
MAX_CHANGES = 10_000


@dataclass(frozen=True)
class Taken:
    """A change to append, and the picture that came with it (path below the store, bytes)."""

    event: CatalogueEvent
    picture: tuple[str, bytes] | None = None

    @property
    def message(self) -> Message:
        """For the log."""
        return Message(self.event.item_id.encode(), encode_change(self.event))


@dataclass(frozen=True)
class SentChanges:
    """What a request held: changes to take, and what is wrong with the others."""

    taken: tuple[Taken, ...]
    refused: tuple[FieldProblem, ...]


def read_changes(body: bytes, media_type: str, received_at_ms: int, settings: Settings) -> SentChanges:
    """Parse and check all changes of a request. Raises MalformedBody when it holds none, or is no JSON at all."""
    given = _lines(body) if media_type == LINES else _values(body)
    if not given:
        raise MalformedBody("the request holds no change")
    if len(given) > MAX_CHANGES:
        raise MalformedBody(f"the request holds {len(given):,} changes; send at most {MAX_CHANGES:,} at a time")
    taken: list[Taken] = []
    refused: list[FieldProblem] = []
    for pointer, value in given:
        one = _take(value, received_at_ms, settings)
        if isinstance(one, Refusal):
            refused.append(FieldProblem(pointer=pointer, detail=f"{one.reason.value}: {one.detail}"))
        else:
            taken.append(one)
    return SentChanges(tuple(taken), tuple(refused))


def keep_pictures(taken: Sequence[Taken], root: Path) -> None:
    """Put the pictures into the store, on disk before the changes that name them."""
    for path, data in (each.picture for each in taken if each.picture is not None):
        if not (root / path).is_file():
            write_bytes(root / path, data)


def _lines(body: bytes) -> list[tuple[str, Any]]:
    lines = [line for line in body.splitlines() if line.strip()]
    return [(f"#/{number}", line) for number, line in enumerate(lines)]


def _values(body: bytes) -> list[tuple[str, Any]]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"the body is not JSON: {error}. Lines of JSON are sent as {LINES}") from error
    if isinstance(value, list):
        return [(f"#/{number}", each) for number, each in enumerate(value)]
    return [("#", value)]


def _take(value: Any, received_at_ms: int, settings: Settings) -> Taken | Refusal:
    """`value`: a line as it was sent, or parsed JSON."""
    raw, picture = value, None
    if not isinstance(value, bytes) or b'"picture"' in value:
        unpacked = _unpack_picture(value, settings)
        if isinstance(unpacked, Refusal):
            return unpacked
        raw, picture = unpacked
    event = parse_change(raw, received_at_ms, settings.intake)
    return event if isinstance(event, Refusal) else Taken(event, picture)


def _unpack_picture(value: Any, settings: Settings) -> tuple[bytes, tuple[str, bytes] | None] | Refusal:
    """The change with `product.image_path` in place of `product.picture`, and the picture by path below the store."""
    try:
        change = json.loads(value) if isinstance(value, bytes) else value
    except (ValueError, RecursionError) as error:
        return Refusal(RefusalReason.MALFORMED, f"the line is not JSON: {error}")
    product = change.get("product") if isinstance(change, dict) else None
    if not isinstance(product, dict) or "picture" not in product or change.get("kind") != ChangeKind.UPSERT:
        return _encoded(change), None
    if product.get("image_path") is not None:
        return Refusal(RefusalReason.MALFORMED, "product: either picture (base64) or image_path, not both")
    data = _decoded(product["picture"])
    if isinstance(data, Refusal):
        return data
    info = inspect_picture(data, settings.intake)
    if isinstance(info, Refusal):
        return info
    path = picture_path(info.content_hash, f".{info.format.lower()}")
    plain = {name: each for name, each in product.items() if name != "picture"} | {"image_path": path}
    return _encoded(change | {"product": plain}), (path, data)


def _decoded(text: Any) -> bytes | Refusal:
    if not isinstance(text, str):
        return Refusal(RefusalReason.BAD_VALUE, "product.picture: base64 text is needed")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        return Refusal(RefusalReason.BAD_VALUE, f"product.picture is not base64: {error}")


def _encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
