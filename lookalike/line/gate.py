"""Candidate → verdict: measured here and now from the pinned tables, judged against the bars, kept and recorded.

Nothing that the candidate says of itself is taken over: truth comes from the tables, vectors are encoded again,
queries are timed on this machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.verdict import Check, Verdict
from lookalike.evaluation.candidate import measure_candidate
from lookalike.evaluation.pinned import PinnedTables, questions_about, read_pinned, shown_of
from lookalike.line.actor import current_actor
from lookalike.line.measurements import Side, filters_to_ask, label_questions, measure_space, measure_speed
from lookalike.line.releases import find_release
from lookalike.quality.artifact import bytes_on_disk, corrupt_files
from lookalike.quality.evidence import run_name, write_evidence
from lookalike.quality.expectations import run_suites
from lookalike.quality.gate import judge, judge_unreadable
from lookalike.quality.measured import Measured
from lookalike.releases.registry import Registry
from lookalike.releases.release import Alias, Release
from lookalike.storage.delta import DeltaTables


@dataclass(frozen=True)
class GateReport:
    """The verdict on a release and where its evidence lies."""

    version: str
    passed: bool
    checks: tuple[Check, ...]
    evidence: Path


def gate(settings: Settings, progress: Progress, version: str | None, again: bool = True) -> GateReport:
    """Judge a release (default: the candidate). `again` False keeps a passed verdict that it has already."""
    registry = Registry(settings)
    release = find_release(registry, version)
    if not again and release.verdict is not None and release.verdict.passed:
        return GateReport(release.version, True, release.verdict.checks, release.index_dir)
    live = registry.alias(Alias.LIVE)
    if live is not None and live.version == release.version:
        live = None  # what serves is judged on its own, not against itself
    with progress.step("gate", total=5) as step:
        verdict = _judge(settings, release, live, step.advance)
    evidence = write_evidence(settings.reports_root, verdict)
    registry.record_verdict(release.version, verdict, current_actor())
    return GateReport(release.version, verdict.passed, verdict.checks, evidence)


def _judge(settings: Settings, release: Release, live: Release | None, advance: Callable[[], None]) -> Verdict:
    at, bars = datetime.now(UTC), settings.gate
    manifest = Manifest.read(release.index_dir)
    compared_with = live.version if live else None
    faults = corrupt_files(release.index_dir, manifest)
    if faults:
        return judge_unreadable(manifest, faults, at, compared_with)
    tables = PinnedTables(DeltaTables(settings.tables_root), manifest.table_versions)
    suites = run_suites(
        tables.silver,
        partial(tables.embeddings, manifest.space),
        space=manifest.space,
        bars=bars,
        last_rows=live.items if live else None,
        docs=settings.reports_root / "data-docs" / run_name(at, manifest.sha256),
        run_name=run_name(at, manifest.sha256),
    )
    advance()
    pinned = read_pinned(tables, manifest.space, bars.sample_queries, bars.seed)
    advance()
    candidate, theirs = Side.open(release, settings), Side.open(live, settings) if live else None
    space = measure_space(candidate, pinned, settings)
    advance()
    titles = shown_of(tables, {*pinned.drawn.item_ids, *pinned.labelled.item_ids}, "title")
    encode = candidate.encoder.encode_texts
    ours, other = label_questions(candidate, theirs, pinned, titles)
    measures = measure_candidate(
        candidate.index,
        pinned.reference,
        questions_about(pinned.drawn.item_ids, pinned.drawn.vectors, titles, encode),
        ours,
        pinned.labels,
        seed=bars.seed,
        filters=filters_to_ask(candidate.index, pinned, bars),
        live=theirs.index if theirs else None,
        live_questions=other,
    )
    advance()
    speed = measure_speed(candidate, pinned.drawn.item_ids, titles)
    advance()
    return judge(
        Measured(
            manifest=manifest,
            corrupt_files=faults,
            expectations=suites.checks,
            space=space,
            index=measures,
            latency=speed,
            bytes_on_disk=bytes_on_disk(release.index_dir),
            compared_with=compared_with,
        ),
        bars,
        at,
    )
