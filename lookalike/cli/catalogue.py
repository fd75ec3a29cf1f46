"""`lookalike catalogue`: get a catalogue as a snapshot — the open icon sets, your own tables, or composed products."""

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.console import Console
from lookalike.cli.nights import parse_night

app = typer.Typer(help="get a catalogue as a snapshot", no_args_is_help=True)
fetch = typer.Typer(help="fetch a public catalogue", no_args_is_help=True)
app.add_typer(fetch, name="fetch")


@fetch.command("icons")
def fetch_icons_command(
    context: typer.Context,
    sets: Annotated[list[str] | None, typer.Option("--sets", help="names, by comma or repeated; default: five")] = None,
    all_sets: Annotated[bool, typer.Option("--all", help="every set whose licence allows use in products")] = False,
) -> None:
    """Thousands of real pictures of the same products by several brands, from the Iconify packages."""
    from lookalike.catalogue.icons import fetch_icons

    console: Console = context.obj
    names = [name.strip() for some in sets or [] for name in some.split(",") if name.strip()]
    snapshot = fetch_icons(console.settings, console.progress, sets=names or None, all_sets=all_sets)
    console.done(f"snapshot {snapshot.snapshot_id}: {snapshot.items:,} products in {snapshot.folder}", snapshot)


@app.command("import")
def import_command(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="Parquet, CSV, JSON Lines or Delta; a file, folder or glob")],
    mapping: Annotated[Path | None, typer.Option(help="TOML file that names the columns")] = None,
    source: Annotated[str, typer.Option(help="name of this source")] = "import",
    complete: Annotated[bool, typer.Option(help="the source's whole catalogue: absent items were withdrawn")] = False,
    night: Annotated[
        str | None, typer.Option(help="UTC day of an old export, like 2026-11-20: the snapshot is of that night")
    ] = None,
) -> None:
    """Your own catalogue; unknown columns become filterable attributes."""
    from lookalike.line.imports import import_path

    console: Console = context.obj
    day = parse_night(night) if night is not None else None
    snapshot = import_path(console.settings, path, mapping, source, complete, console.progress, day)
    console.done(f"snapshot {snapshot.snapshot_id}: {snapshot.items:,} rows in {snapshot.folder}", snapshot)


@app.command()
def synthesise(
    context: typer.Context,
    items: Annotated[int, typer.Option(min=1, help="how many products to compose")],
    seed: Annotated[int, typer.Option(help="same seed, same products")] = 7,
    base: Annotated[str | None, typer.Option(help="snapshot whose pictures are composed; default: the newest")] = None,
) -> None:
    """Any number of further products composed of real pictures, with captions and exact ground truth."""
    from lookalike.catalogue.synthesise import synthesise as compose
    from lookalike.line.snapshots import find_snapshot

    console: Console = context.obj
    settings = console.settings
    snapshot = compose(settings, items, seed, console.progress, find_snapshot(settings, base))
    console.done(f"snapshot {snapshot.snapshot_id}: {snapshot.items:,} products in {snapshot.folder}", snapshot)
