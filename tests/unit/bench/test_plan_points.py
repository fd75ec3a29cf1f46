"""Points of the cost model: what is read from the folder of an index, and a law that is found again from its curves."""

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from index_builder.recall_law import KINDS, Curve, KindLaw, RecallLaw
from lookalike.contracts.manifest import FileRecord, IndexRecipe, Manifest, OperatingPoint
from lookalike.contracts.space import EmbeddingSpace

FOLDER = Path(__file__).parents[3] / "bench"
FILES = {
    "index.faiss": 900, "centres.faiss": 80, "axes.npz": 20, "refine.faiss": 3_000, "items.arrow": 2_500,
    "attributes.sets": 190,
}  # fmt: skip
ITEMS = 1_000


@pytest.fixture(scope="module")
def bench():
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    try:
        yield type("bench", (), {name: importlib.import_module(name) for name in ("plan_points", "recall_fit")})
    finally:
        sys.path.remove(str(FOLDER))
        for name in set(sys.modules) - before:
            if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def curve(at, slope, bend, growth):
    return Curve(at=at, slope=slope, bend=bend, growth=growth)


def kind(finest, growth):
    return KindLaw(
        finest=finest, within=0.25, lists=curve(-0.5, 0.6, 0.06, growth), candidates=curve(2.5, 2.0, 0.0, 0.1),
        graph=curve(-1.0, 0.8, 0.05, 0.25),
    )  # fmt: skip


def point_of(laws, items, nlist):
    pairs = [(nprobe, factor) for nprobe in (16, 64, 256, 512, 1_024) for factor in (2, 6, 16)]
    found = [
        [nprobe, factor, *(law.of_lists({"nprobe": nprobe, "k_factor": factor}, items, nlist) for law in laws)]
        for nprobe, factor in pairs
    ]
    codes = {"axes": 128, "finer_axes": 320}
    times = {key: {"p50_ms": 2.0, "p99_ms": 5.0} for key in KINDS}
    return {
        "items": items, "nlist": nlist, "dim": 512, "vectors": "generated", "codes": codes, "imbalance": 1.2,
        "curve": found, "warm": times, "cold": None, "within": dict.fromkeys(KINDS, 0.25),
    }  # fmt: skip


def test_a_law_is_found_again_with_its_growth(bench):
    laws = kind(0.985, 0.45), kind(0.98, 0.8)
    points = [point_of(laws, items, nlist) for items, nlist in ((10**6, 2_048), (10**7, 8_192), (10**8, 32_768))]
    graph = {str(depth): laws[0].graph.share(depth, 0.1) for depth in (16, 64, 256)}
    match = {"curves": {"real": {f"{name}: graph over efSearch": graph for name in ("pictures", "texts")}}}
    measured = [{**point, "cold": {key: {"p50_ms": 4.0, "p99_ms": 8.0} for key in KINDS}} for point in points]
    found = RecallLaw.model_validate(bench.recall_fit.fitted(measured, match))
    assert (found.finer_share, found.imbalance) == (0.625, 1.2)
    assert (found.tail, found.cold_tail) == (2.5, 1.5)
    for (_, known), law in zip(found.kinds(), laws, strict=True):
        assert known.lists.growth == pytest.approx(law.lists.growth, abs=0.1)
        search = {"nprobe": 362, "k_factor": 8}
        assert known.of_lists(search, 3 * 10**7, 16_384) == pytest.approx(
            law.of_lists(search, 3 * 10**7, 16_384), abs=0.01
        )


