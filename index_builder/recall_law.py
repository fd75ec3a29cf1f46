"""Recall law: how much of the truth a search finds, by what it looks at and by how many items there are.

A measured law, no theory. True neighbours lie in the lists probed, and among the candidates that are refined; both
shares have log odds that are smooth in the logarithm of what is looked at. With more lists, more must be probed for the
same share: by a power of their number, which is fitted. `bench/plan_points.py` fits the law to the operating points of
indexes that were built, and writes `recipes/recall_law.json`.
"""

import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["pictures", "texts"]
KINDS: tuple[Kind, ...] = ("pictures", "texts")
LAW_NAME = "recall_law.json"
LISTS, ITEMS = 2_048, 1_000_000
"""What the law is written around."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Curve(_Frozen):
    """A share whose log odds are at + slope·x + bend·x², where x = ln(looked at) - growth·ln(how many there are)."""

    at: float
    slope: float
    bend: float = Field(ge=0)
    growth: float

    def share(self, looked_at: float, there_are: float) -> float:
        """`there_are`: relative to what the law is written around."""
        x = math.log(looked_at) - self.growth * math.log(there_are)
        x = max(x, -self.slope / (2 * self.bend)) if self.bend else x  # where it turns
        return 1 / (1 + math.exp(-min(self.at + self.slope * x + self.bend * x * x, 700.0)))


class KindLaw(_Frozen):
    """For queries of one kind. `finest`: what the finer codes tell apart; lists find no more than that. `within`: of
    the lists that may be probed those that the margin leaves, on average."""

    finest: float = Field(gt=0, le=1)
    within: float = Field(gt=0, le=1)
    lists: Curve
    candidates: Curve
    graph: Curve

    def of_lists(self, search: Mapping[str, int], items: int, nlist: int) -> float:
        """Share of the true ten that a search of lists finds."""
        nprobe = min(search["nprobe"], nlist)
        scanned = max(nprobe * items / nlist, 1.0)
        probed = 1.0 if nprobe == nlist else self.lists.share(nprobe, nlist / LISTS)
        return self.finest * probed * self.candidates.share(search["k_factor"], scanned / (ITEMS / LISTS))

    def of_graph(self, depth: int, items: int) -> float:
        """Share of the true ten that a walk of this depth finds."""
        return 1.0 if depth >= items else self.graph.share(depth, items / ITEMS)


class RecallLaw(_Frozen):
    """Of both kinds of query; how items came to lie in lists and to be coded, and how queries differ in time."""

    measured: str
    finer_share: float = Field(gt=0, le=1, description="axes of the finer codes, of the dimensions")
    imbalance: float = Field(ge=1, description="of the lists; 1: all equally full")
    tail: float = Field(ge=1, description="p99 over p50 of different queries, warm")
    cold_tail: float = Field(ge=1, description="the same, of what reading the finer codes from disk adds")
    pictures: KindLaw
    texts: KindLaw

    def kinds(self) -> Iterator[tuple[Kind, KindLaw]]:
        """Both."""
        yield "pictures", self.pictures
        yield "texts", self.texts


@cache
def default_law() -> RecallLaw:
    """That which comes with this package."""
    return RecallLaw.model_validate_json((files("index_builder") / "recipes" / LAW_NAME).read_text())
