"""Searches beside changes on the index of 200,000: all that was sent is seen, and answers are right while it comes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCH = Path(__file__).parents[3] / "bench"
RATES, SECONDS = (0, 100, 1_000), 1.0
CHANGED = 1_500
LOOKED_UP = f"""
import json, sys
sys.path.insert(0, {str(BENCH)!r})
from pathlib import Path
import numpy as np
from update_server import Served
from update_traffic import MIXES, Producer, pictures
from lookalike.contracts.query import QueryPart, SearchQuery

if __name__ == "__main__":
    folder, home = Path(sys.argv[1]), Path(sys.argv[2])
    served, producer = Served(folder / "index", home, {{}}), Producer(folder / "index", home, MIXES["shop"])
    try:
        served.wait_for(producer.ask("fill", {CHANGED}))
        known = producer.ask("known")
    finally:
        producer.close()
    moved = [name for name, item in known.items() if item.between and not item.gone][:200]
    gone = [name for name, item in known.items() if item.gone and not item.between][:100]
    vectors = {{
        "moved": pictures(served.index, np.array([known[name].between for name in moved])),
        "gone": served.index.vectors(served.index.rows_of(gone)),
    }}
    served.vectors |= vectors
    asked = {{
        kind: [SearchQuery(parts=(QueryPart(text=f"{{kind}} {{at}}"),), k=10) for at in range(len(these))]
        for kind, these in vectors.items()
    }}
    found = {{
        kind: [[(hit.item_id, hit.score) for hit in served.engine.search(query).hits] for query in these]
        for kind, these in asked.items()
    }}
    served.close()
    print(json.dumps({{"moved": moved, "gone": gone, "found": found}}))
"""


@pytest.fixture(scope="module")
def results(built, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("updates")
    given = ["--rates", *RATES, "--clients", 1, "--seconds", SECONDS, "--repeats", 1, "--sizes", 2_000, "--checks", 60]
    run("updates.py", built.folder, *given, "--out", out)  # it ends with 1 where an answer is wrong
    (path,) = out.glob("*.json")
    return json.loads(path.read_text())


def test_every_change_that_was_sent_is_seen(results):
    rounds = {each["rate"]: each for each in results["rounds"]}
    assert set(rounds) == set(RATES)
    for rate in RATES[1:]:
        assert rounds[rate]["sent"]["count"] == rate * SECONDS
        assert 0 < rounds[rate]["fresh"]["all"]["count"] <= rate * SECONDS
    touched = [rounds[rate]["overlay"]["touched"] for rate in RATES]
    assert touched[0] < touched[1] < touched[2] <= sum(RATES) * SECONDS
    assert all(each["overlay"]["touched"] >= 2_000 for each in results["sizes"])
    assert all(each["queries/s"] > 0 and each["p50 ms"] <= each["p99 ms"] for each in results["rounds"])


def test_answers_are_those_of_brute_force_before_and_after(results):
    for when in ("checks before", "checks after"):
        assert results[when]["problems"] == [] and results[when]["recall"] >= 0.9


def test_what_has_a_new_picture_is_found_by_it_and_what_is_gone_is_not(built, tmp_path):
    script = tmp_path / "looked_up.py"
    script.write_text(LOOKED_UP)
    environment = os.environ | {"PYTHONPATH": str(BENCH.parent)}
    command = [sys.executable, str(script), str(built.folder), str(tmp_path / "home")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4_000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["moved"]) > 50 and len(told["gone"]) > 20
    for item, hits in zip(told["moved"], told["found"]["moved"], strict=True):
        scores = dict(hits)
        assert scores[item] == pytest.approx(1, abs=1e-3) and scores[item] >= max(scores.values()) - 1e-3
    for item, hits in zip(told["gone"], told["found"]["gone"], strict=True):
        assert item not in dict(hits)
