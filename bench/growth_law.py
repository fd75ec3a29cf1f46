"""Laws of growth: a curve of two numbers through what was measured, how far off it is, and where it stops holding.

Relative deviations count, so that the small sizes weigh as much as the large ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

FIRST = 3
"""Sizes that a law is fitted to at least, where there are so many."""
TOLERANCE = 0.25
"""A law holds while the measured value is at most so far off, as a share of what the law says."""
MILLION = 1e6


@dataclass(frozen=True)
class Form:
    """`value = start + slope * of(millions)`, or the logarithm of the value where `logarithmic`."""

    of: Callable[[float], float]
    logarithmic: bool
    text: str


FORMS = {
    "line": Form(lambda millions: millions, False, "{start:.3g} {slope:+.3g} · M"),
    "log": Form(math.log2, False, "{start:.3g} {slope:+.3g} · log₂ M"),
    "power": Form(math.log, True, "{start:.3g} · M^{slope:.2f}"),
}


@dataclass(frozen=True)
class Law:
    """A fitted law, called with a number of vectors. `off`: measured value by size, as a share above the law; `until`:
    the largest size it was fitted to; `stops`: the first one that it did not foretell."""

    name: str
    form: str
    start: float
    slope: float
    off: dict[int, float]
    until: int
    stops: int | None

    def __call__(self, items: int) -> float:
        form = FORMS[self.form]
        value = self.start + self.slope * form.of(items / MILLION)
        return math.exp(value) if form.logarithmic else value

    @property
    def worst(self) -> float:
        """Greatest deviation among the sizes that it was fitted to."""
        return max(abs(off) for items, off in self.off.items() if items <= self.until)

    @property
    def holds(self) -> bool:
        """Whether it is a law at all."""
        return self.worst <= TOLERANCE

    @property
    def text(self) -> str:
        """As a formula in millions of vectors."""
        start = math.exp(self.start) if FORMS[self.form].logarithmic else self.start
        return FORMS[self.form].text.format(start=start, slope=self.slope)

    @property
    def range_text(self) -> str:
        """How far it holds."""
        return f"{self.until:,}" if self.holds else "nowhere"

    @property
    def stop_text(self) -> str:
        """Where it stops, and how far off it is there."""
        return "" if self.stops is None else f"{self.stops:,} ({self.off[self.stops]:+.0%})"

    def told(self) -> dict[str, Any]:
        """For a file."""
        return {
            "name": self.name, "law": self.text, "form": self.form, "start": self.start, "slope": self.slope,
            "off": self.off, "worst": self.worst, "holds": self.holds, "until": self.until, "stops": self.stops,
        }  # fmt: skip


def fitted(name: str, form: str, values: dict[int, float]) -> Law:
    """Through positive values by number of vectors, two at least: through the smallest sizes, and on while the law of
    those before foretells the next."""
    sizes = sorted(values)
    held = min(len(sizes), FIRST)
    while held < len(sizes):
        law = _through(name, form, {size: values[size] for size in sizes[:held]})
        if abs(values[sizes[held]] / law(sizes[held]) - 1) > TOLERANCE:
            break
        held += 1
    law = _through(name, form, {size: values[size] for size in sizes[:held]})
    off = {size: values[size] / law(size) - 1 for size in sizes}
    stops = sizes[held] if held < len(sizes) else None
    return Law(name, form, law.start, law.slope, off, sizes[held - 1], stops)


def _through(name: str, form: str, values: dict[int, float]) -> Law:
    """Least squares of the relative deviations."""
    chosen = FORMS[form]
    known = np.array(list(values.values()))
    terms = np.array([[1.0, chosen.of(items / MILLION)] for items in values])
    wanted, weights = (np.log(known), np.ones(len(known))) if chosen.logarithmic else (known, 1 / known)
    start, slope = np.linalg.lstsq(terms * weights[:, None], wanted * weights, rcond=None)[0].tolist()
    return Law(name, form, start, slope, {}, max(values), None)
