"""What the routes share: settings, the follower, the log, the threads and the metrics of one server."""

from dataclasses import dataclass

from fastapi import Request

from lookalike.contracts.settings import Settings
from lookalike.serving.feedback import Feedback
from lookalike.serving.follower import Follower
from lookalike.serving.log_access import LogAccess
from lookalike.serving.metrics import Metrics
from lookalike.serving.workers import Workers


@dataclass(frozen=True)
class Serving:
    """State of one server; made by the application, read by the routes."""

    settings: Settings
    follower: Follower
    workers: Workers
    metrics: Metrics
    log: LogAccess
    writers: Workers
    """Threads that append changes: a flush to disk must not wait behind searches, nor they behind it."""
    feedback: Feedback


def serving_of(request: Request) -> Serving:
    """The state of the server that got this request."""
    state: Serving = request.app.state.serving
    return state
