"""Quantities as people write them, with their units: `24GiB`, `20ms`, `4h`, `100e6` → plain numbers."""

import math
import re
from collections.abc import Mapping

from lookalike.contracts.errors import LookalikeError

BYTES = {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40} | {
    "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}  # fmt: skip
MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
SECONDS = {"s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
MOST_ITEMS = 2**31 - 1
"""Row numbers of filters are of 32 bits."""
MOST_DIM = 65_536


class BadQuantity(LookalikeError):
    """A number without its unit, with an unknown one, or out of range; the message says which and what is allowed."""


def quantity(name: str, text: str, units: Mapping[str, float]) -> float:
    """A positive number with one of these units, times what the unit stands for. Raises BadQuantity."""
    parts = re.fullmatch(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*([^\W\d]*)\s*", text)
    number = None if parts is None else _number(parts[1])
    example = f"{name} 20{list(units)[-2]}"
    known = ", ".join(units)
    if parts is None or number is None:
        raise BadQuantity(f"{name} {text!r} is no number with a unit; write it like {example}, with one of {known}")
    if not parts[2]:
        raise BadQuantity(f"{name} {text!r} has no unit; write one of {known} behind the number, like {example}")
    if parts[2] not in units:
        raise BadQuantity(f"{name} {text!r}: {parts[2]!r} is no unit that is known here; write one of {known}")
    if number <= 0:
        raise BadQuantity(f"{name} {text!r} must be more than 0")
    return number * units[parts[2]]


def whole(name: str, text: str, most: int) -> int:
    """A whole number from 1 to `most`, also written like 100e6. Raises BadQuantity."""
    number = _number(text.strip().replace("_", ""))
    if number is None:
        raise BadQuantity(f"{name} {text!r} is no number; write it like 1000000 or 100e6, without a unit")
    if number != int(number) or not 1 <= number <= most:
        raise BadQuantity(f"{name} {text!r} must be a whole number from 1 to {most:,}")
    return int(number)


def share(name: str, text: str) -> float:
    """A number above 0 and at most 1. Raises BadQuantity."""
    number = _number(text)
    if number is None or not 0 < number <= 1:
        raise BadQuantity(f"{name} {text!r} must be a number above 0 and at most 1, like 0.95")
    return number


def as_bytes(size: float) -> str:
    """`12.3 GiB`: for people."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= BYTES[unit]:
            return (
                f"{size / BYTES[unit]:.3g} {unit}" if size < 1000 * BYTES[unit] else f"{size / BYTES[unit]:,.0f} {unit}"
            )
    return f"{size:.0f} B"


def as_time(seconds: float) -> str:
    """`2.9 h`: for people."""
    for unit, size in (("h", 3_600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e3:.3g} ms"


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
