"""`lookalike status` reads the latest report of each server from the log, and makes no log by looking."""

from datetime import UTC, datetime, timedelta

from lookalike.contracts.change import Topic
from lookalike.contracts.server_report import ServerReport
from lookalike.contracts.settings import Settings
from lookalike.line.reports import report_row, server_reports, server_rows
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def report(server, at=NOW, **more):
    overlay = {"items": 1_200, "lag": {"0": {"messages": 3, "seconds": 0.1}, "1": {"messages": 4, "seconds": 0.0}}}
    freshness = {"all": {"count": 9, "p50": 0.0512, "p99": 0.21}}
    fields = {"release": "7", "live": "7", "overlay": overlay, "freshness": freshness, "search_p99_ms": 12.4}
    return ServerReport(server=server, pid=1, started_at=NOW, at=at, **fields | more)


def test_looking_makes_no_log(tmp_path):
    settings = Settings(home=tmp_path / "var")
    assert server_rows(settings) == [] and not settings.home.exists()


def test_the_latest_of_each_server_and_nothing_that_is_no_report(tmp_path):
    settings = Settings(home=tmp_path / "var")
    log = open_log(settings)
    said = [("b:1", "6"), ("a:1", "7"), ("b:1", "7"), ("a:1", "8")]
    log.append(
        Topic.REPORTS, [Message(name.encode(), report(name, release=version).encode()) for name, version in said]
    )
    log.append(Topic.REPORTS, [Message(b"c:1", b"{")])
    log.close()
    assert [(each.server, each.release) for each in server_reports(settings)] == [("a:1", "8"), ("b:1", "7")]


def test_what_a_row_says():
    name, said = report_row(report("a:1"), NOW + timedelta(seconds=5))
    assert name == "server a:1"
    for words in ("release 7", "p50 51 ms, p99 210 ms", "1,200 changed items, 7 messages behind", "search p99 12 ms"):
        assert words in said
    assert "refused 8: broken" in report_row(report("a:1", refused="8: broken"), NOW)[1]
    _, silent = report_row(report("a:1"), NOW + timedelta(seconds=90))
    assert silent.startswith("silent since 2026-11-23 12:00:00 UTC") and "p99" not in silent
    assert report_row(report("a:1", stopped=True), NOW)[1] == "stopped at 2026-11-23 12:00:00 UTC"
    assert "release none" in report_row(report("a:1", release=None, overlay=None, freshness={}), NOW)[1]
