"""Canary searches: known items and their titles, asked of one running server at its own address.

They are no shoppers' searches, and say so: a server that notes impressions does not note these.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from lookalike.contracts.feedback import NOT_RECORDED

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 10.0
K = 10
FOUND_SHARE = 0.9
"""Items with the same picture tie, and an index is approximate: so many of the canaries must find themselves."""
BUSY_TRIES, BUSY_SECONDS = 5, 0.5
MAY_PASS = ("LogUnavailable",)
"""A release refused for such a reason may still be taken."""
_FAULTS = re.compile(r'^lookalike_requests_total\{[^}]*status="500"[^}]*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Canary:
    """An item that is in the release."""

    item_id: str
    title: str


@dataclass(frozen=True)
class Standing:
    """What a server says of itself now. `serves` is None when it answers nothing; `trouble` says why it lags."""

    server: str
    serves: str | None
    refused: str | None = None
    refused_for_good: bool = False
    trouble: str = ""

    def refuses(self, version: str) -> bool:
        """Whether it will not take this version by itself."""
        return self.refused == version and self.refused_for_good


def standing(server: str) -> Standing:
    """Ask `host:port` what it serves; never raises for a server that is away."""
    import httpx

    try:
        answer = httpx.get(f"http://{server}/readyz", timeout=TIMEOUT_SECONDS)
        said = answer.json()
        refused = said.get("refused") or {}
        serves, version = said.get("release"), refused.get("version")
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        return Standing(server, None, trouble=f"does not answer at http://{server}: {error}")
    trouble = f"refuses version {version}: {refused.get('reason')}" if version else f"serves {serves or 'nothing'} yet"
    return Standing(server, serves, version, refused.get("error") not in MAY_PASS, trouble)


def ask_canaries(server: str, version: str, canaries: Sequence[Canary]) -> tuple[bool, str]:
    """Whether each item finds itself, each title finds something, all from `version`, with no fault of the server."""
    import httpx

    # A connection each: after a fault the server closes the one that it was on.
    alone = {"Connection": "close"} | NOT_RECORDED
    with httpx.Client(base_url=f"http://{server}", timeout=TIMEOUT_SECONDS, headers=alone) as http:
        try:
            before = _faults(http)
            outcomes = [_ask(http, version, canary) for canary in canaries]
            faults = _faults(http) - before
        except (httpx.HTTPError, ValueError, KeyError) as error:
            return False, f"canary search failed: {type(error).__name__}: {error}"
    there = [outcome for outcome in outcomes if outcome != "gone"]
    wrong = sorted({outcome for outcome in there if outcome not in ("found", "not itself")})
    found = there.count("found")
    told = f"{found} of {len(there)} canaries found themselves, {len(outcomes) - len(there)} are gone since"
    if wrong:
        return False, f"{told}; {len(wrong)} kinds of failure, first: {wrong[0]}"
    if faults > 0:
        return False, f"{told}; the server counted {faults:g} faults (500) meanwhile"
    enough = found >= FOUND_SHARE * len(there) and 2 * len(there) > len(outcomes)
    return enough or not canaries, told


def _ask(http: "httpx.Client", version: str, canary: Canary) -> str:
    """What came of it: "found", "not itself", "gone" (deleted since the release was built), or what was wrong."""
    by_item = _search(http, {"item_id": canary.item_id})
    if by_item.status_code == HTTPStatus.NOT_FOUND:
        return "gone"
    by_title = _search(http, {"text": canary.title[:200]})
    for answer, what in ((by_item, canary.item_id), (by_title, f"{canary.title!r}")):
        if answer.status_code != HTTPStatus.OK:
            return f"{what}: status {answer.status_code}"
        if answer.json()["release"] != version:
            return f"{what}: answered by release {answer.json()['release']}"
    if not by_title.json()["hits"]:
        return f"{canary.title!r}: no hit"
    return "found" if canary.item_id in [hit["item_id"] for hit in by_item.json()["hits"]] else "not itself"


def _search(http: "httpx.Client", part: dict[str, Any]) -> "httpx.Response":
    """One search; a server that is busy is asked again."""
    body = {"parts": [part], "k": K, "exclude_query_items": False}
    for _ in range(BUSY_TRIES):
        answer = http.post("/v1/search", json=body)
        if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            break
        time.sleep(BUSY_SECONDS)
    return answer


def _faults(http: "httpx.Client") -> float:
    return sum(float(count) for count in _FAULTS.findall(http.get("/metrics").raise_for_status().text))
