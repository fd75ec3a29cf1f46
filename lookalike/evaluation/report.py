"""Figures of an encoder as rows that a table printer, a Markdown page or a JSON file can take as they are."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lookalike.evaluation.retrieval import Retrieval

COLUMNS = ("question", "concepts", "brands", "measure", "value", "95 % interval", "queries", "gallery", "chance")


@dataclass(frozen=True)
class ReportRow:
    """One figure. `low` and `high` bound the 95 % interval; `clusters` concepts stand behind `n` queries."""

    question: str
    concepts: str
    brands: str
    measure: str
    value: float
    low: float
    high: float
    n: int
    clusters: int
    gallery: int
    not_counted: int
    chance: float | None

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of COLUMNS."""
        chance = "" if self.chance is None else _number(self.chance)
        interval = "–" if math.isnan(self.low) else f"{self.low:.3f} – {self.high:.3f}"
        texts = (self.question, self.concepts, self.brands, self.measure, _number(self.value), interval)
        return (*texts, f"{self.n:,}", f"{self.gallery:,}", chance)


@dataclass(frozen=True)
class EncoderReport:
    """All figures of one encoder; `notes` say how they were measured and what was not counted."""

    rows: tuple[ReportRow, ...]
    notes: tuple[str, ...] = field(default=())

    def value(self, question: str, concepts: str, brands: str, measure: str) -> ReportRow:
        """The row with these names. Raises KeyError with the names that exist."""
        wanted = (question, concepts, brands, measure)
        for row in self.rows:
            if (row.question, row.concepts, row.brands, row.measure) == wanted:
                return row
        known = sorted({(row.question, row.concepts, row.brands, row.measure) for row in self.rows})
        raise KeyError(f"no figure {wanted}; there are: {known}")

    def table(self) -> list[tuple[str, ...]]:
        """Rows of text under COLUMNS."""
        return [row.cells() for row in self.rows]

    def to_markdown(self) -> str:
        """A Markdown table with its notes below."""
        lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
        lines += ["| " + " | ".join(cells) + " |" for cells in self.table()]
        return "\n".join([*lines, "", *self.notes]) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; NaN becomes None, because JSON has none."""
        rows = [
            {
                key: None if isinstance(value, float) and math.isnan(value) else value
                for key, value in asdict(row).items()
            }
            for row in self.rows
        ]
        return {"rows": rows, "notes": list(self.notes)}


def rows_of(question: str, piece: tuple[str, str], result: Retrieval, measures: Sequence[str]) -> list[ReportRow]:
    """Rows of one result on a slice (concepts, brands), for those of `measures` that it has."""
    return [
        ReportRow(
            question,
            *piece,
            name,
            found.value,
            found.low,
            found.high,
            found.n,
            found.clusters,
            result.gallery,
            result.not_counted,
            result.chance_at_10 if name == "R@10" else None,
        )
        for name in measures
        if (found := result.measures.get(name)) is not None
    ]


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
