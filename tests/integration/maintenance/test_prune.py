"""Pruning on a real MLflow: what an alias, a server or the number keeps stays; the rest goes whole, told once."""

import json
import os
import time
from datetime import UTC, datetime

import pytest

from lookalike.contracts.change import Topic
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.server_report import ServerReport
from lookalike.line import prune as line_prune
from lookalike.line.prune import prune
from lookalike.quality.evidence import run_name
from lookalike.releases.prune import LEAVING_PREFIX, ReleaseRemover
from lookalike.releases.release import Action
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

pytestmark = pytest.mark.slow


@pytest.fixture
def seven(home):
    """Versions 1 to 7: 1 is previous, 2 live, 3 candidate, a server answers from 4."""
    for number in range(1, 8):
        assert home.release(f"r{number}", {"silver": 0}) == str(number)
    home.registry.promote("1", "ada")
    home.registry.promote("2", "ada")
    home.registry.set_candidate("3")
    now = datetime.now(UTC)
    log = open_log(home.settings)
    for server, release, stopped in (("a:1", "4", False), ("b:1", "5", True)):
        report = ServerReport(server=server, pid=1, started_at=now, at=now, release=release, live="2", stopped=stopped)
        log.append(Topic.REPORTS, [Message(server.encode(), report.encode())])
    log.close()
    week = home.settings.maintenance.model_copy(update={"retention_hours": 168})
    home.settings = home.settings.model_copy(update={"maintenance": week})
    return home


def versions(home):
    return sorted(int(release.version) for release in home.registry.releases())


def folders(home):
    return sorted(path.name for path in home.settings.releases_root.iterdir())


def removals(home):
    return [(entry.version, entry.actor) for entry in home.registry.history() if entry.action is Action.REMOVED]


def expected(*numbers):
    return sorted(name for number in numbers for name in (f"r{number}", f"r{number}.verdicts"))


def make(folder, age=0.0):
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"x" * 10)
    for path in (folder / "file", folder):
        os.utime(path, (time.time() - age,) * 2)
    return folder


def test_a_release_whose_list_centres_a_build_takes_stays(seven, progress):
    build = seven.settings.builds_root / "0123456789abcdef"
    build.mkdir(parents=True)
    (build / "pin.json").write_text(json.dumps({"table_versions": {}, "reusable": {"version": "5"}}))
    done = prune(seven.settings, 1, False, progress)
    assert done.removed == ("6",) and done.kept["5"] == "build 0123456789abcdef takes its list centres"


def test_what_is_in_use_or_new_stays(seven, progress):
    home = seven
    before = (versions(home), folders(home))
    told = prune(home.settings, 1, True, progress)
    assert (versions(home), folders(home), removals(home)) == (*before, [])
    done = prune(home.settings, 1, False, progress)
    assert sorted(done.removed) == sorted(told.removed) == ["5", "6"]
    assert [gone.folder.name for gone in told.folders] == [gone.folder.name for gone in done.folders]
    assert done.kept == {
        "1": "previous", "2": "live", "3": "candidate", "4": "server a:1 answers from it", "7": "among the 1 newest",
    }  # fmt: skip
    assert versions(home) == [1, 2, 3, 4, 7] and folders(home) == expected(1, 2, 3, 4, 7)
    assert sorted(version for version, _ in removals(home)) == ["5", "6"] and all(actor for _, actor in removals(home))
    again = prune(home.settings, 1, False, progress)
    assert (again.removed, again.folders) == ((), ()) and len(removals(home)) == 2
    assert home.release("r8", {"silver": 0}) == "8"  # a removed number is never given again


