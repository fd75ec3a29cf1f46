"""`lookalike change`, `refused` and `keys`: send changes by hand or from a file, see and replay what was refused."""

import hashlib
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.console import Console
from lookalike.cli.releases import parse_time
from lookalike.contracts.change import ChangeKind
from lookalike.contracts.product import RefusalReason

SOURCE = "command-line"
KEY_BYTES = 32
_DETAIL = 100

change = typer.Typer(help="Send a change of the catalogue to the stream.", no_args_is_help=True)
refused = typer.Typer(help="What was refused, with its reason; send it again after a fix.", no_args_is_help=True)
keys = typer.Typer(help="Keys of those who may send changes to a server.", no_args_is_help=True)

Item = Annotated[str, typer.Argument(help="item id")]
Version = Annotated[int | None, typer.Option(help="grows per item; default: now, ms since 1970")]
Source = Annotated[str, typer.Option(help="who says so")]
Reason = Annotated[RefusalReason | None, typer.Option(help="only rows refused for this reason")]
Since = Annotated[str | None, typer.Option(help="only rows refused since, e.g. 2026-11-01T12:00Z")]
OfItem = Annotated[str | None, typer.Option("--item", help="only rows of this item")]


def _send(
    context: typer.Context, kind: ChangeKind, item: str, body: dict[str, object], version: int | None, source: str
) -> None:
    from lookalike.line.changes import send_change

    console: Console = context.obj
    sent = send_change(console.settings, kind, item, body, version, source)
    console.done(f"sent {kind} of {item}; token {sent.token}", sent)


@change.command("set")
def set_command(
    context: typer.Context,
    item: Item,
    assignments: Annotated[list[str], typer.Argument(help="price=9.50 stock=0 tags=a,b; brand= clears the brand")],
    version: Version = None,
    source: Source = SOURCE,
) -> None:
    """Set some columns; the picture and its vector stay."""
    from lookalike.line.changes import parse_assignments

    _send(context, ChangeKind.ATTRIBUTES, item, {"columns": parse_assignments(assignments)}, version, source)


@change.command()
def delete(context: typer.Context, item: Item, version: Version = None, source: Source = SOURCE) -> None:
    """Take an item out of every search."""
    _send(context, ChangeKind.DELETE, item, {}, version, source)


@change.command()
def restore(context: typer.Context, item: Item, version: Version = None, source: Source = SOURCE) -> None:
    """Undo a delete."""
    _send(context, ChangeKind.RESTORE, item, {}, version, source)


@change.command()
def upsert(
    context: typer.Context,
    item: Item,
    picture: Annotated[str, typer.Option(help="file (kept in the picture store) or URL")],
    title: Annotated[str, typer.Option(help="title")],
    assignments: Annotated[list[str] | None, typer.Argument(help="further columns: price=9.50 tags=a,b")] = None,
    brand: Annotated[str | None, typer.Option(help="brand")] = None,
    version: Version = None,
    source: Source = SOURCE,
) -> None:
    """A whole product with its picture, new or instead of what is there."""
    from lookalike.line.changes import keep_picture, parse_assignments

    console: Console = context.obj
    named = {"title": title, "brand": brand}
    product = parse_assignments(assignments or []) | {name: value for name, value in named.items() if value is not None}
    product["image_path"] = keep_picture(console.settings, picture)
    _send(context, ChangeKind.UPSERT, item, {"product": product}, version, source)


@change.command()
def send(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="FILE", help="changes, one JSON document per line; - for stdin")],
) -> None:
    """Send a file of changes as they are; the job refuses the bad ones and keeps them with their reason."""
    from lookalike.line.changes import read_lines, send_lines

    console: Console = context.obj
    lines = sys.stdin.buffer if path == "-" else read_lines(Path(path))
    sent = send_lines(console.settings, lines, console.progress)
    bad = f"; {sent.refusable:,} of them will be refused ({sent.first_problem})" if sent.refusable else ""
    console.done(f"sent {sent.sent:,} changes{bad}; token {sent.token or 'none'}", sent)


@refused.command("list")
def list_command(
    context: typer.Context,
    reason: Reason = None,
    since: Since = None,
    item: OfItem = None,
    limit: Annotated[int, typer.Option(min=1, help="how many, newest first")] = 50,
) -> None:
    """Refused rows of snapshots and refused changes, newest first."""
    from lookalike.line.refused import Choice, list_refused

    console: Console = context.obj
    rows = list_refused(console.settings, Choice(reason, parse_time(since) if since is not None else None, item), limit)
    console.table(
        "refused",
        ("when (UTC)", "reason", "item", "detail", "from", "replayed (UTC)"),
        [
            (
                f"{row.refused_at:%Y-%m-%d %H:%M:%S}", row.reason, row.item_id, _cut(row.detail),
                f"{row.snapshot_id}:{row.row_number}",
                f"{row.replayed_at:%Y-%m-%d %H:%M:%S}" if row.replayed_at else "",
            )
            for row in rows
        ],
    )  # fmt: skip
    console.done(f"refused rows: {len(rows):,}{' or more' if len(rows) == limit else ''}", rows)


@refused.command("replay")
def replay_command(
    context: typer.Context,
    reason: Reason = None,
    since: Since = None,
    item: OfItem = None,
    everything: Annotated[bool, typer.Option("--all", help="every row that was not sent again yet")] = False,
) -> None:
    """Send refused rows again, each once; what is still wrong is refused again."""
    from lookalike.line.refused import Choice, replay

    console: Console = context.obj
    done = replay(
        console.settings,
        Choice(reason, parse_time(since) if since is not None else None, item),
        everything,
        console.progress,
    )
    left = f"; {done.unusable:,} cannot be sent ({done.first_problem})" if done.unusable else ""
    console.done(
        f"sent {done.sent:,} refused rows again, {done.already:,} were before{left}; token {done.token or 'none'}", done
    )


@keys.command("new")
def new_key(context: typer.Context) -> None:
    """A new random key, shown this once, and the hash that a server is given."""
    console: Console = context.obj
    key = secrets.token_urlsafe(KEY_BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    console.done(f"key: {key}\nfor serving.admin_key_hashes: {digest}", {"key": key, "sha256": digest})


def _cut(text: str) -> str:
    return text if len(text) <= _DETAIL else f"{text[:_DETAIL]}…"


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    app.add_typer(change, name="change")
    app.add_typer(refused, name="refused")
    app.add_typer(keys, name="keys")
