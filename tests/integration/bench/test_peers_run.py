"""The bench of engines as its users run it, with the engine that needs no environment of its own: ours."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[3] / "bench" / "peers"
ITEMS, DIM, QUERIES = 2_000, 32, 60
WHAT = {"lookalike": r"IVF16,PQ(16|32)x4fs,Refine\(SQ8\), finer (16|32) axes", "lookalike-hnsw": "HNSW32,Flat"}


def unit(rows, seed):
    vectors = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def bench(tmp_path):
    """Runs it on small files; gives the result, None where there is none, and what it said."""
    np.save(tmp_path / "items.npy", unit(ITEMS, 1))
    np.save(tmp_path / "texts.npy", unit(ITEMS, 4))
    for seed, name in ((2, "query_pictures"), (3, "query_texts")):
        np.save(tmp_path / f"{name}.npy", unit(QUERIES, seed))

    def run(engine, *more):
        command = [sys.executable, str(FOLDER / "run.py"), "--vectors", str(tmp_path / "items.npy"), "--queries"]
        command += [str(tmp_path / f"query_{kind}.npy") for kind in ("pictures", "texts")]
        command += ["--item-texts", str(tmp_path / "texts.npy"), "--folder", str(tmp_path / "out")]
        done = subprocess.run(
            [*command, "--engines", engine, "--seconds", "5", *more], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        path = tmp_path / "out" / "results" / f"{engine}.json"
        return json.loads(path.read_text()) if path.exists() else None, done.stdout

    return run


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["lookalike", "lookalike-hnsw"])
def test_an_engine_is_built_searched_and_reported(bench, tmp_path, engine):
    result, said = bench(engine, "--only", "search")
    assert result is None and "not built" in said
    result, said = bench(engine, "--only", "build")
    assert result is None and f"{engine}: built" in said
    built = list((tmp_path / "out" / "indexes").glob(f"*/{engine}/built.json"))
    assert len(built) == 1
    result, _ = bench(engine, "--only", "search")
    assert result["finished"] and not result["error"], result["error"]
    assert re.fullmatch(WHAT[engine], result["what"])
    assert result["build"]["cpu_seconds"] > 0 and result["build"]["disk_bytes"] > ITEMS * DIM
    assert [point for point in result["points"] if point.get("chosen")]
    assert max(point["single"]["both"]["recall"] for point in result["points"]) > 0.95
    for point in result["points"]:
        assert point["single"]["pictures"]["queries"] == point["batched"]["texts"]["queries"] == QUERIES
        assert abs(point["single"]["texts"]["recall"] - point["batched"]["texts"]["recall"]) < 0.02
    assert {"single"} == {way for point in result["looks"] for way in point} - {"setting"}
    memory = result["memory"]["searched"]
    assert memory["files"] > (ITEMS * DIM if engine == "lookalike" else ITEMS * DIM * 4)
    assert (memory["finer"] > 0) == (engine == "lookalike")
    assert not built[0].exists()  # not asked to keep it
    again, said = bench(engine, "--only", "search")
    assert again == result and "finished before" in said
    report = [sys.executable, str(FOLDER / "report.py"), "--folder", str(tmp_path / "out")]
    shown = subprocess.run(report, capture_output=True, text=True, timeout=300)
    assert f"| {engine} |" in shown.stdout, shown.stderr
    assert (tmp_path / "out" / "results" / "pictures.png").stat().st_size > 10_000


@pytest.mark.slow
def test_an_engine_whose_time_is_over_leaves_its_reason_and_is_tried_again(bench):
    result, _ = bench("lookalike-hnsw", "--limit-minutes", "0")
    assert result["error"].startswith("killed: its time was over") and not result["finished"]
    result, said = bench("lookalike-hnsw")
    assert result["finished"] and "finished before" not in said
