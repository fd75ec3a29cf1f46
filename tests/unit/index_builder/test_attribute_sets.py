"""Sets that an artifact holds against the same filters over its columns, on random tables."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

from index_builder import attribute_sets, sorted_rows, value_table
from index_builder.attribute_sets import SETS_NAME, open_sets, write_sets
from index_builder.reader import open_index
from lookalike.contracts.errors import BadQuery, CorruptArtifact
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.query import Filter
from lookalike.contracts.tables import SILVER
from lookalike.search.filters import LISTS, NUMBERS, STRINGS, FilterRows

ROWS = 2_000
TEXTS = ["", " ", "a", "acme", "Ärger", "日本", "𐀀", "\uffff", "a\x00b", "7", "null"]
NAMES = ["colour", "weight", "1", "1:a", "a:1", "größe", "colours"]
ODD_NUMBERS = [0.0, -0.0, float("nan"), float("inf"), 1e308, 0.1, 19.99, 20.0]
COLUMNS = [*STRINGS.values(), *LISTS.values(), *NUMBERS.values(), "attributes"]
SCHEMA = pa.schema([SILVER.schema.field(name) for name in COLUMNS])


def drawn(random, values, empty=0.1):
    """One of the values, the first ones most often, or None."""
    return None if random.random() < empty else values[min(int(random.exponential(len(values) / 4)), len(values) - 1)]


def attribute_value(random):
    number = str(random.integers(50))
    return drawn(random, ["red", number, f" {number}.50 ", "", f"{number}e2", "1e999", "x1", number, "-3", "½"])


def random_table(seed, rows=ROWS):
    random = np.random.default_rng(seed)
    many = [f"author {number}" for number in range(rows)]

    def row():
        pairs = [(drawn(random, NAMES, 0), attribute_value(random)) for _ in range(random.integers(5))]
        return {
            "brand": drawn(random, TEXTS), "licence": drawn(random, ["CC0-1.0"], 0.0),
            "author": drawn(random, many), "currency": None, "group_id": str(random.integers(rows // 3)),
            "category_path": drawn(random, [["food"], ["food", "food", None], [], ["food", "drink"]]),
            "tags": [drawn(random, TEXTS + many[:50]) for _ in range(random.integers(4))],
            "price": drawn(random, [*ODD_NUMBERS, *(random.random(30) * 40).round(2).tolist()]),
            "stock": drawn(random, [0, 3, 12, 2**60, -5, *random.integers(0, 1000, 40).tolist()]),
            "attributes": drawn(random, [pairs], 0.1),
        }  # fmt: skip

    return pa.Table.from_pylist([row() for _ in range(rows)], schema=SCHEMA)


def random_filter(random, table):
    """Any field with any conditions, mostly of values that are there."""
    field = [*STRINGS, *LISTS, *NUMBERS, *(f"attributes.{name}" for name in NAMES)][random.integers(16)]
    if field in NUMBERS:
        values = [*map(str, ODD_NUMBERS), "12", "3.0", "1e3", "77.7", "-5"]
    elif field.startswith("attributes."):
        values = ["red", "", "7", " 7.50 ", "-3", "none"]
    else:
        column = table[(STRINGS | LISTS)[field]].to_pylist()
        values = [str(each) for value in column[:60] for each in (value if isinstance(value, list) else [value])]
        values += [*TEXTS, "nobody"]
    wanted = {}
    while not wanted:
        for name in ("any_of", "none_of"):
            if random.random() < 0.5:
                wanted[name] = tuple(random.choice(values, random.integers(4)).tolist())
        if field not in STRINGS | LISTS or random.random() < 0.1:
            for name in ("at_least", "at_most"):
                if random.random() < 0.5:
                    wanted[name] = float(random.choice([0, 3, 7.5, 20, 19.99, 600, -10, 2.0**60]))
    return Filter(field=field, **wanted)


@pytest.fixture
def small_steps(monkeypatch):
    """So that small tables have many runs, blocks and bounds."""
    monkeypatch.setattr(sorted_rows, "RUN_PAIRS", 150)
    monkeypatch.setattr(sorted_rows, "BLOCK_PAIRS", 20)
    monkeypatch.setattr(value_table, "BOUND_ROWS", 8)


def write(folder, table, batch=137):
    with ipc.new_file(folder / "items.arrow", table.schema) as writer:
        for part in table.to_batches(max_chunksize=batch):
            writer.write_batch(part)
    write_sets(folder / "items.arrow", folder / SETS_NAME)
    return open_sets(folder / SETS_NAME, table.num_rows)


def answer(rows, each):
    try:
        return rows.rows([each]).rows().tolist()
    except BadQuery as error:
        return str(error)


@pytest.mark.parametrize("seed", range(6))
def test_any_filter_gives_what_the_columns_give(tmp_path, small_steps, seed):
    table = random_table(seed, ROWS if seed else 3)
    by_sets, by_columns = FilterRows(table, write(tmp_path, table)), FilterRows(table)
    assert sorted(path.name for path in tmp_path.iterdir()) == [SETS_NAME, "items.arrow"]
    assert by_sets.attribute_names() == by_columns.attribute_names()
    random, lengths = np.random.default_rng(100 + seed), []
    for _ in range(400):
        each = random_filter(random, table)
        expected = answer(by_columns, each)
        assert answer(by_sets, each) == expected, each
        lengths.append(len(expected) if isinstance(expected, list) else -1)
    if seed:
        assert len(set(lengths)) > 50


def test_in_one_run_or_many_and_few_rows_or_bits_the_sets_are_the_same(tmp_path, monkeypatch):
    table = random_table(7)
    plain = write(tmp_path, table)
    forms = {plain.having("brand", [text]).data.dtype.name for text in TEXTS}
    lengths = {len(plain.having("group_id", [str(number)]).data) for number in range(99)}
    assert forms == {"uint8"} and max(lengths) < 64, "values of few rows are held as rows"
    bits = {len(plain.having("licence", ["CC0-1.0"]).data), len(plain.between("stock", -10, 1e9).data)}
    assert bits == {256}, "values of many rows are held as bits"
    monkeypatch.setattr(sorted_rows, "RUN_PAIRS", 100)
    monkeypatch.setattr(value_table, "BOUND_ROWS", 8)
    (tmp_path / "runs").mkdir()
    in_runs = write(tmp_path / "runs", table)
    for field in [*STRINGS, *LISTS]:
        values, counts = plain.counts(field)
        again, counts_again = in_runs.counts(field)
        assert again.to_pylist() == values.to_pylist() == sorted(values.to_pylist())
        np.testing.assert_array_equal(counts, counts_again)
        for value, count in zip(values.to_pylist(), counts.tolist(), strict=True):
            assert in_runs.having(field, [value]).count == plain.having(field, [value]).count == count
    for low, high in np.random.default_rng(3).uniform(-1, 45, (50, 2)).tolist():
        expected = plain.between("price", low, high).rows().tolist()
        assert in_runs.between("price", low, high).rows().tolist() == expected


def test_names_and_values_of_attributes_are_told_apart(tmp_path):
    pairs = [("a", "bc"), ("ab", "c"), ("abc", ""), ("1", "a:b"), ("1:a", "b"), ("", "1:a1:b"), ("1:a1", ":b")]
    table = pa.table({"attributes": pa.array([[pair] for pair in pairs], SCHEMA.field("attributes").type)})
    sets = write(tmp_path, table)
    assert list(sets.attributes) == sorted(name for name, _ in pairs)
    for row, (name, value) in enumerate(pairs):
        assert sets.having(f"attributes.{name}", [value]).rows().tolist() == [row]


def test_equal_columns_give_equal_bytes(tmp_path, small_steps):
    table = random_table(8, 500)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, table)
    assert (tmp_path / "one" / SETS_NAME).read_bytes() == (tmp_path / "two" / SETS_NAME).read_bytes()


def test_a_value_of_its_own_for_each_row_costs_some_bytes(tmp_path):
    rows = 20_000
    table = pa.table({"author": [f"{number:08d}" for number in range(rows)]})
    write(tmp_path, table, 65_536)
    assert (tmp_path / SETS_NAME).stat().st_size / rows < 8 + 16 + 2, "text, and four numbers of four bytes"


def test_columns_that_an_index_lacks_have_no_sets(tmp_path):
    table = pa.table({"item_id": ["a", "b"], "price": [1.0, 2.0]})
    sets = write(tmp_path, table)
    assert sets.having("brand", ["x"]).count == 0 and dict(sets.attributes) == {}
    assert sets.between("price", 2, 9).rows().tolist() == [1]
    assert sets.counts("tags")[0].to_pylist() == []


def test_many_threads_read_the_same(tmp_path, small_steps):
    table = random_table(9)
    rows, random = FilterRows(table, write(tmp_path, table)), np.random.default_rng(5)
    filters = [random_filter(random, table) for _ in range(100)]
    alone = [answer(FilterRows(table), each) for each in filters]
    gate = threading.Barrier(4)

    def ask(shift):
        gate.wait()
        turned = [filters[(at + shift) % 100] for at in range(100)]
        return [answer(rows, each) for each in turned][-shift:] + [answer(rows, each) for each in turned][:-shift]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(ask, (10, 30, 50, 70)):
            assert found == alone


def test_an_artifact_holds_sets_and_an_older_one_does_without(built, tmp_path):
    folder = tmp_path / "index"
    shutil.copytree(built["exact"], folder)
    index = open_index(folder)
    each = Filter(field="brand", any_of=("brand 1",))
    expected = FilterRows(index.columns).rows([each]).rows().tolist()
    assert FilterRows(index.columns, index.sets).rows([each]).rows().tolist() == expected != []
    manifest = Manifest.read(folder)
    files = {name: file for name, file in manifest.files.items() if name != SETS_NAME}
    (folder / "manifest.json").write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    (folder / SETS_NAME).unlink()
    older = open_index(folder)
    assert older.sets is None
    assert FilterRows(older.columns, older.sets).rows([each]).rows().tolist() == expected


def test_a_file_that_is_not_one_is_named(tmp_path):
    table = random_table(10, 50)
    path = tmp_path / SETS_NAME
    write(tmp_path, table)
    data = path.read_bytes()
    end = int.from_bytes(data[-16:-8], "little")
    directory = json.loads(data[-16 - end : -16])
    moved = json.dumps(directory | {"tables": {"brand": [64, 64]}}).encode()
    for wrong in (
        b"", data[:-1], b"x" * 100, data[:-8] + b"x" * 8, data[:-16] + os.urandom(8) + data[-8:],
        data[: -16 - end] + moved + len(moved).to_bytes(8, "little") + data[-8:],
    ):  # fmt: skip
        path.write_bytes(wrong)
        with pytest.raises(CorruptArtifact, match=f"{SETS_NAME} cannot be read"):
            open_sets(path, 50)
    path.write_bytes(data)
    with pytest.raises(CorruptArtifact, match="is of 50 items, not of 51"):
        open_sets(path, 51)


def test_nothing_is_copied_when_a_set_is_read(tmp_path):
    table = random_table(11)
    sets = write(tmp_path, table)
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path / SETS_NAME) in line]
    first, last = (int(part, 16) for part in maps[0].split()[0].split("-"))
    for rows in (sets.having("licence", ["CC0-1.0"]), sets.having("group_id", ["5"])):
        assert first <= rows.data.ctypes.data < last
    assert attribute_sets.ALIGNED % 64 == 0
