"""The measurement of filters over 200,000 rows: rows by the sets are those that a plain loop over the rows finds."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

from index_builder.attribute_sets import open_sets, write_sets

pytestmark = pytest.mark.slow

ITEMS = 200_000
PLURAL = {"category": "category_path"}


@pytest.fixture(scope="module")
def filters(bench):
    with bench("filters") as (module,):
        yield module


@pytest.fixture(scope="module")
def files(filters, tmp_path_factory):
    """Item columns, and their sets."""
    folder = tmp_path_factory.mktemp("filters")
    with pa.OSFile(str(folder / "items"), "wb") as sink, ipc.new_file(sink, filters.SCHEMA) as writer:
        for batch in filters.batches(ITEMS):
            writer.write_batch(batch)
    write_sets(folder / "items", folder / "sets")
    return folder


@pytest.fixture(scope="module")
def columns(files):
    return ipc.open_file(pa.memory_map(str(files / "items"))).read_all()


def values_of(columns, field):
    """Python values of each row, as lists."""
    if field.startswith("attributes."):
        name = field.removeprefix("attributes.")
        return [[float(value) for key, value in row if key == name] for row in columns["attributes"].to_pylist()]
    found = columns[PLURAL.get(field, field)].to_pylist()
    return [row if isinstance(row, list) else [] if row is None else [row] for row in found]


def passes(values, asked) -> bool:
    if asked.any_of is not None and not set(asked.any_of) & set(values):
        return False
    if asked.none_of is not None and set(asked.none_of) & set(values):
        return False
    if asked.at_least is not None and not any(value >= asked.at_least for value in values):
        return False
    return asked.at_most is None or any(value <= asked.at_most for value in values)


def test_each_filter_finds_the_rows_of_a_plain_loop(filters, files, columns):
    sets = open_sets(files / "sets", ITEMS)
    sizes = []
    for name, asked in filters.FILTERS.items():
        expected = np.ones(ITEMS, bool)
        for each in asked:
            expected &= np.array([passes(values, each) for values in values_of(columns, each.field)])
        found = filters.asked(columns, sets, asked).rows()
        assert np.array_equal(found, np.flatnonzero(expected)), name
        sizes.append(len(found))
    assert min(sizes) < 100 and max(sizes) > ITEMS / 2  # rare and frequent ones


def test_the_sets_take_few_bytes_per_row(files, columns):
    """A row number of four bytes for each value of a row at most (a bit of each row, where these are less), numbers
    among attributes once more, and each different value with what it is looked up by, a hundred bytes at most."""
    single = ("brand", "licence", "author", "currency", "group_id", "price", "stock")
    lists = sum(len(row) for name in ("category_path", "tags") for row in columns[name].to_pylist())
    distinct = sum(len(set(columns[name].to_pylist())) for name in single)
    attributes = {pair for row in columns["attributes"].to_pylist() for pair in row}
    numbers = 2 * ITEMS  # sizes and weights
    most = 4 * (ITEMS * len(single) + lists + ITEMS * 3 + numbers) + 100 * (distinct + 2 * len(attributes) + 50_300)
    assert most / 4 < (files / "sets").stat().st_size <= most


def test_the_bench_runs_to_its_end_and_shows_every_filter(filters, run, tmp_path):
    told = run("filters.py", "--rows", 20_000, "--folder", tmp_path)
    assert all(name in told for name in filters.FILTERS) and not list(tmp_path.iterdir())
