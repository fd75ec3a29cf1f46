"""One received row to a Product, or a refusal that names the column, the value and what is allowed.

Numbers may arrive as text ("1.299,00 €" is not guessed at: a price is digits with a decimal point). Empty text means
absent. The same functions serve the nightly batch and the stream, so both accept and refuse the same values.
"""

import json
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import ValidationError

from lookalike.contracts.product import MAX_TITLE_LENGTH, Product, Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings

UNREADABLE = "lookalike.unreadable"
"""Attribute of a row that its reader could not read: the value says why. Such a row is refused as malformed."""

MAX_ID_LENGTH = 512
_MAX_WHOLE = 2**63 - 1
_SHOWN = 80
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXTS = ("brand", "group_id", "currency", "licence", "licence_url", "author", "author_url")
_LISTS = ("category_path", "tags", "synthetic")


class ValueRefused(Exception):
    """A received value outside its contract; becomes a Refusal at the edge of a parser."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def parse_product(payload: str, received_at_ms: int, limits: IntakeSettings) -> Product | Refusal:
    """Parse the JSON of one row. `received_at_ms`: when the row was received, ms since 1970 (UTC).

    A version may lead the time of receipt by at most `limits.max_version_lead_seconds`: a version from the future
    would win over every honest one that follows.
    """
    item_id: str | None = None
    try:
        row = parse_object(payload, "row")
        _require_readable(row)
        item_id = parse_item_id(row)
        return parse_described(item_id, parse_version(row, latest_version(received_at_ms, limits)), row)
    except ValueRefused as refused:
        return Refusal(refused.reason, refused.detail, item_id)


def latest_version(received_at_ms: int, limits: IntakeSettings) -> int:
    """Highest version, and latest time in ms, that something received then may have."""
    return received_at_ms + 1_000 * limits.max_version_lead_seconds


def parse_object(text: str, what: str) -> dict[str, Any]:
    """Text as a JSON object. Raises ValueRefused, as all functions below."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueRefused(RefusalReason.MALFORMED, f"the {what} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueRefused(RefusalReason.MALFORMED, f"the {what} is a JSON {type(row).__name__}, an object is needed")
    return row


def parse_item_id(row: dict[str, Any]) -> str:
    """The id: text or a whole number, at most 512 characters, none of them a control character."""
    item_id = parse_text("item_id", row.get("item_id"), RefusalReason.MISSING_ID)
    if item_id is None:
        raise ValueRefused(RefusalReason.MISSING_ID, "item_id is missing or empty")
    if len(item_id) > MAX_ID_LENGTH:
        raise ValueRefused(
            RefusalReason.BAD_VALUE, f"item_id has {len(item_id):,} characters, allowed are {MAX_ID_LENGTH}"
        )
    if _CONTROL.search(item_id):
        raise ValueRefused(RefusalReason.BAD_VALUE, f"item_id = {show(item_id)} has a control character")
    return item_id


def parse_version(row: dict[str, Any], latest: int) -> int:
    """The version: a whole number up to `latest`."""
    version = _whole("version", row.get("version"))
    if version is None:
        raise ValueRefused(RefusalReason.BAD_VALUE, "version is missing: a whole number that grows per item")
    if version > latest:
        raise ValueRefused(
            RefusalReason.FUTURE_VERSION,
            f"version {version} lies in the future: allowed is at most {latest} (time of receipt and lead, ms)",
        )
    return version


