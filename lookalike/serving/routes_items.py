"""Items of the release: one item, its picture, what is similar to it, and the values to filter by."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from lookalike.contracts.query import MAX_K, Filter, QueryPart, SearchQuery
from lookalike.serving.answers import product_json
from lookalike.serving.documentation import example, responses
from lookalike.serving.pictures import StoredPicture, stored_picture
from lookalike.serving.release import LoadedRelease
from lookalike.serving.routes_search import RELEASE_HEADER, Record, run_search
from lookalike.serving.schemas import MAX_TOKEN_LENGTH, PRODUCT_EXAMPLE, Asked, SearchResponse, wanted_by
from lookalike.serving.state import Serving, serving_of

PICTURE_CACHE = "public, max-age=3600"
"""An item's picture may change with a release, so it is asked again after an hour; the tag makes that cheap."""

FACETS_EXAMPLE: dict[str, Any] = {
    "brand": [{"value": "noto", "count": 1650}],
    "category": [{"value": "food-drink", "count": 640}],
    "licence": [{"value": "CC-BY-4.0", "count": 3300}],
    "tags": [{"value": "fruit", "count": 120}],
    "price": {"min": 1.0, "max": 250.0},
    "stock": {"min": 0, "max": 500},
    "attributes": ["material"],
}

router = APIRouter(tags=["items"])
Number = Annotated[float | None, Query(allow_inf_nan=False)]
Values = Annotated[list[str] | None, Query(description="one of these values; may be repeated")]


@router.get(
    "/v1/items/{item_id:path}/similar",
    summary="Items most like this one",
    operation_id="similar",
    response_class=Response,
    responses=responses({"model": SearchResponse, "description": "One page of hits, best first"}, 404, 410, 422, 503),
)
async def similar(
    request: Request,
    item_id: str,
    k: Annotated[int, Query(ge=1, le=MAX_K, description="hits per page")] = 24,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
    brand: Values = None,
    category: Values = None,
    tags: Values = None,
    licence: Values = None,
    price_at_least: Number = None,
    price_at_most: Number = None,
    min_token: Annotated[str | None, Query(max_length=MAX_TOKEN_LENGTH, description="token of a change")] = None,
    max_wait_ms: Annotated[int | None, Query(ge=0, description="longest wait for it to be visible here")] = None,
    record: Record = "yes",
) -> Response:
    """Search with the item's own vector; the item itself is left out."""
    chosen = {"brand": brand, "category": category, "tags": tags, "licence": licence}

    def asked() -> Asked:
        filters = [Filter(field=name, any_of=tuple(values)) for name, values in chosen.items() if values]
        if price_at_least is not None or price_at_most is not None:
            filters.append(Filter(field="price", at_least=price_at_least, at_most=price_at_most))
        query = SearchQuery(parts=(QueryPart(item_id=item_id),), filters=tuple(filters), k=k, cursor=cursor)
        return Asked(query, wanted_by(min_token), max_wait_ms)

    return await run_search(request, asked, record == "yes")


@router.get(
    "/v1/items/{item_id:path}/picture",
    summary="The item's picture",
    operation_id="picture",
    response_class=Response,
    responses=responses(example("The picture as it was received", "(bytes)", "image/*"), 404, 503),
)
async def picture(request: Request, item_id: str) -> Response:
    """The stored bytes, with a tag for conditional requests."""
    serving = serving_of(request)
    with serving.follower.pin() as loaded:
        found = await serving.workers.run(_find_picture, loaded, item_id, serving)
    headers = {"ETag": found.etag, "Cache-Control": PICTURE_CACHE}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if found.path is not None:
        return FileResponse(found.path, media_type=found.media_type, headers=headers)
    return Response(found.data, media_type=found.media_type, headers=headers)


@router.get(
    "/v1/items/{item_id:path}",
    summary="Everything known about an item",
    operation_id="item",
    responses=responses(
        example("The item's columns", {"item_id": "twemoji:red-apple", "release": "7"} | PRODUCT_EXAMPLE), 404, 503
    ),
    response_class=JSONResponse,
)
async def item(request: Request, item_id: str) -> Response:
    """Title, brand, categories, licence and author, price and stock; `synthetic` names generated columns."""
    serving = serving_of(request)
    with serving.follower.pin() as loaded:
        product = loaded.engine.item(item_id)
        body = {"item_id": item_id, "release": loaded.version} | product_json(item_id, product)
        return JSONResponse(body, headers={RELEASE_HEADER: loaded.version})


@router.get(
    "/v1/facets",
    summary="Values to filter by, with counts",
    operation_id="facets",
    responses=responses(example("Counts by value, and ranges of numbers", FACETS_EXAMPLE), 503),
    response_class=JSONResponse,
)
async def facets(request: Request) -> Response:
    """Over all items of the release that answers."""
    serving = serving_of(request)
    with serving.follower.pin() as loaded:
        found = await serving.workers.run(loaded.engine.facets)
        return JSONResponse(found, headers={RELEASE_HEADER: loaded.version})


def _find_picture(loaded: LoadedRelease, item_id: str, serving: Serving) -> StoredPicture:
    product, settings = loaded.engine.item(item_id), serving.settings
    return stored_picture(product["image_path"], product["content_hash"], settings.pictures_root, settings.intake)
