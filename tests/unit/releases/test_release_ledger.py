"""The ledger keeps every line, in order, and shows a line that a retry wrote twice once."""

from datetime import timedelta

from lookalike.releases.ledger import Ledger
from lookalike.releases.release import Action, LedgerEntry
from lookalike.storage.delta import DeltaTables


def test_entries_come_back_as_they_were_written_oldest_first(tmp_path, release):
    ledger = Ledger(DeltaTables(tmp_path / "tables"))
    assert ledger.entries() == []
    moved = LedgerEntry(
        release.created_at + timedelta(seconds=1.5), Action.PROMOTED, "2", "grace", "1", "e" * 64, {"why": ["a", 1]}
    )
    registered = LedgerEntry(release.created_at, Action.REGISTERED, "2", "ada")
    ledger.append(moved)
    ledger.append(registered)
    assert Ledger(DeltaTables(tmp_path / "tables")).entries() == [registered, moved]


def test_a_line_appended_twice_by_a_retry_is_shown_once(tmp_path, release):
    ledger = Ledger(DeltaTables(tmp_path / "tables"))
    entry = LedgerEntry(release.created_at, Action.PROMOTED, "2", "ada", "1")
    same_time_other_version = LedgerEntry(release.created_at, Action.PROMOTED, "3", "ada", "1")
    for line in (entry, entry, same_time_other_version):
        ledger.append(line)
    assert len(ledger.entries()) == 2
