"""A handful of real searches over HTTP against a running server: what a person would try first, each with a condition.

The conditions are about the answers (same product found in another brand, filter holds for each hit, the page is
there), not about exact scores: they must hold for any encoder worth serving.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lookalike.contracts.feedback import NOT_RECORDED

WORDS = (("red apple", "apple"), ("dog", "dog"), ("guitar", "guitar"), ("pizza", "pizza"), ("bicycle", "bicycle"))
PICTURES = ("noto:pizza", "twemoji:guitar", "openmoji:bicycle", "noto:hot-beverage", "twemoji:umbrella")
K = 10


@dataclass(frozen=True)
class SearchCheck:
    """One search, what was demanded, what came."""

    search: str
    held: bool
    found: str


class Client:
    """The few calls of the checks."""

    def __init__(self, url: str) -> None:
        import httpx

        self._http = httpx.Client(base_url=url, timeout=30.0, headers=NOT_RECORDED)

    def search(self, parts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """POST /v1/search; raises on any answer but 200."""
        answer = self._http.post("/v1/search", json={"parts": parts, "k": K} | more)
        answer.raise_for_status()
        return dict(answer.json())

    def get(self, path: str) -> Any:
        """GET; raises on any answer but 200."""
        return self._http.get(path).raise_for_status()


def _titles(answer: dict[str, Any]) -> list[str]:
    return [hit["product"]["title"] for hit in answer["hits"]]


def _by_words(client: Client) -> tuple[bool, str]:
    right = [
        words for words, stem in WORDS if any(stem in t.lower() for t in _titles(client.search([{"text": words}])))
    ]
    return len(right) >= len(WORDS) - 1, f"{len(right)} of {len(WORDS)} have it in the first {K}: {', '.join(right)}"


def _by_picture(client: Client) -> tuple[bool, str]:
    right = []
    for item in PICTURES:
        product = client.get(f"/v1/items/{item}").json()
        data = base64.b64encode(client.get(f"/v1/items/{item}/picture").content).decode()
        hits = client.search([{"picture": data}])["hits"]
        same = product["group_id"]
        if any(h["product"]["group_id"] == same and h["product"]["brand"] != product["brand"] for h in hits):
            right.append(item)
    return len(right) >= len(PICTURES) - 1, f"{len(right)} of {len(PICTURES)} find the same product of another brand"


def _mixed(client: Client) -> tuple[bool, str]:
    plain = client.search([{"item_id": "noto:red-apple"}])
    mixed = client.search([{"item_id": "noto:red-apple"}, {"text": "green", "weight": 0.7}])
    two_scores = all(len(hit["part_scores"]) == 2 for hit in mixed["hits"])
    changed = [h["item_id"] for h in plain["hits"]] != [h["item_id"] for h in mixed["hits"]]
    return two_scores and changed, f"apple picture + 'green': {', '.join(_titles(mixed)[:3])}"


def _similar(client: Client) -> tuple[bool, str]:
    hits = client.get(f"/v1/items/noto:pizza/similar?k={K}").json()["hits"]
    ids = [hit["item_id"] for hit in hits]
    others = sum(hit["product"]["title"].lower() == "pizza" for hit in hits)
    return len(ids) == K and "noto:pizza" not in ids and others >= 1, f"{others} pizzas of other brands in {len(ids)}"


def _filtered(client: Client) -> tuple[bool, str]:
    filters = [{"field": "brand", "any_of": ["twemoji"]}, {"field": "price", "at_most": 20}]
    hits = client.search([{"text": "fruit"}], filters=filters)["hits"]
    right = [h for h in hits if h["product"]["brand"] == "twemoji" and h["product"]["price"] <= 20]
    return len(hits) == K and len(right) == K, f"{len(right)} of {len(hits)} obey brand and price"


def _paged(client: Client) -> tuple[bool, str]:
    first = client.search([{"text": "flower"}])
    second = client.search([{"text": "flower"}], cursor=first["next_cursor"])
    ids = [hit["item_id"] for page in (first, second) for hit in page["hits"]]
    return len(set(ids)) == 2 * K, f"{len(set(ids))} different items on two pages"


def _credited(client: Client) -> tuple[bool, str]:
    products = [hit["product"] for hit in client.search([{"text": "cat"}])["hits"]]
    named = [p for p in products if p["licence"] and p["author"] and {"price", "stock"} <= set(p["synthetic"])]
    return len(named) == len(products) == K, f"{len(named)} of {len(products)} name licence, author, synthetic columns"


def _page_up(client: Client) -> tuple[bool, str]:
    page = client.get("/")
    metrics = client.get("/metrics").text
    held = "text/html" in page.headers["content-type"] and "lookalike" in metrics
    return held, f"page {len(page.content):,} bytes, {metrics.count('# TYPE')} metrics"


CHECKS: tuple[tuple[str, Callable[[Client], tuple[bool, str]]], ...] = (
    ("by words", _by_words),
    ("by picture, another brand", _by_picture),
    ("picture and words mixed", _mixed),
    ("more like this", _similar),
    ("filters hold", _filtered),
    ("pages do not repeat", _paged),
    ("licence and author named", _credited),
    ("page and metrics up", _page_up),
)


def run_checks(url: str, release: str) -> list[SearchCheck]:
    """All checks against the server at `url`, which must be answering from `release`. Never raises for a bad answer."""
    import httpx

    client = Client(url)
    results = []
    for name, check in CHECKS:
        try:
            held, found = check(client)
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            held, found = False, f"{type(error).__name__}: {error}"
        results.append(SearchCheck(name, held, found))
    try:
        served = str(client.get("/v1/release").json()["release"])
    except (httpx.HTTPError, KeyError, ValueError) as error:
        served = f"{type(error).__name__}: {error}"
    results.append(SearchCheck("answers from the live release", served == release, f"serves {served}, live {release}"))
    return results
