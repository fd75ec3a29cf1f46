"""A new encoder by schedule, a release that no server can load, runs that are late: each ends as the house promises.

The tests follow one another on the house of the whole folder.
"""

import json
import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.releases.registry import Registry
from lookalike.storage.delta import DeltaTables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
NIGHTLY, RELEASE, REEMBED, TRAIN = "catalogue_nightly", "index_release", "reembed", "encoder_train"
AFTER = "2026-11-18"
HEADS = ("image.head.weight", "image.head.bias", "text.linear.weight", "text.narrow.weight", "text.narrow.bias")


@dataclass(frozen=True)
class Turned:
    """An encoder whose vectors are those of lookalike-mini, turned by `by`."""

    folder: Path
    space: str
    by: np.ndarray


@pytest.fixture(scope="module")
def turned(tmp_path_factory) -> Turned:
    """The packaged encoder with its space turned: it judges alike, so its release may pass, and one of its vectors
    among the others' would be a stranger to all of them."""
    import torch
    from safetensors.torch import load_file, save_file

    from models.encoders import PACKAGED_FOLDER, open_encoder
    from models.probes import make_probe, write_probe

    folder = tmp_path_factory.mktemp("encoders") / "turned"
    shutil.copytree(PACKAGED_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    weights = load_file(folder / "model.safetensors")
    dim = len(weights[HEADS[0]])
    by, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((dim, dim)))
    weights |= {name: (torch.from_numpy(by) @ weights[name].double()).float() for name in HEADS}
    save_file(weights, folder / "model.safetensors")
    described = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps(described | {"name": "lookalike-turned"}))
    encoder = open_encoder(str(folder), device="cpu")
    write_probe(folder, make_probe(encoder))
    return Turned(folder, encoder.space.fingerprint, by)


def alive(house) -> set[str]:
    """Items of the catalogue."""
    return set(DeltaTables(house.settings.tables_root).read(SILVER, ["item_id"], "NOT deleted")["item_id"].to_pylist())


def vectors(house, space: str) -> dict[str, np.ndarray]:
    """The vectors of all items that the table has in this space."""
    rows = DeltaTables(house.settings.tables_root).read(EMBEDDINGS, ["item_id", "vector"], f"space = '{space}'")
    return {row["item_id"]: np.array(row["vector"], np.float32) for row in rows.to_pylist()}


def require_pure(house, version: str, space: str) -> None:
    """The release names the space, has every item, and each vector that it holds is the table's of this space."""
    from index_builder.reader import open_index

    index = open_index(Registry(house.settings).release(version).index_dir)
    assert index.manifest.space.fingerprint == space
    items, wanted = index.columns["item_id"].to_pylist(), vectors(house, space)
    assert set(items) == alive(house)
    held = index.vectors(np.arange(len(items)))
    near = [
        float(vector @ wanted[item]) / float(np.linalg.norm(vector)) for item, vector in zip(items, held, strict=True)
    ]
    assert min(near) > 0.99


def space_of(house) -> str:
    return house.serving()["space"]["fingerprint"]


def scores(house, items: list[str]) -> np.ndarray:
    return np.array([[score for _, score in house.hits(item)] for item in items])


def test_a_reembed_fills_its_own_space_and_its_release_goes_live(open_house, turned):
    house, registry = open_house, Registry(open_house.settings)
    live, old, items = house.served(), space_of(house), sorted(alive(house))[::25]
    found, kept = scores(house, items), vectors(house, old)
    known = set(house.runs(RELEASE))
    house.pause(RELEASE, True)  # a look at what is there when the re-embed is done and nothing is released yet
    house.pause(REEMBED, False)
    run = house.trigger(REEMBED, encoder=str(turned.folder), items_per_second=100)
    house.succeeds(REEMBED, run)
    assert house.states(REEMBED, run) == dict.fromkeys(("plan", "run", "check", "release"), "success")
    assert registry.incoming_encoder() is not None
    assert (house.served(), space_of(house)) == (live, old)

    new = vectors(house, turned.space)
    assert set(new) == alive(house)
    assert {item: vector.tobytes() for item, vector in vectors(house, old).items()} == {
        item: vector.tobytes() for item, vector in kept.items()
    }
    for item, vector in new.items():
        np.testing.assert_allclose(vector, turned.by @ kept[item], atol=1e-4)

    house.pause(RELEASE, False)
    release = house.next_run(RELEASE, known)
    house.succeeds(RELEASE, release)
    version = house.aliases()["live"]
    assert house.aliases() == {"live": version, "candidate": version, "previous": live}
    house.wait_served(version)
    assert space_of(house) == turned.space
    assert house.moves()[-1] == ("promoted", version)
    assert registry.incoming_encoder() is None  # it has arrived
    require_pure(house, version, turned.space)
    require_pure(house, live, old)
    np.testing.assert_allclose(scores(house, items), found, atol=1e-3)


