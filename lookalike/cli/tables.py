"""Upkeep: `lookalike tables maintain`, and `prune`, which removes what old releases leave behind."""

from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.console import Console

if TYPE_CHECKING:
    from lookalike.line.maintenance import TableReport

tables = typer.Typer(help="Upkeep of the Delta tables and of what releases leave behind.", no_args_is_help=True)
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be done and do nothing")]


@tables.command()
def maintain(context: typer.Context, dry_run: DryRun = False) -> None:
    """Put small files together, delete old ones and old log; what releases and builds pin stays readable."""
    from lookalike.line.maintenance import maintain as run

    console: Console = context.obj
    report = run(console.settings, console.progress, dry_run)
    console.table(
        "tables (nothing was done)" if dry_run else "tables",
        ("table", "version", "pinned", "small files", "written", "files deleted", "MiB", "log files deleted"),
        [_row(table) for table in report.tables],
    )
    deleted = sum(table.deleted.files for table in report.tables)
    room = sum(table.deleted.bytes + table.log.bytes for table in report.tables)
    would = "would delete" if dry_run else "deleted"
    console.done(
        f"{len(report.tables)} tables, {len(report.pins)} pins kept: {would} {deleted:,} files and "
        f"{sum(table.log.files for table in report.tables):,} of the log, {room / 2**20:,.1f} MiB; "
        f"{sum(table.compacted.replaced for table in report.tables):,} small files "
        f"{'could be' if dry_run else 'were'} put together ({report.seconds:.1f} s)",
        report,
    )


@tables.command()
def prune(
    context: typer.Context,
    keep: Annotated[int | None, typer.Option(min=0, help="newest releases that stay; default: the setting")] = None,
    dry_run: DryRun = False,
) -> None:
    """Remove releases that no alias names, beyond the newest; stale builds, and reports of what is gone."""
    from lookalike.line.prune import prune as run

    console: Console = context.obj
    report = run(console.settings, keep, dry_run, console.progress)
    console.table(
        "folders (nothing was done)" if dry_run else "folders",
        ("folder", "why", "MiB"),
        [(gone.folder, gone.why, f"{gone.bytes / 2**20:,.1f}") for gone in report.folders],
    )
    console.table("releases that stay", ("version", "because"), list(report.kept.items()))
    would = "would remove" if dry_run else "removed"
    console.done(
        f"{would} {len(report.removed)} releases ({', '.join(report.removed) or 'none'}) and {len(report.folders)} "
        f"folders, {report.bytes / 2**20:,.1f} MiB; {len(report.kept)} releases stay",
        report,
    )


def _row(table: "TableReport") -> tuple[object, ...]:
    return (
        table.table, table.version, ", ".join(map(str, table.pinned)), table.compacted.replaced,
        table.compacted.written, table.deleted.files, f"{table.deleted.bytes / 2**20:,.1f}", table.log.files,
    )  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(tables, name="tables")
