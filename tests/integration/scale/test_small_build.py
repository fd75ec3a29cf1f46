"""The build of 200,000 generated vectors that was killed once: what it did again, took and left, and how it answers."""

import json

import numpy as np
import pytest

from index_builder.reader import open_index
from lookalike.contracts.row_set import RowSet

pytestmark = pytest.mark.slow

ITEMS, DIM, SHARD_ITEMS = 200_000, 64, 65_536
ASKED, CAP = 0.95, 3 * 2**30
NOISE = 0.02
"""Of a recall that 256 questions were asked for when search was tuned."""
HEADER, NPZ = 1_024, 2_048
"""At most, of a faiss file and of an .npz."""


@pytest.fixture(scope="module")
def index(built):
    return open_index(built.index)


def test_only_shards_that_were_not_finished_are_encoded_after_a_kill(resumed):
    assert len(resumed.after) == -(-ITEMS // SHARD_ITEMS)
    assert 0 < len(resumed.before) < len(resumed.after)
    assert {shard: resumed.after[shard] for shard in resumed.before} == resumed.before
    latest = max(written for _, written in resumed.before.values())
    assert all(resumed.after[shard][1] > latest for shard in set(resumed.after) - set(resumed.before))


def test_every_item_is_there_once_in_order_and_the_folder_of_the_build_is_gone(built, index):
    assert index.manifest.items == ITEMS
    assert np.array_equal(np.array(index.columns["item_id"].to_pylist(), np.int64), np.arange(ITEMS))
    assert not (built.folder / "work").exists()
    seconds = json.loads((built.folder / "build.json").read_text())["seconds"]
    assert set(seconds) == {"pin", "train", "encode", "merge"}


def test_a_finished_build_is_not_done_again(built, mixture, run):
    def state():
        return {path: path.stat().st_mtime_ns for path in built.folder.rglob("*") if path.is_file()}

    before = state()
    run("scale.py", "--items", ITEMS, "--mixture", mixture, "--out", built.folder.parent)
    assert state() == before


def test_the_memory_of_all_processes_stays_under_the_cap(built, index):
    noted = index.manifest.build["peak_memory_bytes"]
    assert built.memory <= CAP and noted <= CAP
    assert noted > built.memory / 3  # it is a figure of this build


def test_what_is_known_of_the_nearest_is_right(built, bench, tenth):
    with bench("numbered_source") as (numbered,):
        scores, _ = numbered.read_truth(built.folder)
    np.testing.assert_allclose(scores[:, 9], np.concatenate([tenth["pictures"], tenth["texts"]]), atol=1e-5)


@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_the_recall_asked_for_is_held(index, vectors, queries, tenth, judged, kind):
    found = index.search_with(index.manifest.search, queries[kind], 10)[1]
    recall = judged(vectors, queries[kind], found, tenth[kind])
    assert recall.mean() >= ASKED - NOISE


def test_files_are_as_large_as_their_formats_say(built, index, vectors):
    codes, centres = index.manifest.build["codes"], index.centres()
    filled = np.concatenate(
        [
            np.bincount((part @ centres.T).argmax(axis=1), minlength=len(centres))[None]
            for part in np.array_split(vectors, 20)
        ]
    ).sum(axis=0)
    assert codes["axes"] <= DIM and codes["finer_axes"] <= DIM
    slots = 32 * -(-filled // 32)
    # Four bits an axis; the 16 values that these stand for, of each axis, come once.
    lists = len(centres) * (16 + 4 * codes["axes"]) + 8 * ITEMS + slots.sum() * -(-codes["axes"] // 2)
    lists += codes["axes"] * 16 * 4
    expected = {
        "index.faiss": (lists, HEADER),
        "refine.faiss": (ITEMS * codes["finer_axes"], HEADER + 8 * codes["finer_axes"]),
        "centres.faiss": (len(centres) * DIM * 4, HEADER),
        "axes.npz": (2 * 4 * DIM * (codes["axes"] + codes["finer_axes"]), NPZ),
    }
    sizes = {path.name: path.stat().st_size for path in built.index.iterdir()}
    for name, (body, head) in expected.items():
        assert body - head <= sizes[name] <= body + head, name
    assert {name: record.bytes for name, record in index.manifest.files.items()} == {
        name: size for name, size in sizes.items() if name != "manifest.json"
    }


def rows_of_price(index, share) -> RowSet:
    """So many items, spread over all kinds, by their price."""
    price = index.columns["price"].to_numpy()
    return RowSet.of(price <= np.sort(price)[int(share * ITEMS) - 1])


def rows_of_kinds(index, share) -> RowSet:
    """Items that look alike: of so many categories, the smallest first, as make up that share."""
    kinds = np.array([path[0] for path in index.columns["category_path"].to_pylist()])
    names, counts = np.unique(kinds, return_counts=True)
    order = np.argsort(counts)
    taken = names[order[: int(np.searchsorted(np.cumsum(counts[order]), max(share * ITEMS, 10))) + 1]]
    return RowSet.of(np.isin(kinds, taken))


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001, 0.0001])
@pytest.mark.parametrize("rows_of", [rows_of_price, rows_of_kinds])
def test_filters_leave_recall_and_all_answers_that_exist(index, vectors, queries, judged, rows_of, share):
    allowed = rows_of(index, share)
    some = np.concatenate([these[:50] for these in queries.values()])
    found = index.search(some, 10, allowed)[1]
    passing = allowed.rows()
    assert len(passing) >= 10 and (found >= 0).all() and np.isin(found, passing).all()
    places = np.searchsorted(passing, found)
    assert judged(vectors[passing], some, places).mean() >= ASKED - NOISE
