"""Ledger: who did what to which release, when and on which verdict. Append-only, kept as a Delta table.

It lies beside the data, not in the registry, so that it outlives the registry and can be read with any Delta reader.
"""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from lookalike.contracts.tables import LEDGER
from lookalike.releases.release import Action, LedgerEntry
from lookalike.storage.delta import AppTransaction, DeltaTables

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Ledger:
    """Appends and reads the LEDGER table."""

    def __init__(self, tables: DeltaTables) -> None:
        self._tables = tables

    def append(self, entry: LedgerEntry, once: AppTransaction | None = None) -> bool:
        """Add one line. A retry after a crash may add it twice; `entries` returns it once.

        With `once`, False when a line of this key is there already, whoever wrote it, and none is added.
        """
        return self._tables.append(LEDGER, _table(entry), once)

    def entries(self) -> list[LedgerEntry]:
        """All lines, oldest first, one per key (at, action, version)."""
        if not self._tables.exists(LEDGER.name):
            return []
        found: dict[tuple[object, ...], LedgerEntry] = {}
        for row in _rows(self._tables.read(LEDGER)):
            entry = LedgerEntry(
                at=row["at"],
                action=Action(row["action"]),
                version=row["version"],
                actor=row["actor"],
                previous=row["previous"],
                verdict_sha256=row["verdict_sha256"],
                evidence=json.loads(row["evidence"]),
            )
            found.setdefault(tuple(row[column] for column in LEDGER.key), entry)
        return sorted(found.values(), key=lambda entry: entry.at)


# Arrow's own ways from and to Python values import pandas, which takes a roll-back longer than all else that it does.


def _table(entry: LedgerEntry) -> pa.Table:
    from pyarrow.json import ParseOptions, read_json

    row = {
        "at": entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "action": entry.action.value,
        "version": entry.version,
        "previous": entry.previous,
        "actor": entry.actor,
        "verdict_sha256": entry.verdict_sha256,
        "evidence": json.dumps(entry.evidence, sort_keys=True),
    }
    line = io.BytesIO(json.dumps(row).encode() + b"\n")
    return read_json(line, parse_options=ParseOptions(explicit_schema=LEDGER.schema))


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    at = table.schema.get_field_index("at")
    rows: list[dict[str, Any]] = table.set_column(at, "at", table["at"].cast(pa.int64())).to_pylist()
    return ({**row, "at": EPOCH + timedelta(microseconds=row["at"])} for row in rows)
