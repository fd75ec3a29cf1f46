"""The log of each kind, a real Kafka broker for the session, and child processes that use the same log."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from lookalike.contracts.settings import Settings, load_settings
from lookalike.storage.log.opening import open_log

HERE = Path(__file__).parent
CACHE = HERE.parents[2] / ".cache" / "kafka"


def kafka_settings(brokers: str, home: Path, **log) -> Settings:
    """Settings over `brokers` with topics that no other test has."""
    return load_settings(
        home=home, log={"kind": "kafka", "brokers": brokers, "topic_prefix": f"t{uuid.uuid4().hex[:8]}.", **log}
    )


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory):
    """A broker that the whole session shares; nobody may stop it."""
    from lookalike.line.kafka_broker import start_broker

    broker = start_broker(tmp_path_factory.mktemp("kafka"), CACHE)
    yield broker
    broker.stop()


@pytest.fixture
def kafka_settings_of():
    """The function `kafka_settings`, for tests with brokers of their own."""
    return kafka_settings


@pytest.fixture
def kafka_cache() -> Path:
    """Where this checkout keeps Kafka's JARs."""
    return CACHE


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.slow)])
def log_settings(request, tmp_path) -> Settings:
    """Settings of a fresh log of two partitions, of each kind in turn."""
    if request.param == "kafka":
        return kafka_settings(request.getfixturevalue("kafka_broker").brokers, tmp_path)
    return load_settings(home=tmp_path, log={"kind": "sqlite"})


@pytest.fixture
def log(log_settings):
    """The log of `log_settings`."""
    opened = open_log(log_settings)
    yield opened
    opened.close()


class Child:
    """A process that runs `log_child.py`; it prints a line of JSON for each thing done."""

    def __init__(self, settings: Settings, *arguments: str) -> None:
        given = json.dumps({"home": str(settings.home), "log": settings.log.model_dump()})
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "log_child.py"), given, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self):
        """The next thing that it said; None at its end."""
        text = self.process.stdout.readline()
        return json.loads(text) if text.endswith("\n") else None

    def lines(self) -> list:
        """All that it says until its end."""
        return list(iter(self.line, None))

    def tell(self) -> None:
        """Let it go on."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_child(request):
    """Starts children, on the log of `log_settings` unless told another; none outlives the test."""
    children = []

    def start(*arguments: str, settings: Settings | None = None) -> Child:
        children.append(Child(settings or request.getfixturevalue("log_settings"), *arguments))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.process.stdin.close()
        child.process.stdout.close()
