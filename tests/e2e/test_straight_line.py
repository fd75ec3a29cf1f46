"""From an empty folder to a served release by the real command, again with nothing changed, and with planted faults."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from deltalake import DeltaTable, write_deltalake

from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.line.build import build
from lookalike.line.gate import gate
from lookalike.line.releases import promote
from lookalike.releases.registry import Registry
from lookalike.storage.delta import DeltaTables

pytestmark = pytest.mark.slow


def lookalike(*arguments: str, home: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lookalike.cli", "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


def live_version(home: Path) -> str:
    return Registry(load_settings(home=home)).live().version


@pytest.fixture
def tables_home(demo_home, tmp_path):
    """A copy of the finished demo's tables without its registry: faults planted here hurt nobody else."""
    home = tmp_path / "home"
    for part in ("tables", "pictures", "snapshots"):
        shutil.copytree(demo_home.home / part, home / part, ignore=shutil.ignore_patterns("ledger"))
    return home


@pytest.fixture
def copied_home(tables_home):
    """The same with a live release of its own."""
    settings = load_settings(home=tables_home)
    built = build(settings, LogProgress())
    assert gate(settings, LogProgress(), built.version).passed
    assert promote(settings, built.version).version == "1"
    return tables_home


def test_the_demo_holds_from_an_empty_folder(demo_home):
    report = demo_home.report
    assert report["release"] == "1"
    assert report["items"] == 8_416  # the packages are pinned
    assert all(search["held"] for search in report["searches"]), report["searches"]
    assert len(report["searches"]) >= 8


def test_every_row_is_accounted_for(demo_home):
    tables = DeltaTables(load_settings(home=demo_home.home).tables_root)
    silver = tables.read(SILVER, ["item_id", "content_hash"], where="NOT deleted")
    vectors = tables.read(EMBEDDINGS, ["item_id", "content_hash", "vector"])
    pairs = {(row["item_id"], row["content_hash"]) for row in silver.to_pylist()}
    assert {(row["item_id"], row["content_hash"]) for row in vectors.drop(["vector"]).to_pylist()} == pairs
    assert len(pairs) == silver.num_rows == demo_home.report["items"]


def test_a_second_run_embeds_nothing_and_keeps_the_release(demo_home):
    before = live_version(demo_home.home)
    done = lookalike("--json", "demo", "--check", "--port", "0", home=demo_home.home)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["embedded"] == 0
    assert again["release"] == before == live_version(demo_home.home)


def test_a_table_that_lost_a_fifth_of_its_rows_stops_at_the_gate(copied_home):
    tables = DeltaTables(load_settings(home=copied_home).tables_root)
    silver = DeltaTable(tables.uri(SILVER.name))
    silver.delete("ascii(substr(md5(item_id), 1, 1)) IN (97, 98, 99)")  # md5 starts with a, b or c: 3 of 16
    before = live_version(copied_home)
    assert lookalike("build", home=copied_home).returncode == 0
    gated = lookalike("gate", home=copied_home)
    assert gated.returncode == 1, gated.stdout + gated.stderr
    assert "row_loss" in gated.stdout
    promoted = lookalike("promote", home=copied_home)
    assert promoted.returncode == 2
    assert "row_loss" in promoted.stderr
    assert live_version(copied_home) == before


@pytest.mark.parametrize("fault", ["nan", "other_space"])
def test_an_unfit_vector_stops_the_build_with_its_item(tables_home, fault):
    tables = DeltaTables(load_settings(home=tables_home).tables_root)
    rows = tables.read(EMBEDDINGS)
    broken = rows.slice(0, 1).to_pylist()[0]
    if fault == "nan":
        broken["vector"][3] = float("nan")
    else:
        broken["vector"] = broken["vector"][: len(broken["vector"]) // 2]
    changed = [broken, *rows.slice(1).to_pylist()]
    write_deltalake(
        tables.uri(EMBEDDINGS.name),
        rows.from_pylist(changed, schema=rows.schema),
        mode="overwrite",
        partition_by=list(EMBEDDINGS.partition_by),
    )
    done = lookalike("build", home=tables_home)
    assert done.returncode == 2, done.stdout + done.stderr
    assert broken["item_id"] in done.stderr


def test_a_flipped_byte_fails_the_gate_and_cannot_be_searched(copied_home):
    release = Registry(load_settings(home=copied_home)).live()
    index = release.index_dir / "index.faiss"
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.chmod(0o644)
    index.write_bytes(data)
    gated = lookalike("gate", release.version, home=copied_home)
    assert gated.returncode == 1, gated.stdout + gated.stderr
    assert "manifest_checksums" in gated.stdout
    searched = lookalike("search", "pizza", home=copied_home)
    assert searched.returncode == 2
    assert "Traceback" not in searched.stderr


def test_ctrl_c_leaves_no_server_behind_and_says_how_to_go_on(demo_home, tmp_path):
    command = [sys.executable, "-m", "lookalike.cli", "--home", str(demo_home.home), "demo", "--port", "0"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        # A shell that starts tests in the background lets them ignore SIGINT, and children inherit that.
        heard = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
        process = subprocess.Popen(command, stderr=output, stdout=output, start_new_session=True, preexec_fn=heard)  # noqa: PLW1509
        try:
            deadline = time.monotonic() + 120
            while b"(Ctrl-C stops)" not in log.read_bytes() and time.monotonic() < deadline:
                time.sleep(0.2)
            url = re.search(r"open (http://\S+)", log.read_text())[1]
            assert httpx.get(f"{url}/healthz").status_code == 200
            os.kill(process.pid, signal.SIGINT)  # the parent alone: it has to stop its server itself
            assert process.wait(60) == 130
        finally:
            process.kill()
    assert "run the same command again" in log.read_text()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/healthz")


def test_search_from_the_command_line_writes_a_contact_sheet(demo_home, tmp_path):
    from PIL import Image

    sheet = tmp_path / "sheet.png"
    done = lookalike("--json", "search", "pizza", "--where", "brand=noto", "--sheet", str(sheet), home=demo_home.home)
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)["hits"]
    assert hits[0]["item_id"] == "noto:pizza"
    assert {hit["product"]["brand"] for hit in hits} == {"noto"}
    with Image.open(sheet) as picture:
        assert picture.size == (6 * 138 + 10, 2 * 182 + 10)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100


def test_roll_back_and_forth_is_in_the_ledger(copied_home):
    assert lookalike("build", "--recipe", "hnsw", home=copied_home).returncode == 0
    assert lookalike("gate", home=copied_home).returncode == 0
    assert lookalike("promote", home=copied_home).returncode == 0
    assert live_version(copied_home) == "2"
    assert lookalike("rollback", home=copied_home).returncode == 0
    assert live_version(copied_home) == "1"
    ledger = json.loads(lookalike("--json", "releases", home=copied_home).stdout)["ledger"]
    moves = [(entry["action"], entry["version"]) for entry in ledger if entry["action"] in {"promoted", "rolled_back"}]
    assert moves == [("rolled_back", "1"), ("promoted", "2"), ("promoted", "1")]
    assert all(entry["verdict_sha256"] for entry in ledger if entry["action"] in {"promoted", "rolled_back"})
