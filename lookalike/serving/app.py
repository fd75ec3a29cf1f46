"""The application: one follower, one pool of search threads, the routes and the page, joined from settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from lookalike import __version__
from lookalike.contracts.errors import NotFound
from lookalike.contracts.settings import Settings
from lookalike.serving import problems, routes_items, routes_operation, routes_search
from lookalike.serving.documentation import describe
from lookalike.serving.edge import Edge
from lookalike.serving.follower import Follower, Load, Source
from lookalike.serving.metrics import Metrics
from lookalike.serving.release import load_release
from lookalike.serving.state import Serving
from lookalike.serving.workers import Workers

PAGE = Path(__file__).parent / "page"
PAGE_CACHE = "no-cache"
"""Ask each time, answer 304 by tag: a page and a server of two versions must not meet."""


class _PageFiles(StaticFiles):
    def file_response(self, *arguments: object, **named: object) -> Response:
        response = super().file_response(*arguments, **named)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = PAGE_CACHE
        return response


def create_app(settings: Settings, source: Source | None = None, load: Load | None = None) -> FastAPI:
    """Build the server. `source` is where the live pointer is read (default: the registry of the settings), `load`
    how a release is opened (default: `load_release` with every check)."""
    metrics = Metrics()
    follower = Follower(
        source or _registry(settings),
        load or (lambda release, current: load_release(release, settings, current)),
        metrics,
        settings.serving.poll_seconds,
    )
    serving = Serving(settings, follower, Workers(settings.serving.threads, metrics), metrics)
    app = FastAPI(
        title="Lookalike",
        version=__version__,
        description="Product search by picture, by words and by both. Errors are RFC 9457 problem documents.",
        docs_url=None,  # the interactive pages load scripts from elsewhere, which the content policy forbids
        redoc_url=None,
        lifespan=partial(_lifespan, serving),
        middleware=[Middleware(Edge, metrics=metrics, max_body_bytes=settings.serving.max_upload_bytes)],
    )
    app.state.serving = serving
    for routes in (routes_search, routes_items, routes_operation):
        app.include_router(routes.router)
    _add_page(app)
    problems.install(app)
    describe(app)
    return app


@asynccontextmanager
async def _lifespan(serving: Serving, app: FastAPI) -> AsyncIterator[None]:
    serving.follower.start()
    try:
        yield
    finally:
        serving.follower.stop()
        serving.workers.close()


def _registry(settings: Settings) -> Source:
    from lookalike.releases.registry import Registry

    return Registry(settings)


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        index = PAGE / "index.html"
        if not index.is_file():
            raise NotFound("this installation has no web page; the API is described at /openapi.json")
        return FileResponse(index, headers={"Cache-Control": PAGE_CACHE})

    app.mount("/page", _PageFiles(directory=PAGE, check_dir=False), name="page")
