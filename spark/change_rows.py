"""The row functions of recorded changes, as Spark's Python workers run them: lines in, item states and refusals out.

They only call `lookalike.catalogue`, and judge in the stream's order: the changes of an item as they lie in the log,
then those that waited there for their item. A module of its own, since Spark pickles functions of modules by reference.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa

from lookalike.contracts.change import CatalogueEvent, ChangeKind, Position, partition_of
from lookalike.contracts.item_state import ItemState, Outcome, state_of_row, unknown_item
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings
from lookalike.contracts.tables import REFUSED, SILVER
from spark.embed_rows import run_ahead
from spark.fold_rows import state_row

AHEAD, OUT_ROWS = 64, 512
NEEDS_ITEM = frozenset({ChangeKind.ATTRIBUTES, ChangeKind.RESTORE})

RECORD = pa.struct(
    [
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("appended_ms", pa.int64()),
        pa.field("value", pa.string()),
    ]
)
_REFUSALS = pa.list_(pa.struct([field.with_nullable(True) for field in REFUSED.schema]))
RECORDED = pa.schema([*RECORD, pa.field("item_id", pa.string()), pa.field("refusals", _REFUSALS)])
SETTLED = pa.schema(
    [
        *(pa.field(column.name, column.type) for column in SILVER.schema),
        pa.field("changed", pa.bool_()),
        *(pa.field(name, pa.int64()) for name in ("taken", "repeated", "overtaken")),
        pa.field("refusals", _REFUSALS),
    ]
)


@dataclass(frozen=True)
class Replay:
    """What all recorded changes of one file share."""

    pictures_root: str
    partitions: int
    shards: int
    threads: int
    limits: IntakeSettings


@dataclass
class Item:
    """One item while its changes are applied. `silver`: its row there, which the stream first sees when it has to."""

    state: ItemState
    silver: ItemState | None
    counted: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[dict[str, Any], CatalogueEvent, Refusal]] = field(default_factory=list)


def parse_lines(replay: Replay, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """(value: a line of the file) → RECORDED: the item of a good change, the refusal of a bad one."""
    for batch in batches:
        rows = [_recorded(replay, json.loads(line)) for line in batch["value"].to_pylist() if line.strip()]
        yield pa.RecordBatch.from_pylist(rows, schema=RECORDED)


def settle_rows(replay: Replay, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """(item_id, records: list of RECORD, silver: row or null) → SETTLED; several items' pictures are read at a time."""
    rows = (row for batch in batches for row in batch.to_pylist())
    with ThreadPoolExecutor(replay.threads, thread_name_prefix="picture") as pool:
        settled = run_ahead(pool, partial(_settled, replay), rows, ahead=AHEAD)
        while group := list(islice(settled, OUT_ROWS)):
            yield pa.RecordBatch.from_pylist(group, schema=SETTLED)


def parser(replay: Replay) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """`parse_lines` for one file, as mapInArrow takes it."""
    return partial(parse_lines, replay)


def settler(replay: Replay) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """`settle_rows` for one file, as mapInArrow takes it."""
    return partial(settle_rows, replay)


def settle_item(replay: Replay, item_id: str, records: Sequence[dict[str, Any]], silver: ItemState | None) -> Item:
    """Apply the recorded changes of one item, in order of their offsets, to what SILVER has of it (None: nothing).

    An item that SILVER shows as deleted is not in the live release, so the stream does not know it either until a
    change has to wait for its item: such changes come last, and see SILVER.
    """
    live = silver is not None and not silver.deleted
    item = Item(silver if silver is not None and live else unknown_item(item_id), silver)
    waiting = []
    for record in sorted(records, key=lambda each: (each["partition"], each["offset"])):
        event = _parse(replay, record)
        if isinstance(event, Refusal):
            raise ValueError(f"the change at {record['partition']}:{record['offset']} was good a moment ago")
        if event.kind in NEEDS_ITEM and not item.state.described:
            waiting.append((record, event))
        else:
            _apply(replay, item, record, event, waited=False)
    for record, event in waiting:
        if not item.state.described and silver is not None:
            item.state = item.state.merge(silver)
        if item.state.described:
            _apply(replay, item, record, event, waited=True)
        else:
            item.refused.append((record, event, _unknown(event)))
    return item


