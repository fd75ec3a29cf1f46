"""Steady load on a real server while releases are promoted and rolled back: nothing fails, nothing mixes.

Runs the bench, so that the figure in the documentation and this test are of the same code.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench" / "serve_under_promotion.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("serve_under_promotion", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def answer(release, *brands):
    return {"release": release, "hits": [{"product": {"brand": brand}} for brand in brands]}


def test_the_bench_would_see_a_mixed_answer(bench):
    brands = {"1": "before", "2": "after"}
    assert bench.mixes_releases(answer("1", "before", "before"), "1", brands) is None
    assert "after" in bench.mixes_releases(answer("1", "before", "after"), "1", brands)
    assert "header" in bench.mixes_releases(answer("1", "before"), "2", brands)
    assert "nothing" in bench.mixes_releases(answer("1"), "1", brands)


@pytest.mark.slow
def test_ten_clients_through_many_moves_of_the_pointer():
    done = subprocess.run(
        [sys.executable, str(BENCH), "--json", "--seconds", "20", "--items", "300", "--clients", "10"],
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert figures["failed"] == figures["mixed"] == 0, figures
    assert done.returncode == 0
    assert figures["moves"] >= 4 and figures["requests"] >= 100
    assert len(figures["answers_by_release"]) == 2 and min(figures["answers_by_release"].values()) >= 10
