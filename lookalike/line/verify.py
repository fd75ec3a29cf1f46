"""After a promotion: does every server answer from it, and are the answers sound? If not, back it goes, loudly.

Which servers there are is read from their reports in the log; how they stand now is asked of each at its own address.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.server_report import ServerReport
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import SILVER
from lookalike.evaluation.label import draw_items
from lookalike.line.actor import current_actor
from lookalike.line.canaries import Canary, Standing, ask_canaries, standing
from lookalike.line.reports import SILENT_SECONDS, server_reports
from lookalike.releases.registry import Registry
from lookalike.releases.release import Move, Release
from lookalike.storage.delta import DeltaTables

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class ServerVerified:
    """One server: what it serves, whether all held, and what was found."""

    server: str
    release: str | None
    held: bool
    found: str


@dataclass(frozen=True)
class Verification:
    """`why` is what failed or, where all held, what was done. `rolled_back` is the move that took `version` back."""

    version: str
    passed: bool
    servers: tuple[ServerVerified, ...]
    why: str
    seconds: float
    rolled_back: Move | None = None


def verify(
    settings: Settings, version: str, wait: float | None = None, or_rollback: bool = False, servers: int = 0
) -> Verification:
    """Wait until each server that reported lately serves `version`, then ask each for its canaries.

    `wait`: seconds (default: the setting); `servers`: so many are demanded at least. With `or_rollback` a failure
    moves `live` back. Raises LookalikeError when `version` is not live, or log or registry cannot be read.
    """
    registry, started = Registry(settings), time.monotonic()
    release = _live_as(registry, version)
    wait = settings.release.verify_seconds if wait is None else wait
    stand = _wait(settings, version, started + wait, servers)
    checked: tuple[ServerVerified, ...] = ()
    if stand:
        canaries = draw_canaries(settings, release)
        checked = tuple(_check(each, version, canaries) for each in stand)
    bad = [f"{each.server}: {each.found}" for each in checked if not each.held]
    if len(checked) < servers:
        bad.append(f"{len(checked)} servers reported within the last minute, {servers} are demanded")
    if not bad:
        sure = f"{len(checked)} servers serve it and their canary searches hold"
        why = sure if checked else "no server reported within the last minute: nothing was there to verify"
        return Verification(version, True, checked, why, time.monotonic() - started)
    why = "; ".join(bad)
    move = _back(registry, version, why) if or_rollback else None
    return Verification(version, False, checked, why, time.monotonic() - started, move)


def draw_canaries(settings: Settings, release: Release) -> list[Canary]:
    """Items and their titles as the release was built from them, drawn as the gate draws its sample."""
    rows = DeltaTables(settings.tables_root).read(
        SILVER, ["item_id", "title"], "deleted = false", release.table_versions[SILVER.name]
    )
    titles = dict(zip(rows["item_id"].to_pylist(), rows["title"].to_pylist(), strict=True))
    drawn = draw_items(list(titles), settings.release.canary_queries, settings.gate.seed)
    return [Canary(item, titles[item]) for item in drawn]


def recent(reports: Sequence[ServerReport], now: datetime) -> list[ServerReport]:
    """Those of servers that run: not stopped, and heard of within the last minute."""
    return [each for each in reports if not each.stopped and (now - each.at).total_seconds() <= SILENT_SECONDS]


def _live_as(registry: Registry, version: str) -> Release:
    live = registry.live()
    if live is None or live.version != version:
        now = f"version {live.version} is" if live is not None else "nothing is live"
        raise LookalikeError(f"version {version} is not live ({now}); `lookalike promote {version}` comes first")
    return live


def _wait(settings: Settings, version: str, deadline: float, servers: int) -> list[Standing]:
    """The servers as they stand when all serve `version`, one refuses it for good, or time is up."""
    while True:
        stand = [standing(each.server) for each in recent(server_reports(settings), datetime.now(UTC))]
        if all(each.serves == version for each in stand) and len(stand) >= servers:
            return stand
        if any(each.refuses(version) for each in stand) or time.monotonic() >= deadline:
            return stand
        time.sleep(LOOK_SECONDS)


def _check(stand: Standing, version: str, canaries: Sequence[Canary]) -> ServerVerified:
    if stand.serves != version:
        return ServerVerified(stand.server, stand.serves, False, stand.trouble or f"still serves {stand.serves}")
    held, found = ask_canaries(stand.server, version, canaries)
    return ServerVerified(stand.server, stand.serves, held, found)


def _back(registry: Registry, version: str, why: str) -> Move:
    """Raises LookalikeError, which also says why it would have gone back."""
    try:
        return registry.rollback(current_actor(), reason=f"verify: {why}", only_from=version)
    except LookalikeError as error:
        raise LookalikeError(f"version {version} failed ({why}), and it could not be rolled back: {error}") from error
