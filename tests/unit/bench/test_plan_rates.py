"""Rates of lists: what made-up times say of one list and of one code, and times that have nothing of either."""

import importlib
import sys
from pathlib import Path

import pytest

from index_builder.query_time import lists_us
from index_builder.rates import default_rates
from index_builder.sizes import Codes

FOLDER = Path(__file__).parents[3] / "bench"
KNOWN = {"query_us": 40.0, "list_us": 0.7, "code_ns": 0.03, "gather_ns": 0.5}
PROBED = {16: (16, 1_024), 2_048: (16, 128)}


@pytest.fixture(scope="module")
def rates_of_lists():
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("plan_rates_lists")
    finally:
        sys.path.remove(str(FOLDER))
        for name in set(sys.modules) - before:
            if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def test_rates_of_lists_are_found_again_from_what_the_model_says_of_searches(rates_of_lists):
    known, codes = default_rates().model_copy(update=KNOWN), Codes(rates_of_lists.AXES, 0)
    times = {
        length: {
            probed: lists_us(known, 0, rates_of_lists.DIM, codes, probed, probed, probed * length, 0, images=False)
            for probed in numbers
        }
        for length, numbers in PROBED.items()
    }
    found = rates_of_lists.list_rates(times, KNOWN["gather_ns"])
    assert found == pytest.approx({"code_ns": 0.03, "list_us": 0.7, "begun_us": 40.0})
