"""What is known of an item that the stream has not touched: the live release's row, and on request SILVER's."""

from typing import Any

from lookalike.catalogue.silver_rows import shard_of
from lookalike.contracts.item_state import ItemState, state_of_row
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.contracts.tables import SILVER
from lookalike.storage.delta import DeltaTables


class LiveItem:
    """One row of a release's item columns, read as far as it is asked for."""

    def __init__(self, items: SealedIndex, row: int) -> None:
        self._columns, self._row = items.columns, row

    @property
    def base_version(self) -> int:
        """Version of the item's last whole row."""
        base = self._value("base_version")
        return int(self._value("version") if base is None else base)

    @property
    def content_hash(self) -> str:
        """sha256 of the picture whose vector the release has for this item."""
        return str(self._value("content_hash"))

    @property
    def state(self) -> ItemState:
        """All of it."""
        return state_of_row(self._columns.slice(self._row, 1).to_pylist()[0])

    def _value(self, column: str) -> Any:
        if column not in self._columns.column_names:
            return None  # releases built before the stream was have no registers
        return self._columns[column][self._row].as_py()


def live_item(items: SealedIndex | None, item_id: str) -> LiveItem | None:
    """The item's row of a release, or None."""
    if items is None:
        return None
    row = int(items.rows_of([item_id])[0])
    return None if row < 0 else LiveItem(items, row)


def silver_item(tables: DeltaTables, shards: int, item_id: str) -> ItemState | None:
    """The item's row of SILVER, or None. A scan of its partition: not for the fast lane."""
    if not tables.exists(SILVER.name):
        return None
    quoted = item_id.replace("'", "''")
    where = f"shard = {shard_of(item_id, shards)} AND item_id = '{quoted}'"
    for batch in tables.batches(SILVER, where=where):
        for row in batch.to_pylist():
            return state_of_row(row)
    return None
