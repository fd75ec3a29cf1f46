"""Settles what becomes of a change, given what is known of its item. Pure: no log, no store, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from beam.elements import Change, Vector, Wait
from lookalike.catalogue.changes import apply_change
from lookalike.contracts.change import CatalogueEvent, ChangeKind
from lookalike.contracts.item_state import ItemState, Outcome
from lookalike.contracts.product import Refusal, RefusalReason


@dataclass(frozen=True)
class KnownItem:
    """An item's state, and the vectors that were published for its picture."""

    state: ItemState
    vectors: Mapping[str, Vector] = field(default_factory=dict)


class Dropped(StrEnum):
    """A change that leaves no trace but a count."""

    REPEATED = "repeated"
    OVERTAKEN = "overtaken"  # behind, after it was parked: a later change came first


@dataclass(frozen=True)
class Parking:
    """To be tried again; `tries` have failed."""

    tries: int


Settled = KnownItem | Dropped | Parking | Refusal
"""A KnownItem: the item as it is from now on, to be published."""


def settle(change: Change, known: KnownItem, attempts: int) -> Settled:
    """What becomes of the change; after `attempts` failed tries a parked one is refused.

    Changes of one item may come in any order: each column keeps the highest version that was written to it.
    """
    event = change.event
    if change.refusal is not None and change.wait is None:
        return change.refusal
    if event is None:
        raise ValueError(f"the change at {change.origin} has neither an event nor a refusal")
    known = _with_silver(change, known)
    if event.kind is ChangeKind.UPSERT and event.version <= known.state.base_version:
        return _no_news(change, event, known.state, repeated=event.version == known.state.base_version)
    if change.wait is not None or (event.kind is ChangeKind.UPSERT and change.picture is None):
        return _again(change, attempts, change.refusal)
    if change.needs_item and not known.state.described:
        return _unknown(change, event, attempts)
    state, outcome = apply_change(known.state, event, change.picture.info if change.picture is not None else None)
    if outcome is not Outcome.CHANGED:
        return _no_news(change, event, known.state, repeated=outcome is Outcome.REPEATED)
    return KnownItem(state, _vectors(change, known, state))


def _no_news(change: Change, event: CatalogueEvent, state: ItemState, repeated: bool) -> Dropped | Refusal:
    if repeated:
        return Dropped.REPEATED
    if change.parked_before:
        return Dropped.OVERTAKEN
    return Refusal(
        RefusalReason.VERSION_BEHIND,
        f"version {event.version} is behind: what this {event.kind} would set has a higher version already, the item's "
        f"highest is {state.version}; versions must grow per item",
        event.item_id,
    )


def _again(change: Change, attempts: int, fault: Refusal | None) -> Parking | Refusal:
    tries = change.tries + (change.wait is not Wait.UNDER_WAY)
    if fault is not None and tries >= attempts:
        detail = f"{fault.detail}; given up after {tries} tries"
        return Refusal(fault.reason, detail, change.event.item_id if change.event else None)
    return Parking(tries)


def _unknown(change: Change, event: CatalogueEvent, attempts: int) -> Parking | Refusal:
    if not change.parked_before:
        return Parking(change.tries)
    return _again(
        change, attempts,
        Refusal(
            RefusalReason.UNKNOWN_ITEM,
            f"nothing describes {event.item_id!r}, so its {event.kind} means nothing: send an upsert first",
        ),
    )  # fmt: skip


def _with_silver(change: Change, known: KnownItem) -> KnownItem:
    if change.silver is None or change.silver.state is None:
        return known
    state = known.state.merge(change.silver.state)
    same = state.content_hash == change.silver.state.content_hash
    return KnownItem(state, {**(change.silver.vectors if same else {}), **_still(known, state)})


def _vectors(change: Change, known: KnownItem, state: ItemState) -> dict[str, Vector]:
    picture = change.picture
    fresh = picture.vectors if picture is not None and picture.info.content_hash == state.content_hash else {}
    return {**_still(known, state), **fresh}


def _still(known: KnownItem, state: ItemState) -> Mapping[str, Vector]:
    """The published vectors, where they are of the state's picture."""
    return known.vectors if known.state.content_hash == state.content_hash else {}
