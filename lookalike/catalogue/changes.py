"""Catalogue changes: their JSON to an event or a refusal, back, and what an event does to the state of its item.

The columns are read by the functions that read the rows of a snapshot, so a value that the nightly batch takes is
taken here, and one that it refuses is refused here with the same words.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from lookalike.catalogue.intake import PictureInfo
from lookalike.catalogue.validation import (
    ValueRefused,
    latest_version,
    parse_column,
    parse_described,
    parse_item_id,
    parse_object,
    parse_text,
    parse_version,
    show,
)
from lookalike.contracts.change import SCHEMA, CatalogueEvent, ChangeKind
from lookalike.contracts.item_state import PATCHABLE, ItemState, Outcome
from lookalike.contracts.product import Product, Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings

MAX_SOURCE_LENGTH = 200
_FIELDS = frozenset({"schema", "kind", "item_id", "version", "event_time", "source"})
_BODY = {ChangeKind.UPSERT: "product", ChangeKind.ATTRIBUTES: "columns"}
_KINDS = {kind.value: kind for kind in ChangeKind}
_LISTS = ("category_path", "tags", "synthetic")
_MAPS = ("attributes", "keywords")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK = re.compile(r"[T ]\d\d:\d\d")


def parse_change(data: bytes, received_at_ms: int, limits: IntakeSettings) -> CatalogueEvent | Refusal:
    """Parse one message of `catalogue-changes`. `received_at_ms`: when the log took it, ms since 1970 (UTC).

    The refusal says which part is wrong and what is allowed, and names the item as soon as that is known.
    """
    item_id: str | None = None
    try:
        body = parse_object(_text(data, limits), "change")
        _require_schema(body)
        item_id = parse_item_id(body)
        kind = _kind(body)
        latest = latest_version(received_at_ms, limits)
        version = parse_version(body, latest)
        return CatalogueEvent(
            kind=kind,
            item_id=item_id,
            version=version,
            event_time=_event_time(body.get("event_time"), latest),
            source=_source(body.get("source")),
            product=_product(body["product"], item_id, version) if kind is ChangeKind.UPSERT else None,
            columns=_columns(body["columns"]) if kind is ChangeKind.ATTRIBUTES else {},
        )
    except ValueRefused as refused:
        return Refusal(refused.reason, refused.detail, item_id)


def encode_change(event: CatalogueEvent) -> bytes:
    """The message that `parse_change` reads back as an equal event; absent columns of a product are left out."""
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": event.kind.value,
        "item_id": event.item_id,
        "version": event.version,
        "event_time": event.event_time.astimezone(UTC).isoformat(),
        "source": event.source,
    }
    if event.product is not None:
        given = event.product.model_dump(exclude={"item_id", "version"}, exclude_defaults=True)
        body["product"] = given
    if event.kind is ChangeKind.ATTRIBUTES:
        body["columns"] = event.columns
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def message_key(data: bytes) -> bytes:
    """Key of a change in the log: its item as `parse_change` reads it; else its content, so that partitions share."""
    try:
        return parse_item_id(parse_object(data.decode(), "change")).encode()
    except (ValueRefused, UnicodeDecodeError):
        return hashlib.sha256(data).hexdigest().encode()


def apply_change(state: ItemState, event: CatalogueEvent, picture: PictureInfo | None) -> tuple[ItemState, Outcome]:
    """The item's state after the event, and what that did; `picture` is that of an upsert.

    The caller decides what becomes of attribute changes and restores of an item that nothing describes. Raises
    ValueError for an upsert without its picture.
    """
    match event.kind:
        case ChangeKind.UPSERT:
            return state.upsert(event.version, _row_columns(event, picture), event.event_time)
        case ChangeKind.ATTRIBUTES:
            columns = {name: _stored(name, value) for name, value in event.columns.items()}
            return state.set_columns(event.version, columns, event.event_time)
        case ChangeKind.DELETE | ChangeKind.RESTORE:
            return state.set_deleted(event.version, event.kind is ChangeKind.DELETE, event.event_time)


def _text(data: bytes, limits: IntakeSettings) -> str:
    if len(data) > limits.max_event_bytes:
        raise ValueRefused(
            RefusalReason.BAD_VALUE, f"the change has {len(data):,} bytes, allowed are {limits.max_event_bytes:,}"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueRefused(RefusalReason.MALFORMED, f"the change is not UTF-8: {error}") from error


def _require_schema(body: dict[str, Any]) -> None:
    schema = body.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        given = "is missing" if schema is None else f"= {show(schema)}"
        raise ValueRefused(RefusalReason.MALFORMED, f"schema {given}: a whole number from 1 to {SCHEMA} is needed")
    if schema > SCHEMA:
        raise ValueRefused(
            RefusalReason.SCHEMA_VERSION,
            f"schema = {show(schema)}: this reader knows up to {SCHEMA}; update it, then replay the change",
        )


def _kind(body: dict[str, Any]) -> ChangeKind:
    value = body.get("kind")
    kind = _KINDS.get(value) if isinstance(value, str) else None
    if kind is None:
        given = "is missing" if value is None else f"= {show(value)}"
        raise ValueRefused(RefusalReason.MALFORMED, f"kind {given}: allowed are {', '.join(_KINDS)}")
    needed = _BODY.get(kind)
    unknown = sorted(body.keys() - _FIELDS - {needed})
    if unknown:
        raise ValueRefused(
            RefusalReason.MALFORMED,
            f"unknown field {show(unknown[0])} in a change of kind {kind}: allowed are "
            f"{', '.join(sorted(_FIELDS | ({needed} if needed else set())))}",
        )
    if needed is not None and not isinstance(body.get(needed), dict):
        given = "is missing" if body.get(needed) is None else f"= {show(body[needed])}"
        raise ValueRefused(RefusalReason.MALFORMED, f"{needed} {given}: a change of kind {kind} needs an object there")
    return kind


def _event_time(value: Any, latest_ms: int) -> datetime:
    time = _time(value)
    if time is None:
        given = "is missing" if value is None else f"= {show(value)}"
        raise ValueRefused(
            RefusalReason.BAD_VALUE,
            f"event_time {given}: allowed are ISO 8601 with its zone, such as 2026-11-23T10:00:00Z, "
            "or whole milliseconds since 1970",
        )
    latest = _EPOCH + timedelta(milliseconds=latest_ms)
    if not _EPOCH <= time <= latest:
        raise ValueRefused(
            RefusalReason.BAD_VALUE,
            f"event_time = {show(value)}: allowed is from 1970 to {latest.isoformat()} (time of receipt and lead)",
        )
    return time.astimezone(UTC)


def _time(value: Any) -> datetime | None:
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return _EPOCH + timedelta(milliseconds=value)
        if isinstance(value, str) and _CLOCK.search(value):
            time = datetime.fromisoformat(value)
            return time if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        pass
    return None


def _source(value: Any) -> str:
    source = parse_text("source", value)
    if source is None:
        raise ValueRefused(RefusalReason.BAD_VALUE, "source is missing: the name of the shop or system that sends this")
    if len(source) > MAX_SOURCE_LENGTH:
        raise ValueRefused(
            RefusalReason.BAD_VALUE, f"source has {len(source):,} characters, allowed are {MAX_SOURCE_LENGTH}"
        )
    return source


def _product(row: dict[str, Any], item_id: str, version: int) -> Product:
    if row.get("item_id") is not None and parse_item_id(row) != item_id:
        raise ValueRefused(
            RefusalReason.BAD_VALUE, f"product.item_id = {show(row['item_id'])} differs from the change's own item_id"
        )
    if row.get("version") is not None and parse_version(row, version) != version:
        raise ValueRefused(
            RefusalReason.BAD_VALUE, f"product.version = {show(row['version'])} differs from the change's own version"
        )
    return parse_described(item_id, version, row)


def _columns(given: dict[str, Any]) -> dict[str, Any]:
    if not given:
        raise ValueRefused(RefusalReason.BAD_VALUE, f"columns is empty: name at least one of {', '.join(PATCHABLE)}")
    unknown = sorted(given.keys() - set(PATCHABLE))
    if unknown:
        raise ValueRefused(
            RefusalReason.BAD_VALUE,
            f"columns has {show(unknown[0])}, which an attribute change cannot set; allowed: {', '.join(PATCHABLE)}; "
            "the others come with an upsert",
        )
    return {name: parse_column(name, value) for name, value in given.items()}


def _row_columns(event: CatalogueEvent, picture: PictureInfo | None) -> dict[str, Any]:
    product = event.product
    if product is None or picture is None:
        raise ValueError(f"an upsert of {event.item_id} needs its product and its picture")
    columns = {name: _stored(name, value) for name, value in product if name not in ("item_id", "version")}
    return columns | {
        "source": event.source,
        "content_hash": picture.content_hash,
        "width": picture.width,
        "height": picture.height,
    }


def _stored(name: str, value: Any) -> Any:
    """A column's value as a state keeps it: lists and maps as JSON gives them back, empty where absent."""
    if name in _LISTS:
        return list(value or ())
    if name in _MAPS:
        pairs: Mapping[str, Any] = value or {}
        return {key: list(item) if isinstance(item, tuple) else item for key, item in pairs.items()}
    return value
