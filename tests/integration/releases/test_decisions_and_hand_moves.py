"""People's decisions hold, moves made in MLflow are written down once, and the ledger says what was live and why."""

import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime, timedelta

import pytest

from lookalike.contracts.errors import LookalikeError, NotPromotable
from lookalike.contracts.settings import ReleaseSettings
from lookalike.line.releases import live_at, unexplained_live
from lookalike.line.status import _release_cell
from lookalike.releases.pointer import BY_HAND, INTENT
from lookalike.releases.proof import require_proof
from lookalike.releases.registry import Registry
from lookalike.releases.release import MOVES, Action, Alias

pytestmark = pytest.mark.slow


def moves(registry):
    return [(e.action.value, e.version, e.previous) for e in registry.history() if e.action in MOVES]


def tags(shelf, version):
    from mlflow import MlflowClient

    return MlflowClient(shelf.settings.tracking_uri).get_model_version("lookalike-index", version).tags


def test_with_a_person_nothing_is_promoted_without_an_approval_of_this_verdict(shelf):
    registry = shelf.with_settings(release=ReleaseSettings(approval="person"))
    version = shelf.judged().version
    with pytest.raises(NotPromotable, match="awaits a person's approval"):
        registry.promote(version, "ada")
    registry.decide(version, Action.APPROVED, "grace", "looks right")
    shelf.judge(version)
    with pytest.raises(NotPromotable, match="awaits"):  # judged again since: the approval was of the verdict before
        registry.promote(version, "ada")
    line = registry.decide(version, Action.APPROVED, "grace", "still right")
    assert registry.promote(version, "ada").changed
    assert line.evidence["comment"] == "still right" and line.verdict_sha256 == registry.release(version).verdict_sha256
    assert registry.promote(version, "ada").changed is False


def test_automatic_needs_no_approval_and_a_failed_verdict_cannot_be_approved(shelf):
    good, bad = shelf.judged(), shelf.judged(passed=False)
    assert shelf.registry.promote(good.version, "ada").changed
    with pytest.raises(NotPromotable, match="did not pass the gate"):
        shelf.registry.decide(bad.version, Action.APPROVED, "grace")
    with pytest.raises(NotPromotable, match="has no verdict"):
        shelf.registry.decide(shelf.register().version, Action.REFUSED, "grace")


def test_a_refused_release_is_taken_by_nobody_until_it_is_approved_or_judged_again(shelf):
    registry, version = shelf.registry, shelf.judged().version
    for _ in range(2):
        registry.decide(version, Action.REFUSED, "grace", "odd pictures")
    assert [e.actor for e in registry.history() if e.action is Action.REFUSED] == ["grace"]
    assert registry.alias(Alias.CANDIDATE).version == version
    with pytest.raises(NotPromotable, match=r"refused by grace .* \(odd pictures\)"):
        registry.promote(version, "ada")
    shelf.by_hand(version)
    with pytest.raises(NotPromotable, match="refused by grace"):  # what a server asks before it opens anything
        require_proof(registry.live())
    assert "SERVERS REFUSE IT" in _release_cell(Alias.LIVE, registry.live())
    refused = registry.live().identity
    registry.decide(version, Action.APPROVED, "grace")
    assert require_proof(registry.live()).passed and registry.live().identity != refused
    with pytest.raises(LookalikeError, match="is live; `lookalike rollback` first"):
        registry.decide(version, Action.REFUSED, "grace")


