"""The arrows of the straight line as verbs: ingest, embed, build, gate."""

from typing import Annotated

import typer

from lookalike.cli.console import Console

EXIT_CHECK_FAILED = 1


def ingest(
    context: typer.Context,
    snapshot: Annotated[str | None, typer.Argument(help="folder or id; default: the newest")] = None,
) -> None:
    """Snapshot into bronze and silver; refused rows are kept with their reason."""
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


def embed(context: typer.Context) -> None:
    """Vectors for what changed, in the configured encoder's space."""
    from lookalike.line.embed import embed as run

    console: Console = context.obj
    report = run(console.settings, console.progress)
    if report is None:
        console.done("embedded 0 items: every item has its vector already", {"embedded": 0})
        return
    console.done(
        f"embedded {report.embedded:,} items, reused {report.reused:,}, unchanged {report.unchanged:,}, "
        f"refused {report.refused:,} ({report.seconds:.1f} s, {report.pictures_per_second:.0f} pictures/s)",
        report,
    )


def build(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Option(help="auto or the name of a recipe; default: the setting")] = None,
) -> None:
    """A sealed index from pinned table versions, registered as `candidate`."""
    from lookalike.line.build import build as run

    console: Console = context.obj
    report = run(console.settings, console.progress, recipe)
    verb = "reused" if report.reused else "built"
    console.done(
        f"{verb} release {report.version}: {report.items:,} items, recipe {report.recipe} ({report.because}), "
        f"{report.bytes / 2**20:.1f} MiB, {report.seconds:.1f} s",
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
    for verb in (ingest, embed, build, gate):
        app.command()(verb)