def _apply(replay: Replay, item: Item, record: dict[str, Any], event: CatalogueEvent, waited: bool) -> None:
    from lookalike.catalogue.changes import apply_change

    picture = None
    if event.kind is ChangeKind.UPSERT:
        base = item.state.base_version
        if event.version <= base:
            _no_news(item, record, event, event.version == base, waited)
            return
        picture = _picture(replay, event)
        if isinstance(picture, Refusal):
            item.refused.append((record, event, picture))
            return
    state, outcome = apply_change(item.state, event, picture)
    if outcome is Outcome.CHANGED:
        item.state = state
        item.counted["taken"] += 1
    else:
        _no_news(item, record, event, outcome is Outcome.REPEATED, waited)


def _no_news(item: Item, record: dict[str, Any], event: CatalogueEvent, repeated: bool, waited: bool) -> None:
    """A repeated change is dropped, one that was overtaken while it waited too; any other that is behind is refused."""
    if repeated or waited:
        item.counted["repeated" if repeated else "overtaken"] += 1
        return
    detail = (
        f"version {event.version} is behind: what this {event.kind} would set has a higher version already, the item's "
        f"highest is {item.state.version}; versions must grow per item"
    )
    item.refused.append((record, event, Refusal(RefusalReason.VERSION_BEHIND, detail, event.item_id)))


def _unknown(event: CatalogueEvent) -> Refusal:
    detail = f"nothing describes {event.item_id!r}, so its {event.kind} means nothing: send an upsert first"
    return Refusal(RefusalReason.UNKNOWN_ITEM, detail, event.item_id)


def _picture(replay: Replay, event: CatalogueEvent) -> Any:
    """PictureInfo of an upsert's picture, or the Refusal."""
    from lookalike.catalogue.intake import inspect_picture, read_picture

    path = event.product.image_path if event.product is not None else ""
    data = read_picture(path, replay.pictures_root, replay.limits)
    if isinstance(data, Refusal):
        return Refusal(data.reason, data.detail, event.item_id)
    seen = inspect_picture(data, replay.limits)
    return Refusal(seen.reason, f"{path}: {seen.detail}", event.item_id) if isinstance(seen, Refusal) else seen


def _parse(replay: Replay, record: dict[str, Any]) -> CatalogueEvent | Refusal:
    from lookalike.catalogue.changes import parse_change

    parsed = parse_change(_change_bytes(record), record["appended_ms"], replay.limits)
    if isinstance(parsed, Refusal):
        return parsed
    home = partition_of(parsed.item_id.encode(), replay.partitions)
    if home == record["partition"]:
        return parsed
    detail = (
        f"the change lies in partition {record['partition']}, its item belongs into {home} (crc32 of item_id modulo "
        f"{replay.partitions}); the producer must use the item id as key and crc32 as partitioner"
    )
    return Refusal(RefusalReason.MALFORMED, detail, parsed.item_id)


def _recorded(replay: Replay, record: dict[str, Any]) -> dict[str, Any]:
    parsed = _parse(replay, record)
    if isinstance(parsed, Refusal):
        return {**record, "refusals": _refused_rows([(record, None, parsed)])}
    return {**record, "item_id": parsed.item_id}


def _settled(replay: Replay, row: dict[str, Any]) -> dict[str, Any]:
    silver = None if row["silver"] is None else state_of_row(row["silver"])
    item = settle_item(replay, row["item_id"], row["records"], silver)
    counted = {name: item.counted[name] for name in ("taken", "repeated", "overtaken")}
    return {
        **state_row(item.state, replay.shards),
        **counted,
        "changed": item.counted["taken"] > 0,
        "refusals": _refused_rows(item.refused),
    }


def _change_bytes(record: dict[str, Any]) -> bytes:
    """The change as its producer sent it; the other way of `refused_rows.payload_text`."""
    from lookalike.catalogue.refused_rows import ENCODED

    value: str = record["value"]
    return base64.b64decode(value.removeprefix(ENCODED)) if value.startswith(ENCODED) else value.encode()


def _refused_rows(refused: Sequence[tuple[dict[str, Any], CatalogueEvent | None, Refusal]]) -> list[dict[str, Any]]:
    from lookalike.catalogue.refused_rows import UNKNOWN_SOURCE, refused_change, refused_table

    now = datetime.now(UTC)
    changes = [
        refused_change(
            refusal, Position(record["partition"], record["offset"]), _change_bytes(record), now,
            UNKNOWN_SOURCE if event is None else event.source,
        )
        for record, event, refusal in refused
    ]  # fmt: skip
    rows: list[dict[str, Any]] = refused_table(changes).to_pylist()
    return rows
