"""What each server said last about itself, read from the log: no server needs to be reachable."""

from collections.abc import Iterator
from datetime import UTC, datetime

from lookalike.contracts.change import Topic
from lookalike.contracts.server_report import ServerReport
from lookalike.contracts.settings import Settings
from lookalike.storage.log.port import Log

SILENT_SECONDS = 60.0
BATCH = 1_000
WAIT_SECONDS = 1.0


def server_reports(settings: Settings) -> list[ServerReport]:
    """The latest report of each server, by name. Empty where there is no log yet. Raises LogUnavailable."""
    from lookalike.storage.log.opening import open_log

    if settings.log.kind == "sqlite" and not settings.log_path.exists():
        return []  # looking must not make one
    log = open_log(settings)
    try:
        latest: dict[bytes, bytes] = {}
        for partition in range(log.partitions):
            latest |= dict(_messages(log, partition))
    finally:
        log.close()
    reports = [ServerReport.decode(value) for value in latest.values()]
    return sorted((report for report in reports if report is not None), key=lambda report: report.server)


def report_row(report: ServerReport, now: datetime) -> tuple[str, str]:
    """A server as a row of `lookalike status`."""
    name = f"server {report.server}"
    if report.stopped:
        return name, f"stopped at {_time(report.at)}"
    if (now - report.at).total_seconds() > SILENT_SECONDS:
        return name, f"silent since {_time(report.at)} (served release {report.release or 'none'})"
    parts = [f"release {report.release or 'none'}"]
    if report.refused:
        parts.append(f"refused {report.refused}")
    overlay = report.overlay or {}
    fresh = report.freshness.get("all")
    if fresh:
        parts.append(f"changes visible after p50 {fresh['p50'] * 1000:,.0f} ms, p99 {fresh['p99'] * 1000:,.0f} ms")
    if overlay:
        lag = sum(each["messages"] for each in overlay["lag"].values())
        parts.append(f"{overlay['items']:,} changed items, {lag:,} messages behind")
    if overlay.get("problem"):
        parts.append(overlay["problem"])
    parts.append(f"{report.requests_per_second:g} requests/s")
    if report.search_p99_ms is not None:
        parts.append(f"search p99 {report.search_p99_ms:,.0f} ms")
    return name, "; ".join(parts)


def server_rows(settings: Settings) -> list[tuple[str, str]]:
    """All servers that ever reported, as far back as the log goes."""
    now = datetime.now(UTC)
    return [report_row(report, now) for report in server_reports(settings)]


def _messages(log: Log, partition: int) -> Iterator[tuple[bytes, bytes]]:
    offset = log.low_watermark(Topic.REPORTS, partition)
    end = log.high_watermark(Topic.REPORTS, partition)
    while offset < end:
        records = log.read(Topic.REPORTS, partition, offset, BATCH, WAIT_SECONDS)
        if not records:
            return
        yield from ((record.key, record.value) for record in records)
        offset = records[-1].offset + 1


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
