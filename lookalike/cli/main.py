"""Entry point: reads the settings once, hands a Console to the verb, and turns known errors into plain messages."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike import __version__
from lookalike.cli import (
    airflow,
    catalogue,
    changes,
    encoder,
    feedback,
    index,
    nights,
    plan,
    reembed,
    releases,
    search,
    serve,
    steps,
    stream,
    tables,
)
from lookalike.cli.console import Console, set_up_logging
from lookalike.contracts.errors import LookalikeError, SettingsError, TryAgain
from lookalike.contracts.settings import load_settings

EXIT_USER_ERROR = 2
EXIT_FAULT = 70  # EX_SOFTWARE of sysexits.h: not 1, which says that a check failed
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="lookalike",
    help="Product search by picture, by words and by both: from a catalogue to a served, gated release.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(catalogue.app, name="catalogue")
_MODULES = (
    steps,
    plan,
    index,
    changes,
    stream,
    releases,
    search,
    encoder,
    serve,
    tables,
    airflow,
    nights,
    reembed,
    feedback,
)
for module in _MODULES:
    module.register(app)


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`section.key=value` of the command line as nested overrides."""
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        section, dot, name = key.partition(".")
        if not separator:
            raise SettingsError(f"--set {assignment}: write it as section.key=value, e.g. gate.min_recall_at_10=0.9")
        if dot:
            overrides.setdefault(section, {})[name] = _list_or_text(assignment, value)
        else:
            overrides[section] = value
    return overrides


def _list_or_text(assignment: str, value: str) -> Any:
    """Settings with several values or a table are given as JSON, as in environment variables."""
    if not value.startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise SettingsError(f'--set {assignment}: not JSON ({error}); write several values as ["a", "b"]') from error


@app.callback()
def _global_options(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="folder of tables, releases and pictures")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, over any other")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on stdout")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="debug log lines")] = False,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    if version:
        sys.stdout.write(f"lookalike {__version__}\n")
        raise typer.Exit
    overrides = parse_assignments(assignments or [])
    if home is not None:
        overrides["home"] = home
    set_up_logging(verbose)
    context.obj = Console(load_settings(**overrides), as_json)


def main() -> None:
    """The `lookalike` script.

    Exit codes: 0 done, 1 a check failed, 2 wrong use or a missing thing, 70 a fault of ours (with its traceback),
    75 something is away for now, 130 interrupted. Schedulers try 70 and 75 again, 1 and 2 not.
    """
    # `--json` is a global option; people write it behind the verb, where they think of it.
    arguments = sys.argv[1:]
    if "--json" in arguments:
        arguments = ["--json", *(argument for argument in arguments if argument != "--json")]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app(arguments, standalone_mode=True)
    except LookalikeError as error:
        sys.stderr.write(f"lookalike: {error}\n")
        sys.exit(EXIT_TRY_AGAIN if isinstance(error, TryAgain) else EXIT_USER_ERROR)
    except Exception:
        traceback.print_exc()
        sys.exit(EXIT_FAULT)
    except SystemExit as stop:
        if stop.code == EXIT_INTERRUPTED:  # what Ctrl-C becomes inside a verb
            sys.stderr.write("lookalike: interrupted; run the same command again to go on from here\n")
        raise
