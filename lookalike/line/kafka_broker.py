"""A real Kafka broker of one node on this machine, for trying the stream on Kafka and for tests. Not for production.

Apache Kafka in KRaft mode, from Maven Central, on any Java from 17 on. It flushes every message to disk before it
acknowledges, because there is no second replica that would have it after a crash.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lookalike.contracts.errors import LookalikeError
from lookalike.line.kafka_jars import KAFKA_JARS
from lookalike.storage.atomic import write_bytes

READY_SECONDS = 90.0
STOP_SECONDS = 30.0
FORMAT_SECONDS = 120.0
CACHE = Path(".cache/kafka")
HOST = "127.0.0.1"

_JAVA_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
_MEMORY = ("-Xms256m", "-Xmx512m")
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
log.flush.interval.messages=1
log.retention.check.interval.ms=60000
log.cleaner.dedupe.buffer.size=2097152
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
offsets.retention.minutes=525600
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""


@dataclass
class KafkaBroker:
    """A running broker. `folder` holds its data; start it there again and everything is there."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def brokers(self) -> str:
        """What goes into the setting `log.brokers`."""
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """What the broker printed."""
        return self.folder / "broker.log"

    def wait_ready(self) -> None:
        """Block until it answers clients. Raises LookalikeError with the end of its log; it is stopped then."""
        from lookalike.storage.log.kafka_clients import answers

        deadline = time.monotonic() + READY_SECONDS
        try:
            while time.monotonic() < deadline and self.process.poll() is None:
                if answers(self.brokers, seconds=1.0):
                    return
        except BaseException:  # Ctrl-C must not leave the child behind
            self.stop()
            raise
        self.stop()
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise LookalikeError(
            f"the Kafka broker at {self.brokers} did not get ready. Its log ({self.log}) ends:\n{tail}"
        )

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when it does not go."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()


def start_broker(folder: Path, cache: Path = CACHE, port: int = 0, wait: bool = True) -> KafkaBroker:
    """Start a broker with its data in `folder` (made and formatted when new) on this port of loopback; 0: a free one.

    `cache` keeps the JARs. Raises MissingPrerequisite without Java or JARs, LookalikeError when it does not start.
    """
    from spark.jars import fetch_jars
    from spark.java import find_java

    folder, cache = folder.absolute(), cache.absolute()
    jars = fetch_jars(KAFKA_JARS, cache / "jars", cache / "java")
    java = [str(find_java(cache / "java").home / "bin" / "java"), *_JAVA_OPTIONS]
    class_path = ["-cp", os.pathsep.join(str(jar) for jar in jars)]
    port = _port(port)
    properties = folder / "server.properties"
    text = _PROPERTIES.format(host=HOST, port=port, controller=_port(0), data=folder / "data")
    write_bytes(properties, text.encode())
    if not (folder / "data" / "meta.properties").is_file():
        _format([*java, *class_path], properties)
    command = [*java, *_MEMORY, *class_path, "kafka.Kafka", str(properties)]
    with (folder / "broker.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    broker = KafkaBroker(folder, port, process)
    if wait:
        broker.wait_ready()
    return broker


def _format(java: list[str], properties: Path) -> None:
    """Prepare the data folder; the cluster's name is a UUID in Kafka's spelling (one that begins with - is refused)."""
    cluster = "-"
    while cluster.startswith("-"):
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False)
    if run.returncode != 0:
        raise LookalikeError(
            f"Kafka could not format {properties.parent / 'data'}:\n{(run.stdout + run.stderr)[-1500:]}"
        )


def _port(wanted: int) -> int:
    """`wanted`, or a free port for 0. Raises LookalikeError when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of a broker that just went is free
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise LookalikeError(f"port {wanted} of {HOST} is taken ({error}); name another one") from error
        return int(probe.getsockname()[1])


def run_in_foreground(folder: Path, cache: Path, port: int, say: Callable[[str], object]) -> int:
    """Run a broker until Ctrl-C or SIGTERM; returns the exit code."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    broker = start_broker(folder, cache, port, wait=False)
    try:
        broker.wait_ready()
        say(f"Kafka answers at {broker.brokers}; its data is in {broker.folder}. Ctrl-C stops it. Use it with:\n")
        say(f"  export LOOKALIKE_LOG__KIND=kafka LOOKALIKE_LOG__BROKERS={broker.brokers}\n")
        code = broker.process.wait()
        say(f"Kafka ended by itself with exit code {code}; its log is {broker.log}\n")
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        broker.stop()


def main(arguments: list[str] | None = None) -> int:
    """Command line of `python -m lookalike.line.kafka_broker`."""
    parser = argparse.ArgumentParser(description="A Kafka broker of one node on this machine, for trials and tests.")
    parser.add_argument("--folder", type=Path, default=CACHE / "data", help="its data (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the JARs are kept (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=9092, help="of 127.0.0.1; 0 takes a free one (default: %(default)s)"
    )
    given = parser.parse_args(arguments)

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        return run_in_foreground(given.folder, given.cache, given.port, say)
    except LookalikeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
