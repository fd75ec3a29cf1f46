"""What the routes share: settings, the follower, the search threads and the metrics of one server."""

from dataclasses import dataclass

from fastapi import Request

from lookalike.contracts.settings import Settings
from lookalike.serving.follower import Follower
from lookalike.serving.metrics import Metrics
from lookalike.serving.workers import Workers


@dataclass(frozen=True)
class Serving:
    """State of one server; made by the application, read by the routes."""

    settings: Settings
    follower: Follower
    workers: Workers
    metrics: Metrics


def serving_of(request: Request) -> Serving:
    """The state of the server that got this request."""
    state: Serving = request.app.state.serving
    return state
