"""`lookalike refused replay` as a schedule runs it: one JSON document, exit codes, and each row sent once."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from lookalike.contracts.change import Topic
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import REFUSED
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.opening import open_log

pytestmark = pytest.mark.slow


def test_each_row_once_with_its_counts_as_json(tmp_path):
    settings = Settings(home=tmp_path / "var")
    product = {"item_id": "i1", "version": 3, "title": "thing", "image_path": "p.png"}
    payloads = {"price_negative": json.dumps(product | {"price": -1}), "title_missing": "no JSON at all"}
    rows = [
        {"snapshot_id": "night", "row_number": number, "source": "shop", "item_id": "i1", "reason": reason,
         "detail": "d", "refused_at": datetime(2026, 11, 1, tzinfo=UTC), "payload": payload}
        for number, (reason, payload) in enumerate(payloads.items())
    ]  # fmt: skip
    DeltaTables(settings.tables_root).append(REFUSED, pa.Table.from_pylist(rows, schema=REFUSED.schema))

    def run(*words):
        command = [sys.executable, "-m", "lookalike.cli", "--home", str(settings.home), "--json", "refused", "replay"]
        return subprocess.run([*command, *words], capture_output=True, text=True, timeout=240)

    first, second, unclear = run("--all"), run("--all"), run()
    assert (first.returncode, second.returncode, unclear.returncode) == (0, 0, 2)
    told, again = json.loads(first.stdout), json.loads(second.stdout)
    assert (told["sent"], told["already"], told["unusable"]) == (1, 0, 1) and "not JSON" in told["first_problem"]
    assert (again["sent"], again["already"], again["unusable"]) == (0, 1, 1)
    assert unclear.stdout == "" and "--reason, --since or --item" in unclear.stderr
    log = open_log(settings)
    sent = [record for each in range(log.partitions) for record in log.read(Topic.CHANGES, each, 0, 10)]
    log.close()
    assert [json.loads(record.value)["product"]["price"] for record in sent] == [-1]
