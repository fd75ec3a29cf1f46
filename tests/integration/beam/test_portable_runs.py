"""The same pipelines on the local runner and on Prism, over copies of one home: equal outputs."""

import importlib.util
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.catalogue.changes import encode_change
from lookalike.contracts.change import CatalogueEvent, ChangeKind, Topic
from lookalike.contracts.product import Product
from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import CHANGES, REFUSED
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
AT = datetime(2026, 11, 23, 10, tzinfo=UTC)
RUN_SECONDS = 240


def helper(name: str):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def event(number: int, kind: ChangeKind, item: int, **more) -> Message:
    item_id = f"item-{item}"
    change = CatalogueEvent(
        kind=kind, item_id=item_id, version=number, event_time=AT + timedelta(seconds=number), source="shop", **more
    )
    return Message(item_id.encode(), encode_change(change))


def fill(home: Path) -> None:
    """Changes of every kind, also such as must be refused or parked, over a few pictures."""
    settings = load_settings(home=home)
    settings.pictures_root.mkdir(parents=True)
    dice = np.random.default_rng(5)
    for name in range(4):
        pixels = dice.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(settings.pictures_root / f"{name}.png")
    messages = []
    for number in range(1, 61):
        item = int(dice.integers(12))
        kind = (ChangeKind.UPSERT, ChangeKind.ATTRIBUTES, ChangeKind.DELETE, ChangeKind.RESTORE)[number % 4]
        more = {}
        if kind is ChangeKind.UPSERT:
            picture = f"{item % 4}.png" if item else "missing.png"
            more["product"] = Product(item_id=f"item-{item}", version=number, title=f"No {number}", image_path=picture)
        elif kind is ChangeKind.ATTRIBUTES:
            more["columns"] = {"price": number / 4}
        messages.append(event(number, kind, item, **more))
    messages.append(Message(b"item-3", b"{no json"))
    messages.append(event(1, ChangeKind.DELETE, 3))
    log = open_log(settings)
    log.append(Topic.CHANGES, messages)
    log.close()


def run(home: Path, name: str, runner: str, *extra: str) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "run_pipeline.py"), str(home), name, runner, *extra],
        capture_output=True, text=True, timeout=RUN_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def published(home: Path) -> dict[str, tuple]:
    """Last state and vectors of every item, and what was refused of which change."""
    log = open_log(load_settings(home=home))
    items, refused = {}, set()
    for partition in range(log.partitions):
        for record in log.read(Topic.UPDATES, partition, 0, 10**6):
            update = VectorUpdate.decode(record.value)
            if update.state is not None:
                vectors = {space: np.round(vector, 5).tolist() for space, vector in update.vectors.items()}
                items[update.state.item_id] = (update.state.to_json(), vectors)
        for record in log.read(Topic.REFUSED, partition, 0, 10**6):
            body = json.loads(record.value)
            refused.add((body["partition"], body["offset"], body["reason"]))
    log.close()
    return {"items": items, "refused": refused}


def archived(home: Path) -> dict[str, list]:
    tables = DeltaTables(load_settings(home=home).tables_root)
    changes = tables.read(CHANGES, ("partition", "offset", "state"), order_by="partition, offset").to_pylist()
    refused = tables.read(REFUSED, ("snapshot_id", "row_number", "reason"), order_by="snapshot_id, row_number")
    return {"changes": changes, "refused": refused.to_pylist()}


def test_both_pipelines_give_equal_outputs_on_the_local_runner_and_on_prism(tmp_path):
    binary = helper("prism_binary").prism_binary()
    prism = ("PrismRunner", f"--prism_location={binary}", "--environment_type=LOOPBACK")
    one, other = tmp_path / "one", tmp_path / "other"
    fill(one)
    shutil.copytree(one, other)
    run(one, "enrich", "local")
    run(other, "enrich", *prism)
    expected = published(one)
    assert len(expected["items"]) > 5 and len(expected["refused"]) > 2
    assert any(vectors for _, vectors in expected["items"].values())
    assert published(other) == expected

    third = tmp_path / "third"
    shutil.copytree(one, third)
    run(one, "archive", "local")
    run(third, "archive", *prism)
    rows = archived(one)
    assert len(rows["changes"]) >= len(expected["items"]) and rows["refused"]
    assert archived(third) == rows