def test_the_nights_after_it_build_in_the_new_space_by_themselves(open_house, nights, turned):
    house = open_house
    before, known, old = house.served(), set(house.runs(RELEASE)), Registry(house.settings).alias("previous").space
    assert space_of(house) == turned.space != old
    added = sorted(set(nights.of(62)) - alive(house))
    assert added
    nights.write(AFTER, nights.of(62))
    run = house.trigger(NIGHTLY, night=AFTER)
    house.succeeds(NIGHTLY, run)
    release = house.next_run(RELEASE, known)
    house.succeeds(RELEASE, release)
    assert release.startswith("asset_triggered")
    version = house.aliases()["live"]
    assert version != before
    house.wait_served(version)
    require_pure(house, version, turned.space)
    for item in added:
        assert dict(house.hits(item))[item] == pytest.approx(1, abs=1e-3)
    # The night fed the old space too, as a roll-back might have needed it.
    assert alive(house) <= set(vectors(house, old))
    rows = DeltaTables(house.settings.tables_root).read(EMBEDDINGS, ["space"])
    assert set(rows["space"].to_pylist()) == {old, turned.space}


class Searching(threading.Thread):
    """Someone who searches all the time; `answers` are status and release of each search."""

    def __init__(self, house, item: str) -> None:
        super().__init__(daemon=True)
        self._url, self._body = f"{house.server}/v1/search", {"parts": [{"item_id": item}], "k": 10}
        self._enough, self.answers = threading.Event(), []

    def run(self) -> None:
        while not self._enough.wait(0.05):
            try:
                answer = httpx.post(self._url, json=self._body, timeout=30)
                self.answers.append((answer.status_code, answer.json().get("release")))
            except httpx.HTTPError as error:
                self.answers.append((type(error).__name__, None))

    def __enter__(self) -> "Searching":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._enough.set()
        self.join()


@contextmanager
def one_byte_wrong(file: Path):
    """What a bad disk or a broken copy does to a file, until the block ends."""

    def flip() -> None:
        with file.open("r+b") as opened:
            opened.seek(file.stat().st_size // 2)
            byte = opened.read(1)
            opened.seek(-1, 1)
            opened.write(bytes([byte[0] ^ 0xFF]))

    flip()
    try:
        yield
    finally:
        flip()


def test_a_release_that_servers_cannot_load_goes_back_by_itself_and_loudly(open_house, turned):
    house, live = open_house, open_house.served()
    aliases = house.aliases()
    # A build of its own without another night: what serves the new space has been fed in the old one too.
    run = house.trigger(RELEASE, encoder="lookalike-mini", ask=True)
    house.wait_for("the question is asked", lambda: house.question(RELEASE, run), 600)
    version = house.aliases()["candidate"]
    assert version != live
    artifact = Registry(house.settings).release(version).index_dir
    with one_byte_wrong(artifact / "index.faiss"), Searching(house, sorted(alive(house))[0]) as searching:
        house.answer(RELEASE, run, "ask", "Approve")
        assert house.finished(RELEASE, run) == "failed"
        states = house.states(RELEASE, run)
        assert (states["approve"], states["promote"], states["verify"]) == ("success", "success", "failed")
        assert house.served() == live
        assert house.aliases() == aliases | {"candidate": version, "previous": version}
    assert set(searching.answers) == {(200, live)}
    assert len(searching.answers) > 20
    assert house.tasks(RELEASE, run)["verify"]["try_number"] == 1
    log = house.task_log(RELEASE, run, "verify")
    assert f"refuses version {version}" in log, log[-3000:]
    assert f"rolled back: live is release {live}" in log

    said = [entry for entry in house.ledger() if entry["version"] == version]
    assert [entry["action"] for entry in said] == ["registered", "gated", "approved", "promoted"]
    back = house.ledger()[-1]
    assert (back["action"], back["version"], back["previous"]) == ("rolled_back", live, version)
    for entry in (said[-1], back):
        assert f"{RELEASE} {run}" in entry["actor"]
    assert "index.faiss" in back["evidence"]["reason"]

    [told] = house.inbox.of_run(run)
    assert (told["dag"], told["task"]) == (RELEASE, "verify")
    assert f"{RELEASE}.verify failed" in told["what"]
    assert f"rolled back: live is release {live}" in told["what"]
    ready = house.wait_for("the server is content again", lambda: content(house), 60)
    assert ready["release"] == live


def content(house) -> dict | None:
    said = httpx.get(f"{house.server}/readyz", timeout=30).json()
    return said if said["status"] == "ready" else None


def test_who_is_late_is_told_of_and_who_has_ended_is_not(open_house):
    house, what = open_house, f"{TRAIN} has not ended within 72 h"
    waiting = house.trigger(TRAIN, out="never")  # the DAG is paused: its run stands in the queue, as a forgotten one
    [deadline] = house.deadlines(TRAIN, waiting)
    queued = datetime.fromisoformat(house.get(f"/dags/{TRAIN}/dagRuns/{waiting}")["queued_at"])
    assert datetime.fromisoformat(deadline["deadline_time"]) - queued == timedelta(hours=72)
    assert house.inbox.of_run(waiting) == []
    assert house.let_deadline_pass(TRAIN, waiting) == "success"
    assert [(told["what"], told["dag"]) for told in house.inbox.of_run(waiting)] == [(what, TRAIN)]
    assert what in house.callback_log(TRAIN, waiting)
    house.delete_run(TRAIN, waiting)

    # Airflow drops the deadlines of runs that succeed. A failed one keeps its own: it was told of when it failed.
    runs = {state: run for run, state in house.runs(NIGHTLY).items()}
    assert house.deadlines(NIGHTLY, runs["success"]) == []
    told = house.inbox.of_run(runs["failed"])
    assert house.let_deadline_pass(NIGHTLY, runs["failed"]) == "success"
    assert house.inbox.of_run(runs["failed"]) == told
