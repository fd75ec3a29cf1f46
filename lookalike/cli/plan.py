"""`plan`: which recipe would serve so many vectors within given bounds, and what it would take, before any is there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.console import Console

if TYPE_CHECKING:
    from lookalike.line.plan import PlanReport

EXIT_CHECK_FAILED = 1


def plan(
    context: typer.Context,
    items: Annotated[str, typer.Option(help="vectors, like 100e6")],
    dim: Annotated[str, typer.Option(help="dimensions of each")],
    memory: Annotated[str | None, typer.Option(help="like 24GiB, process and all; default: index.memory_bytes")] = None,
    recall: Annotated[str | None, typer.Option(help="recall@10 of pictures and of words; default: the setting")] = None,
    p99: Annotated[str | None, typer.Option(help="of a warm search, like 20ms; default: index.latency_ms")] = None,
    disk: Annotated[str | None, typer.Option(help="like 70GB, while it is built; default: any")] = None,
    build: Annotated[str | None, typer.Option(help="time of a build, like 4h; default: any")] = None,
    item_bytes: Annotated[
        str | None, typer.Option(help="columns of an item, like 300B; default: a usual one's")
    ] = None,
    rates: Annotated[
        Path | None,
        typer.Option(help="of your machine, written by bench/plan_rates.py; default: those measured on one"),
    ] = None,
) -> None:
    """The recipe for so many vectors within bounds: memory, disk, build time, latency. Builds nothing."""
    from index_builder.bounds import Bounds
    from index_builder.costs import Workload
    from lookalike.line import plan as line
    from lookalike.line.quantities import BYTES, MILLISECONDS, MOST_DIM, MOST_ITEMS, SECONDS, quantity, share, whole

    console: Console = context.obj
    own, known = console.settings.index, line.rates_of(rates)
    wanted = own.recall if recall is None else share("--recall", recall)
    each = None if item_bytes is None else quantity("--item-bytes", item_bytes, BYTES)
    workload = Workload(
        whole("--items", items, MOST_ITEMS), whole("--dim", dim, MOST_DIM), wanted, line.columns_of(each)
    )
    bounds = Bounds(
        memory_bytes=own.memory_bytes if memory is None else int(quantity("--memory", memory, BYTES)),
        p99_ms=own.latency_ms if p99 is None else quantity("--p99", p99, MILLISECONDS),
        recall=wanted,
        disk_bytes=None if disk is None else int(quantity("--disk", disk, BYTES)),
        build_seconds=None if build is None else quantity("--build", build, SECONDS),
        process_bytes=known.process_bytes,
    )
    report = line.plan(workload, bounds, known)
    _show(console, report)
    console.done(line.one_line(report), report)
    if report.chosen is None:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _show(console: Console, report: "PlanReport") -> None:
    """Each recipe's bounds, then what the chosen one takes, or all of them where none is."""
    from lookalike.line.plan import rows_of

    found = [
        (each.recipe, check.bound, "held" if check.held else "BROKEN", check.expected, check.allowed, check.change)
        for each in report.recipes
        for check in each.checks
    ]
    console.table("bounds", ("recipe", "bound", "", "expected", "allowed", "what would have to change"), found)
    for each in report.recipes:
        if report.chosen in {None, each.recipe}:
            console.table(each.recipe, ("", "expected"), rows_of(each))


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command()(plan)
