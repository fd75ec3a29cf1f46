"""What the OpenAPI document says beside the routes: problems by status, with an example each."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from lookalike.serving.admin import SCHEME, SECURITY_SCHEME
from lookalike.serving.change_schemas import ChangeRequest
from lookalike.serving.problems import MEDIA_TYPE, TYPE_PREFIX, Problem
from lookalike.serving.schemas import FeedbackRequest, SearchRequest

_EXAMPLES: dict[int, tuple[str, str, str]] = {
    400: ("malformed-body", "The body cannot be read", "the query is not JSON: expected value at line 1 column 2"),
    401: ("no-key", "A key is needed", "send the header `Authorization: Bearer KEY` with a key that may do this"),
    403: ("not-allowed", "This is not allowed", "the key is none of those that may send changes here"),
    404: ("not-found", "There is no such thing", "no item 'noto:nothing' in release 7"),
    410: ("cursor-expired", "The cursor is no longer valid", "the cursor belongs to release 6, release 7 answers now"),
    413: (
        "payload-too-large",
        "The request is too large",
        "a request may have 20,971,520 bytes (reading stopped there)",
    ),
    415: ("unsupported-media-type", "The content type is not supported", "send application/json"),
    422: ("invalid-request", "The request is not valid", "k: Input should be less than or equal to 200"),
    500: ("internal-error", "The server failed", "an unexpected error; the server's log has it"),
    503: ("no-release", "No release is being served", "nothing is live yet"),
}


def responses(answer: dict[str, Any], *statuses: int, success: int = 200) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: its answer with `success`, and these statuses and 500 as problem documents."""
    found: dict[int | str, dict[str, Any]] = {success: answer}
    found.update((status, _response(status)) for status in (*statuses, 500))
    return found


def example(description: str, value: Any, media_type: str = "application/json") -> dict[str, Any]:
    """The 200 response of a route without a model of its own."""
    schema = {"type": "object" if isinstance(value, dict) else "string"}
    return {"description": description, "content": {media_type: {"schema": schema, "example": value}}}


def _response(status: int) -> dict[str, Any]:
    kind, title, detail = _EXAMPLES[status]
    body = {"type": TYPE_PREFIX + kind, "title": title, "status": status, "detail": detail, "instance": "/v1/search"}
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema, "example": body}}}


def describe(app: FastAPI) -> None:
    """Give the application an OpenAPI document that knows the schemas of problems and of the search request."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = document.setdefault("components", {})
            _add_schemas(components.setdefault("schemas", {}))
            components["securitySchemes"] = {SCHEME: SECURITY_SCHEME}
            _drop_validation_error(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _add_schemas(schemas: dict[str, Any]) -> None:
    for model in (Problem, SearchRequest, ChangeRequest, FeedbackRequest):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {}) | {model.__name__: schema}


def _drop_validation_error(document: dict[str, Any]) -> None:
    """FastAPI adds its own 422 to every operation with parameters; ours are problem documents."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
