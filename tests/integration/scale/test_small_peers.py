"""The comparison of engines on 30,000 generated vectors: the driver's recalls are those that brute force gives."""

import json
import shutil

import faiss
import numpy as np
import pytest

from index_builder.reader import open_index

pytestmark = pytest.mark.slow

ITEMS = 30_000
PNG = b"\x89PNG\r\n\x1a\n"
ENGINES = ("lookalike", "faiss-hnsw")


@pytest.fixture(scope="module")
def folder(mixture, run, tmp_path_factory):
    """What the driver left, its indexes too."""
    folder = tmp_path_factory.mktemp("peers")
    given = ["--mixture", mixture, "--items", ITEMS, "--folder", folder, "--seconds", 0.5, "--look-seconds", 0.2]
    run("peers/run.py", *given, "--keep", "--engines", *ENGINES)
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, folder):
    """Its name, its result and its search of one setting."""
    result = json.loads((folder / "results" / f"{request.param}.json").read_text())
    if "FileNotFoundError" in result["error"] or "CalledProcessError" in result["error"]:
        pytest.skip(f"uv, which installs {request.param} from PyPI, is missing or failed: {result['error']}")
    assert result["finished"] and not result["error"], result["error"]
    (home,) = (folder / "indexes").glob(f"*/{request.param}")
    return request.param, result, home / "index"


@pytest.fixture(scope="module")
def asked(folder) -> dict:
    """Queries by kind."""
    (generated,) = (folder / "generated").glob("*")
    return {kind: np.load(generated / f"query_{kind}.npy") for kind in ("pictures", "texts")}


def searched(name, home, setting, queries):
    """One query at a time, one thread, as the driver's worker does."""
    faiss_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        if name == "lookalike":
            index = open_index(home / "index")
            return np.concatenate([index.search_with(setting, query[None], 10)[1] for query in queries])
        graph = faiss.read_index(str(home / "index.faiss"))
        given = faiss.SearchParametersHNSW(**setting)
        return np.concatenate([graph.search(query[None], 10, params=given)[1] for query in queries])
    finally:
        faiss.omp_set_num_threads(faiss_threads)


def test_each_recall_is_that_of_brute_force(engine, vectors, asked, judged):
    name, result, home = engine
    assert result["inputs"]["vectors"] == ITEMS
    assert len(result["points"]) >= 3
    for point in result["points"]:
        recalls = {}
        for kind, queries in asked.items():
            some = queries[: point["single"][kind]["queries"]]
            recalls[kind] = judged(vectors[:ITEMS], some, searched(name, home, point["setting"], some)).mean()
            assert point["single"][kind]["recall"] == pytest.approx(recalls[kind], abs=1e-3), point["setting"]
            assert 0 < point["single"][kind]["p50_ms"] <= point["single"][kind]["p99_ms"]
        assert point["single"]["both"]["recall"] == pytest.approx(min(recalls.values()), abs=1e-3)
    lowest = [point["single"]["both"]["recall"] for point in result["points"]]
    assert min(lowest) < 0.95 < max(lowest)


def test_memory_and_disk_are_of_this_index(engine):
    name, result, home = engine
    assert result["memory"]["searched"]["resident"] >= result["memory"]["before"]["resident"]
    files = sum(path.stat().st_blocks * 512 for path in home.rglob("*") if path.is_file())
    assert result["build"]["disk_bytes"] == files
    if name == "faiss-hnsw":  # vectors, and 32 links of four bytes either way
        assert ITEMS * (64 * 4 + 64 * 4) <= files <= 1.1 * ITEMS * (64 * 4 + 64 * 4)


def test_the_report_has_a_table_for_each_recall_and_a_plot_for_each_kind(folder, run):
    told = run("peers/report.py", "--folder", folder)
    measured = [path.stem for path in (folder / "results").glob("*.json") if json.loads(path.read_text())["points"]]
    assert "lookalike" in measured
    for recall in ("0.90", "0.95", "0.99"):
        (table,) = [part for part in told.split("recall@10 ")[1:] if part.startswith(recall)]
        assert all(f"| {name} |" in table for name in measured), recall
    for kind in ("pictures", "texts"):
        drawn = (folder / "results" / f"{kind}.png").read_bytes()
        assert drawn.startswith(PNG) and len(drawn) > 10_000


def test_what_is_finished_is_not_measured_again(mixture, folder, run):
    copy = folder.with_name("again")
    shutil.copytree(folder / "results", copy / "results")
    shutil.copytree(folder / "truth", copy / "truth")
    shutil.copytree(folder / "generated", copy / "generated")
    told = run("peers/run.py", "--mixture", mixture, "--items", ITEMS, "--folder", copy, "--engines", "lookalike")
    assert "lookalike: finished before" in told
