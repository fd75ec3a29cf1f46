"""Contact sheets of `lookalike compare` in Airflow's own pages, by a route of Airflow's API server.

Why a route: Airflow's Markdown drops every `data:` address, and an extra link is a button, which shows nothing within a
question. The browser asks for the picture with the cookie of whoever is logged in, and Airflow itself decides whether
they may. The API server reads the sheet below its own LOOKALIKE_HOME, so it needs the home that the workers write to.
"""

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import FastAPI

# What is served is what this DAG asks about, and to those who may read it.
DAG_ID = "index_release"
PREFIX = "/lookalike"
SHEET = "changed-most.png"
RUN = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{12}")
# A sheet is written once and never again under its name.
HEADERS = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}


def read_sheet(run: str) -> bytes:
    """The PNG of one comparison. Raises LookupError that says why there is none, SettingsError, OSError."""
    from lookalike.contracts.settings import load_settings

    if not RUN.fullmatch(run):
        raise LookupError(f"{run!r} is no comparison: their names are like 20261123T131500557024Z-fc083050ed3b")
    path = load_settings().reports_root / "compare" / run / SHEET
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise LookupError(
            f"there is no contact sheet at {path}. It was removed with its release, or the API server does not see the "
            "home of the workers: LOOKALIKE_HOME must be the same for both, on a volume that both mount"
        ) from error


@cache
def application() -> "FastAPI":
    """The application behind the prefix."""
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI, HTTPException, Response

    from lookalike.contracts.errors import LookalikeError

    app = FastAPI(title="Lookalike pictures", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get(f"/compare/{{run}}/{SHEET}", dependencies=[Depends(requires_access_dag("GET", param_dag_id=DAG_ID))])
    def contact_sheet(run: str) -> Response:
        """One contact sheet."""
        try:
            return Response(read_sheet(run), media_type="image/png", headers=HEADERS)
        except LookupError as error:
            raise HTTPException(404, str(error)) from error
        except (LookalikeError, OSError) as error:
            raise HTTPException(503, f"the contact sheet cannot be read: {error}") from error

    return app


class Pictures:
    """ASGI application that is made at its first request.

    Every task loads all plugins at its start; what the route needs would add seconds to each of them.
    """

    async def __call__(self, *asgi: Any) -> None:
        """One request."""
        await application()(*asgi)


class LookalikePictures(AirflowPlugin):
    """Puts the route below `/lookalike/` of the API server."""

    name = "lookalike_pictures"
    fastapi_apps = [{"app": Pictures(), "url_prefix": PREFIX, "name": "Lookalike pictures"}]  # noqa: RUF012
