"""How the stream stands, read from the log alone: rate, lag and age are true whatever a worker says or does."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from beam.pipelines import READS
from lookalike.contracts.change import Topic
from lookalike.storage.log.port import Log, OffsetExpired

RATE_SECONDS = 5.0


@dataclass(frozen=True)
class PipelineReading:
    """One pipeline now. `lag`: records not dealt with; `oldest_seconds`: since the oldest of them was appended (0.0
    without one); `rate`: records per second, lately; `rss_bytes`, `recycled`, `state`: of its worker.
    """

    name: str
    done: int
    lag: int
    oldest_seconds: float
    rate: float
    rss_bytes: int = 0
    recycled: int = 0
    state: str = ""


@dataclass(frozen=True)
class StreamReading:
    """All pipelines now. `published` and `refused`: messages since the supervisor began; `counts`: of the workers."""

    pipelines: tuple[PipelineReading, ...]
    published: int
    refused: int
    counts: Mapping[str, int] = field(default_factory=dict)


class StreamMeter:
    """Reads the log for StreamReading."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._start = {topic: self.end(topic) for topic in (Topic.UPDATES, Topic.REFUSED)}
        self._history: dict[str, list[tuple[float, int]]] = {name: [] for name in READS}

    def end(self, topic: Topic) -> int:
        """Sum of the high watermarks: how many messages there ever were."""
        return sum(self._log.high_watermark(topic, partition) for partition in range(self._log.partitions))

    def written(self, topic: Topic) -> int:
        """Messages of `vector-updates` or `refused` since the meter was made."""
        return self.end(topic) - self._start[topic]

    def position(self, name: str, topic: Topic) -> dict[int, int]:
        """Next offset that the pipeline will deal with, by partition."""
        committed = self._log.committed(name, topic)
        lowest = {p: self._log.low_watermark(topic, p) for p in range(self._log.partitions)}
        return {partition: max(low, committed.get(partition, low)) for partition, low in lowest.items()}

    def lag(self, name: str, topic: Topic) -> int:
        """Records of the topic that the pipeline has not dealt with."""
        position = self.position(name, topic)
        return sum(max(0, self._log.high_watermark(topic, p) - offset) for p, offset in position.items())

    def reading(self, name: str) -> PipelineReading:
        """The pipeline now, without what its worker knows."""
        topics = READS[name]
        done = sum(sum(self.position(name, topic).values()) for topic in topics)
        lag = sum(self.lag(name, topic) for topic in topics)
        oldest = max(self._oldest(name, topic) for topic in topics) if lag else 0.0
        return PipelineReading(name, done, lag, oldest, self._rate(name, done))

    def _oldest(self, name: str, topic: Topic) -> float:
        ages = [0.0]
        for partition, offset in self.position(name, topic).items():
            try:
                records = self._log.read(topic, partition, offset, 1)
            except OffsetExpired:
                continue
            ages += [time.time() - record.appended_ms / 1000 for record in records]
        return max(ages)

    def _rate(self, name: str, done: int) -> float:
        now, history = time.monotonic(), self._history[name]
        history.append((now, done))
        while len(history) > 2 and now - history[1][0] >= RATE_SECONDS:
            history.pop(0)
        seconds = now - history[0][0]
        return (done - history[0][1]) / seconds if seconds > 0 else 0.0
