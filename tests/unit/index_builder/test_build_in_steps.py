"""The steps of a build: shards in any number and order give the bytes of one, and nothing half-made is ever used."""

import random
import shutil
from dataclasses import replace
from itertools import pairwise

import faiss
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

from index_builder import merge as merging
from index_builder import tune
from index_builder.axes import even_product
from index_builder.merge import merge, missing_shards
from index_builder.pin import Pin, make_pin
from index_builder.reader import open_index
from index_builder.shard import encode, shard_folder
from index_builder.train import train
from index_builder.vector_file import ShardRows
from lookalike.contracts.errors import LookalikeError, MissingPrerequisite
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.settings import IndexSettings, Settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER

ITEMS = 3_000
RECIPES = ("exact", "hnsw", "ivf_pq")
STRANGE = ["it's", "'", "''", "z\u00fc", "\U0001f34d", "brand:item-01500'x", "a'b", "%_", "\\", "Ω", "\uffff"]


@pytest.fixture(scope="module")
def strange(kit, tmp_path_factory):
    """3,000 items, and some whose ids tempt SQL and sorting."""
    catalogue = kit.make_catalogue(tmp_path_factory.mktemp("strange"), ITEMS - len(STRANGE))
    vectors = kit.clustered(len(STRANGE), seed=77)
    return catalogue.extend(kit.silver_rows(STRANGE), kit.embedding_rows(STRANGE, vectors, catalogue.space.fingerprint))


def pinned(catalogue, shard_items: int, recipe: str = "exact") -> Pin:
    settings = Settings(home=catalogue.settings.home, index=IndexSettings(shard_items=shard_items))
    return make_pin(settings, catalogue.source, recipe)


def steps(catalogue, pin: Pin, work, seed: int = 0) -> Manifest:
    """All steps, the shards in a random order."""
    source = catalogue.source_of(pin)
    train(work, pin, source, LogProgress())
    numbers = [shard.number for shard in pin.shards]
    random.Random(seed).shuffle(numbers)
    for number in numbers:
        encode(work, pin, number, source, LogProgress())
    (work / "sealed").mkdir()
    return merge(work, work / "sealed", pin, source, LogProgress())


