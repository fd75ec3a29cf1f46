"""The measurement of latency and recall on the index of 200,000: every figure is there, and recall is the true one."""

import json
from itertools import pairwise

import faiss
import pytest

from index_builder.reader import open_index

pytestmark = pytest.mark.slow

QUANTILES = ("p50 ms", "p95 ms", "p99 ms", "worst")


@pytest.fixture(scope="module")
def measured(built, bench):
    """With fewer queries and seconds than at full size."""
    threads = faiss.omp_get_max_threads()
    with bench("scale_latency") as (latency,), pytest.MonkeyPatch.context() as patch:
        for name, value in (("TIMED", 50), ("WARMING", 200), ("LOAD_SECONDS", 0.3)):
            patch.setattr(latency, name, value)
        try:
            return latency.measure(built.folder, None)
        finally:
            faiss.omp_set_num_threads(threads)


def test_every_figure_is_there(measured):
    assert json.loads(json.dumps(measured))
    assert set(measured) == {
        "machine",
        "items",
        "search",
        "recall",
        "latency",
        "points",
        "by k",
        "by parameters",
        "load",
        "memory",
    }
    assert measured["items"] == 200_000
    timed = [*measured["latency"].values(), *measured["by k"].values(), *measured["by parameters"]]
    assert set(measured["latency"]) == {"cold", "steady", "again"} and set(measured["by k"]) == {10, 50, 100}
    for figures in (*timed, *measured["load"].values()):
        values = [figures[name] for name in QUANTILES]
        assert values[0] > 0 and values == sorted(values)
    assert set(measured["load"]) == {1, 2, 4} and all(figures["queries/s"] > 0 for figures in measured["load"].values())
    assert measured["memory"]["VmHWM"] >= measured["memory"]["RssAnon"] > 0


def test_its_recalls_are_the_true_ones(measured, built, vectors, queries, tenth, judged):
    index = open_index(built.index)
    assert measured["search"] == index.manifest.search
    points = [{"search": measured["search"], "recall": measured["recall"]}, *measured["by parameters"]]
    assert len(points) == 1 + 5 * len(measured["search"])
    for point in measured["points"]:
        recall = {kind: figures["recall"] for kind, figures in point["single"].items()}
        assert recall.pop("both") == min(recall.values())
        points.append({"search": point["search"], "recall": recall})
    for point in points:
        for kind, asked in queries.items():
            found = index.search_with(point["search"], asked, 10)[1]
            expected = judged(vectors, asked, found, tenth[kind]).mean()
            assert point["recall"][kind] == pytest.approx(expected, abs=5e-4), point
    assert len({point["recall"]["texts"] for point in points}) > 3  # it does not say the same of all


def test_deeper_search_finds_more(measured):
    for name in measured["search"]:
        changed = sorted(
            (point["search"][name], point["recall"]["texts"])
            for point in measured["by parameters"]
            if all(point["search"][other] == value for other, value in measured["search"].items() if other != name)
        )
        recalls = [recall for _, recall in changed]
        assert recalls[0] < recalls[-1]
        assert all(later >= earlier - 0.005 for earlier, later in pairwise(recalls))
