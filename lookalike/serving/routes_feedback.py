"""POST /v1/feedback: clicks, carts and purchases on what searches showed, durable in the log before the answer.

Comes along with the routes of searches, which give the ids that it takes, and brings what both need while the server
runs. It has threads of its own: a flood of clicks must not turn changes of the catalogue away.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import Counter, Gauge
from pydantic import ValidationError

from lookalike.contracts.change import Topic
from lookalike.contracts.feedback import Click, impression_kept, searched_at
from lookalike.serving.documentation import responses
from lookalike.serving.impressions import Impressions
from lookalike.serving.problems import (
    FieldProblem,
    InvalidRequest,
    LogAway,
    MalformedBody,
    PayloadTooLarge,
    UnsupportedBody,
    invalid_values,
)
from lookalike.serving.schemas import FEEDBACK_EXAMPLES, MAX_FEEDBACK, FeedbackRequest, FeedbackResponse
from lookalike.serving.state import Serving
from lookalike.serving.workers import Workers
from lookalike.storage.log.port import LogUnavailable, Message

ACCEPTED = 202
THREADS = 2
"""Appends of several threads share one flush to disk."""
MAX_BYTES = 512 * 2**10
SKEW = timedelta(minutes=5)
"""Clocks of servers and callers may differ by this much."""
MAX_AGE = timedelta(days=30)


@dataclass(frozen=True)
class FeedbackIntake:
    """What takes feedback on one server. `impressions` is None where the settings say that none are kept."""

    serving: Serving
    impressions: Impressions | None
    writers: Workers
    taken: Counter
    not_kept: Counter


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    serving: Serving = app.state.serving
    registry, wanted = serving.metrics.registry, serving.settings.feedback
    pending = Gauge("lookalike_feedback_pending", "Requests with feedback waiting or being appended", registry=registry)
    impressions = Impressions(wanted, serving.log, registry) if wanted.impressions else None
    intake = FeedbackIntake(
        serving=serving,
        impressions=impressions,
        writers=Workers(THREADS, serving.metrics, pending),
        taken=Counter("lookalike_feedback_accepted", "Clicks and the like, appended to the log", registry=registry),
        not_kept=Counter("lookalike_feedback_not_kept", "... on searches that are not noted", registry=registry),
    )
    app.state.feedback = intake
    if impressions is not None:
        impressions.start()
    try:
        yield
    finally:
        intake.writers.close()
        if impressions is not None:
            impressions.stop()


router = APIRouter(lifespan=_lifespan)


def intake_of(request: Request) -> FeedbackIntake:
    """What takes feedback on the server that got this request."""
    intake: FeedbackIntake = request.app.state.feedback
    return intake


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
    intake = intake_of(request)
    answer = await intake.writers.run(_append, intake, body)
    return JSONResponse(answer.model_dump(mode="json"), status_code=ACCEPTED)


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise PayloadTooLarge(f"feedback may have {MAX_BYTES:,} bytes at a time (reading stopped there)")
    return bytes(body)


def _append(intake: FeedbackIntake, body: bytes) -> FeedbackResponse:
    """Check all, then append those on searches that were noted. Raises InvalidRequest, MalformedBody, LogAway."""
    given = read_feedback(body, datetime.now(UTC))
    kept = [each for each in given if impression_kept(each.search_id)]
    try:
        messages = [Message(each.search_id.encode(), each.encode()) for each in kept]
        intake.serving.log.get().append(Topic.FEEDBACK, messages)
    except LogUnavailable as error:
        raise LogAway(f"{error}. Nothing was taken; send it again") from error
    intake.taken.inc(len(kept))
    intake.not_kept.inc(len(given) - len(kept))
    return FeedbackResponse(accepted=len(kept), not_kept=len(given) - len(kept))


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