@pytest.mark.parametrize("recipe", RECIPES)
def test_shards_in_any_number_and_order_give_the_bytes_of_one(strange, tmp_path, recipe, monkeypatch):
    monkeypatch.setattr(merging, "ITEMS_PER_BATCH", 700)
    strange.build(tmp_path / "whole", recipe)
    expected = Manifest.read(tmp_path / "whole")
    for seed, shard_items in enumerate((1_234, 611, 2_999)):
        pin = pinned(strange, shard_items, recipe)
        manifest = steps(strange, pin, tmp_path / str(shard_items), seed)
        assert manifest.build["shards"] == len(pin.shards) == -(-ITEMS // shard_items)
        assert manifest.files == expected.files
        varying = {"created_at", "operating_points", "build"}
        assert manifest.model_dump(exclude=varying) == expected.model_dump(exclude=varying)
        assert manifest.build["coverage"] == expected.build["coverage"]


def test_joined_codes_are_those_of_one_plain_index(kit, strange, tmp_path):
    """Independent of shards: the trained parts, filled by faiss itself in one call with images by a plain product."""
    pin = pinned(strange, 400, "ivf_pq")
    steps(strange, pin, tmp_path)
    sealed = open_index(tmp_path / "sealed")
    ids = sealed.columns["item_id"].to_pylist()
    assert ids == sorted(ids, key=str.encode) and len(ids) == ITEMS
    known = dict(zip(strange.ids, strange.vectors, strict=True))
    known |= dict(zip(STRANGE, kit.clustered(len(STRANGE), seed=77), strict=True))
    vectors = np.stack([known[item_id] for item_id in ids])
    first, refine = (
        faiss.read_index(str(tmp_path / "trained" / name)) for name in ("empty.faiss", "empty-refine.faiss")
    )
    axes, centres = np.load(tmp_path / "sealed" / "axes.npz"), sealed.centres()
    lists, rows = (vectors @ centres.T).argmax(axis=1), np.arange(ITEMS)
    images = np.ascontiguousarray(even_product(vectors, axes["codes_items"]))
    np.testing.assert_allclose(images, vectors @ axes["codes_items"], atol=1e-6)
    first.add_core(ITEMS, faiss.swig_ptr(images), faiss.swig_ptr(rows), faiss.swig_ptr(lists))
    refine.add(even_product(vectors, axes["finer_items"]))
    plain = faiss.IndexIVFPQFastScan(first, 32)
    for part, name in ((plain, "index.faiss"), (refine, "refine.faiss")):
        faiss.write_index(part, str(tmp_path / "plain"))
        assert (tmp_path / "plain").read_bytes() == (tmp_path / "sealed" / name).read_bytes()
    queries = kit.clustered(20, seed=2)
    near = np.argsort(-(queries @ centres.T), axis=1)[:, :8].astype(np.int64)
    plain.nprobe = 8
    asked = queries @ axes["codes_queries"]
    products = np.take_along_axis(asked @ (centres @ axes["codes_items"]).T, near, axis=1)
    candidates = plain.search_preassigned(asked, 60, near, products)[1]
    exact = queries @ refine.reconstruct_n(0, ITEMS).astype(np.float64).dot(axes["finer_queries"].T).T
    for dots, found, given in zip(
        exact, candidates, sealed.search_with({"nprobe": 8, "k_factor": 6}, queries, 10)[1], strict=True
    ):
        assert given.tolist() == sorted(found.tolist(), key=lambda row: -dots[row])[:10]


def test_shards_keep_no_vectors_where_there_are_codes(strange, tmp_path):
    pin = pinned(strange, 1_000, "ivf_pq")
    train(tmp_path, pin, strange.source, LogProgress())
    encode(tmp_path, pin, 0, strange.source, LogProgress())
    assert {path.name for path in shard_folder(tmp_path, 0).iterdir()} == {
        "items.arrow", "codes.faiss", "sizes.npy", "refine.codes", "truth.npz", "facts.json",
    }  # fmt: skip


@pytest.mark.parametrize("apart", [False, True], ids=["in one file", "in two"])
def test_an_artifact_with_codes_on_the_encoders_own_axes_is_still_read(kit, strange, tmp_path, apart):
    """As they were made before axes were, and before finer codes had a file of their own."""
    strange.build(tmp_path / "exact", "exact")
    strange.build(tmp_path / "old", "ivf_pq")
    vectors = open_index(tmp_path / "exact").vectors(np.arange(ITEMS))
    whole = kit.turn_back(tmp_path / "old", vectors, apart)
    opened, queries = open_index(tmp_path / "old"), kit.clustered(20, 2)
    base = faiss.SearchParametersIVF(nprobe=8, quantizer_params=faiss.SearchParametersHNSW(efSearch=64))
    params = faiss.IndexRefineSearchParameters(k_factor=6, base_index_params=base)
    scores, rows = whole.search(queries, 10, params=params)
    ours = opened.search_with({"nprobe": 8, "k_factor": 6}, queries, 10)
    np.testing.assert_array_equal(ours[1], rows)
    np.testing.assert_allclose(ours[0], scores, atol=1e-5)
    np.testing.assert_array_equal(opened.vectors(np.arange(ITEMS)), whole.refine_index.reconstruct_n(0, ITEMS))
    half = np.arange(ITEMS) % 2 == 0
    dots = np.where(half, queries @ vectors.T, -np.inf)
    for found, true in zip(opened.search(queries, 10, RowSet.of(half))[1], np.argsort(-dots)[:, :10], strict=True):
        assert len(set(found.tolist()) & set(true.tolist())) >= 9


def test_the_truth_of_shards_joined_is_the_truth_of_all(kit, tmp_path):
    vectors = kit.clustered(1_000, seed=5)
    vectors[700:710] = vectors[3]
    questions = tune.draw_questions(vectors)
    assert not questions.are_texts.any()
    cuts = [0, 40, 40, 999, 1_000]
    parts = [tune.find_truth(vectors[first:last], questions) for first, last in pairwise(cuts)]
    joined = tune.joined(parts, cuts[:-1])
    dots = questions.vectors @ vectors.T
    for scores, rows, dot in zip(joined.scores, joined.rows, dots, strict=True):
        np.testing.assert_array_equal(rows, np.argsort(-dot, kind="stable")[: tune.KEPT])
        np.testing.assert_allclose(scores, np.sort(dot)[::-1][: tune.KEPT], atol=1e-6)


def test_columns_are_cut_into_even_batches_wherever_shards_end(strange, tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "ITEMS_PER_BATCH", 700)
    steps(strange, pinned(strange, 450), tmp_path)
    file = ipc.open_file(pa.memory_map(str(tmp_path / "sealed" / "items.arrow")))
    assert [file.get_batch(at).num_rows for at in range(file.num_record_batches)] == [700] * 4 + [200]


def test_each_id_is_in_one_shard_and_shards_are_about_equal(strange):
    pin = pinned(strange, 250)
    ids = [*strange.ids, *STRANGE]
    holders = [
        [s.number for s in pin.shards
         if (s.start is None or s.start.encode() <= i.encode()) and (s.stop is None or i.encode() < s.stop.encode())]
        for i in ids
    ]  # fmt: skip
    assert all(len(found) == 1 for found in holders)
    counts = np.bincount([found[0] for found in holders], minlength=len(pin.shards))
    assert len(pin.shards) == 12 and counts.min() >= 249 and counts.max() <= 251


def test_ranges_are_cut_from_a_sample_where_there_are_many_ids(strange, monkeypatch):
    monkeypatch.setattr("index_builder.delta_source.BOUNDARY_SAMPLE", 400)
    pin = pinned(strange, 500)
    starts = [shard.start for shard in pin.shards]
    assert starts == [shard.start for shard in pinned(strange, 500).shards]
    place = np.searchsorted(np.array(sorted([*strange.ids, *STRANGE])), starts[1:])
    assert len(starts) == 6 and (np.abs(place - np.arange(500, 3_000, 500)) < 150).all()


def test_the_same_inputs_are_the_same_build(kit, tmp_path):
    catalogue = kit.make_catalogue(tmp_path / "home", 40, files=1)
    first = pinned(catalogue, 10)
    assert pinned(catalogue, 7).build_id == first.build_id  # shards do not change the result
    assert pinned(catalogue, 10, "hnsw").build_id != first.build_id
    other = make_pin(catalogue.settings, replace(catalogue, space=kit.space_of("a")).source, "exact")
    assert other.build_id == first.build_id
    catalogue.extend(kit.silver_rows(["new"]))
    assert pinned(catalogue, 10).build_id != first.build_id


def test_what_was_pinned_is_built_although_the_tables_go_on(kit, tmp_path):
    catalogue = kit.make_catalogue(tmp_path / "home", 1_100)
    catalogue.build(tmp_path / "whole", "ivf_pq")
    pin = pinned(catalogue, 300, "ivf_pq")
    catalogue.extend(
        kit.silver_rows(["later"]), kit.embedding_rows(["later"], kit.clustered(1, 5), catalogue.space.fingerprint)
    )
    assert steps(catalogue, pin, tmp_path / "work").files == Manifest.read(tmp_path / "whole").files


def test_a_finished_step_stays_and_a_half_written_one_is_not_seen(strange, tmp_path):
    pin = pinned(strange, 1_000)
    with pytest.raises(MissingPrerequisite, match="not trained yet"):
        encode(tmp_path, pin, 0, strange.source, LogProgress())
    train(tmp_path, pin, strange.source, LogProgress())
    encode(tmp_path, pin, 1, strange.source, LogProgress())
    half = tmp_path / "shards" / ".tmp-00000-beef"
    shutil.copytree(shard_folder(tmp_path, 1), half)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    train(tmp_path, pin, strange.source, LogProgress())
    encode(tmp_path, pin, 1, strange.source, LogProgress())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert missing_shards(tmp_path, pin) == [0, 2]
    (tmp_path / "sealed").mkdir()
    with pytest.raises(MissingPrerequisite, match="2 of 3 shards are not encoded: 0, 2"):
        merge(tmp_path, tmp_path / "sealed", pin, strange.source, LogProgress())


def test_a_build_of_an_earlier_format_is_begun_anew(strange, tmp_path):
    older = pinned(strange, 1_000).model_copy(update={"format_version": 1})
    assert older.build_id != pinned(strange, 1_000).build_id
    for step in (
        lambda: train(tmp_path, older, strange.source, LogProgress()),
        lambda: encode(tmp_path, older, 0, strange.source, LogProgress()),
        lambda: merge(tmp_path, tmp_path / "sealed", older, strange.source, LogProgress()),
    ):
        with pytest.raises(LookalikeError, match=r"begun by an earlier version.*index pin"):
            step()


def test_items_that_are_left_out_are_counted_over_all_shards(kit, tmp_path):
    catalogue = kit.make_catalogue(tmp_path / "home", 60, files=1)
    bare = [f"brand:item-{number:05d}-bare" for number in (3, 17, 18, 33, 40, 55, 56)]
    catalogue.extend(kit.silver_rows(bare))
    manifest = steps(catalogue, pinned(catalogue, 5), tmp_path / "work")
    assert manifest.items == 60
    assert manifest.build["coverage"] == {
        "silver_items": 67,
        "indexed": 60,
        "without_vector": 7,
        "vector_of_an_older_picture": 0,
        "first_left_out": bare[:5],
    }
    sizes = {path.parent.name: path.stat().st_size for path in (tmp_path / "work").glob("shards/*/vectors.f32")}
    assert sum(sizes.values()) == 60 * 32 * 4


def test_a_shard_without_any_vector_is_allowed_and_a_build_without_is_not(kit, tmp_path):
    catalogue = kit.make_catalogue(tmp_path / "home", 20, files=1)
    catalogue.extend(kit.silver_rows([f"zzz-{number:02d}" for number in range(20)]))
    manifest = steps(catalogue, pinned(catalogue, 10), tmp_path / "work")
    assert (manifest.items, manifest.build["shards"]) == (20, 4)
    stale = kit.make_catalogue(tmp_path / "stale", 2, files=1)
    unknown = kit.embedding_rows(["x", "y"], kit.clustered(2, 1), stale.space.fingerprint)
    tables = type(stale.tables)(tmp_path / "foreign")
    tables.append(SILVER, kit.silver_rows(stale.ids))
    tables.append(EMBEDDINGS, unknown)
    foreign = kit.Catalogue(stale.settings, tables, stale.space, stale.ids, stale.vectors)
    with pytest.raises(LookalikeError, match=r"none of the 2 items.*run `lookalike embed` first"):
        steps(foreign, pinned(foreign, 1), tmp_path / "none")


def test_rows_of_several_files_read_as_one_array(tmp_path):
    whole = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)
    cuts = [0, 5, 5, 6, 23]
    for number, (start, stop) in enumerate(pairwise(cuts)):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "vectors.f32").write_bytes(whole[start:stop].tobytes())
    rows = ShardRows([tmp_path / str(number) / "vectors.f32" for number in range(4)], 4)
    assert rows.shape == (23, 4) and len(rows) == 23
    for first, last in ((0, 23), (4, 7), (5, 6), (6, 6), (20, 99), (22, 23)):
        np.testing.assert_array_equal(rows[first:last], whole[first:last])
    chosen = np.array([22, 0, 5, 5, 4, 6])
    np.testing.assert_array_equal(rows[chosen], whole[chosen])
    assert rows[np.array([], np.int64)].shape == (0, 4)
