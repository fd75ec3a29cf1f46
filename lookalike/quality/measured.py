"""What the gate is given: figures that others measured on the candidate, never the candidate's own.

Protocols instead of imports: `lookalike.evaluation` and `lookalike.quality` do not know each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lookalike.contracts.manifest import Manifest
from lookalike.contracts.verdict import Check


class Estimate(Protocol):
    """A mean over `n` values with the ends of its 95 % interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def n(self) -> int: ...


class FilteredFigures(Protocol):
    """Recall under one filter; `lookalike.evaluation.candidate.FilteredRecall` has this shape."""

    @property
    def share(self) -> float: ...
    @property
    def filter(self) -> str: ...
    @property
    def random(self) -> bool: ...
    @property
    def allowed(self) -> int: ...
    @property
    def items(self) -> int: ...
    @property
    def recall(self) -> Mapping[str, Estimate]: ...
    @property
    def short(self) -> int: ...
    @property
    def outside(self) -> int: ...


class LatencyFigures(Protocol):
    """Milliseconds of single queries made by `callers` threads."""

    @property
    def p50_ms(self) -> float: ...
    @property
    def p99_ms(self) -> float: ...
    @property
    def calls(self) -> int: ...
    @property
    def callers(self) -> int: ...
    @property
    def per_second(self) -> float: ...


class IndexFigures(Protocol):
    """Figures of the index itself; `lookalike.evaluation.candidate.Measures` has this shape."""

    @property
    def items(self) -> int: ...
    @property
    def missing(self) -> int: ...
    @property
    def foreign(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def lowest_stored_cosine(self) -> float: ...
    @property
    def recall(self) -> Mapping[str, Estimate]: ...
    @property
    def filtered(self) -> Sequence[FilteredFigures]: ...
    @property
    def labels(self) -> Mapping[str, Estimate]: ...
    @property
    def labelled(self) -> int: ...
    @property
    def live_items(self) -> int | None: ...
    @property
    def differences(self) -> Mapping[str, Estimate] | None: ...
    @property
    def overlap(self) -> float | None: ...


@dataclass(frozen=True)
class SpaceFigures:
    """Fingerprints as found, and what the encoder computes on this machine.

    `encoder`: of the encoder that will answer queries; `vectors`: all that the embeddings rows are stamped with.
    `probe_cosine`: lowest cosine to the recorded probe. `reencoded_cosine`: lowest cosine between stored vectors of
    `reencoded` sampled items and their pictures encoded again now; a stamp can lie, this cannot.
    """

    encoder: str
    vectors: Sequence[str]
    probe_cosine: float
    reencoded_cosine: float
    reencoded: int


@dataclass(frozen=True)
class Measured:
    """Everything the gate judges. `compared_with` is the registry version of live, None for the first release."""

    manifest: Manifest
    corrupt_files: Sequence[str]
    expectations: Sequence[Check]
    space: SpaceFigures
    index: IndexFigures
    latency: Sequence[LatencyFigures]
    bytes_on_disk: int
    compared_with: str | None
