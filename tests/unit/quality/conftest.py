"""A healthy candidate's measurements, from which each test plants one fault."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from lookalike.contracts.manifest import FileRecord, IndexRecipe, Manifest
from lookalike.contracts.settings import GateSettings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.verdict import Check
from lookalike.quality.gate import judge
from lookalike.quality.measured import Measured, SpaceFigures

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@dataclass(frozen=True)
class Figure:
    value: float
    low: float
    high: float
    n: int = 200


@dataclass(frozen=True)
class Speed:
    p50_ms: float = 1.0
    p99_ms: float = 2.0
    calls: int = 200
    callers: int = 1
    per_second: float = 900.0


@dataclass(frozen=True)
class Filtered:
    share: float
    filter: str = "random rows"
    random: bool = True
    picture: float = 0.99
    title: float = 0.98
    short: int = 0
    outside: int = 0
    items: int = 1_000

    @property
    def allowed(self):
        return round(self.share * self.items)

    @property
    def recall(self):
        return {"picture": Figure(self.picture, 0.9, 1.0), "title": Figure(self.title, 0.9, 1.0)}


@dataclass(frozen=True)
class IndexNumbers:
    items: int = 1_000
    missing: int = 0
    foreign: int = 0
    duplicates: int = 0
    lowest_stored_cosine: float = 0.999
    recall: object = None
    filtered: object = ()
    labels: object = None
    labelled: int = 200
    live_items: int | None = 1_000
    differences: object = None
    overlap: float | None = 0.9


def healthy_measured():
    space = EmbeddingSpace(
        encoder="tiny", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=4
    )
    manifest = Manifest(
        created_at=AT,
        space=space,
        recipe=IndexRecipe(name="exact", description="exact", factory="Flat"),
        chosen_because="small",
        items=1_000,
        table_versions={"silver": 1, "embeddings": 1},
        files={"index.faiss": FileRecord(sha256="d" * 64, bytes=10)},
    )
    index = IndexNumbers(
        recall={"picture": Figure(0.99, 0.98, 1.0), "title": Figure(0.97, 0.96, 0.98)},
        filtered=[Filtered(share) for share in (0.5, 0.1, 0.01, 0.001)] + [Filtered(0.1, "brand acme", random=False)],
        labels={"picture R@10": Figure(0.8, 0.75, 0.85)},
        differences={"picture R@10": Figure(0.0, -0.01, 0.01)},
    )
    suites = [Check(name=f"{what}_expectations", passed=True, observed="", bar="") for what in ("silver", "embedding")]
    return Measured(
        manifest=manifest,
        corrupt_files=[],
        expectations=suites,
        space=SpaceFigures(space.fingerprint, [space.fingerprint], 1.0, 0.9999, 32),
        index=index,
        latency=[Speed(), Speed(p99_ms=12.0, callers=10)],
        bytes_on_disk=1_000 * 600,
        compared_with="7",
    )


class Bench:
    """`verdict(index={...}, space={...}, **fields)`: judge the healthy measurements with these changed."""

    figure, speed, filtered, at = Figure, Speed, Filtered, AT
    bars = GateSettings()
    healthy = staticmethod(healthy_measured)

    def verdict(self, index=None, space=None, **fields):
        measured = healthy_measured()
        changed = replace(measured, index=replace(measured.index, **(index or {})))
        changed = replace(changed, space=replace(changed.space, **(space or {})), **fields)
        return judge(changed, self.bars, AT)


@pytest.fixture
def bench():
    return Bench()