def parse_described(item_id: str, version: int, row: dict[str, Any]) -> Product:
    """The columns of a whole row; unknown ones are refused."""
    unknown = sorted(row.keys() - Product.model_fields.keys())
    if unknown:
        raise ValueRefused(
            RefusalReason.MALFORMED,
            f"unknown column {show(unknown[0])}; further columns belong into `attributes`",
        )
    fields = {column: parse(row.get(column)) for column, parse in _PARSERS.items()}
    try:
        return Product(item_id=item_id, version=version, **fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueRefused(
            RefusalReason.BAD_VALUE, f"{where} = {show(first['input'])} is not allowed: {first['msg']}"
        ) from error


def parse_column(column: str, value: Any) -> Any:
    """One product column's value: text, list, map or number, None or empty where absent."""
    return _PARSERS[column](value)


def _require_readable(row: dict[str, Any]) -> None:
    attributes = row.get("attributes")
    if isinstance(attributes, dict | list) and row.get("item_id") is None:
        problem = dict(attributes).get(UNREADABLE) if _is_map(attributes) else None
        if problem is not None:
            raise ValueRefused(RefusalReason.MALFORMED, str(problem))


def _title(value: Any) -> str:
    title = parse_text("title", value)
    if title is None:
        raise ValueRefused(RefusalReason.EMPTY_TITLE, "title is missing or empty")
    if len(title) > MAX_TITLE_LENGTH:
        raise ValueRefused(
            RefusalReason.BAD_VALUE, f"title has {len(title):,} characters, allowed are {MAX_TITLE_LENGTH:,}"
        )
    return title


def _image_path(value: Any) -> str:
    image_path = parse_text("image_path", value)
    if image_path is None:
        raise ValueRefused(RefusalReason.PICTURE_MISSING, "image_path is missing or empty")
    return image_path


def parse_text(column: str, value: Any, reason: RefusalReason = RefusalReason.BAD_VALUE) -> str | None:
    """Text without blanks around it, None when empty. A whole number is taken as its digits."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # numeric ids and brands are common in exports
    if not isinstance(value, str):
        raise ValueRefused(reason, f"{column} = {show(value)} is not text")
    return _unicode(column, value, reason).strip() or None


def _unicode(column: str, value: str, reason: RefusalReason = RefusalReason.BAD_VALUE) -> str:
    if not value.isascii() and _SURROGATE.search(value):
        raise ValueRefused(reason, f"{column} = {show(value)} is not valid Unicode (a lone surrogate)")
    return value


def _number(value: Any) -> float | None:
    """The finite number that a JSON value or plain text stands for, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (not value.isascii() or "_" in value):
        return None  # float() takes "1_000" and other scripts' digits
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _price(value: Any) -> float | None:
    if _absent(value):
        return None
    number = _number(value)
    if number is None or number < 0:
        raise ValueRefused(
            RefusalReason.BAD_PRICE, f"price = {show(value)}: allowed is a finite number from 0, such as 12.50"
        )
    return number + 0.0  # -0.0 is 0


def _whole(column: str, value: Any) -> int | None:
    if _absent(value):
        return None
    exact = _exact_whole(value)
    if exact is None or not 0 <= exact <= _MAX_WHOLE:
        raise ValueRefused(RefusalReason.BAD_VALUE, f"{column} = {show(value)}: allowed is a whole number from 0")
    return exact


def _exact_whole(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value) if len(value.strip()) <= 19 else None
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _words(column: str, value: Any) -> tuple[str, ...]:
    if _absent(value):
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueRefused(RefusalReason.BAD_VALUE, f"{column} = {show(value)}: allowed is a list of texts")
    return tuple(_unicode(column, word).strip() for word in value if word.strip())


def _attribute(column: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return _unicode(column, str(value))
    raise ValueRefused(RefusalReason.BAD_VALUE, f"{column} = {show(value)}: allowed is a text or a number")


def _mapping(column: str, parse: Callable[[str, Any], Any], value: Any) -> dict[str, Any]:
    """A map column, as a JSON object or as a list of pairs (Arrow's form of a map). Null values are left out."""
    if _absent(value):
        return {}
    if not _is_map(value):
        raise ValueRefused(RefusalReason.BAD_VALUE, f"{column} = {show(value)}: allowed is a map from names to values")
    pairs: dict[str, Any] = dict(value)  # type: ignore[arg-type]
    return {
        _unicode(column, key): parse(f"{column}.{key[:_SHOWN]}", item)
        for key, item in pairs.items()
        if item is not None
    }


def _is_map(value: Any) -> bool:
    """A JSON object, or a list of [text, value] pairs as Arrow's maps become."""
    return isinstance(value, dict) or (
        isinstance(value, list)
        and all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in value)
    )


def show(value: Any) -> str:
    """A received value in a message, cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "title": _title,
    "image_path": _image_path,
    "price": _price,
    "stock": partial(_whole, "stock"),
    "attributes": partial(_mapping, "attributes", _attribute),
    "keywords": partial(_mapping, "keywords", _words),
    **{column: partial(parse_text, column) for column in _TEXTS},
    **{column: partial(_words, column) for column in _LISTS},
}
"""How each column of a row is read, in the order in which faults are told."""
