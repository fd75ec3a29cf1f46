"""The order of snapshots in time, whatever order they came in: what makes nights commute.

A snapshot's place is its creation time, then its id. BRONZE knows every snapshot that ever came, and by the name of
its commit whether it was complete, long after its folder is gone.
"""

from dataclasses import dataclass
from datetime import datetime

from lookalike.catalogue.snapshot import Snapshot
from lookalike.contracts.tables import BRONZE
from lookalike.storage.delta import DeltaTables

Place = tuple[datetime, str]


def bronze_transaction(snapshot: Snapshot) -> str:
    """Name of the commit that brought the snapshot's rows to BRONZE."""
    return f"ingest-complete:{snapshot.snapshot_id}" if snapshot.complete else f"ingest:{snapshot.snapshot_id}"


def in_bronze(known: DeltaTables, snapshot: Snapshot) -> bool:
    """Whether the rows are there; commits from before complete snapshots had a name of their own count too."""
    return any(
        known.has_transaction(BRONZE, name) for name in (bronze_transaction(snapshot), f"ingest:{snapshot.snapshot_id}")
    )


@dataclass(frozen=True)
class SnapshotOrder:
    """Where one snapshot stands among all that came.

    `later`: ids of younger snapshots of any source. `complete_at`: place of the youngest complete snapshot of this
    source, itself included; None when none is known. `naming`: that one and the younger ones of this source: what
    none of them names is withdrawn. `newest`: no younger one of this source.
    """

    place: Place
    later: tuple[str, ...]
    newest: bool
    complete_at: Place | None
    naming: tuple[str, ...]


def order_of(known: DeltaTables, snapshot: Snapshot) -> SnapshotOrder:
    """The place of a snapshot whose rows are in BRONZE."""
    place = (datetime.fromisoformat(snapshot.created_at), snapshot.snapshot_id)
    # Every snapshot has one first row; by the files' statistics no other file is read, however long the history.
    rows = known.query("SELECT snapshot_id, source, received_at AS at FROM bronze WHERE row_number = 0", BRONZE)
    others = sorted(
        (row["at"], row["snapshot_id"], row["source"]) for row in rows.to_pylist() if row["snapshot_id"] != place[1]
    )
    mine = sorted([place, *((at, name) for at, name, source in others if source == snapshot.source)])
    complete_at = next((one for one in reversed(mine) if _is_complete(known, snapshot, one)), None)
    return SnapshotOrder(
        place=place,
        later=tuple(name for at, name, _ in others if (at, name) > place),
        newest=mine[-1] == place,
        complete_at=complete_at,
        naming=tuple(name for at, name in mine if complete_at is not None and (at, name) >= complete_at),
    )


def _is_complete(known: DeltaTables, snapshot: Snapshot, place: Place) -> bool:
    if place[1] == snapshot.snapshot_id:
        return snapshot.complete
    return known.has_transaction(BRONZE, f"ingest-complete:{place[1]}")
