"""The application: one follower, the log, pools of threads, the routes and the page, joined from settings."""

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
from lookalike.releases.release import Release
from lookalike.serving import problems, routes_changes, routes_feedback, routes_items, routes_operation, routes_search
from lookalike.serving.documentation import describe
from lookalike.serving.edge import Edge
from lookalike.serving.feedback import Feedback
from lookalike.serving.follower import Follower, Source
from lookalike.serving.log_access import LogAccess, OpenLog
from lookalike.serving.metrics import Metrics
from lookalike.serving.release import LoadedRelease, OpenEncoder, load_release
from lookalike.serving.reporter import Reporter
from lookalike.serving.right_of_way import RightOfWay
from lookalike.serving.state import Serving
from lookalike.serving.workers import Workers

PAGE = Path(__file__).parent / "page"
PAGE_CACHE = "no-cache"
"""Ask each time, answer 304 by tag: a page and a server of two versions must not meet."""
WRITER_THREADS = 4
"""Appends of several threads share one flush to disk."""


class _PageFiles(StaticFiles):
    def file_response(self, *arguments: object, **named: object) -> Response:
        response = super().file_response(*arguments, **named)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = PAGE_CACHE
        return response


def create_app(
    settings: Settings,
    source: Source | None = None,
    open_encoder: OpenEncoder | None = None,
    open_log: OpenLog | None = None,
    address: str | None = None,
) -> FastAPI:
    """Build the server. `source` is where the live pointer is read and releases are asked for (default: the registry
    of the settings), `open_encoder` and `open_log` how those are opened, `address` under which it reports."""
    metrics, log = Metrics(), LogAccess(settings, open_log)
    source = source or _registry(settings)
    workers = Workers(settings.serving.threads, metrics)
    way = RightOfWay(lambda: workers.busy)

    def load(release: Release, current: LoadedRelease | None) -> LoadedRelease:
        return load_release(release, settings, current, open_encoder, log.get(), metrics, way)

    follower = Follower(source, load, metrics, settings.serving.poll_seconds)
    serving = Serving(
        settings=settings,
        follower=follower,
        workers=workers,
        metrics=metrics,
        log=log,
        writers=Workers(WRITER_THREADS, metrics, metrics.changes_pending),
        feedback=Feedback(settings.feedback, log, metrics),
    )
    reporter = Reporter(serving, source, address or f"{settings.serving.host}:{settings.serving.port}")
    app = FastAPI(
        title="Lookalike",
        version=__version__,
        description="Product search by picture, by words and by both. Errors are RFC 9457 problem documents.",
        docs_url=None,  # the interactive pages load scripts from elsewhere, which the content policy forbids
        redoc_url=None,
        lifespan=partial(_lifespan, serving, reporter),
        middleware=[Middleware(Edge, metrics=metrics, max_body_bytes=settings.serving.max_upload_bytes)],
    )
    app.state.serving = serving
    for routes in (routes_search, routes_items, routes_feedback, routes_changes, routes_operation):
        app.include_router(routes.router)
    _add_page(app)
    problems.install(app)
    describe(app)
    return app


@asynccontextmanager
async def _lifespan(serving: Serving, reporter: Reporter, app: FastAPI) -> AsyncIterator[None]:
    serving.follower.start()
    serving.feedback.start()
    reporter.start()
    try:
        yield
    finally:
        reporter.stop()
        serving.feedback.stop()
        serving.writers.close()
        serving.follower.stop()
        serving.workers.close()
        serving.log.close()


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
