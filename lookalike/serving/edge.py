"""The edge of the server, in plain ASGI: bounds the body while it is read, adds security headers, counts requests.

Plain ASGI, because a middleware that sees whole bodies would have to hold an upload before it could refuse it.
"""

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.serving.metrics import Metrics
from lookalike.serving.problems import PayloadTooLarge

SECURITY_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Edge:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self._app, self._metrics, self._limit = app, metrics, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        try:
            await self._app(scope, self._bounded(scope, receive), send_with_headers)
        finally:
            self._metrics.request(scope["method"], _route(scope), status, time.monotonic() - started)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        announced = int(dict(scope["headers"]).get(b"content-length", b"0") or 0)
        read = 0

        async def bounded() -> Message:
            nonlocal read
            if announced > self._limit:
                raise self._too_large(f"{announced:,} bytes were announced")
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise self._too_large("reading stopped there")
            return message

        return bounded

    def _too_large(self, what: str) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"a request may have {self._limit:,} bytes ({what}); send a smaller picture, or raise "
            f"serving.max_upload_bytes"
        )


def _route(scope: Scope) -> str:
    """Template of the matched route; `unmatched` keeps the number of series bounded."""
    route: Any = scope.get("route")
    path = getattr(route, "path", None)
    if isinstance(path, str):
        return path
    return "/page" if scope["path"].startswith("/page/") else "unmatched"
