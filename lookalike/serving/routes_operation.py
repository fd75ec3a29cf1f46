"""For operators: liveness, readiness, metrics, and the release that answers."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from lookalike.serving.documentation import example, responses
from lookalike.serving.follower import Status
from lookalike.serving.metrics import CONTENT_TYPE
from lookalike.serving.problems import NoReleaseYet, problem_response
from lookalike.serving.routes_search import RELEASE_HEADER
from lookalike.serving.state import serving_of

router = APIRouter(tags=["operation"])

READY_EXAMPLE: dict[str, Any] = {
    "status": "degraded",
    "release": "7",
    "live": "8",
    "refused": {
        "version": "8",
        "error": "CorruptArtifact",
        "reason": "index.faiss has sha256 …, the manifest says …",
        "since": "2026-01-01T03:12:44+00:00",
        "attempts": 1,
    },
    "registry_error": None,
    "overlay": {
        "items": 412,
        "bytes": 2_310_144,
        "budget_bytes": 536_870_912,
        "over_budget": False,
        "lag_messages": 0,
        "lag_seconds": 0.0,
        "problem": None,
    },
}
RELEASE_EXAMPLE: dict[str, Any] = {
    "release": "7",
    "manifest_sha256": "5f0c…",
    "items": 8113,
    "recipe": {"name": "exact", "factory": "Flat"},
    "chosen_because": "8,113 items fit the exact recipe's latency budget",
    "space": {"fingerprint": "0f3a9c1d2e4b5a69", "encoder": "lookalike-mini", "dim": 256},
    "table_versions": {"silver": 3, "embeddings": 2},
    "log_offsets": {"0": 1204, "1": 1187},
    "overlay": {"items": 412, "slots": 80, "patched": 300, "hidden": 32, "unplaced": 0, "bytes": 2_310_144},
    "encoder_version": "1",
    "probe_cosine": 0.9999998,
    "created_at": "2026-01-01T03:10:02+00:00",
    "loaded_at": "2026-01-01T03:12:45+00:00",
    "verdict": {"sha256": "a81e…", "at": "2026-01-01T03:11:40+00:00", "passed": True, "checks": []},
}


@router.get(
    "/healthz",
    summary="Is the process alive?",
    operation_id="health",
    responses=responses(
        example("Alive", {"status": "ok"}),
    ),
)
async def healthz() -> dict[str, str]:
    """Answers as long as the event loop runs, whatever the state of the release."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Can it answer searches, and does it serve what is live?",
    operation_id="ready",
    responses=responses(example("A release answers; `degraded` when something is wrong", READY_EXAMPLE), 503),
    response_class=JSONResponse,
)
async def readyz(request: Request) -> Response:
    """200 while a release answers, even when the live one was refused or changes do not arrive: taking the server
    out would not help."""
    status = serving_of(request).follower.status()
    overlay = serving_of(request).follower.overlay()
    members = _members(status) | {"overlay": None if overlay is None else overlay.ready_members()}
    if status.serving is None:
        reason = serving_of(request).follower.why_not_ready()
        return problem_response(
            request, HTTPStatus.SERVICE_UNAVAILABLE, NoReleaseYet.kind, NoReleaseYet.title, reason, **members
        )
    degraded = status.refused is not None or status.registry_error is not None or bool(overlay and overlay.trouble)
    return JSONResponse({"status": "degraded" if degraded else "ready", "release": status.serving} | members)


@router.get(
    "/v1/release",
    summary="The release that answers",
    operation_id="release",
    responses=responses(example("What it is, from what it was built, on which verdict", RELEASE_EXAMPLE), 503),
    response_class=JSONResponse,
)
async def release(request: Request) -> Response:
    """Everything needed to say which data and which weights an answer came from."""
    with serving_of(request).follower.pin() as loaded:
        manifest, verdict = loaded.index.manifest, loaded.verdict
        body = {
            "release": loaded.version,
            "manifest_sha256": manifest.sha256,
            "items": manifest.items,
            "recipe": manifest.recipe.model_dump(mode="json"),
            "chosen_because": manifest.chosen_because,
            "space": {"fingerprint": manifest.space.fingerprint} | manifest.space.model_dump(mode="json"),
            "table_versions": manifest.table_versions,
            "log_offsets": manifest.log_offsets,
            "overlay": None if loaded.following is None else loaded.following.status().all_members(),
            "encoder_version": loaded.release.encoder_version,
            "probe_cosine": round(loaded.probe_cosine, 7),
            "created_at": loaded.release.created_at.isoformat(),
            "loaded_at": loaded.loaded_at.isoformat(),
            "verdict": {"sha256": verdict.sha256, "passed": verdict.passed} | verdict.model_dump(mode="json"),
        }
        return JSONResponse(body, headers={RELEASE_HEADER: loaded.version})


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    operation_id="metrics",
    responses=responses(
        example("Text exposition format", "lookalike_release_items 8113.0", "text/plain"),
    ),
    response_class=Response,
)
async def metrics(request: Request) -> Response:
    """Requests, latency by route and by search stage, the release that answers, its overlay, freshness of changes."""
    serving = serving_of(request)
    serving.metrics.overlay.show(serving.follower.overlay())
    return Response(serving.metrics.exposition(), media_type=CONTENT_TYPE)


def _members(status: Status) -> dict[str, Any]:
    refused = status.refused
    return {
        "live": status.live,
        "refused": None
        if refused is None
        else {
            "version": refused.version,
            "error": refused.error,
            "reason": refused.reason,
            "since": refused.since.isoformat(),
            "attempts": refused.attempts,
        },
        "registry_error": status.registry_error,
    }
