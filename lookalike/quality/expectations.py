"""What is expected of silver and embeddings, judged by Great Expectations block by block, with HTML data docs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from lookalike.contracts.settings import GateSettings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.contracts.verdict import Check
from lookalike.quality.blocks import Rows, Source
from lookalike.quality.facts import (
    EMBEDDING_COLUMNS,
    NORM_TOLERANCE,
    SILVER_SCALARS,
    embedding_facts,
    schema_facts,
    silver_facts,
)
from lookalike.quality.suites import Suite, SuiteRun, expectation_library, suite_run
from lookalike.quality.whole_table import WholeSilver, coverage_blocks, read_embeddings, read_silver

SILVER_CHECK, EMBEDDING_CHECK = "silver_expectations", "embedding_expectations"


@dataclass(frozen=True)
class SuiteReport:
    """The checks, one per table, and the index page of the data docs."""

    checks: tuple[Check, ...]
    docs: Path


def run_suites(
    silver: Rows,
    embeddings: Rows,
    *,
    space: EmbeddingSpace,
    bars: GateSettings,
    last_rows: int | None,
    docs: Path,
    run_name: str,
) -> SuiteReport:
    """Validate both tables as the pinned Delta versions hold them, and write data docs into the new folder `docs`.

    Each table is read twice: first the keys of all rows, then the rows in blocks. `silver`: all contract columns
    (deleted rows are left out here); `embeddings`: the rows from which the index was built. `last_rows` is the number
    of items of the live release, None for the first release. Raises LookalikeError when `docs` exists.
    """
    rows = Source(silver, SILVER)
    with suite_run(docs, run_name) as run:
        items = read_silver(rows)
        checks = (
            _silver_check(run, rows, items, bars, last_rows, docs),
            _embeddings_check(run, items, Source(embeddings, EMBEDDINGS), space, docs),
        )
    return SuiteReport(checks, docs / "index.html")


def run_silver_suites(
    silver: Rows, *, bars: GateSettings, last_rows: int | None, docs: Path, run_name: str
) -> SuiteReport:
    """Those of silver alone, as of `run_suites`."""
    rows = Source(silver, SILVER)
    with suite_run(docs, run_name) as run:
        check = _silver_check(run, rows, read_silver(rows), bars, last_rows, docs)
    return SuiteReport((check,), docs / "index.html")


def run_embedding_suites(
    silver: Rows, embeddings: Rows, *, space: EmbeddingSpace, docs: Path, run_name: str
) -> SuiteReport:
    """Those of embeddings alone, with their coverage of `silver`, as of `run_suites`."""
    with suite_run(docs, run_name) as run:
        items = read_silver(Source(silver, SILVER))
        check = _embeddings_check(run, items, Source(embeddings, EMBEDDINGS), space, docs)
    return SuiteReport((check,), docs / "index.html")


def _silver_check(
    run: SuiteRun, silver: Source, items: WholeSilver, bars: GateSettings, last_rows: int | None, docs: Path
) -> Check:
    blocks = silver.blocks(SILVER_SCALARS, lambda rows: silver_facts(rows, items.repeated, items.licensing))
    outcomes = run.judge(_schema("silver schema"), [schema_facts(silver.schema(), SILVER)])
    outcomes += run.judge(_silver(bars, last_rows), blocks)
    return _check(SILVER_CHECK, outcomes, len(items.items), docs)


def _embeddings_check(
    run: SuiteRun, items: WholeSilver, embeddings: Source, space: EmbeddingSpace, docs: Path
) -> Check:
    schema = embeddings.schema()
    whole = read_embeddings(embeddings, items, space.fingerprint)
    outcomes = run.judge(_schema("embeddings schema"), [schema_facts(schema, EMBEDDINGS)])
    if "vector" in schema.names:
        blocks = embeddings.blocks(EMBEDDING_COLUMNS, lambda rows: embedding_facts(rows, space.dim, whole.repeated))
        outcomes += run.judge(_embeddings(space), blocks)
        outcomes += run.judge(_coverage(), coverage_blocks(items, whole))
    return _check(EMBEDDING_CHECK, outcomes, whole.rows, docs)


def _schema(name: str) -> Suite:
    says = "every column of the contract is there with its type"
    library = expectation_library()
    return Suite(
        name, [library.ExpectColumnPairValuesToBeEqual(column_A="expected", column_B="found", description=says)]
    )


def _silver(bars: GateSettings, last_rows: int | None) -> Suite:
    gxe = expectation_library()
    least = 1 if last_rows is None else ceil(last_rows * (1 - bars.max_row_loss))
    loss = "there are rows" if last_rows is None else f"at least {least:,} rows remain of {last_rows:,} in live"
    required = ("item_id", "version", "title", "content_hash", "image_path", "width", "height", "source")
    rows = [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name, description=f"{name} is given") for name in required),
        gxe.ExpectColumnValuesToBeNull(column="given_twice", description="item_id is the key: given once"),
        gxe.ExpectColumnValuesToMatchRegex(column="title", regex=r"\S", description="title is not empty"),
        gxe.ExpectColumnValuesToBeBetween(column="version", min_value=0, description="version is 0 or more"),
        gxe.ExpectColumnValuesToMatchRegex(
            column="content_hash", regex=r"^[0-9a-f]{64}$", description="content_hash is a sha256"
        ),
        gxe.ExpectColumnValuesToBeBetween(column="width", min_value=1, description="width is 1 pixel or more"),
        gxe.ExpectColumnValuesToBeBetween(column="height", min_value=1, description="height is 1 pixel or more"),
        gxe.ExpectColumnValuesToBeBetween(column="stock", min_value=0, description="stock, if known, is 0 or more"),
        _true("price_fits", "price, if known, is a finite number from 0"),
        _true("licence_fits", "a source that states licences states one for every row"),
    ]
    return Suite("silver rows", rows, gxe.ExpectTableRowCountToBeBetween(min_value=least, description=loss))


def _embeddings(space: EmbeddingSpace) -> Suite:
    gxe = expectation_library()
    low, high = 1 - NORM_TOLERANCE, 1 + NORM_TOLERANCE
    required = ("item_id", "space", "content_hash", "encoder_version")
    rows = [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name, description=f"{name} is given") for name in required),
        gxe.ExpectColumnValuesToBeNull(column="given_twice", description="one vector per item and embedding space"),
        gxe.ExpectColumnValuesToBeInSet(
            column="space", value_set=[space.fingerprint], description=f"every vector is of space {space.fingerprint}"
        ),
        _true("dim_fits", f"every vector has {space.dim} components"),
        _true("finite", "no component is NaN, infinite or missing"),
        gxe.ExpectColumnValuesToBeBetween(
            column="norm", min_value=low, max_value=high, description="the norm, computed from the vector, is 1"
        ),
        _true("norm_told_truly", "the stored l2_norm is the vector's own"),
    ]
    there = "there are embeddings"
    return Suite("embeddings rows", rows, gxe.ExpectTableRowCountToBeBetween(min_value=1, description=there))


def _coverage() -> Suite:
    rows = [
        _true("has_vector", "every live item has a vector"),
        _true("vector_is_current", "every vector is of its item's present picture"),
    ]
    return Suite("coverage", rows)


def _true(column: str, says: str) -> Any:
    return expectation_library().ExpectColumnValuesToBeInSet(column=column, value_set=[True], description=says)


def _check(name: str, outcomes: Sequence[Mapping[str, Any]], rows: int, docs: Path) -> Check:
    failed = [outcome for outcome in outcomes if not outcome["passed"]]
    return Check(
        name=name,
        passed=bool(outcomes) and not failed,
        observed=f"{len(outcomes) - len(failed)} of {len(outcomes)} expectations hold on {rows:,} rows",
        bar="all hold",
        detail="; ".join(said(outcome) for outcome in failed),
        evidence={"docs": str(docs / "index.html"), "expectations": list(outcomes)},
    )


def said(outcome: Mapping[str, Any]) -> str:
    """A failed outcome of a check's evidence as people read it: the expectation, and what was observed."""
    if outcome.get("unexpected"):
        examples = ", ".join(dict.fromkeys(outcome["examples"]))
        return (
            f"{outcome['expectation']}: {outcome['unexpected']:,} of {outcome['rows']:,} rows do not (e.g. {examples})"
        )
    return f"{outcome['expectation']}: observed {outcome.get('observed', 'otherwise')}"
