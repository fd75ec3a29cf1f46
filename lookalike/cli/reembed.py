"""`lookalike reembed`: the whole catalogue with another encoder, beside the space that serves."""

from typing import Annotated

import typer

from lookalike.cli.console import Console
from lookalike.cli.nights import tell_checks

reembed_app = typer.Typer(
    help="The whole catalogue with another encoder, in its own space beside the old one.", no_args_is_help=True
)
Encoder = Annotated[str, typer.Option(help="folder, hub id, or lookalike-mini")]
EncoderOrAnnounced = Annotated[str | None, typer.Option(help="folder or hub id; default: the one under way")]


@reembed_app.command()
def plan(context: typer.Context, encoder: Encoder) -> None:
    """Check the encoder and count what is to do, in how many chunks; changes nothing."""
    from lookalike.line.reembed import plan_reembed

    console: Console = context.obj
    done = plan_reembed(console.settings, encoder)
    console.done(
        f"{done.encoder}, space {done.space}: {done.done:,} of {done.items:,} items have their vector, {done.copied:,} "
        f"take one over, {done.pictures:,} pictures to encode in {done.chunks:,} chunks",
        done,
    )


@reembed_app.command()
def run(
    context: typer.Context,
    encoder: EncoderOrAnnounced = None,
    items_per_second: Annotated[float, typer.Option(min=0.0, help="at most so many; 0: as fast as it goes")] = 0.0,
) -> None:
    """Announce the encoder and fill its space; killed and run again it goes on with the chunks that are left."""
    from lookalike.line.reembed import run_reembed

    console: Console = context.obj
    done = run_reembed(console.settings, encoder, console.progress, items_per_second)
    console.done(
        f"{done.encoder}, space {done.space}: {done.embedded:,} items embedded, {done.refused:,} refused, "
        f"{done.left:,} without a vector ({done.seconds:.1f} s)",
        done,
    )


@reembed_app.command()
def check(context: typer.Context, encoder: EncoderOrAnnounced = None) -> None:
    """Expectations on the vectors of the new space; exit 1 names each that failed."""
    from lookalike.line.reembed import check_reembed

    console: Console = context.obj
    tell_checks(console, check_reembed(console.settings, encoder))


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    app.add_typer(reembed_app, name="reembed")
