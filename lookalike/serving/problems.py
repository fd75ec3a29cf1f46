"""Every error as an RFC 9457 problem document, so that a client has one shape to read.

Messages of errors that we raise on purpose are written for the caller and go out; any other error is logged with its
traceback and the caller learns only that it happened.
"""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from lookalike.contracts.errors import BadQuery, CursorExpired, LookalikeError, NotFound

LOG = logging.getLogger("lookalike.serving")
MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:lookalike:problem:"
RETRY_AFTER_SECONDS = "1"


class FieldProblem(BaseModel):
    """One wrong value of a request."""

    pointer: str = Field(description="JSON pointer into the body, or the name of the query parameter")
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem document."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "urn:lookalike:problem:invalid-request",
                "title": "The request is not valid",
                "status": 422,
                "detail": "parts/0: a query part has exactly one of: text, picture, item_id",
                "instance": "/v1/search",
                "errors": [{"pointer": "#/parts/0", "detail": "a query part has exactly one of: …"}],
            }
        },
    )

    type: str = Field(description="stable name of the kind of problem")
    title: str
    status: int
    detail: str
    instance: str = Field(description="path of the request")
    errors: list[FieldProblem] | None = None


class ServingError(LookalikeError):
    """An error of the server itself with its own HTTP status."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    kind = "internal-error"
    title = "The server failed"
    headers: ClassVar[dict[str, str]] = {}


class NoReleaseYet(ServingError):
    """Nothing is loaded: no version is live, or the live one was refused and there was none before."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "no-release"
    title = "No release is being served"


class Overloaded(ServingError):
    """More requests wait than can be answered in time."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "overloaded"
    title = "The server is busy"


class PayloadTooLarge(ServingError):
    """A request body over the limit; reading stopped there."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    kind = "payload-too-large"
    title = "The request is too large"


class UnsupportedBody(ServingError):
    """A content type that this operation does not read."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    kind = "unsupported-media-type"
    title = "The content type is not supported"


class MalformedBody(ServingError):
    """A body that is not what its content type says."""

    status = HTTPStatus.BAD_REQUEST
    kind = "malformed-body"
    title = "The body cannot be read"


class NotYetVisible(ServingError):
    """The changes that a search waited for did not arrive in time."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "not-yet-visible"
    title = "The change is not visible yet"


class LogAway(ServingError):
    """Changes cannot be taken now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "log-away"
    title = "Changes cannot be taken now"


class NoKey(ServingError):
    """The operation needs a key and none was sent."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "no-key"
    title = "A key is needed"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="lookalike", scope="admin"'}


class NotAllowed(ServingError):
    """The key that was sent is none of those that may do this, or there are none."""

    status = HTTPStatus.FORBIDDEN
    kind = "not-allowed"
    title = "This is not allowed"


class InvalidRequest(LookalikeError):
    """One or more values of the request are not allowed."""

    def __init__(self, errors: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{error.pointer.removeprefix('#/')}: {error.detail}" for error in errors))
        self.errors = list(errors)


def invalid_values(error: ValidationError, prefix: tuple[str | int, ...] = ()) -> LookalikeError:
    """A pydantic error on a body as InvalidRequest, or MalformedBody when the body was no JSON at all."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    if details[0]["type"] == "json_invalid":
        return MalformedBody(f"the query is not JSON: {details[0]['msg'].removeprefix('Invalid JSON: ')}")
    return InvalidRequest(
        [
            FieldProblem(
                pointer="#/" + "/".join(str(part) for part in (*prefix, *detail["loc"])),
                detail=detail["msg"].removeprefix("Value error, "),
            )
            for detail in details
        ]
    )


def problem_response(
    request: Request, status: int, kind: str, title: str, detail: str,
    headers: dict[str, str] | None = None, **members: Any,
) -> JSONResponse:  # fmt: skip
    """A problem document with optional extension members."""
    body = {"type": TYPE_PREFIX + kind, "title": title, "status": int(status), "detail": detail}
    body |= {"instance": request.url.path} | {key: value for key, value in members.items() if value is not None}
    headers = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", RETRY_AFTER_SECONDS)
    return JSONResponse(body, status_code=int(status), headers=headers, media_type=MEDIA_TYPE)


_BY_CLASS: tuple[tuple[type[LookalikeError], HTTPStatus, str, str], ...] = (
    (CursorExpired, HTTPStatus.GONE, "cursor-expired", "The cursor is no longer valid"),
    (NotFound, HTTPStatus.NOT_FOUND, "not-found", "There is no such thing"),
    (InvalidRequest, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", "The request is not valid"),
    (BadQuery, HTTPStatus.UNPROCESSABLE_ENTITY, "bad-query", "The query cannot be answered"),
)


async def _on_lookalike_error(request: Request, error: Exception) -> JSONResponse:
    errors = [item.model_dump() for item in error.errors] if isinstance(error, InvalidRequest) else None
    if isinstance(error, ServingError):
        return problem_response(request, error.status, error.kind, error.title, str(error), error.headers)
    for kind_of_error, status, kind, title in _BY_CLASS:
        if isinstance(error, kind_of_error):
            return problem_response(request, status, kind, title, str(error), errors=errors)
    LOG.error("%s %s: %s", request.method, request.url.path, error)
    return problem_response(
        request, HTTPStatus.INTERNAL_SERVER_ERROR, ServingError.kind, ServingError.title, str(error)
    )


async def _on_parameters(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    invalid = InvalidRequest(
        [FieldProblem(pointer=str(detail["loc"][-1]), detail=detail["msg"]) for detail in error.errors()]
    )
    return await _on_lookalike_error(request, invalid)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: f"nothing is served at {request.url.path}; /openapi.json lists what is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not allowed at {request.url.path}",
    }
    kind = status.phrase.lower().replace(" ", "-")
    detail = details.get(status, str(error.detail))
    return problem_response(request, status, kind, status.phrase, detail, headers=dict(error.headers or {}))


async def _on_fault(request: Request, error: Exception) -> JSONResponse:
    LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(
        request, HTTPStatus.INTERNAL_SERVER_ERROR, ServingError.kind, ServingError.title,
        "an unexpected error; the server's log has it",
    )  # fmt: skip


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    app.add_exception_handler(LookalikeError, _on_lookalike_error)
    app.add_exception_handler(RequestValidationError, _on_parameters)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_fault)
