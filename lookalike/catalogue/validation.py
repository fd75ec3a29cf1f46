"""One received row to a Product, or a refusal that names the column, the value and what is allowed.

Numbers may arrive as text ("1.299,00 €" is not guessed at: a price is digits with a decimal point). Empty text means
absent. The same function serves the nightly batch and the stream, so both accept the same rows.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from lookalike.contracts.product import MAX_TITLE_LENGTH, Product, Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings

UNREADABLE = "lookalike.unreadable"
"""Attribute of a row that its reader could not read: the value says why. Such a row is refused as malformed."""

_MAX_ID_LENGTH = 512
_MAX_WHOLE = 2**63 - 1
_SHOWN = 80
_TEXTS = ("brand", "group_id", "currency", "licence", "licence_url", "author", "author_url")
_LISTS = ("category_path", "tags", "synthetic")


class _Refused(Exception):
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
        row = _row(payload)
        _require_readable(row)
        item_id = _text(row, "item_id", RefusalReason.MISSING_ID)
        if item_id is None:
            raise _Refused(RefusalReason.MISSING_ID, "item_id is missing or empty")
        if len(item_id) > _MAX_ID_LENGTH:
            long, item_id = item_id, None
            raise _Refused(
                RefusalReason.BAD_VALUE, f"item_id has {len(long):,} characters, allowed are {_MAX_ID_LENGTH}"
            )
        return _product(item_id, row, received_at_ms + 1_000 * limits.max_version_lead_seconds)
    except _Refused as refused:
        return Refusal(refused.reason, refused.detail, item_id)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        detail = f"{where} = {_show(first['input'])} is not allowed: {first['msg']}"
        return Refusal(RefusalReason.BAD_VALUE, detail, item_id)


def _row(payload: str) -> dict[str, Any]:
    try:
        row = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise _Refused(RefusalReason.MALFORMED, f"the row is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise _Refused(RefusalReason.MALFORMED, f"the row is a JSON {type(row).__name__}, an object is needed")
    unknown = sorted(set(row) - set(Product.model_fields))
    if unknown:
        raise _Refused(
            RefusalReason.MALFORMED,
            f"unknown column {_show(unknown[0])}; further columns belong into `attributes`",
        )
    return row


def _require_readable(row: dict[str, Any]) -> None:
    attributes = row.get("attributes")
    if isinstance(attributes, dict | list) and row.get("item_id") is None:
        problem = dict(attributes).get(UNREADABLE) if _is_map(attributes) else None
        if problem is not None:
            raise _Refused(RefusalReason.MALFORMED, str(problem))


def _product(item_id: str, row: dict[str, Any], latest_version: int) -> Product:
    title = _text(row, "title", RefusalReason.BAD_VALUE)
    if title is None:
        raise _Refused(RefusalReason.EMPTY_TITLE, "title is missing or empty")
    if len(title) > MAX_TITLE_LENGTH:
        raise _Refused(
            RefusalReason.BAD_VALUE, f"title has {len(title):,} characters, allowed are {MAX_TITLE_LENGTH:,}"
        )
    image_path = _text(row, "image_path", RefusalReason.BAD_VALUE)
    if image_path is None:
        raise _Refused(RefusalReason.PICTURE_MISSING, "image_path is missing or empty")
    version = _whole(row, "version")
    if version is None:
        raise _Refused(RefusalReason.BAD_VALUE, "version is missing: a whole number that grows per item")
    if version > latest_version:
        raise _Refused(
            RefusalReason.FUTURE_VERSION,
            f"version {version} lies in the future: allowed is at most {latest_version} (time of receipt and lead, ms)",
        )
    fields: dict[str, Any] = dict(
        item_id=item_id,
        version=version,
        title=title,
        image_path=image_path,
        price=_price(row),
        stock=_whole(row, "stock"),
        attributes=_mapping(row, "attributes", _attribute),
        keywords=_mapping(row, "keywords", _words),
        **{column: _text(row, column, RefusalReason.BAD_VALUE) for column in _TEXTS},
        **{column: _words(column, row.get(column)) for column in _LISTS},
    )
    return Product(**fields)


def _text(row: dict[str, Any], column: str, reason: RefusalReason) -> str | None:
    value = row.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # numeric ids and brands are common in exports
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Refused(reason, f"{column} = {_show(value)} is not text")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise _Refused(reason, f"{column} = {_show(value)} is not valid Unicode (a lone surrogate)")
    return value.strip() or None


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


def _price(row: dict[str, Any]) -> float | None:
    value = row.get("price")
    if _absent(value):
        return None
    number = _number(value)
    if number is None or number < 0:
        raise _Refused(
            RefusalReason.BAD_PRICE, f"price = {_show(value)}: allowed is a finite number from 0, such as 12.50"
        )
    return number + 0.0  # -0.0 is 0


def _whole(row: dict[str, Any], column: str) -> int | None:
    value = row.get(column)
    if _absent(value):
        return None
    exact = _exact_whole(value)
    if exact is None or not 0 <= exact <= _MAX_WHOLE:
        raise _Refused(RefusalReason.BAD_VALUE, f"{column} = {_show(value)}: allowed is a whole number from 0")
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
        raise _Refused(RefusalReason.BAD_VALUE, f"{column} = {_show(value)}: allowed is a list of texts")
    return tuple(word.strip() for word in value if word.strip())


def _attribute(column: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return str(value)
    raise _Refused(RefusalReason.BAD_VALUE, f"{column} = {_show(value)}: allowed is a text or a number")


def _mapping(row: dict[str, Any], column: str, parse: Callable[[str, Any], Any]) -> dict[str, Any]:
    """A map column, as a JSON object or as a list of pairs (Arrow's form of a map). Null values are left out."""
    value = row.get(column)
    if _absent(value):
        return {}
    if not _is_map(value):
        raise _Refused(RefusalReason.BAD_VALUE, f"{column} = {_show(value)}: allowed is a map from names to values")
    pairs: dict[str, Any] = dict(value)  # type: ignore[arg-type]
    return {key: parse(f"{column}.{key}", item) for key, item in pairs.items() if item is not None}


def _is_map(value: Any) -> bool:
    """A JSON object, or a list of [text, value] pairs as Arrow's maps become."""
    return isinstance(value, dict) or (
        isinstance(value, list)
        and all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in value)
    )


def _show(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
