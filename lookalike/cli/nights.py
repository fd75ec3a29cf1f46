"""`lookalike check` and `lookalike backfill`: whether the tables may be built from, and nights of the past."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.console import Console

if TYPE_CHECKING:
    from lookalike.line.check_tables import TableChecks

EXIT_CHECK_FAILED = 1

check_app = typer.Typer(
    help="Expectations on a table as it is now; exit 1 names each that failed.", no_args_is_help=True
)


def parse_night(text: str) -> date:
    """A night of the command line: a UTC day."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a night; write the UTC day like 2026-11-20") from error


@check_app.command()
def silver(context: typer.Context) -> None:
    """Rows of silver: the contract, what every row must have, and none lost against the live release."""
    from lookalike.line.check_tables import check_silver

    console: Console = context.obj
    tell_checks(console, check_silver(console.settings))


@check_app.command()
def embeddings(
    context: typer.Context,
    encoder: Annotated[str | None, typer.Option(help="folder or hub id; default: those in use")] = None,
) -> None:
    """Vectors: the contract, finite, of unit length, of the present picture, one for every live item."""
    from lookalike.line.check_tables import check_embeddings

    console: Console = context.obj
    tell_checks(console, check_embeddings(console.settings, encoder))


def tell_checks(console: Console, checks: "TableChecks") -> None:
    """Answer with the checks; failed expectations go to stderr, the last line names them all. Exit 1 when any did."""
    rows = [(each.space, "passed" if each.passed else "FAILED", each.observed, each.docs) for each in checks.checks]
    console.table(f"expectations on {checks.table}", ("space", "", "observed", "data docs"), rows)
    word = "passed" if checks.passed else "FAILED"
    observed = "; ".join(each.observed for each in checks.checks)
    console.done(
        f"check {checks.table} {word}: {observed}",
        {"table": checks.table, "passed": checks.passed, "failed": checks.failed, "checks": checks.checks},
    )
    if not checks.passed:
        typer.echo(f"lookalike: check {checks.table} FAILED: {'; '.join(checks.failed)}", err=True)
        raise typer.Exit(EXIT_CHECK_FAILED)


def backfill(
    context: typer.Context,
    first: Annotated[str, typer.Option("--from", help="first night, a UTC day like 2026-11-20")],
    last: Annotated[str, typer.Option("--to", help="last night, included")],
    space: Annotated[
        str | None, typer.Option(help="encoder (folder or hub id) whose space is filled; default: all in use")
    ] = None,
) -> None:
    """Nights of a range: ingest, then embed, one after the other; killed and run again it goes on."""
    from lookalike.line.backfill import backfill as run
    from lookalike.line.nights import night_line

    console: Console = context.obj
    report = run(console.settings, parse_night(first), parse_night(last), console.progress, space)
    rows = [(each.ingest.night, night_line(each.ingest).partition(": ")[2]) for each in report.nights]
    console.table("backfill", ("night", "what it brought"), rows)
    console.done(
        f"backfilled {len(report.nights):,} nights, {report.with_snapshot:,} with a snapshot: {report.taken:,} rows "
        f"taken, {report.withdrawn:,} withdrawn, {report.embedded:,} items embedded",
        report,
    )


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    app.command()(backfill)
    app.add_typer(check_app, name="check")
