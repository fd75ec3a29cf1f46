"""Facts of a step: what it took and counted, kept beside what it made, and put together for the manifest."""

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import faiss
from pydantic import BaseModel, ConfigDict, Field

from index_builder.device import Device
from index_builder.memory import peak_memory
from index_builder.source import Coverage

FACTS_NAME = "facts.json"
TRAIN, ASSIGN, GRAPH = "train lists", "find the list of each vector", "make the graph"


class StepFacts(BaseModel):
    """Of one step. `coverage` counts nothing where a step read no items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    peak_memory_bytes: int = Field(description="of the process so far")
    threads: int
    at_a_time: int = Field(default=1, description="processes that did steps of this kind, as many as this at a time")
    coverage: Coverage = Coverage()
    devices: dict[str, Device] = Field(default_factory=dict, description="that did what, of TRAIN, ASSIGN and GRAPH")

    @classmethod
    def since(
        cls,
        started: float,
        coverage: Coverage | None = None,
        at_a_time: int = 1,
        devices: dict[str, Device] | None = None,
    ) -> Self:
        """Facts of a step that started at `started` (time.monotonic)."""
        return cls(
            seconds=round(time.monotonic() - started, 3),
            peak_memory_bytes=peak_memory(),
            threads=faiss.omp_get_max_threads(),
            at_a_time=at_a_time,
            coverage=coverage or Coverage(),
            devices=devices or {},
        )


def write_facts(folder: Path, facts: StepFacts) -> None:
    """Into a folder that is being made."""
    (folder / FACTS_NAME).write_text(facts.model_dump_json(indent=2))


def read_facts(folder: Path) -> StepFacts:
    """Of a finished folder."""
    return StepFacts.model_validate_json((folder / FACTS_NAME).read_text())


def build_facts(steps: list[StepFacts]) -> dict[str, Any]:
    """What all steps together took. Seconds are added up, also of steps that ran at the same time, and so is memory."""
    at_a_time = max(facts.at_a_time for facts in steps)
    together = sorted((facts.peak_memory_bytes for facts in steps if facts.at_a_time > 1), reverse=True)[:at_a_time]
    return {
        "seconds": round(sum(facts.seconds for facts in steps), 3),
        "peak_memory_bytes": max(sum(together), *(facts.peak_memory_bytes for facts in steps)),
        "threads": max(facts.threads for facts in steps),
        "cpus": os.cpu_count(),
        "devices": _devices(steps),
        "faiss": faiss.__version__,
        "numpy": version("numpy"),
        "pyarrow": version("pyarrow"),
    }


def _devices(steps: list[StepFacts]) -> dict[str, dict[str, int]]:
    """What was done on which device, and in how many steps."""
    found: dict[str, dict[str, int]] = {}
    for what, device in (each for facts in steps for each in facts.devices.items()):
        counts = found.setdefault(what, {})
        counts[device] = counts.get(device, 0) + 1
    return found
