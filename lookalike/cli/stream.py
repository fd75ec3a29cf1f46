"""`lookalike stream`: the streaming job with its progress, or its pipelines as jobs of a Beam runner; its health."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.console import Console
from lookalike.cli.health import health
from lookalike.contracts.errors import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from lookalike.line.stream import Show
    from lookalike.line.stream_meter import StreamReading

LOG = logging.getLogger("lookalike.stream")
LOCAL = "local"
LINE_SECONDS = 10.0


def stream(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="deal with what is there now and end")] = False,
    runner: Annotated[str, typer.Option(help="a Beam runner, e.g. FlinkRunner; local: on this machine")] = LOCAL,
    option: Annotated[list[str] | None, typer.Option(help="of that runner, as --key=value; repeatable")] = None,
) -> None:
    """Turn catalogue changes into vector updates as they come, and archive them; Ctrl-C drains and ends."""
    if context.invoked_subcommand is not None:
        return
    from lookalike.line.stream import run_stream, submit_stream

    console: Console = context.obj
    if runner != LOCAL:
        if once:
            raise SettingsError("--once is of the local runner: a job on a cluster runs until it is drained there")
        states = submit_stream(console.settings, runner, option or [])
        console.done(", ".join(f"{name}: {state}" for name, state in states.items()), states)
        return
    if option:
        raise SettingsError(
            "--option is for the runner that --runner names; the local one has settings: --set stream.…"
        )
    with _shown(console) as show:
        report = run_stream(console.settings, show, once)
    console.done(
        f"{report.changes:,} changes dealt with, {report.published:,} updates published, {report.refused:,} refused, "
        f"{report.archived:,} archived, {report.recycled} workers replaced, in {report.seconds:.0f} s",
        report,
    )


@contextmanager
def _shown(console: Console) -> "Iterator[Show]":
    """A live table on a terminal, else a log line now and then."""
    from rich.console import Console as RichConsole
    from rich.live import Live

    err = RichConsole(stderr=True)
    if not err.is_terminal or console.as_json:
        yield _lines()
        return
    with Live(console=err, auto_refresh=False) as live:
        yield lambda reading: live.update(_table(reading), refresh=True)


def _lines() -> "Show":
    last = float("-inf")

    def show(reading: "StreamReading") -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            LOG.info("%s", line_of(reading))

    return show


def line_of(reading: "StreamReading") -> str:
    """A reading as one line."""
    parts = [
        f"{each.name} {each.state}: {each.rate:.0f}/s, lag {each.lag:,} (oldest {each.oldest_seconds:.1f} s), "
        f"{each.rss_bytes / 2**20:.0f} MiB, {each.recycled} replaced"
        for each in reading.pipelines
    ]
    return "; ".join([*parts, f"published {reading.published:,}, refused {reading.refused:,}"])


def _table(reading: "StreamReading") -> "Table":
    from rich.table import Table

    table = Table("pipeline", "", "changes/s", "lag", "oldest", "memory", "replaced")
    for each in reading.pipelines:
        table.add_row(
            each.name, each.state, f"{each.rate:.0f}", f"{each.lag:,}", f"{each.oldest_seconds:.1f} s",
            f"{each.rss_bytes / 2**20:,.0f} MiB", str(each.recycled),
        )  # fmt: skip
    table.caption = f"published {reading.published:,}, refused {reading.refused:,}; Ctrl-C drains and ends"
    return table


def register(app: typer.Typer) -> None:
    """Add the verb, which is a group with a verb of its own, to the application."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(stream)
    group.command()(health)
    app.add_typer(group, name="stream")
