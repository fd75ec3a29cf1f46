"""Expectations on the tables as they are now: a bad night is stopped here, before anything is built from it.

The same suites that the gate runs on the pinned versions of a candidate. Rows are compared with those that the live
release was built from, so that a night that lost a fifth of the catalogue says so.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.contracts.verdict import Check
from lookalike.evaluation.pinned import PinnedTables
from lookalike.quality.expectations import run_embedding_suites, run_silver_suites, said
from lookalike.releases.registry import Registry
from lookalike.releases.release import Alias, Release
from lookalike.storage.delta import DeltaTables

LOG = logging.getLogger("lookalike.check")


@dataclass(frozen=True)
class Checked:
    """One table, or one space of it. `failed`: each failed expectation with what was observed."""

    table: str
    version: int
    space: str | None
    passed: bool
    observed: str
    failed: tuple[str, ...]
    docs: Path


@dataclass(frozen=True)
class TableChecks:
    """All that was checked of one table."""

    table: str
    passed: bool
    checks: tuple[Checked, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """The failed expectations of all checks."""
        return tuple(name for check in self.checks for name in check.failed)


def check_silver(settings: Settings) -> TableChecks:
    """Judge the newest version of silver. Raises NotFound when nothing was ever ingested."""
    tables = DeltaTables(settings.tables_root)
    version = tables.version(SILVER.name)
    docs, name = _place(settings, SILVER.name)
    report = run_silver_suites(
        PinnedTables(tables, {SILVER.name: version}).silver,
        bars=settings.gate,
        last_rows=_rows_of_live(settings, tables),
        docs=docs,
        run_name=name,
    )
    return _joined(SILVER.name, [_checked(SILVER.name, version, None, report.checks[0], report.docs)])


def check_embeddings(settings: Settings, encoder: str | None = None) -> TableChecks:
    """Judge the vectors of the newest version: in the space of `encoder`, or in each that a release may be built from.

    The space of an announced encoder is not among the latter: it is being filled. Raises NotFound.
    """
    from models.encoders import open_encoder
    from spark.embed_spaces import encoders_to_build

    tables = DeltaTables(settings.tables_root)
    pinned = PinnedTables(tables, {table.name: tables.version(table.name) for table in (SILVER, EMBEDDINGS)})
    paths = encoders_to_build(settings) if encoder is None else [encoder]
    spaces = [open_encoder(path, device="cpu", threads=1).space for path in paths]
    return _joined(EMBEDDINGS.name, [_check_space(settings, pinned, space) for space in spaces])


def _check_space(settings: Settings, pinned: PinnedTables, space: EmbeddingSpace) -> Checked:
    docs, name = _place(settings, f"{EMBEDDINGS.name}-{space.fingerprint}")
    embeddings = partial(pinned.embeddings, space)
    report = run_embedding_suites(pinned.silver, embeddings, space=space, docs=docs, run_name=name)
    version = pinned.versions[EMBEDDINGS.name]
    assert version is not None
    return _checked(EMBEDDINGS.name, version, space.fingerprint, report.checks[0], report.docs)


def _rows_of_live(settings: Settings, tables: DeltaTables) -> int | None:
    """Rows that were there when the live release was built; None before the first."""
    live = Registry(settings).alias(Alias.LIVE)
    if live is None:
        return None
    try:
        pinned = PinnedTables(tables, {SILVER.name: live.table_versions[SILVER.name]})
        return sum(int(batch.num_rows) for batch in pinned.silver(["item_id"]))
    except Exception as error:  # the storage engine's own errors, when the version's log or files are gone
        LOG.warning("%s", _unreadable(live, error))
        return live.items


def _unreadable(live: Release, error: Exception) -> str:
    return (
        f"version {live.table_versions.get(SILVER.name)} of {SILVER.name}, which release {live.version} pins, cannot "
        f"be read any more ({error}); rows are compared with the {live.items:,} items of its index"
    )


def _place(settings: Settings, what: str) -> tuple[Path, str]:
    """Folder of the data docs and name of the run."""
    name = f"check-{what}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    return settings.reports_root / "data-docs" / name, name


def _checked(table: str, version: int, space: str | None, check: Check, docs: Path) -> Checked:
    failed = tuple(said(outcome) for outcome in check.evidence["expectations"] if not outcome["passed"])
    return Checked(table, version, space, check.passed, check.observed, failed, docs)


def _joined(table: str, checks: list[Checked]) -> TableChecks:
    return TableChecks(table, bool(checks) and all(check.passed for check in checks), tuple(checks))
