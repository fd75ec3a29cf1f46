"""Ledger: who did what to which release, when and on which verdict. Append-only, kept as a Delta table.

It lies beside the data, not in the registry, so that it outlives the registry and can be read with any Delta reader.
"""

import json

import pyarrow as pa

from lookalike.contracts.tables import LEDGER
from lookalike.releases.release import Action, LedgerEntry
from lookalike.storage.delta import DeltaTables


class Ledger:
    """Appends and reads the LEDGER table."""

    def __init__(self, tables: DeltaTables) -> None:
        self._tables = tables

    def append(self, entry: LedgerEntry) -> None:
        """Add one line. A retry after a crash may add it twice; `entries` returns it once."""
        row = {
            "at": entry.at,
            "action": entry.action.value,
            "version": entry.version,
            "previous": entry.previous,
            "actor": entry.actor,
            "verdict_sha256": entry.verdict_sha256,
            "evidence": json.dumps(entry.evidence, sort_keys=True),
        }
        self._tables.append(LEDGER, pa.Table.from_pylist([row], schema=LEDGER.schema))

    def entries(self) -> list[LedgerEntry]:
        """All lines, oldest first, one per key (at, action, version)."""
        if not self._tables.exists(LEDGER.name):
            return []
        found: dict[tuple[object, ...], LedgerEntry] = {}
        for row in self._tables.read(LEDGER).to_pylist():
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
