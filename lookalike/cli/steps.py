"""The arrows of the straight line as verbs: ingest, fold, embed, gate; `build` is in `index`."""

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.console import Console
from lookalike.cli.nights import parse_night

EXIT_CHECK_FAILED = 1


def ingest(
    context: typer.Context,
    snapshot: Annotated[str | None, typer.Argument(help="folder or id; default: the newest")] = None,
    changes: Annotated[Path | None, typer.Option(help="instead: recorded changes, JSON Lines")] = None,
    night: Annotated[str | None, typer.Option(help="instead: the snapshots of a UTC day like 2026-11-20")] = None,
    must: Annotated[bool, typer.Option("--must", help="a night without a snapshot is an error")] = False,
) -> None:
    """Snapshot into bronze and silver; refused rows are kept with their reason."""
    if night is not None:
        _ingest_night(context, night, must, alone=snapshot is None and changes is None)
        return
    if must:
        raise typer.BadParameter("--must belongs to --night")
    if changes is not None:
        _ingest_changes(context, snapshot, changes)
        return
    from lookalike.line.ingest import ingest as run
    from lookalike.line.snapshots import find_snapshot

    console: Console = context.obj
    folder = find_snapshot(console.settings, snapshot)
    report = run(console.settings, folder, console.progress)
    if report is None:
        console.done(f"ingested nothing: {folder.name} is in the tables already", {"snapshot": folder.name, "taken": 0})
        return
    refused = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.refused.items())) or "none"
    console.done(
        f"ingested {folder.name}: {report.received:,} rows received, {report.taken:,} taken, "
        f"{report.unchanged:,} unchanged, {report.withdrawn:,} withdrawn, refused: {refused} ({report.seconds:.1f} s)",
        report,
    )


def _ingest_night(context: typer.Context, night: str, must: bool, alone: bool) -> None:
    from lookalike.line.nights import ingest_night, night_line

    if not alone:
        raise typer.BadParameter("name a snapshot, --changes or --night, not more than one of them")
    console: Console = context.obj
    report = ingest_night(console.settings, parse_night(night), console.progress, must)
    console.done(night_line(report), report)


def _ingest_changes(context: typer.Context, snapshot: str | None, records: Path) -> None:
    from lookalike.line.ingest import ingest_changes as run

    if snapshot is not None:
        raise typer.BadParameter("name a snapshot or --changes, not both")
    console: Console = context.obj
    report = run(console.settings, records, console.progress)
    if report is None:
        console.done(f"ingested nothing: {records} is in the tables already", {"records": str(records), "taken": 0})
        return
    refused = ", ".join(f"{reason} {count:,}" for reason, count in report.refused.items()) or "none"
    console.done(
        f"ingested {records}: {report.received:,} changes received, {report.taken:,} taken, {report.items:,} items "
        f"changed, {report.repeated:,} repeated, {report.overtaken:,} overtaken, refused: {refused} "
        f"({report.seconds:.1f} s)",
        report,
    )


def embed(context: typer.Context) -> None:
    """Vectors for what changed, in every space in use: configured, live, and of an announced encoder."""
    from lookalike.line.embed import embed_spaces

    console: Console = context.obj
    reports = embed_spaces(console.settings, console.progress)
    if not reports:
        console.done("embedded 0 items: every item has its vector already", {"embedded": 0, "spaces": []})
        return
    lines = [
        f"space {each.space}: embedded {each.embedded:,} items, reused {each.reused:,}, unchanged {each.unchanged:,}, "
        f"refused {each.refused:,} ({each.seconds:.1f} s, {each.pictures_per_second:.0f} pictures/s)"
        for each in reports
    ]
    console.done("; ".join(lines), {"embedded": sum(each.embedded for each in reports), "spaces": reports})


def fold(context: typer.Context) -> None:
    """The stream's changes into silver and embeddings: what the nightly build then starts from."""
    from lookalike.line.fold import fold as run

    console: Console = context.obj
    report = run(console.settings, console.progress)
    if report is None:
        console.done("folded 0 changes: all that the stream archived is in the tables already", {"changes": 0})
        return
    console.done(
        f"folded {report.changes:,} changes of {report.items:,} items: {report.taken:,} items and {report.vectors:,} "
        f"vectors were new, {report.vectors_left:,} vectors left to `lookalike embed` ({report.seconds:.1f} s)",
        report,
    )


def gate(
    context: typer.Context,
    version: Annotated[str | None, typer.Argument(help="release; default: the candidate")] = None,
) -> None:
    """Measure a candidate against exact search, labels, the live release and budgets; record the verdict."""
    from lookalike.line.gate import gate as run

    console: Console = context.obj
    report = run(console.settings, console.progress, version)
    rows = [(check.name, "passed" if check.passed else "FAILED", check.observed, check.bar) for check in report.checks]
    console.table(f"release {report.version}", ("check", "", "observed", "bar"), rows)
    word = "passed" if report.passed else "FAILED"
    console.done(f"gate {word} for release {report.version}; evidence in {report.evidence}", report)
    if not report.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    for verb in (ingest, fold, embed, gate):
        app.command()(verb)
