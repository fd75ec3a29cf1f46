"""Facts of a step: what it took and counted, kept beside what it made, and put together for the manifest."""

import os
import resource
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import faiss
from pydantic import BaseModel, ConfigDict, Field

from index_builder.gather import NAMED

FACTS_NAME = "facts.json"


class StepFacts(BaseModel):
    """Of one step. `coverage` is empty for a step that read no items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    peak_memory_bytes: int = Field(description="of the process so far")
    threads: int
    coverage: dict[str, int | list[str]] = Field(default_factory=dict)

    @property
    def silver_items(self) -> int:
        """Items that silver has in this shard."""
        return self._counted("silver_items")

    @property
    def indexed(self) -> int:
        """Items of this shard that have a vector."""
        return self._counted("indexed")

    def _counted(self, name: str) -> int:
        value = self.coverage.get(name, 0)
        assert isinstance(value, int)
        return value

    @classmethod
    def since(cls, started: float, coverage: dict[str, int | list[str]] | None = None) -> Self:
        """Facts of a step that started at `started` (time.monotonic)."""
        return cls(
            seconds=round(time.monotonic() - started, 3),
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            threads=faiss.omp_get_max_threads(),
            coverage=coverage or {},
        )


def write_facts(folder: Path, facts: StepFacts) -> None:
    """Into a folder that is being made."""
    (folder / FACTS_NAME).write_text(facts.model_dump_json(indent=2))


def read_facts(folder: Path) -> StepFacts:
    """Of a finished folder."""
    return StepFacts.model_validate_json((folder / FACTS_NAME).read_text())


def joined_coverage(shards: list[StepFacts]) -> dict[str, int | list[str]]:
    """Coverage of all shards, in their order: sums, and the first ids that were left out."""
    total: dict[str, Any] = {}
    for facts in shards:
        for name, value in facts.coverage.items():
            total[name] = total[name] + value if name in total else value
    return {name: value[:NAMED] if isinstance(value, list) else value for name, value in total.items()}


def build_facts(steps: list[StepFacts]) -> dict[str, Any]:
    """What all steps together took. Seconds are added up, also of steps that ran at the same time."""
    return {
        "seconds": round(sum(facts.seconds for facts in steps), 3),
        "peak_memory_bytes": max(facts.peak_memory_bytes for facts in steps),
        "threads": max(facts.threads for facts in steps),
        "cpus": os.cpu_count(),
        "faiss": faiss.__version__,
        "numpy": version("numpy"),
        "pyarrow": version("pyarrow"),
    }
