"""Rates of a machine as its users measure them, on less: a plan can be made of them, and they foretell a search."""

import importlib
import sys
from pathlib import Path

import faiss
import pytest

from index_builder.axes import AxesFit
from index_builder.query_time import lists_us
from index_builder.rates import read_rates
from index_builder.sizes import Codes

FOLDER = Path(__file__).parents[3] / "bench"
LENGTH, PROBED = 256, 200
OFF = 3
"""At most so many times: other work takes caches and cores meanwhile, while a wrong unit is a thousand times off."""


@pytest.fixture
def bench(monkeypatch):
    """Both modules, with fewer vectors, on one thread."""
    before, threads = set(sys.modules), faiss.omp_get_max_threads()
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rates, lists = (importlib.import_module(name) for name in ("plan_rates", "plan_rates_lists"))
    for module, less in (
        (rates, {"ITEMS": 32_768, "GRAPH_ROWS": 4_096, "COLD_FILE": 16 * 2**20, "TABLE_ITEMS": 1_000}),
        (lists, {"IMAGES": 32_768, "COPIES": 8, "CENTRES": 16_384, "SOUGHT": 2_048}),
    ):
        for name, value in less.items():
            monkeypatch.setattr(module, name, value)
    yield rates, lists
    faiss.omp_set_num_threads(threads)
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.slow
def test_measured_rates_are_read_by_a_plan_and_foretell_a_search(bench, tmp_path, monkeypatch):
    plan_rates, of_lists = bench
    path = tmp_path / "rates.json"
    monkeypatch.setattr(sys, "argv", ["plan_rates.py", "--out", str(path)])
    plan_rates.main()
    rates = read_rates(path)
    monkeypatch.setitem(of_lists.PROBED, LENGTH, (PROBED,))
    images = AxesFit(vectors := plan_rates.clustered(of_lists.IMAGES)).cut(of_lists.AXES).of_items(vectors)
    took = of_lists.of_probes(images, LENGTH)[PROBED]
    codes = Codes(of_lists.AXES, 0)
    said = lists_us(rates, 0, of_lists.DIM, codes, PROBED, PROBED, PROBED * LENGTH, 0, images=False)
    assert took / OFF < said < took * OFF
