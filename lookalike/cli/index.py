"""Building an index: `build` in one go, or `index pin | train | encode | merge`, each a command that may be killed."""

from typing import Annotated, Literal

import typer

from lookalike.cli.console import Console

index = typer.Typer(name="index", help="The steps of `lookalike build`, for several processes.", no_args_is_help=True)
Recipe = Annotated[str | None, typer.Option(help="auto or the name of a recipe; default: the setting")]
Encoder = Annotated[str | None, typer.Option(help="folder or hub id whose space is indexed; default: the setting")]
Build = Annotated[str, typer.Option(help="the id that `index pin` gave")]


def build(context: typer.Context, recipe: Recipe = None, encoder: Encoder = None) -> None:
    """A sealed index from pinned table versions, registered as `candidate`."""
    from lookalike.line.build import build as run

    console: Console = context.obj
    report = run(console.settings, console.progress, recipe, encoder or None)
    verb = "reused" if report.reused else "built"
    console.done(
        f"{verb} release {report.version}: {report.items:,} items, recipe {report.recipe} ({report.because}), "
        f"quantiser: {report.quantiser}, {report.bytes / 2**20:.1f} MiB, {report.seconds:.1f} s",
        report,
    )


@index.command()
def pin(context: typer.Context, recipe: Recipe = None, encoder: Encoder = None) -> None:
    """Decide what to build: table versions, space, recipe, shards."""
    from lookalike.line.build_steps import pin as run

    console: Console = context.obj
    report = run(console.settings, recipe, encoder or None)
    if report.reused:
        line = f"release {report.version} holds exactly this already: build {report.build}, nothing to do"
    else:
        verb = "going on with" if report.resumed else "pinned"
        line = f"{verb} build {report.build}: {len(report.shards)} shards, recipe {report.recipe} ({report.because})"
    console.done(line, report)


@index.command()
def train(context: typer.Context, build: Build) -> None:
    """Train the quantiser, or take over the live release's while it fits."""
    from lookalike.line.build_steps import train as run

    console: Console = context.obj
    report = run(console.settings, console.progress, build)
    console.done(f"quantiser {report.quantiser}: {report.because}", report)


@index.command()
def encode(
    context: typer.Context,
    build: Build,
    shard: Annotated[int | None, typer.Argument(min=0, help="number of the shard")] = None,
    every: Annotated[bool, typer.Option("--all", help="all shards that are missing")] = False,
    engine: Annotated[Literal["processes", "spark"], typer.Option(help="what encodes them all")] = "processes",
) -> None:
    """Gather and encode one shard, of which several may run at once; or all that are missing."""
    from lookalike.line.build_shards import encode as run
    from lookalike.line.build_shards import encode_all

    console: Console = context.obj
    if every == (shard is not None):
        raise typer.BadParameter("name the number of a shard, or --all")
    if shard is None:
        count = encode_all(console.settings, console.progress, build, engine)
        console.done(f"encoded {count} shards of build {build}", {"build": build, "encoded": count})
        return
    report = run(console.settings, console.progress, build, shard)
    verb = "encoded" if report.encoded else "nothing to do for"
    console.done(f"{verb} shard {shard} of build {build}: {report.items:,} items", report)


@index.command()
def merge(context: typer.Context, build: Build) -> None:
    """Join the shards, seal the index and register it as `candidate`, once."""
    from lookalike.line.build_steps import merge as run

    console: Console = context.obj
    report = run(console.settings, console.progress, build)
    verb = "was already" if report.reused else "became"
    console.done(f"build {build} {verb} release {report.version}: {report.items:,} items", report)


def register(app: typer.Typer) -> None:
    """Add the verb and the group to the application."""
    app.command()(build)
    app.add_typer(index, name="index")
