"""What a person sees before a decision: the candidate's figures beside live's, and the answers that changed most.

Both releases are asked the same questions through the engine that would serve them: items as "more like this", and
titles as words, in turn.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lookalike.contracts.errors import LookalikeError, NotFound
from lookalike.contracts.progress import Progress
from lookalike.contracts.query import Hit, QueryPart, SearchQuery
from lookalike.contracts.settings import Settings
from lookalike.contracts.verdict import Verdict
from lookalike.evaluation.label import draw_items
from lookalike.line.measurements import Side
from lookalike.line.releases import find_release
from lookalike.line.search import LiveSearch
from lookalike.quality.evidence import run_name
from lookalike.releases.registry import Registry
from lookalike.releases.release import Alias
from lookalike.search.engine import SearchEngine

K = 6
"""Answers looked at, and shown, per question."""
SHOWN = 8
SHEET = "changed-most.png"

ReadPicture = Callable[[str], bytes]


@dataclass(frozen=True)
class Metric:
    """One check of the candidate's verdict; `live` is what live's own gate observed, empty where it had no such one."""

    name: str
    candidate: str
    live: str
    bar: str
    passed: bool


@dataclass(frozen=True)
class Changed:
    """One question and its first answers, item ids; `shared` of the K are the same, whatever their order."""

    question: str
    shared: int
    live: tuple[str, ...]
    candidate: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Candidate against live. `shared` is the mean share of equal answers over `questions`; None without a live one.

    `sheet` is where the contact sheet of `changed` belongs.
    """

    version: str
    live: str | None
    passed: bool | None
    metrics: tuple[Metric, ...]
    questions: int
    shared: float | None
    changed: tuple[Changed, ...]
    sheet: Path


@dataclass(frozen=True)
class Answers:
    """One question with the hits of both releases, for a picture of them."""

    question: str
    live: tuple[Hit, ...]
    candidate: tuple[Hit, ...]

    @property
    def shared(self) -> int:
        """How many items are in both."""
        return len({hit.item_id for hit in self.live} & {hit.item_id for hit in self.candidate})


def compare(
    settings: Settings, progress: Progress, version: str | None
) -> tuple[Comparison, list[Answers], ReadPicture]:
    """Compare a release (default: the candidate) with live; the answers that changed most come with their hits, and
    with a reader of their pictures, which raises OSError or LookalikeError for one that cannot be had.

    Raises NotFound, CorruptArtifact. Live itself, and a first release, are shown without answers.
    """
    registry, now = Registry(settings), datetime.now(UTC)
    release, live = find_release(registry, version), registry.alias(Alias.LIVE)
    verdict, theirs = release.verdict, live.verdict if live is not None else None
    answers: list[Answers] = []
    engines: tuple[SearchEngine, ...] = ()
    if live is not None and live.version != release.version:
        ours, other = Side.open(release, settings), Side.open(live, settings)
        engines = (ours.engine, other.engine)
        items = draw_items(_common_items(ours, other), settings.release.compare_queries, settings.gate.seed)
        with progress.step("compare", total=len(items)) as step:
            for question, part in _questions(items, ours.engine):
                answers.append(Answers(question, _ask(other.engine, part), _ask(ours.engine, part)))
                step.advance()
    most = changed_most(answers)
    shared = sum(each.shared for each in answers) / (K * len(answers)) if answers else None
    return (
        Comparison(
            version=release.version,
            live=live.version if live is not None else None,
            passed=verdict.passed if verdict is not None else None,
            metrics=metrics_of(verdict, theirs),
            questions=len(answers),
            shared=shared,
            changed=tuple(_changed(each) for each in most),
            sheet=settings.reports_root / "compare" / run_name(now, release.manifest_sha256) / SHEET,
        ),
        most,
        partial(_read_picture, settings, engines),
    )


def changed_most(answers: Sequence[Answers]) -> list[Answers]:
    """The answers that share least, SHOWN at most: each question once (items of equal title ask the same)."""
    changed: dict[str, Answers] = {}
    for each in sorted(answers, key=lambda each: (each.shared, each.question)):
        if [h.item_id for h in each.live] != [h.item_id for h in each.candidate]:
            changed.setdefault(each.question, each)
    return list(changed.values())[:SHOWN]


def metrics_of(verdict: Verdict | None, live: Verdict | None) -> tuple[Metric, ...]:
    """The checks of a verdict beside those of the same name in live's."""
    known = {check.name: check.observed for check in live.checks} if live is not None else {}
    checks = verdict.checks if verdict is not None else ()
    return tuple(Metric(c.name, c.observed, known.get(c.name, ""), c.bar, c.passed) for c in checks)


def _common_items(ours: Side, theirs: Side) -> list[str]:
    mine: list[str] = ours.index.columns["item_id"].to_pylist()
    there = theirs.index.rows_of(mine)
    return [item for item, row in zip(mine, there.tolist(), strict=True) if row >= 0]


def _questions(items: Sequence[str], engine: SearchEngine) -> Iterator[tuple[str, QueryPart]]:
    for number, item in enumerate(items):
        title = str(engine.item(item)["title"])
        if number % 2:
            yield f"words: {title}", QueryPart(text=title[:200])
        else:
            yield f"like {item} ({title})", QueryPart(item_id=item)


def _ask(engine: SearchEngine, part: QueryPart) -> tuple[Hit, ...]:
    try:
        return engine.search(SearchQuery(parts=(part,), k=K)).hits
    except LookalikeError:  # an answer that cannot be had is a change too
        return ()


def _read_picture(settings: Settings, engines: Sequence[SearchEngine], item_id: str) -> bytes:
    engine = next((engine for engine in engines if _has(engine, item_id)), engines[-1])
    return LiveSearch(engine, settings).read_picture(item_id)


def _has(engine: SearchEngine, item_id: str) -> bool:
    try:
        engine.item(item_id)
    except NotFound:
        return False
    return True


def _changed(answers: Answers) -> Changed:
    live, candidate = (tuple(h.item_id for h in hits) for hits in (answers.live, answers.candidate))
    return Changed(answers.question, answers.shared, live, candidate)
