"""A home with an embedded log, messages at chosen times, and the server of the serving tests."""

import importlib.util
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lookalike.contracts.change import Topic
from lookalike.contracts.feedback import Click, Impression, new_search_id
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.line.feedback import feedback
from lookalike.serving.app import create_app
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.port import Message
from lookalike.storage.log.sqlite import SqliteLog

DAY = datetime(2026, 3, 10, tzinfo=UTC)
LATER = DAY + timedelta(days=30)


class Day:
    """Writes messages of a day into a log and reports on it."""

    def __init__(self, home):
        self.settings = Settings(home=home)
        self.log = SqliteLog(self.settings.log_path, self.settings.log.partitions, 1e6)
        self.tables = DeltaTables(self.settings.tables_root)

    def send(self, *messages):
        values = [Message(each.search_id.encode(), each.encode()) for each in messages]
        return self.log.append(Topic.FEEDBACK, values)

    def shown(self, at, items, release="1", kind="words", start=0):
        search_id = new_search_id(int(at.timestamp() * 1000), kept=True)
        return Impression(
            search_id=search_id, release=release, query_kind=kind, start=start, items=tuple(items), filters=(), k=24
        )

    def click(self, shown, item, after=timedelta(minutes=1), event="click"):
        at = datetime.fromtimestamp(int(shown.search_id[:12], 16) / 1000, UTC) + after
        return Click(search_id=shown.search_id, item_id=item, event=event, at=at)

    def report(self, day=DAY, now=LATER):
        """Run the verb; rows of that day by release and kind."""
        self.done = feedback(self.settings, day.date(), LogProgress(), now)
        return {(row["release"], row["query_kind"]): row for row in self.done.reports[1].rows}


@pytest.fixture
def day(tmp_path):
    found = Day(tmp_path / "var")
    yield found
    found.log.close()


def _serving_kit():
    path = Path(__file__).parents[1] / "serving" / "conftest.py"
    spec = importlib.util.spec_from_file_location("serving_kit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Kit


@pytest.fixture(scope="session")
def built_kit(tmp_path_factory):
    kit = _serving_kit()(tmp_path_factory.mktemp("feedback"))
    kit.live_release = kit.release("1", "first")
    return kit


@pytest.fixture
def server(built_kit, tmp_path):
    """Start the application over one release, with a fresh log and these settings of the section feedback."""
    started, logs, numbers = [], [], itertools.count()

    def start(log=None, **feedback_settings):
        if log is None:
            path = tmp_path / f"log-{next(numbers)}.db"
            log = SqliteLog(path, 2, 1e6)  # the server closes its own
            logs.append(SqliteLog(path, 2, 1e6))
        section = built_kit.settings.feedback.model_copy(update=feedback_settings)
        serving = built_kit.settings.serving.model_copy(update={"report_seconds": 1_000.0})
        settings = built_kit.settings.model_copy(update={"feedback": section, "serving": serving})
        app = create_app(settings, source=built_kit, open_encoder=built_kit.open_encoder, open_log=lambda _: log)
        follower = app.state.serving.follower
        follower.start = follower.poll
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        started.append(client)
        client.log = logs[-1] if logs else log
        client.end = lambda: (client.__exit__(None, None, None), started.remove(client))
        return client

    yield start
    for client in started:
        client.__exit__(None, None, None)
    for log in logs:
        log.close()
