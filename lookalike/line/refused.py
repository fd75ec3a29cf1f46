"""Refused rows and changes: list them with their reasons, and send them again after the cause is gone.

Every replay is recorded in REPLAYS after it was sent. A kill between the two sends a row once more, which is harmless:
it has the version that it had, so the job knows it as a repeat.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lookalike.catalogue.changes import message_key
from lookalike.catalogue.refused_rows import SNAPSHOT_PREFIX, payload_bytes
from lookalike.contracts.change import SCHEMA, ChangeKind, Position, Topic
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.product import RefusalReason
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import REFUSED, REPLAYS
from lookalike.line.actor import current_actor
from lookalike.line.changes import opened_log, token_of
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.port import Log, Message, OffsetExpired

BATCH_ROWS = 200
BATCH_BYTES = 2**20
Key = tuple[str, int]
"""Key of a row in REFUSED: snapshot_id and row_number."""


class NothingChosen(LookalikeError):
    """A replay of everything must be asked for in words."""


@dataclass(frozen=True)
class Choice:
    """Which refused rows are meant; what is None does not restrict."""

    reason: RefusalReason | None = None
    since: datetime | None = None
    item_id: str | None = None

    @property
    def everything(self) -> bool:
        return self.reason is None and self.since is None and self.item_id is None

    def where(self) -> str | None:
        """As SQL over REFUSED."""
        item = None if self.item_id is None else self.item_id.replace("'", "''")
        parts = [
            f"reason = '{self.reason.value}'" if self.reason is not None else "",
            f"refused_at >= '{self.since.astimezone(UTC).isoformat()}'" if self.since is not None else "",
            f"item_id = '{item}'" if item is not None else "",
        ]
        return " AND ".join(part for part in parts if part) or None


@dataclass(frozen=True)
class RefusedRow:
    """One row of REFUSED; `replayed_at` is when it was last sent again."""

    snapshot_id: str
    row_number: int
    source: str
    item_id: str | None
    reason: str
    detail: str
    refused_at: datetime
    replayed_at: datetime | None


@dataclass(frozen=True)
class Replay:
    """What a replay did. `unusable`: rows from which no change can be made, with the first one's reason."""

    sent: int
    already: int
    unusable: int
    first_problem: str | None
    token: str


def list_refused(settings: Settings, choice: Choice, limit: int) -> list[RefusedRow]:
    """The newest refused rows first, at most `limit`."""
    tables = DeltaTables(settings.tables_root)
    replayed = _replayed(tables)
    columns = [name for name in REFUSED.schema.names if name != "payload"]
    rows: list[RefusedRow] = []
    for row in _rows(tables, choice, columns, "refused_at DESC, snapshot_id, row_number DESC"):
        rows.append(RefusedRow(**row, replayed_at=replayed.get((row["snapshot_id"], row["row_number"]))))
        if len(rows) == limit:
            break
    return rows


def replay(settings: Settings, choice: Choice, everything: bool, progress: Progress) -> Replay:
    """Send the chosen rows again, oldest first, unless they were replayed already.

    Changes go as they came; rows of snapshots become upserts of their own version and their snapshot's source. Raises
    NothingChosen, LogUnavailable.
    """
    if choice.everything and not everything:
        raise NothingChosen("say which rows to send again: --reason, --since or --item; --all means every one")
    tables = DeltaTables(settings.tables_root)
    replayed = _replayed(tables)
    already, problems, positions = 0, [], []
    batch: list[tuple[Key, Message]] = []
    with opened_log(settings) as log, progress.step("replay refused rows") as step:
        for row in _rows(tables, choice, REFUSED.schema.names, "refused_at, snapshot_id, row_number"):
            step.advance()
            key = (row["snapshot_id"], row["row_number"])
            if key in replayed:
                already += 1
                continue
            payload = _change_of(row, log)
            if isinstance(payload, str):
                problems.append(f"row {key[1]} of {key[0]}: {payload}")
                continue
            if len(batch) == BATCH_ROWS or sum(len(one.value) for _, one in batch) + len(payload) > BATCH_BYTES:
                positions += _send(log, tables, batch)
                batch = []
            batch.append((key, Message(message_key(payload), payload)))
        positions += _send(log, tables, batch)
    return Replay(len(positions), already, len(problems), next(iter(problems), None), token_of(positions))


def _rows(tables: DeltaTables, choice: Choice, columns: list[str], order: str) -> Iterator[dict[str, Any]]:
    if not tables.exists(REFUSED.name):
        return
    seen: set[Key] = set()
    for batch in tables.batches(REFUSED, columns=columns, where=choice.where(), order_by=order):
        for row in batch.to_pylist():
            key = (row["snapshot_id"], row["row_number"])
            if key not in seen:  # a worker that was killed may have told a refusal twice
                seen.add(key)
                yield row


def _replayed(tables: DeltaTables) -> dict[Key, datetime]:
    if not tables.exists(REPLAYS.name):
        return {}
    rows = tables.read(REPLAYS, columns=["snapshot_id", "row_number", "at"], order_by="at").to_pylist()
    return {(row["snapshot_id"], row["row_number"]): row["at"] for row in rows}


def _change_of(row: dict[str, Any], log: Log) -> bytes | str:
    """The change to send for a refused row, or why there is none."""
    if not row["snapshot_id"].startswith(SNAPSHOT_PREFIX):
        return _upsert_of(row)
    payload = payload_bytes(row["payload"])
    return payload if isinstance(payload, bytes) else _from_log(log, payload)


def _from_log(log: Log, place: Position) -> bytes | str:
    try:
        records = log.read(Topic.CHANGES, place.partition, place.offset, 1)
    except OffsetExpired:
        records = []
    if not records or records[0].offset != place.offset:
        return "its payload was too large to be kept here and has expired in the log; send it again from its source"
    return records[0].value


def _upsert_of(row: dict[str, Any]) -> bytes | str:
    try:
        product = json.loads(row["payload"])
    except ValueError as error:
        return f"its payload is not JSON ({error}); correct it at its source and import it again"
    if not isinstance(product, dict) or product.get("item_id") is None or product.get("version") is None:
        return "its payload names no item_id or no version; correct it at its source and import it again"
    change = {
        "schema": SCHEMA,
        "kind": ChangeKind.UPSERT.value,
        "item_id": product.pop("item_id"),
        "version": product.pop("version"),
        "event_time": time.time_ns() // 1_000_000,
        "source": row["source"],
        "product": product,
    }
    return json.dumps(change).encode()


def _send(log: Log, tables: DeltaTables, batch: list[tuple[Key, Message]]) -> list[Position]:
    if not batch:
        return []
    positions = log.append(Topic.CHANGES, [message for _, message in batch])
    at, actor = datetime.now(UTC), current_actor()
    rows = [
        {
            "snapshot_id": snapshot_id,
            "row_number": row_number,
            "at": at,
            "actor": actor,
            "partition": position.partition,
            "offset": position.offset,
        }
        for ((snapshot_id, row_number), _), position in zip(batch, positions, strict=True)
    ]
    tables.append(REPLAYS, pa.Table.from_pylist(rows, schema=REPLAYS.schema))
    return positions
