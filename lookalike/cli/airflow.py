"""`lookalike airflow`: Airflow's UI over this home, with the server behind it."""

from typing import Annotated

import typer

from lookalike.cli.console import Console

PORT = 8081  # 8080 is the server's


def airflow(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="of Airflow's UI on this machine; 0 takes a free one")] = PORT,
    server_port: Annotated[int | None, typer.Option(help="of the search server; default: the setting")] = None,
    user: Annotated[list[str] | None, typer.Option(help="who may log in, as the ledger names them")] = None,
) -> None:
    """Airflow and a server on this machine until Ctrl-C; an empty home gets the demo's catalogue and release first."""
    from lookalike.line.airflow import run_airflow
    from lookalike.line.airflow_home import USERS

    console: Console = context.obj
    users = dict.fromkeys(user or [], "admin") or USERS
    raise typer.Exit(run_airflow(console.settings, console.say, port, server_port, users))


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command()(airflow)
