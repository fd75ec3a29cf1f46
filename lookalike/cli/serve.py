"""`lookalike serve` and `lookalike demo`: the server, and the whole straight line with the server at its end."""

from typing import Annotated

import typer

from lookalike.cli.console import Console

EXIT_CHECK_FAILED = 1


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="address to listen on; default: the setting")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes a free one; default: the setting")] = None,
) -> None:
    """Serve the live release and follow the pointer; the page is at /."""
    from lookalike.serving.server import serve as run

    console: Console = context.obj
    chosen = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    serving = console.settings.serving.model_copy(update=chosen)
    run(console.settings.model_copy(update={"serving": serving}))


def demo(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="search, print a summary and exit instead of serving")] = False,
    port: Annotated[int | None, typer.Option(help="port of the server; default: the setting")] = None,
) -> None:
    """Real pictures to a served, gated release in one command; again with nothing changed, it embeds nothing."""
    from lookalike.line.demo import run_demo

    console: Console = context.obj
    report = run_demo(console.settings, console.progress, console.say, port, stay_up=not check)
    console.table("the straight line", ("step", "what", "seconds"), report.step_rows())
    console.table("searches against the running server", ("search", "", "found"), report.search_rows())
    held = sum(found.held for found in report.searches)
    console.done(
        f"demo {'holds' if report.holds else 'FAILED'}: release {report.release}, {report.items:,} items, "
        f"{report.embedded:,} embedded, {held} of {len(report.searches)} searches hold, "
        f"pipeline {report.pipeline_seconds:.0f} s",
        report,
    )
    if not report.holds:
        raise typer.Exit(EXIT_CHECK_FAILED)
    if not check:
        report.wait_for_server()


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    for verb in (serve, demo):
        app.command()(verb)