@pytest.mark.parametrize("dies_in", ["ledger", "registry", "folder"])
def test_cut_off_between_any_two_steps_and_run_again(seven, progress, monkeypatch, dies_in):
    home = seven

    class Died(Exception):
        pass

    def die(*_):
        raise Died

    with monkeypatch.context() as patched:
        if dies_in == "ledger":
            patched.setattr("lookalike.releases.ledger.Ledger.append", die)
        elif dies_in == "registry":
            real = ReleaseRemover._absent_is_none
            patched.setattr(
                ReleaseRemover,
                "_absent_is_none",
                lambda self, codes, method, *rest: die() if method == "delete_model_version" else
                real(self, codes, method, *rest),
            )  # fmt: skip
        else:
            patched.setattr("lookalike.releases.prune.shutil.rmtree", die)
        with pytest.raises(Died):
            prune(home.settings, 1, False, progress)
    if dies_in == "folder":
        assert any(name.startswith(LEAVING_PREFIX) for name in folders(home))
    prune(home.settings, 1, False, progress)
    assert versions(home) == [1, 2, 3, 4, 7] and folders(home) == expected(1, 2, 3, 4, 7)
    assert sorted(version for version, _ in removals(home)) == ["5", "6"]


def test_killed_anywhere_and_run_again(seven, progress, killed_upkeep):
    home = seven
    assert killed_upkeep("prune", home.settings, [0.05 * 1.5**number for number in range(9)]) >= 2
    prune(home.settings, 0, False, progress)
    assert versions(home) == [1, 2, 3, 4] and folders(home) == expected(1, 2, 3, 4)
    assert sorted(version for version, _ in removals(home)) == ["5", "6", "7"]


def test_an_alias_that_comes_meanwhile_wins(seven):
    home = seven
    release = home.registry.release("6")
    home.registry.set_candidate("6")
    assert not ReleaseRemover(home.settings).remove(release, {}, "ada")
    assert "6" in map(str, versions(home)) and removals(home) == []


def test_without_knowing_what_servers_do_nothing_goes(seven, progress, monkeypatch):
    def away(_settings):
        raise LookalikeError("the log is away")

    monkeypatch.setattr(line_prune, "server_reports", away)
    with pytest.raises(LookalikeError, match="the log is away"):
        prune(seven.settings, 0, False, progress)
    assert versions(seven) == list(range(1, 8))


def test_folders_of_nobody_go_when_they_are_old(seven, progress):
    home, month = seven, 40 * 86_400
    releases, builds, reports = (
        home.settings.releases_root, home.settings.home / "builds", home.settings.reports_root,
    )  # fmt: skip
    goes = [
        make(releases / "20260101T000000-nobody", month),
        make(releases / ".tmp-20260101T000000-x-1", month),
        make(releases / f"{LEAVING_PREFIX}r0-12"),
        make(builds / "stale", month),
    ]
    stays = [
        make(releases / "20261123T000000-nobody"),
        make(releases / ".tmp-20261123T000000-x-1"),
        make(builds / "fresh"),
        make(reports / "hand-made", month),
    ]
    kept, gone = home.registry.release("7").manifest_sha256, "f" * 64
    ancient, lately = datetime(2025, 1, 1, tzinfo=UTC), datetime.now(UTC)
    for kind in ("gate", "data-docs"):
        goes.append(make(reports / kind / run_name(ancient, gone)))
        stays += [make(reports / kind / run_name(ancient, kept)), make(reports / kind / run_name(lately, gone))]
    goes.append(make(reports / run_name(ancient, gone)))
    told = prune(home.settings, 9, True, progress)
    assert all(folder.is_dir() for folder in (*goes, *stays))
    done = prune(home.settings, 9, False, progress)
    assert {each.folder for each in done.folders} == {each.folder for each in told.folders} == set(goes)
    assert done.bytes == 10 * len(goes) and done.removed == ()
    assert all(folder.is_dir() for folder in stays) and not any(folder.exists() for folder in goes)
    assert versions(home) == list(range(1, 8)) and folders(home)[-14:] == expected(*range(1, 8))


def test_an_artifact_that_two_versions_share_stays_with_the_other(seven, progress):
    home = seven
    folder = home.settings.releases_root / "r5"
    home.registry._create_version("lookalike-index", folder, _tags_of(home, "5"))
    assert versions(home)[-1] == 8
    prune(home.settings, 1, False, progress)  # 8 is the newest and stays, 5 goes
    assert versions(home) == [1, 2, 3, 4, 8] and folders(home) == expected(1, 2, 3, 4, 5)


def _tags_of(home, version):
    return dict(home.registry._call("get_model_version", "lookalike-index", version).tags)
