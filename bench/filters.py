"""Attribute sets of many rows: what they take to write and to open, and a new filter by them and over the columns.

python bench/filters.py --rows 10000000 --folder var

Values follow Zipf's law: few are frequent, most are rare. Every filter is asked as if for the first time.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc
from search_latency import machine

from index_builder.attribute_sets import SETS_NAME, open_sets, write_sets
from index_builder.merge import ITEMS_PER_BATCH
from lookalike.contracts.attribute_sets import AttributeSets
from lookalike.contracts.query import Filter
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.tables import SILVER
from lookalike.search.filters import LISTS, NUMBERS, STRINGS, FilterRows

ROUNDS = 5
TAGS_PER_ITEM = 3
COLUMNS = [*STRINGS.values(), *LISTS.values(), *NUMBERS.values(), "attributes"]
SCHEMA = pa.schema([SILVER.schema.field(name) for name in COLUMNS])
FILTERS = {
    "the most frequent brand": [Filter(field="brand", any_of=("brand 0",))],
    "a rare brand": [Filter(field="brand", any_of=("brand 9000",))],
    "one author of a million": [Filter(field="author", any_of=("author 70000",))],
    "one group": [Filter(field="group_id", any_of=("group 1234",))],
    "any of three tags": [Filter(field="tags", any_of=("tag 3", "tag 40", "tag 500"))],
    "none of a category": [Filter(field="category", none_of=("kind 2",))],
    "narrow range of prices": [Filter(field="price", at_least=20, at_most=21)],
    "wide range of prices": [Filter(field="price", at_least=10, at_most=60)],
    "in stock": [Filter(field="stock", at_least=1)],
    "range of an attribute": [Filter(field="attributes.weight", at_least=100, at_most=200)],
    "brand, prices, in stock": [
        Filter(field="brand", any_of=("brand 5", "brand 70")),
        Filter(field="price", at_least=10, at_most=60),
        Filter(field="stock", at_least=1),
    ],
}


def zipf(random: np.random.Generator, values: int, count: int) -> NDArray[np.int64]:
    """Numbers below `values`; number i about as often as 1/(i+1)."""
    return (values ** random.random(count)).astype(np.int64) - 1


def texts(word: str, numbers: NDArray[np.int64]) -> pa.Array:
    """`word 17` for 17."""
    distinct, places = np.unique(numbers, return_inverse=True)
    return pa.array([f"{word} {number}" for number in distinct.tolist()], pa.string()).take(pa.array(places))


def lists(values: pa.Array, each: int) -> pa.Array:
    """`each` values per row."""
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, each, dtype=np.int32)), values)


def batches(rows: int) -> Iterator[pa.RecordBatch]:
    """Columns of that many items."""
    random = np.random.default_rng(0)
    for start in range(0, rows, ITEMS_PER_BATCH):
        count = min(ITEMS_PER_BATCH, rows - start)
        names = pa.array(["colour", "size", "weight"], pa.string()).take(pa.array(np.tile(np.arange(3), count)))
        attributes = [
            texts("colour", zipf(random, 12, count)),
            pa.array(random.integers(20, 60, count)).cast(pa.string()),
            pa.array(np.round(random.lognormal(5, 1, count), 1)).cast(pa.string()),
        ]
        order = np.arange(3 * count).reshape(3, count).T.ravel()
        columns = {
            "brand": texts("brand", zipf(random, 20_000, count)),
            "licence": texts("licence", zipf(random, 6, count)),
            "author": texts("author", zipf(random, 1_000_000, count)),
            "currency": texts("currency", zipf(random, 3, count)),
            "group_id": texts("group", random.integers(0, max(rows // 3, 1), count)),
            "category_path": lists(texts("kind", zipf(random, 300, 2 * count)), 2),
            "tags": lists(texts("tag", zipf(random, 50_000, TAGS_PER_ITEM * count)), TAGS_PER_ITEM),
            "price": pa.array(np.round(random.lognormal(3, 1, count), 2)),
            "stock": pa.array(random.geometric(0.2, count) - 1),
            "attributes": pa.MapArray.from_arrays(
                np.arange(0, 3 * count + 1, 3, dtype=np.int32),
                names,
                pa.concat_arrays(attributes).take(pa.array(order)),
            ),
        }
        yield pa.record_batch([columns[name].cast(SCHEMA.field(name).type) for name in COLUMNS], schema=SCHEMA)


def timed(run: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Median milliseconds, and what came of it."""
    took, found = [], None
    for _ in range(rounds):
        started = time.perf_counter()
        found = run()
        took.append((time.perf_counter() - started) * 1000)
    return median(took), found


def asked(columns: pa.Table, sets: AttributeSets | None, filters: list[Filter]) -> RowSet:
    """As if for the first time."""
    found = FilterRows(columns, sets).rows(filters)
    assert found is not None
    return found


def show_filters(columns: pa.Table, path: Path) -> None:
    """A line per filter: rows that pass, milliseconds by the sets and over the columns; both must agree."""
    sets = open_sets(path, columns.num_rows)
    print(f"\n{'new filter':26} {'rows':>12} {'sets ms':>9} {'columns ms':>11}")
    for name, filters in FILTERS.items():
        by_sets, rows = timed(partial(asked, columns, sets, filters), ROUNDS)
        by_columns, again = timed(partial(asked, columns, None, filters), 1)
        if (rows.bits != again.bits).any():
            raise SystemExit(f"{name}: sets and columns disagree")
        print(f"{name:26} {rows.count:12,} {by_sets:9.2f} {by_columns:11.1f}")


def main() -> None:
    """Write columns, write their sets, open them, filter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=Path("var"), help="on the disk to be measured")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        items, target = Path(scratch) / "items.arrow", Path(scratch) / SETS_NAME
        with pa.OSFile(str(items), "wb") as sink, ipc.new_file(sink, SCHEMA) as writer:
            for batch in batches(arguments.rows):
                writer.write_batch(batch)
        print(
            f"{arguments.rows:,} rows, {items.stat().st_size / arguments.rows:.0f} bytes of columns each; {machine()}"
        )
        before, cpu, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), time.monotonic()
        write_sets(items, target)
        took, cpu = time.monotonic() - started, time.process_time() - cpu
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(
            f"written in {took:.1f} s ({cpu:.1f} s of one core), {target.stat().st_size / arguments.rows:.1f} bytes per"
        )
        print(f"item, {grown:,.0f} MiB more of memory than before")
        opened, _ = timed(lambda: open_sets(target, arguments.rows), ROUNDS)
        print(f"opened in {opened:.1f} ms")
        show_filters(ipc.open_file(pa.memory_map(str(items))).read_all(), target)


if __name__ == "__main__":
    main()
