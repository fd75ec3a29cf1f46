"""POST /v1/feedback: clicks, carts and purchases on what searches showed, durable in the log before the answer."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from lookalike.contracts.feedback import Click, searched_at
from lookalike.serving.documentation import responses
from lookalike.serving.feedback import Feedback
from lookalike.serving.problems import (
    FieldProblem,
    InvalidRequest,
    MalformedBody,
    PayloadTooLarge,
    UnsupportedBody,
    invalid_values,
)
from lookalike.serving.schemas import FEEDBACK_EXAMPLES, MAX_FEEDBACK, FeedbackRequest, FeedbackResponse
from lookalike.serving.state import serving_of

ACCEPTED = 202
MAX_BYTES = 512 * 2**10
SKEW = timedelta(minutes=5)
"""Clocks of servers and callers may differ by this much."""
MAX_AGE = timedelta(days=30)

router = APIRouter(tags=["feedback"])

_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    {"$ref": "#/components/schemas/FeedbackRequest"},
                    {"type": "array", "items": {"$ref": "#/components/schemas/FeedbackRequest"}},
                ]
            },
            "examples": FEEDBACK_EXAMPLES,
        }
    },
}


@router.post(
    "/v1/feedback",
    summary="Say what was done with what a search showed",
    operation_id="feedback",
    status_code=ACCEPTED,
    response_class=JSONResponse,
    responses=responses(
        {"model": FeedbackResponse, "description": "Durable in the log"}, 400, 413, 415, 422, 503, success=ACCEPTED
    ),
    openapi_extra={"requestBody": _REQUEST_BODY},
)
async def feedback(request: Request) -> Response:
    """One event or an array of them, all or none. Each item of an answer counts once, however often it is sent."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedBody(f"content type {media_type or '(none)'!r} is not read here; send application/json")
    body = await _read(request)
    intake = serving_of(request).feedback
    answer = await intake.writers.run(_append, intake, body)
    return JSONResponse(answer.model_dump(mode="json"), status_code=ACCEPTED)


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise PayloadTooLarge(f"feedback may have {MAX_BYTES:,} bytes at a time (reading stopped there)")
    return bytes(body)


def _append(intake: Feedback, body: bytes) -> FeedbackResponse:
    """Check all, then append. Raises InvalidRequest, MalformedBody, LogAway."""
    accepted, not_kept = intake.append(read_feedback(body, datetime.now(UTC)))
    return FeedbackResponse(accepted=accepted, not_kept=not_kept)


def read_feedback(body: bytes, now: datetime) -> list[Click]:
    """Parse and check all events of a request that came at `now`.

    Raises InvalidRequest with a pointer to each wrong value, MalformedBody when it is no JSON, or nothing, or too much.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from error
    many = isinstance(value, list)
    values = value if many else [value]
    if not 1 <= len(values) <= MAX_FEEDBACK:
        raise MalformedBody(f"the request holds {len(values):,} events; send 1 to {MAX_FEEDBACK:,} at a time")
    taken: list[Click] = []
    problems: list[FieldProblem] = []
    for number, each in enumerate(values):
        try:
            taken.append(_click(each, (number,) if many else (), now))
        except InvalidRequest as error:
            problems += error.errors
    if problems:
        raise InvalidRequest(problems)
    return taken


def _click(value: Any, where: tuple[int, ...], now: datetime) -> Click:
    try:
        given = FeedbackRequest.model_validate(value)
    except ValidationError as error:
        raise invalid_values(error, where) from error
    at, searched = given.at or now, searched_at(given.search_id)
    field, detail = "search_id", ""
    if searched > now + SKEW:
        detail = "names a search that was not yet: pass back the search_id of an answer unchanged"
    elif searched < now - MAX_AGE:
        detail = f"names a search of {searched:%Y-%m-%d}; feedback is taken for {MAX_AGE.days} days"
    elif not searched - SKEW <= at <= now + SKEW:
        field = "at"
        detail = f"{at.isoformat()} is not between the search ({searched.isoformat()}) and now; leave it out for now"
    if detail:
        raise InvalidRequest([FieldProblem(pointer="#/" + "/".join(map(str, (*where, field))), detail=detail)])
    return Click(search_id=given.search_id, item_id=given.item_id, event=given.event, at=at.astimezone(UTC))