def test_a_decision_that_was_cut_off_before_its_line_is_finished_by_repeating_it(shelf, monkeypatch):
    version = shelf.judged().version
    with monkeypatch.context() as patched:
        patched.setattr(shelf.registry._ledger, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            shelf.registry.decide(version, Action.REFUSED, "grace")
    with pytest.raises(NotPromotable, match="refused by grace"):
        shelf.registry.promote(version, "ada")
    shelf.registry.decide(version, Action.REFUSED, "grace")
    assert [e.version for e in shelf.registry.history() if e.action is Action.REFUSED] == [version]


def test_a_move_by_hand_becomes_one_line_however_many_servers_see_it(shelf):
    for _ in range(2):
        shelf.judged()
    shelf.registry.promote("1", "ada")
    shelf.by_hand("2")
    assert unexplained_live(shelf.settings) == "2"
    servers = [Registry(shelf.settings) for _ in range(4)]
    start = threading.Barrier(4)

    def see(number):
        start.wait()
        servers[number].note_move(f"server {number}")

    threads = [threading.Thread(target=see, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert moves(shelf.registry) == [("promoted", "1", None), ("moved", "2", "1")]
    line = shelf.registry.history()[-1]
    assert line.actor == f"someone ({BY_HAND})" and line.verdict_sha256 == shelf.registry.release("2").verdict_sha256
    assert line.evidence["seen_by"].startswith("server ") and line.evidence["servers_refuse_it"] is None
    assert shelf.registry.alias(Alias.PREVIOUS).version == "1" and unexplained_live(shelf.settings) is None
    assert [value for key, value in tags(shelf, "2").items() if key.startswith("ledger ")] == [
        f"moved by someone ({BY_HAND}), before 1, verdict {line.verdict_sha256[:12]}"
    ]
    assert shelf.registry.rollback("ada").version == "1"


def test_servers_of_several_machines_have_no_lock_in_common_and_still_write_one_line(shelf, monkeypatch):
    for _ in range(2):
        shelf.judged()
    shelf.registry.promote("1", "ada")
    shelf.by_hand("2")
    first, second = Registry(shelf.settings), Registry(shelf.settings)
    before = second.last_move()
    assert first.note_move("server a") is not None
    monkeypatch.setattr(second, "last_move", lambda: before)  # it read the ledger just before the other wrote
    assert second.note_move("server b") is None
    assert moves(shelf.registry) == [("promoted", "1", None), ("moved", "2", "1")]


def test_to_and_fro_by_hand_is_a_line_each_and_the_mover_is_named_where_a_tag_says_so(shelf):
    for _ in range(2):
        shelf.judged()
    shelf.registry.promote("1", "ada")
    shelf.registry._call("set_model_version_tag", "lookalike-index", "2", "moved_by", "linus")
    for version in ("2", "1", "2"):
        shelf.by_hand(version)
        shelf.registry.note_move("server a")
    assert moves(shelf.registry)[1:] == [("moved", "2", "1"), ("moved", "1", "2"), ("moved", "2", "1")]
    assert shelf.registry.history()[-1].actor == f"linus ({BY_HAND})"


def test_a_move_by_hand_that_no_server_saw_is_written_down_by_the_next_move(shelf):
    for _ in range(3):
        shelf.judged()
    shelf.registry.promote("1", "ada")
    shelf.by_hand("2")
    Registry(shelf.settings).promote("3", "ada")
    assert moves(shelf.registry) == [("promoted", "1", None), ("moved", "2", "1"), ("promoted", "3", "2")]


def test_a_promotion_that_died_half_way_is_no_move_by_hand(shelf, monkeypatch):
    for _ in range(2):
        shelf.judged()
    shelf.registry.promote("1", "ada")
    with monkeypatch.context() as patched:
        patched.setattr(shelf.registry, "_complete", lambda move: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            shelf.registry.promote("2", "grace")
    Registry(shelf.settings).note_move("server a")
    assert moves(shelf.registry) == [("promoted", "1", None), ("promoted", "2", "1")]
    assert shelf.registry.history()[-1].actor == "grace"
    assert INTENT not in shelf.registry._call("get_registered_model", "lookalike-index").tags


def test_a_move_by_hand_to_an_unjudged_version_says_why_servers_refuse_it(shelf):
    shelf.registry.promote(shelf.judged().version, "ada")
    shelf.by_hand(shelf.register().version)
    line = shelf.registry.note_move("server a")
    assert "has no verdict" in line.evidence["servers_refuse_it"] and line.verdict_sha256 is None


def test_what_was_live_at_a_time_who_moved_it_and_on_what_evidence(shelf):
    start = datetime.now(UTC)
    for _ in range(2):
        shelf.judged()
    shelf.registry.decide("1", Action.APPROVED, "grace", "fine")
    first = shelf.registry.promote("1", "ada")
    second = shelf.registry.promote("2", "ada")
    shelf.by_hand("1")
    assert live_at(shelf.settings, start) is None
    then = live_at(shelf.settings, second.at - timedelta(microseconds=1))
    assert (then.version, then.move.actor, then.until, then.unexplained) == ("1", "ada", second.at, None)
    assert then.verdict.evidence["checks"][0]["observed"] == "0.98" and then.decision.evidence["comment"] == "fine"
    assert live_at(shelf.settings, first.at).move.at == first.at
    now = live_at(shelf.settings, datetime.now(UTC))
    assert (now.version, now.until, now.decision, now.unexplained) == ("2", None, None, "1")
    shelf.registry.note_move("server a")
    now = live_at(shelf.settings, datetime.now(UTC))
    assert (now.version, now.move.action, now.unexplained) == ("1", Action.MOVED, None)


def test_moves_are_shown_among_the_versions_tags(shelf):
    for _ in range(2):
        shelf.judged()
    shelf.registry.promote("1", "ada")
    shelf.registry.promote("2", "grace")
    move = shelf.registry.rollback("ada", reason="pictures missing")
    said = [value for key, value in sorted(tags(shelf, "1").items()) if key.startswith("ledger ")]
    assert [value.split(", verdict")[0] for value in said] == ["promoted by ada", "rolled_back by ada, before 2"]
    assert shelf.registry.history()[-1].evidence == {"reason": "pictures missing"} and move.reason


def test_a_roll_back_meant_for_one_version_leaves_another_alone(shelf):
    for _ in range(2):
        shelf.judged()
        shelf.registry.promote(str(shelf.count), "ada")
    with pytest.raises(LookalikeError, match="live is version 2 by now, not 1"):
        shelf.registry.rollback("ada", only_from="1")
    assert shelf.registry.live().version == "2"


def test_a_roll_back_imports_neither_airflow_nor_spark_nor_mlflow(shelf):
    for _ in range(2):
        shelf.judged()
        shelf.registry.promote(str(shelf.count), "ada")
    program = """
        import sys
        from lookalike.cli.main import main
        sys.argv[1:] = ["--json", "--home", sys.argv[1], "rollback"]
        try:
            main()
        finally:
            heavy = {"airflow", "pyspark", "delta", "mlflow", "pandas", "torch", "faiss", "apache_beam"}
            sys.stderr.write(f"loaded: {sorted(heavy & set(sys.modules))}")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(shelf.settings.home)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "loaded: []")
    assert shelf.registry.live().version == "1" and moves(shelf.registry)[-1] == ("rolled_back", "1", "2")
