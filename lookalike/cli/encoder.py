"""The encoder's verbs: train one, evaluate one, announce one that is to come."""

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.console import Console


def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="folder of the new encoder; an unfinished run there goes on")],
    config: Annotated[str, typer.Option(help="name in models/configs, or a JSON file")] = "lookalike_mini",
    snapshot: Annotated[str | None, typer.Option(help="snapshot to train on; default: the newest")] = None,
) -> None:
    """Train an encoder on a catalogue's real pictures and words."""
    from lookalike.line.snapshots import find_snapshot
    from models.training import train as run

    console: Console = context.obj
    settings = console.settings
    folder = find_snapshot(settings, snapshot)
    report = run(settings, folder, settings.pictures_root, out, config, console.progress)
    console.done(f"trained {report.steps:,} steps, loss {report.loss:.3f}; encoder in {report.directory}", report)


def evaluate(
    context: typer.Context,
    encoder: Annotated[str | None, typer.Option(help="folder or hub id; default: the one in use")] = None,
    card: Annotated[bool, typer.Option("--card", help="put the figures into the encoder's model card")] = False,
) -> None:
    """Retrieval figures of an encoder on real pictures, with 95 % intervals."""
    from lookalike.evaluation.report import COLUMNS
    from lookalike.line.evaluate import evaluate as run

    console: Console = context.obj
    done = run(console.settings, console.progress, encoder)
    console.table(f"encoder space {done.space}", COLUMNS, done.report.table())
    if card:
        from lookalike.releases.encoder_in_use import encoder_in_use
        from models.encoders import encoder_directory
        from models.model_card import add_figures

        add_figures(encoder_directory(encoder or encoder_in_use(console.settings)), done.report.to_markdown())
    console.done(
        f"{len(done.report.rows)} figures on {done.items:,} pictures; report {done.path}",
        {"space": done.space, "report": done.path, **done.report.as_dict()},
    )


encoder_app = typer.Typer(help="The encoder of a release to come.", no_args_is_help=True)


@encoder_app.command()
def announce(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="folder, hub id, or lookalike-mini")],
) -> None:
    """Let the stream write this encoder's vectors too, ahead of the first release that is built with it."""
    from lookalike.line.incoming_encoder import announce as run

    console: Console = context.obj
    done = run(console.settings, path)
    console.done(f"incoming: {done.encoder}, space {done.space}, kept in {done.folder}", done)


@encoder_app.command()
def withdraw(context: typer.Context) -> None:
    """Take the announcement back; the stream stops to write its vectors."""
    from lookalike.line.incoming_encoder import withdraw as run

    console: Console = context.obj
    folder = run(console.settings)
    console.done(f"no longer incoming: {folder}", {"folder": folder})


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    for verb in (train, evaluate):
        app.command()(verb)
    app.add_typer(encoder_app, name="encoder")
