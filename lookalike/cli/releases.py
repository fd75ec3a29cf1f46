"""The pointer and its history: promote, rollback, releases, status."""

from datetime import datetime
from typing import Annotated

import typer

from lookalike.cli.console import Console


def promote(
    context: typer.Context,
    version: Annotated[str | None, typer.Argument(help="release; default: the candidate")] = None,
) -> None:
    """Move the alias `live` to a release that passed its gate; servers follow within a second."""
    from lookalike.line.releases import promote as run

    console: Console = context.obj
    move = run(console.settings, version)
    console.done(f"live is release {move.version} (before: {move.previous or 'none'}), by {move.actor}", move)


def rollback(context: typer.Context) -> None:
    """Move `live` back to `previous`."""
    from lookalike.line.releases import rollback as run

    console: Console = context.obj
    move = run(console.settings)
    console.done(f"rolled back: live is release {move.version} (before: {move.previous}), by {move.actor}", move)


def releases(
    context: typer.Context,
    at: Annotated[str | None, typer.Option(help="what was live at this time, e.g. 2026-11-01T12:00Z")] = None,
) -> None:
    """All releases: who, when, from what, on which verdict; or what was live at a time."""
    from lookalike.line.releases import history, list_releases, live_at

    console: Console = context.obj
    settings = console.settings
    if at is not None:
        entry = live_at(settings, parse_time(at))
        if entry is None:
            console.done(f"nothing was live at {at}", None)
            return
        moved = f"moved by {entry.actor} at {entry.at:%Y-%m-%d %H:%M:%S} UTC"
        console.done(f"release {entry.version} was live at {at}, {moved}", entry)
        return
    found, moves = list_releases(settings), history(settings)
    console.table(
        "releases",
        ("version", "aliases", "created", "items", "recipe", "verdict", "tables"),
        [(r.version, r.aliases, r.created, r.items, r.recipe, r.verdict, r.tables) for r in found],
    )
    console.table(
        "ledger",
        ("at (UTC)", "action", "version", "before", "by", "verdict"),
        [
            (f"{m.at:%Y-%m-%d %H:%M:%S}", m.action, m.version, m.previous, m.actor, (m.verdict_sha256 or "")[:12])
            for m in moves
        ],
    )
    live = next((r.version for r in found if "live" in r.aliases), "none")
    console.done(f"releases: {len(found)}, live: {live}", {"releases": found, "ledger": moves})


def status(context: typer.Context) -> None:
    """Tables, releases and what is due, at a glance."""
    from lookalike.line.status import status as run

    console: Console = context.obj
    report = run(console.settings)
    console.table("status", ("what", "now"), list(report.rows))
    console.done(report.line, report)


def parse_time(text: str) -> datetime:
    """An option's time with its zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a time; write it like 2026-11-01T12:00Z") from error
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} names no time zone; add Z for UTC")
    return moment


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    for verb in (promote, rollback, releases, status):
        app.command()(verb)
