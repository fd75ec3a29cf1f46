"""The pointer and its history: promote, rollback, releases, status."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.console import Console
from lookalike.cli.decisions import register as register_decisions
from lookalike.cli.tables import prune

if TYPE_CHECKING:
    from lookalike.line.releases import LiveThen
    from lookalike.releases.release import LedgerEntry


def promote(
    context: typer.Context,
    version: Annotated[str | None, typer.Argument(help="release; default: the candidate")] = None,
) -> None:
    """Move the alias `live` to a release that passed its gate; servers follow within a second."""
    from lookalike.line.releases import promote as run

    console: Console = context.obj
    move = run(console.settings, version)
    console.done(f"live is release {move.version} (before: {move.previous or 'none'}), by {move.actor}", move)


def rollback(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="kept in the ledger")] = "",
) -> None:
    """Move `live` back to `previous`."""
    from lookalike.line.releases import rollback as run

    console: Console = context.obj
    move = run(console.settings, reason)
    console.done(f"rolled back: live is release {move.version} (before: {move.previous}), by {move.actor}", move)


group = typer.Typer(help="All releases and their history; or what was live at a time.", invoke_without_command=True)
group.command()(prune)


@group.callback()
def releases(
    context: typer.Context,
    at: Annotated[str | None, typer.Option(help="what was live at this time, e.g. 2026-11-01T12:00Z")] = None,
) -> None:
    """All releases: who, when, from what, on which verdict; or what was live at a time."""
    if context.invoked_subcommand is not None:
        return
    console: Console = context.obj
    if at is not None:
        _show_live_at(console, at)
    else:
        _show_all(console)


def _show_live_at(console: Console, at: str) -> None:
    from lookalike.line.releases import live_at

    then = live_at(console.settings, parse_time(at))
    if then is None:
        console.done(f"nothing was live at {at}", None)
        return
    console.table(f"live at {at}", ("what", "who, when, on what"), evidence_rows(then))
    moved = f"moved by {then.move.actor} at {_time(then.move.at)}"
    warning = f"; version {then.unexplained} is live now by a move not written down yet" if then.unexplained else ""
    console.done(f"release {then.version} was live at {at}, {moved}{warning}", then)


def evidence_rows(then: "LiveThen") -> list[tuple[str, str]]:
    """What the ledger knows of one moment, as rows for people."""
    move, verdict, decision = then.move, then.verdict, then.decision
    why = "".join(f"; {key}: {value}" for key, value in sorted(move.evidence.items()) if value)
    rows = [
        ("live from", f"{_time(move.at)} until {_time(then.until) if then.until else 'now'}"),
        (move.action.value, f"by {move.actor}, before: {move.previous or 'none'}{why}"),
    ]
    if verdict is None:
        return [*rows, ("verdict", "none that the ledger has")]
    word = "passed" if verdict.evidence.get("passed") else "FAILED"
    rows.append(("verdict", f"{word} {(verdict.verdict_sha256 or '')[:12]} by {verdict.actor} at {_time(verdict.at)}"))
    if decision is not None:
        comment = f": {decision.evidence['comment']}" if decision.evidence.get("comment") else ""
        rows.append((decision.action.value, f"by {decision.actor} at {_time(decision.at)}{comment}"))
    for check in verdict.evidence.get("checks", []):
        rows.append((check["name"], f"{check['observed']} (bar: {check['bar']})"))
    return rows


def _show_all(console: Console) -> None:
    from lookalike.line.releases import history, list_releases

    settings = console.settings
    found, moves = list_releases(settings), history(settings)
    console.table(
        "releases",
        ("version", "aliases", "created", "items", "recipe", "verdict", "decision", "tables"),
        [(r.version, r.aliases, r.created, r.items, r.recipe, r.verdict, r.decision, r.tables) for r in found],
    )
    console.table("ledger", ("at (UTC)", "action", "version", "before", "by", "verdict"), [_row(m) for m in moves])
    live = next((r.version for r in found if "live" in r.aliases), "none")
    console.done(f"releases: {len(found)}, live: {live}", {"releases": found, "ledger": moves})


def _row(line: "LedgerEntry") -> tuple[object, ...]:
    verdict = (line.verdict_sha256 or "")[:12]
    return f"{line.at:%Y-%m-%d %H:%M:%S}", line.action, line.version, line.previous, line.actor, verdict


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


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
    for verb in (promote, rollback, status):
        app.command()(verb)
    app.add_typer(group, name="releases")
    register_decisions(app)
