"""The real commands killed in the middle and run again: backfill over three nights, and a re-embed in chunks."""

import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from lookalike.contracts.tables import BRONZE, EMBEDDINGS, REFUSED, SILVER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

NIGHTS = ("2026-11-18", "2026-11-19", "2026-11-20")
ITEMS = 12
DEADLINE = 800


@pytest.fixture
def shop(make_night_home, row):
    """Three nights of a small shop: prices and pictures change, items come and go, one row is bad."""
    home = make_night_home("undisturbed")
    for number, night in enumerate(NIGHTS):
        rows = [
            row(f"i{item}", 1 + (item % 3 == number), home.picture(item + 50 * (item == number)))
            for item in range(number, ITEMS + number)
        ]
        rows.append(row(f"bad{number}", 1, "nowhere.png"))
        home.snapshot(f"night-{number}", rows, f"{night}T02:00:00+00:00")
    return home


def kill_when(command, ready, cwd):
    """Start the command with its own process group and SIGKILL all of it as soon as `ready` says so."""
    with (cwd / "killed.log").open("w") as log:
        process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log, cwd=cwd)
    try:
        until = time.monotonic() + DEADLINE
        while not ready():
            assert process.poll() is None, f"it ended before it could be killed:\n{(cwd / 'killed.log').read_text()}"
            assert time.monotonic() < until, "what was waited for did not come"
            time.sleep(0.05)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def version_of(home, name) -> int:
    return home.tables.version(name) if home.tables.exists(name) else -1


def contents(home):
    refused = home.tables.read(REFUSED, order_by="snapshot_id, row_number").to_pylist()
    return (
        home.tables.read(SILVER, order_by="item_id").to_pylist(),
        [{name: value for name, value in one.items() if name != "refused_at"} for one in refused],
        home.tables.count(BRONZE),
    )


def test_a_backfill_killed_in_its_second_night_comes_out_as_an_undisturbed_one(shop, tmp_path):
    killed = shop.copy(tmp_path / "killed")
    report, _ = shop.run("backfill", "--from", NIGHTS[0], "--to", "2026-11-21")
    assert [night["ingest"]["night"] for night in report["nights"]] == [*NIGHTS, "2026-11-21"]
    assert (report["with_snapshot"], report["nights"][3]["embedded"]) == (3, [])

    command = killed.command("backfill", "--from", NIGHTS[0], "--to", "2026-11-21")
    kill_when(command, lambda: version_of(killed, "bronze") >= 2, tmp_path)  # the second night's rows have just come
    done = {row["snapshot_id"] for row in killed.tables.read(REFUSED, ["snapshot_id"]).to_pylist()}
    assert done == {"night-0"}
    assert killed.tables.count(EMBEDDINGS) == ITEMS
    killed.run("backfill", "--from", NIGHTS[0], "--to", "2026-11-21")
    assert contents(killed) == contents(shop)
    assert {row["item_id"] for row in contents(shop)[0] if row["deleted"]} == {"i0", "i1"}
    mine, theirs = (home.tables.read(EMBEDDINGS, order_by="item_id").to_pylist() for home in (killed, shop))
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one.pop("vector"), other.pop("vector"), atol=1e-5)
        assert one.pop("l2_norm") == pytest.approx(other.pop("l2_norm"), abs=1e-5)
        assert one == other

    versions = {name: version_of(shop, name) for name in ("bronze", "silver", "embeddings", "refused")}
    again, _ = shop.run("backfill", "--from", NIGHTS[0], "--to", "2026-11-21")
    assert (again["taken"], again["withdrawn"], again["embedded"]) == (0, 0, 0)
    assert {name: version_of(shop, name) for name in versions} == versions


def other_encoder(folder):
    """The packaged encoder with other weights, a whole encoder of its own space."""
    import torch
    from safetensors.torch import load_file, save_file

    from models.encoders import PACKAGED_FOLDER, open_encoder
    from models.probes import make_probe, write_probe

    shutil.copytree(PACKAGED_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(5)
    changed = {
        name: value * (1 + 0.2 * torch.rand(value.shape, generator=generator)) if value.is_floating_point() else value
        for name, value in weights.items()
    }
    save_file(changed, folder / "model.safetensors")
    encoder = open_encoder(str(folder), device="cpu")
    write_probe(folder, make_probe(encoder))
    return encoder.space


def test_a_reembed_killed_between_chunks_goes_on_and_both_spaces_stay_apart(shop, tmp_path):
    shop.run("backfill", "--from", NIGHTS[0], "--to", NIGHTS[0])
    old = shop.tables.read(EMBEDDINGS, order_by="item_id").to_pylist()
    space = other_encoder(tmp_path / "other")
    chunked = ("--set", "embed.chunk_items=4", "reembed")
    planned, _ = shop.run(*chunked, "plan", "--encoder", str(tmp_path / "other"))
    assert (planned["space"], planned["items"], planned["done"], planned["pictures"]) == (
        space.fingerprint, ITEMS, 0, ITEMS)  # fmt: skip
    assert planned["chunks"] == 3

    def in_new_space():
        return shop.tables.count(EMBEDDINGS, f"space = '{space.fingerprint}'")

    command = shop.command(*chunked, "run", "--encoder", str(tmp_path / "other"), "--items-per-second", "2")
    kill_when(command, lambda: in_new_space() > 0, tmp_path)
    left = ITEMS - in_new_space()
    assert 0 < left < ITEMS
    shop.run("reembed", "check", expect=1)
    rest, _ = shop.run(*chunked, "run")  # no encoder named: the one under way
    assert (rest["embedded"], rest["left"]) == (left, 0)
    checked, _ = shop.run("reembed", "check", "--encoder", str(tmp_path / "other"))
    assert checked["passed"]
    rows = shop.tables.read(EMBEDDINGS, order_by="item_id").to_pylist()
    assert [row for row in rows if row["space"] != space.fingerprint] == old
    assert len(rows) == 2 * ITEMS

    nightly, _ = shop.run("backfill", "--from", NIGHTS[1], "--to", NIGHTS[1])
    assert len(nightly["nights"][0]["embedded"]) == 2
    assert in_new_space() == shop.tables.count(EMBEDDINGS) // 2
