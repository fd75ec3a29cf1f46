"""`lookalike stream health`: the stream against its thresholds, for people, schedules and monitors."""

import typer

from lookalike.cli.console import Console

EXIT_CHECK_FAILED = 1


def health(context: typer.Context) -> None:
    """Lag, freshness, and age and memory of the workers; exits 1 and names what is over its limit."""
    from lookalike.line.health import health as run

    console: Console = context.obj
    found = run(console.settings)
    console.table(
        "stream health",
        ("what", "now", "allowed", ""),
        [(each.what, each.now, each.allowed, "OVER" if each.over else "") for each in found.readings],
    )
    console.done(found.line, {"healthy": not found.over, "line": found.line, "readings": found.readings})
    if found.over:
        if console.as_json:
            console.say(found.line)  # a task's log shows stderr, and its last line is why the task failed
        raise typer.Exit(EXIT_CHECK_FAILED)
