"""Stream and batch agree: the same changes through Beam and through Spark, and old release + overlay = new release."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from comparison import differences, rows_of
from harness import copy_home
from traffic import open_traffic, pictures_needed, record

from lookalike.contracts.change import Topic
from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import EMBEDDINGS, REFUSED, SILVER
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

pytestmark = pytest.mark.slow
BENCH = Path(__file__).parents[3] / "bench"
CHANGES = 200
RETRIES = ("--set", "stream.retry_seconds=0.2", "--set", "stream.retry_attempts=2")


def cli(home, *arguments: str) -> dict:
    command = [sys.executable, "-m", "lookalike.cli", "--home", str(home), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def awkward(bodies: list[dict]) -> list[dict]:
    """Beside honest traffic: repeats, changes that come late, attributes of nobody, a missing picture."""
    dice = random.Random(2)
    upsert = next(body for body in bodies if body["kind"] == "upsert")
    missing = upsert | {"item_id": "x:no-picture", "product": upsert["product"] | {"image_path": "zz/none.png"}}
    nobody = {key: value for key, value in upsert.items() if key != "product"}
    nobody |= {"item_id": "x:nobody", "kind": "attributes", "columns": {"price": 1.0}}
    late = [body | {"version": 1} for body in dice.sample(bodies, 8)]
    mixed = bodies + dice.sample(bodies, 10)
    for extra in (*late, missing, nobody):
        mixed.insert(dice.randrange(100, len(mixed)), extra)
    return mixed


def recorded(home: Path, target: Path) -> int:
    """The topic as a file that the batch path takes."""
    log = open_log(load_settings(home=home))
    lines = [
        json.dumps(
            {"partition": place, "offset": row.offset, "appended_ms": row.appended_ms, "value": row.value.decode()}
        )
        for place in range(log.partitions)
        for row in log.read(Topic.CHANGES, place, 0, 10_000)
    ]
    target.write_text("\n".join(lines) + "\n")
    return len(lines)


def test_the_same_changes_through_beam_and_through_spark_give_equal_tables(stream_home, tmp_path):
    """Then the old release with its overlay answers as the new release that is built from these tables."""
    settings = load_settings(home=stream_home)
    traffic = open_traffic(settings, pictures_needed(CHANGES))
    bodies = awkward([change.body for change in record(traffic, CHANGES)])
    by_spark = copy_home(stream_home, tmp_path / "by-spark")
    log = open_log(settings)
    for body in bodies:
        log.append(Topic.CHANGES, [Message(body["item_id"].encode(), json.dumps(body).encode())])
    log.append(Topic.CHANGES, [Message(b"broken", b"{not json")])

    cli(stream_home, *RETRIES, "stream", "--once")
    folded = cli(stream_home, "fold")
    assert folded["items"] > 50, "the traffic must have changed something"
    assert cli(stream_home, "fold")["changes"] == 0, "a second fold finds nothing to do"

    assert recorded(stream_home, tmp_path / "changes.jsonl") == len(bodies) + 1
    cli(by_spark, "ingest", "--changes", str(tmp_path / "changes.jsonl"))
    cli(by_spark, "embed")

    other = load_settings(home=by_spark)
    for contract in (SILVER, EMBEDDINGS):
        assert differences(settings, other, contract) == []
    columns = ("item_id", "reason", "payload")
    refused = [
        {key: tuple(row[name] for name in columns) for key, row in rows_of(each, REFUSED).items()}
        for each in (settings, other)
    ]
    assert refused[0] == refused[1]
    assert {"version_behind", "unknown_item", "picture_missing", "malformed"} <= {row[1] for row in refused[0].values()}

    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    asked = [sys.executable, str(BENCH / "same_answers.py"), "--home", str(stream_home), "--queries", "300"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