@pytest.fixture
def folder(tmp_path):
    digest = "0" * 64
    space = EmbeddingSpace(
        encoder="made", weights_sha256=digest, preprocessing_sha256=digest, tokenizer_sha256=digest, dim=32
    )
    recipe = IndexRecipe(name="ivf_pq", description="", factory="x", nlist=16, train_points_per_list=50)
    manifest = Manifest(
        created_at="2026-11-23T00:00:00Z", space=space, chosen_because="", items=ITEMS, table_versions={},
        recipe=recipe, search={"nprobe": 4, "margin": 60, "k_factor": 2},
        files={name: FileRecord(sha256=digest, bytes=size) for name, size in FILES.items()},
        operating_points=(
            OperatingPoint(
                search={"nprobe": 4, "margin": 60, "k_factor": 2}, recall_at_10=0.91, recall_at_10_of_texts=0.8,
                lists_probed=1.5, lists_probed_of_texts=3.0, mean_ms=1.0
            ),
        ),
        build={
            "codes": {"axes": 8, "finer_axes": 16}, "quantiser": {"imbalance_of_all": 1.1}, "shards": 2,
        },
    )  # fmt: skip
    made = tmp_path / "scale" / f"{ITEMS}-real"
    (made / "index").mkdir(parents=True)
    (made / "index" / "manifest.json").write_text(manifest.model_dump_json())
    vectors = tmp_path / "vectors"
    vectors.mkdir()
    np.save(vectors / "items.npy", np.random.default_rng(0).standard_normal((ITEMS, 32), dtype=np.float32))
    return made


def read(bench, folder, known=None):
    return bench.plan_points.point(
        folder, Namespace(vectors=folder.parent.parent / "vectors", mixture=None), known or {}
    )


def test_an_index_that_was_not_measured_yet_counts_by_its_bytes(bench, folder):
    point = read(bench, folder)
    assert (point["memory_bytes"], point["disk_bytes"], point["finer_bytes"]) == (1_000, 6_690, 3_000)
    assert point["columns"] == {"items": 2.5, "sets": 0.19}
    assert point["codes"] == {"axes": 8, "finer_axes": 16}
    assert point["curve"] == [[4, 2, 0.91, 0.8]]
    assert point["within"] == {"pictures": 0.375, "texts": 0.75}
    assert point["source_us"] > 0
    assert [point[name] for name in ("build_seconds", "warm", "cold", "recall")] == [None] * 4
    assert point["quiet"] == {"build": False, "search": False}


def test_times_count_as_quiet_by_the_load_they_were_measured_at(bench, folder):
    build = {"machine": "some, 2 cores, load 2.1, Python", "seconds": {"train": 1.0, "encode": 2.0, "merge": 3.0}}
    cold, again = {"p50 ms": 2.5, "p99 ms": 4.5}, {"p50 ms": 0.9, "p99 ms": 1.9}
    quick, other = {"p50_ms": 0.5, "p99_ms": 1.5}, {"p50_ms": 0.1, "p99_ms": 0.2}
    slow = {"p50_ms": 1.5, "p99_ms": 2.5}
    latency = {
        "machine": "some, 2 cores, load 9.3, Python", "recall": {"pictures": 0.9, "texts": 0.8},
        "latency": {name: {"by kind": dict.fromkeys(KINDS, each)} for name, each in (("cold", cold), ("again", again))},
        "memory": {"RssAnon": 2.0}, "search": {"nprobe": 4},
        "points": [{"search": {"nprobe": 4}, "single": {"pictures": quick, "texts": slow}},
                   {"search": {"nprobe": 1}, "single": dict.fromkeys(KINDS, other)}],
    }  # fmt: skip
    (folder / "build.json").write_text(json.dumps(build))
    (folder / "latency.json").write_text(json.dumps(latency))
    point = read(bench, folder, {(ITEMS, "real"): {"source_us": 7.5}})
    assert point["quiet"] == {"build": True, "search": False}
    assert point["source_us"] == 7.5  # measured once
    assert point["warm"] == {"pictures": quick, "texts": {"p50_ms": 0.9, "p99_ms": 1.9}}
    assert point["cold"] == {key: {"p50_ms": 2.5, "p99_ms": 4.5} for key in KINDS}
    assert point["resident_bytes"] == 2 * 2**20
