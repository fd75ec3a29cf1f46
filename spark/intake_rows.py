"""The row functions of ingest, as Spark's Python workers run them: Arrow batches in, Arrow batches out.

Two stages, so that pictures are read only for rows that can change something: `parse_rows` looks at the payload
alone; `inspect_rows` also reads and decodes the picture, in a bounded pool of threads per worker. Both only call
`lookalike.catalogue`. They live in a module of their own, since Spark pickles functions of modules by reference.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from lookalike.contracts.product import Product, Refusal
from lookalike.contracts.settings import IntakeSettings
from lookalike.contracts.tables import SILVER

OUT_ROWS = 512

PARSED = pa.schema(
    [
        pa.field("row_number", pa.int64()),
        pa.field("item_id", pa.string()),
        pa.field("version", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("payload", pa.string()),
    ]
)
INSPECTED = pa.schema(
    [
        *(pa.field(column.name, column.type) for column in SILVER.schema),
        *(pa.field(name, PARSED.field(name).type) for name in ("row_number", "reason", "detail", "payload")),
        pa.field("tied", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Arrival:
    """What all rows of one snapshot share. `received_at_ms` is the snapshot's own time: a retry judges alike."""

    snapshot_id: str
    source: str
    received_at_ms: int
    pictures_root: str
    shards: int
    threads: int
    limits: IntakeSettings


def parse_rows(arrival: Arrival, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """(row_number, payload) → PARSED: the id and version of a good row, the reason of a bad one."""
    for batch in batches:
        rows = [_parsed(arrival, row) for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, schema=PARSED)


def inspect_rows(arrival: Arrival, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows that parse → INSPECTED: the silver row, or the reason against its picture.

    In: row_number, payload, `tied` (kept as it is) and `known`, SILVER's picture of the item. A tied row that shows the
    known path takes the picture over: it was looked at when the same version came before.
    """
    with ThreadPoolExecutor(arrival.threads, thread_name_prefix="picture") as pool:
        for batch in batches:
            for start in range(0, batch.num_rows, OUT_ROWS):
                rows = pool.map(partial(_inspected, arrival), batch.slice(start, OUT_ROWS).to_pylist())
                yield pa.RecordBatch.from_pylist(list(rows), schema=INSPECTED)


def parser(arrival: Arrival) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """`parse_rows` for one snapshot, as mapInArrow takes it."""
    return partial(parse_rows, arrival)


def inspector(arrival: Arrival) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """`inspect_rows` for one snapshot, as mapInArrow takes it."""
    return partial(inspect_rows, arrival)


def _product(arrival: Arrival, row: dict[str, Any]) -> Product | Refusal:
    from lookalike.catalogue.validation import parse_product

    return parse_product(row["payload"], arrival.received_at_ms, arrival.limits)


def _parsed(arrival: Arrival, row: dict[str, Any]) -> dict[str, Any]:
    product = _product(arrival, row)
    if isinstance(product, Refusal):
        return _refused(row, product)
    return {**row, "item_id": product.item_id, "version": product.version}


def _refused(row: dict[str, Any], refusal: Refusal) -> dict[str, Any]:
    return {
        "row_number": row["row_number"],
        "payload": row["payload"],
        "item_id": refusal.item_id,
        "reason": refusal.reason.value,
        "detail": refusal.detail,
    }


def _inspected(arrival: Arrival, row: dict[str, Any]) -> dict[str, Any]:
    from lookalike.catalogue.intake import inspect_picture, read_picture
    from lookalike.catalogue.silver_rows import shard_of

    product = _product(arrival, row)
    if isinstance(product, Refusal):
        return _refused(row, product)
    if row["tied"] and row["known"]["image_path"] == product.image_path:
        picture = row["known"]
    else:
        data = read_picture(product.image_path, arrival.pictures_root, arrival.limits)
        seen = data if isinstance(data, Refusal) else inspect_picture(data, arrival.limits)
        if isinstance(seen, Refusal):
            return _refused(row, Refusal(seen.reason, seen.detail, product.item_id))
        picture = {"content_hash": seen.content_hash, "width": seen.width, "height": seen.height}
    return {
        **product.model_dump(),
        "content_hash": picture["content_hash"],
        "width": picture["width"],
        "height": picture["height"],
        "source": arrival.source,
        "snapshot_id": arrival.snapshot_id,
        "deleted": False,
        "shard": shard_of(product.item_id, arrival.shards),
        "base_version": product.version,
        "row_number": row["row_number"],
        "tied": row["tied"],
    }
