"""Gathers what the changes of a bundle need: pictures of upserts, and on the lane of parked changes items of SILVER.

A bundle waits settings.stream.first_fetch_seconds at most, counted from its first picture. What is not there by then,
or failed in a way that may pass, is marked to wait and is looked up aside.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from beam.base_items import live_item
from beam.elements import Change, SeenPicture, SilverItem, Wait
from beam.lookups import Found, Lookups
from beam.releases import ReleaseFollower
from beam.slow_hosts import SlowHosts
from beam.state_store import StateStore
from lookalike.contracts.change import CatalogueEvent, ChangeKind
from lookalike.contracts.item_state import UNSEEN
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import Settings


class Fetching:
    """One bundle at a time: `take` each change, then `finish`. For one thread."""

    def __init__(self, lookups: Lookups, store: StateStore, releases: ReleaseFollower, settings: Settings) -> None:
        self._lookups, self._store, self._releases = lookups, store, releases
        self._seconds = settings.stream.first_fetch_seconds
        self._attempts = settings.stream.retry_attempts
        self._slow_hosts = SlowHosts()
        self.new_bundle()

    def new_bundle(self) -> None:
        """Forget what a bundle that failed had begun."""
        self._taken: list[Change | tuple[Change, CatalogueEvent, Future[SeenPicture | Refusal]]] = []
        self._until: float | None = None

    def take(self, change: Change) -> None:
        """Begin what the change needs."""
        event = change.event
        if event is None or change.refusal is not None:
            self._taken.append(change)
        elif event.kind is ChangeKind.UPSERT and event.version > self._base_version(event.item_id):
            if change.parked_before:
                self._taken.append(self._again(change, lambda: self._lookups.picture_aside(change.origin, event)))
            elif event.product is not None and self._slow_hosts.avoid(event.product.image_path):
                self._taken.append(self._aside(change, event))
            else:
                if self._until is None:
                    self._until = time.monotonic() + self._seconds
                self._taken.append((change, event, self._lookups.begin(event)))
        elif change.parked_before and change.needs_item and self._base_version(event.item_id) == UNSEEN:
            self._taken.append(self._again(change, lambda: self._lookups.item_aside(change.origin, event.item_id)))
        else:
            if change.parked_before:
                self._lookups.forget(change.origin)
            self._taken.append(change)

    def finish(self) -> list[Change]:
        """The bundle's changes in the order in which they were taken, each with what could be had in time."""
        begun = [taken[2] for taken in self._taken if isinstance(taken, tuple)]
        if self._until is not None:
            self._lookups.finish(begun, self._until - time.monotonic())
        done = [self._got(*taken) if isinstance(taken, tuple) else taken for taken in self._taken]
        self.new_bundle()
        return done

    def _got(self, change: Change, event: CatalogueEvent, future: "Future[SeenPicture | Refusal]") -> Change:
        path = event.product.image_path if event.product is not None else ""
        if not future.done():
            self._slow_hosts.saw(path, slow=True)
            return self._aside(change, event)
        if future.cancelled():  # it had not begun: others kept the threads busy
            return self._aside(change, event)
        self._slow_hosts.saw(path, slow=False)
        found = future.result()
        if isinstance(found, Refusal) and found.reason is RefusalReason.PICTURE_UNAVAILABLE:
            return self._aside(change, event)
        return _come_round(change, found)

    def _again(self, change: Change, look: Callable[[], Found | None]) -> Change:
        """A parked change with what was found meanwhile; where that failed, the next try begins at once."""
        come = _come_round(change, look())
        failed = come.wait is Wait.FAILED or (come.silver is not None and come.silver.state is None)
        if failed and change.tries + 1 < self._attempts:
            look()
        return come

    def _aside(self, change: Change, event: CatalogueEvent) -> Change:
        self._lookups.picture_aside(change.origin, event)
        return replace(change, wait=Wait.UNDER_WAY)

    def _base_version(self, item_id: str) -> int:
        stored = self._store.base_version(item_id)
        live = live_item(self._releases.now.items, item_id)
        return max(UNSEEN if stored is None else stored, UNSEEN if live is None else live.base_version)


def _come_round(change: Change, found: Found | None) -> Change:
    """The change with what was found for it; None: nothing yet."""
    match found:
        case None:
            return replace(change, wait=Wait.UNDER_WAY)
        case SeenPicture():
            return replace(change, picture=found, fetched=True)
        case SilverItem():
            return replace(change, silver=found)
        case Refusal(reason=RefusalReason.PICTURE_UNAVAILABLE):
            return replace(change, wait=Wait.FAILED, refusal=found)
        case Refusal():
            return change.refused(found)
