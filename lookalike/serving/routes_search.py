"""POST /v1/search: JSON, or multipart with uploaded pictures. Every answer has an id, by which feedback names it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Header, Request, Response
from starlette.datastructures import UploadFile

from lookalike.contracts.errors import BadQuery
from lookalike.contracts.feedback import RECORD_HEADER
from lookalike.contracts.query import MAX_PARTS, SearchQuery
from lookalike.serving.answers import answer_json
from lookalike.serving.documentation import responses
from lookalike.serving.problems import MalformedBody, NotYetVisible, UnsupportedBody
from lookalike.serving.release import LoadedRelease
from lookalike.serving.schemas import SEARCH_EXAMPLES, UPLOAD_EXAMPLE, Asked, SearchResponse, parse_search
from lookalike.serving.state import Serving, serving_of

RELEASE_HEADER = "Lookalike-Release"
SEARCH_HEADER = "Lookalike-Search"
QUERY_FIELD_BYTES = 2**20

router = APIRouter(tags=["search"])
Record = Annotated[
    Literal["yes", "no"],
    Header(alias=RECORD_HEADER, description="no: never noted as shown to a person; for checks, load tests, benches"),
]


@dataclass(frozen=True)
class _Body:
    query: bytes
    uploads: tuple[bytes, ...] = ()


_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/SearchRequest"}, "examples": SEARCH_EXAMPLES},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["query"],
                "properties": {
                    "query": {"type": "string", "description": "the JSON request; a part names a file by `upload`"},
                    "picture": {"type": "array", "items": {"type": "string", "format": "binary"}},
                },
            },
            "example": {"query": UPLOAD_EXAMPLE, "picture": ["(bytes of a picture)"]},
        },
    },
}


@router.post(
    "/v1/search",
    summary="Search by words, pictures, items, or any weighted mix",
    operation_id="search",
    response_class=Response,
    responses=responses(
        {"model": SearchResponse, "description": "One page of hits, best first"}, 400, 404, 410, 413, 415, 422, 503
    ),
    openapi_extra={"requestBody": _REQUEST_BODY},
)
async def search(request: Request, record: Record = "yes") -> Response:
    """Negative weights push away. All hits of an answer come from the one release that it names."""
    body = await _read(request)
    return await run_search(request, lambda: parse_search(body.query, body.uploads), record == "yes")


class _Found(NamedTuple):
    body: bytes
    search_id: str


async def run_search(request: Request, parse: Callable[[], Asked], recorded: bool) -> Response:
    """Parse and answer in a search thread, on one pinned release; wait in between for changes it shall see.

    `recorded`: whether the answer is an impression, where the server keeps any.
    """
    serving = serving_of(request)
    with serving.follower.pin() as loaded:
        found = await serving.workers.run(_answer_if_seen, loaded, parse, serving, recorded)
        if isinstance(found, Asked):
            await _until_seen(loaded, found, serving.settings.serving.token_wait_seconds)
            found = await serving.workers.run(_answer, loaded, found.query, serving, recorded)
        headers = {RELEASE_HEADER: loaded.version, SEARCH_HEADER: found.search_id}
        return Response(found.body, media_type="application/json", headers=headers)


def _answer_if_seen(
    loaded: LoadedRelease, parse: Callable[[], Asked], serving: Serving, recorded: bool
) -> _Found | Asked:
    """The answer, or the checked request when it has to wait first."""
    asked = parse()
    return asked if _missing(loaded, asked.wanted) else _answer(loaded, asked.query, serving, recorded)


def _answer(loaded: LoadedRelease, query: SearchQuery, serving: Serving, recorded: bool) -> _Found:
    answer = loaded.engine.search(query)
    serving.metrics.search(answer.took_ms)
    search_id = serving.feedback.note(query, answer, recorded)
    return _Found(b'{"search_id":"%b",' % search_id.encode() + answer_json(answer)[1:], search_id)


def _missing(loaded: LoadedRelease, wanted: Mapping[int, int]) -> Mapping[int, int]:
    if not wanted:
        return wanted
    if loaded.following is None:
        raise BadQuery("this server follows no changes, so no search can wait for one; leave min_token out")
    unknown = sorted(set(wanted) - set(range(loaded.following.partitions)))
    if unknown:
        raise BadQuery(
            f"min_token names partition {unknown[0]}; the log has 0 to {loaded.following.partitions - 1}. Pass the "
            f"token of a change back unchanged"
        )
    return loaded.following.offsets.missing(wanted)


async def _until_seen(loaded: LoadedRelease, asked: Asked, longest_seconds: float) -> None:
    """Holds no thread meanwhile. Raises NotYetVisible that says what is missing."""
    seconds = longest_seconds if asked.max_wait_ms is None else min(longest_seconds, asked.max_wait_ms / 1000)
    following = loaded.following
    assert following is not None
    missing = await following.offsets.wait(asked.wanted, seconds)
    if missing:
        seen = following.seen()
        said = ", ".join(
            f"offset {offset} of partition {partition} (seen up to {seen.get(partition, 'none')})"
            for partition, offset in sorted(missing.items())
        )
        raise NotYetVisible(f"after {seconds:g} s this server has not seen: {said}; ask again, or without min_token")


async def _read(request: Request) -> _Body:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        return _Body(await request.body())
    if content_type != "multipart/form-data":
        raise UnsupportedBody(
            f"content type {content_type or '(none)'!r} is not read here; send application/json, or "
            f"multipart/form-data with the field `query` and files `picture`"
        )
    async with request.form(max_files=MAX_PARTS, max_fields=1, max_part_size=QUERY_FIELD_BYTES) as form:
        query = form.get("query")
        if query is None:
            raise MalformedBody("the form has no field `query`; it holds the JSON request")
        text = await query.read() if isinstance(query, UploadFile) else query.encode()
        files = [file for file in form.getlist("picture") if isinstance(file, UploadFile)]
        return _Body(text, tuple([await file.read() for file in files]))
