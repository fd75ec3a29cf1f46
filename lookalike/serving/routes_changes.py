"""POST /v1/catalogue/changes: products, pictures, prices, deletes, durable in the log before the answer."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from lookalike.contracts.change import Topic, encode_token
from lookalike.serving.admin import SCHEME, require_admin
from lookalike.serving.change_schemas import CHANGE_EXAMPLES, LINES_EXAMPLE, ChangesResponse
from lookalike.serving.documentation import responses
from lookalike.serving.problems import InvalidRequest, LogAway, PayloadTooLarge, UnsupportedBody
from lookalike.serving.sent_changes import LINES, keep_pictures, read_changes
from lookalike.serving.state import Serving, serving_of
from lookalike.storage.log.limits import MessageTooLarge
from lookalike.storage.log.port import LogUnavailable

ACCEPTED = 202

router = APIRouter(tags=["changes"])

_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    {"$ref": "#/components/schemas/ChangeRequest"},
                    {"type": "array", "items": {"$ref": "#/components/schemas/ChangeRequest"}},
                ]
            },
            "examples": CHANGE_EXAMPLES,
        },
        LINES: {"schema": {"type": "string"}, "example": LINES_EXAMPLE},
    },
}


@router.post(
    "/v1/catalogue/changes",
    summary="Change the catalogue: visible to searches within a second",
    operation_id="changes",
    status_code=ACCEPTED,
    response_class=JSONResponse,
    responses=responses(
        {"model": ChangesResponse, "description": "Durable in the log"}, 400, 401, 403, 413, 415, 422, 503,
        success=ACCEPTED,
    ),
    openapi_extra={"requestBody": _REQUEST_BODY, "security": [{SCHEME: []}]},
)  # fmt: skip
async def changes(
    request: Request,
    accept: Annotated[Literal["all", "partial"], Query(description="partial: take those that are right")] = "all",
) -> Response:
    """All or, with `accept=partial`, those that are right. The token goes into `min_token` of a search."""
    serving = serving_of(request)
    require_admin(request, serving.settings)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ("application/json", LINES):
        raise UnsupportedBody(
            f"content type {media_type or '(none)'!r} is not read here; send application/json (an object or an array) "
            f"or {LINES} (one change per line)"
        )
    body = await request.body()
    answer = await serving.writers.run(_append, serving, body, media_type, accept == "partial")
    return JSONResponse(answer.model_dump(mode="json"), status_code=ACCEPTED)


def _append(serving: Serving, body: bytes, media_type: str, partial: bool) -> ChangesResponse:
    """Check, keep pictures, append. Raises InvalidRequest with a pointer to each wrong change, LogAway."""
    sent = read_changes(body, media_type, time.time_ns() // 1_000_000, serving.settings)
    if not sent.taken or (sent.refused and not partial):
        raise InvalidRequest(sent.refused)
    keep_pictures(sent.taken, serving.settings.pictures_root)
    try:
        positions = serving.log.get().append(Topic.CHANGES, [each.message for each in sent.taken])
    except LogUnavailable as error:
        raise LogAway(f"{error}. Nothing was taken; send it again") from error
    except MessageTooLarge as error:
        raise PayloadTooLarge(str(error)) from error
    seen: dict[int, int] = {}
    for position in positions:
        seen[position.partition] = max(position.offset, seen.get(position.partition, -1))
    serving.metrics.accepted.inc(len(positions))
    return ChangesResponse(accepted=len(positions), token=encode_token(seen), refused=list(sent.refused))
