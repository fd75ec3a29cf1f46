"""What people see of decisions and moves: the rows of one moment, the figures of two verdicts, the comparison sheet."""

import io
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from PIL import Image

from lookalike.cli.contact_sheet import COLUMNS, HEADING, LABEL, MARGIN, TILE, write_comparison_sheet
from lookalike.cli.releases import evidence_rows
from lookalike.contracts.errors import NotFound, NotPromotable
from lookalike.contracts.query import Hit
from lookalike.contracts.verdict import Check
from lookalike.line.compare import SHOWN, Answers, changed_most, metrics_of
from lookalike.line.releases import LiveThen
from lookalike.releases.model_tags import decision_from_json, decision_json, intent_from_json, intent_json, ledger_tag
from lookalike.releases.proof import require_proof
from lookalike.releases.release import Action, Decision, LedgerEntry, Move
from lookalike.releases.verdict_file import write_verdict


def decided(release, what, verdict=None):
    verdict = verdict or release.verdict_sha256
    return replace(release, last_decision=Decision(what, verdict, "grace", release.created_at, "odd"))


def test_a_refusal_holds_on_its_own_verdict_only_and_changes_the_identity(release, passed):
    write_verdict(release.index_dir, passed)
    with pytest.raises(NotPromotable, match=r"refused by grace .*\(odd\)"):
        require_proof(decided(release, Action.REFUSED))
    earlier = decided(release, Action.REFUSED, verdict="e" * 64)
    assert require_proof(earlier) == passed == require_proof(decided(release, Action.APPROVED))
    assert earlier.decision is None and earlier.identity == release.identity
    assert decided(release, Action.REFUSED).identity != release.identity


def test_what_is_kept_in_tags_comes_back(release):
    decision = Decision(Action.APPROVED, "v" * 64, 'gräce "the 1st"', release.created_at, "fine, 'really'")
    assert decision_from_json(decision_json(decision)) == decision
    move = Move(Action.ROLLED_BACK, "2", "3", "ada", release.created_at, "v" * 64, reason="shoes")
    assert intent_from_json(intent_json(move)) == move
    key, said = ledger_tag(LedgerEntry(release.created_at, Action.PROMOTED, "2", "ada", "1", "abcdef" * 10))
    assert (key, said) == ("ledger 2026-03-01T12:00:00.000000Z", "promoted by ada, before 1, verdict abcdefabcdef")


def test_the_rows_of_a_moment_name_mover_verdict_decision_and_checks(release):
    at = release.created_at
    check = {"name": "recall@10", "passed": True, "observed": "0.98", "bar": "0.95"}
    verdict = LedgerEntry(at, Action.GATED, "2", "gate", None, "v" * 64, {"passed": True, "checks": [check]})
    decision = LedgerEntry(at, Action.APPROVED, "2", "grace", None, "v" * 64, {"comment": "fine"})
    move = LedgerEntry(at, Action.PROMOTED, "2", "ada", "1", "v" * 64, {"reason": "shoes"})
    rows = dict(evidence_rows(LiveThen("2", move, at + timedelta(hours=1), verdict, decision)))
    assert rows["live from"] == "2026-03-01 12:00:00 UTC until 2026-03-01 13:00:00 UTC"
    assert rows["promoted"] == "by ada, before: 1; reason: shoes"
    assert rows["approved"].endswith(": fine") and rows["recall@10"] == "0.98 (bar: 0.95)"
    assert rows["verdict"].startswith("passed vvvvvvvvvvvv by gate")
    assert dict(evidence_rows(LiveThen("2", move, None, None, None)))["verdict"] == "none that the ledger has"


def test_figures_stand_beside_those_of_the_same_name(passed):
    other = Check(name="size", passed=False, observed="9 bytes", bar="8 bytes")
    candidate = passed.model_copy(update={"checks": (*passed.checks, other)})
    assert [(m.name, m.candidate, m.live, m.passed) for m in metrics_of(candidate, passed)] == [
        ("recall@10", "0.98", "0.98", True), ("size", "9 bytes", "", False),
    ]  # fmt: skip
    assert metrics_of(None, passed) == () and metrics_of(passed, None)[0].live == ""


def hit(item_id):
    return Hit(item_id=item_id, score=0.5, part_scores=(0.5,), product={"title": item_id, "brand": "b"})


def test_shared_answers_are_counted_whatever_their_order():
    live, candidate = (tuple(hit(i) for i in ids) for ids in ("abc", "cxa"))
    assert Answers("q", live, candidate).shared == 2


def test_what_changed_most_comes_first_and_each_question_once():
    def answers(question, live, candidate):
        return Answers(question, *(tuple(hit(i) for i in ids) for ids in (live, candidate)))

    asked = [
        answers("words: same", "abc", "abc"),
        answers("words: one", "abc", "abx"),
        answers("words: all", "abc", "xyz"),
    ]
    asked += [answers("words: all", "abc", "xyz"), answers("words: order", "abc", "bac")]
    assert [each.question for each in changed_most(asked)] == ["words: all", "words: one", "words: order"]
    many = [answers(f"words: {n}", "abc", "xyz") for n in range(20) for _ in range(2)]
    assert len({each.question for each in changed_most(many)}) == len(changed_most(many)) == SHOWN


def test_the_comparison_sheet_frames_what_only_one_has_and_lives_without_a_picture(tmp_path):
    def read(item_id):
        if item_id == "lost":
            raise NotFound("no such item")
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (10, 200, 10)).save(buffer, "PNG")
        return buffer.getvalue()

    rows = [("words: ä", (("live 1", [hit("both"), hit("lost")]), ("candidate 2", [hit("both"), hit("new")])))]
    write_comparison_sheet(tmp_path / "deep" / "sheet.png", rows, read)
    with Image.open(tmp_path / "deep" / "sheet.png") as opened:
        sheet = np.asarray(opened.convert("RGB"))
    assert sheet.shape[1] == LABEL + COLUMNS * (TILE + MARGIN) + MARGIN
    top, left = MARGIN + HEADING, LABEL + MARGIN
    frames = [
        tuple(sheet[top + TILE // 2, left + number * (TILE + MARGIN) - 2]) == (0xD9, 0x48, 0x0F) for number in (0, 1)
    ]
    assert frames == [False, True]
    write_comparison_sheet(tmp_path / "empty.png", [("nothing changed", ())], read)
    assert (tmp_path / "empty.png").is_file()
