"""The row of SILVER that an item's state stands for; the same for a snapshot's row, the nightly fold and a replay."""

import zlib
from typing import Any

from lookalike.contracts.item_state import STATE_COLUMNS, ItemState


def shard_of(item_id: str, shards: int) -> int:
    """Partition of SILVER: crc32 of the id modulo `shards`; the same in every engine."""
    return zlib.crc32(item_id.encode()) % shards


def silver_row(state: ItemState, snapshot_id: str, shards: int) -> dict[str, Any]:
    """All columns of SILVER by name; maps as dicts, `changed_at` timezone-aware. `state_of_row` is the other way.

    Raises ValueError for a state that nothing describes: the tombstone of an unknown item has no row.
    """
    if not state.described:
        raise ValueError(f"nothing describes {state.item_id}: it has no row in silver")
    return {
        "item_id": state.item_id,
        "version": state.version,
        **{name: state.columns[name] for name in STATE_COLUMNS},
        "snapshot_id": snapshot_id,
        "deleted": state.deleted,
        "shard": shard_of(state.item_id, shards),
        "base_version": state.base_version,
        "column_versions": dict(state.column_versions),
        "changed_at": state.changed_at,
    }
