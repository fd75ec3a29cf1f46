"""The real suites: a healthy catalogue passes, and each planted fault is named by its own expectation."""

import math
import re
from pathlib import Path

import pytest

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import GateSettings
from lookalike.quality import blocks, whole_table
from lookalike.quality.expectations import run_suites

pytestmark = pytest.mark.slow


def run(tables, docs, last_rows=300):
    silver, embeddings = tables.arrow()
    return run_suites(
        silver, embeddings, space=tables.space, bars=GateSettings(), last_rows=last_rows, docs=docs, run_name="run-1"
    )


def outcomes(check):
    return {(row["suite"], row["expectation"]): row for row in check.evidence["expectations"]}


def failures(check):
    return {expectation for (_, expectation), row in outcomes(check).items() if not row["passed"]}


def test_a_healthy_catalogue_passes_and_leaves_data_docs(tables, tmp_path):
    report = run(tables, tmp_path / "docs")
    assert [(check.name, check.passed) for check in report.checks] == [
        ("silver_expectations", True),
        ("embedding_expectations", True),
    ], [check.detail for check in report.checks]
    assert len(outcomes(report.checks[0])) == 19
    assert report.docs == tmp_path / "docs" / "index.html"
    pages = [page.read_text() for page in (tmp_path / "docs" / "validations").rglob("*.html")]
    assert len(pages) == 5
    assert any("every live item has a vector" in page for page in pages)
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    with pytest.raises(LookalikeError, match="exists already"):
        run(tables, tmp_path / "docs")


def spoil(tables):
    """Plant a fault for each expectation on rows."""
    silver, embeddings = tables.silver, tables.embeddings
    silver[0]["title"] = "  "
    silver[1]["price"] = -1.0
    silver[2]["price"] = math.nan
    silver[3]["version"] = -1
    silver[4]["content_hash"] = "not a hash"
    silver[5]["item_id"] = silver[6]["item_id"]
    silver[7]["licence"] = None
    silver[8]["width"] = 0
    silver[9]["image_path"] = None
    silver[11]["stock"] = -3
    embeddings[20]["vector"] = [math.nan] * 32
    embeddings[21]["vector"] = (1.5 * tables.vectors[21]).tolist()  # the stored l2_norm still says 1
    embeddings[22]["vector"] = tables.vectors[22][:16].tolist()
    embeddings[23]["space"] = "0123456789abcdef"
    embeddings[25] = dict(embeddings[24])
    embeddings[26]["content_hash"] = "f" * 64
    del embeddings[290:]


def test_each_planted_fault_is_named(tables, tmp_path):
    spoil(tables)
    report = run(tables, tmp_path / "docs", last_rows=400)
    rows, vectors = report.checks
    assert failures(rows) == {
        "at least 380 rows remain of 400 in live",
        "title is not empty",
        "price, if known, is a finite number from 0",
        "version is 0 or more",
        "content_hash is a sha256",
        "item_id is the key: given once",
        "a source that states licences states one for every row",
        "width is 1 pixel or more",
        "image_path is given",
        "stock, if known, is 0 or more",
    }
    assert failures(vectors) == {
        f"every vector is of space {tables.space.fingerprint}",
        "one vector per item and embedding space",
        "every vector has 32 components",
        "no component is NaN, infinite or missing",
        "the norm, computed from the vector, is 1",
        "the stored l2_norm is the vector's own",
        "every live item has a vector",
        "every vector is of its item's present picture",
    }
    found = {expectation: row.get("unexpected") for (_, expectation), row in outcomes(vectors).items()}
    assert found["no component is NaN, infinite or missing"] == 1
    assert found["the norm, computed from the vector, is 1"] == 2  # 1.5 times, and the cut one
    assert found["every live item has a vector"] == 12  # ten deleted, one overwritten, one of another space
    assert "0123456789abcdef" in vectors.detail
    assert not any(str(float(tables.vectors[21][0]))[:7] in page.read_text() for page in _pages(tmp_path))


def test_many_blocks_and_batches_are_judged_like_one(tables, tmp_path, monkeypatch):
    spoil(tables)
    tables.silver[250]["item_id"] = tables.silver[6]["item_id"]  # far from the others of its id
    tables.embeddings[280] = dict(tables.embeddings[24])
    one = run(tables, tmp_path / "one", last_rows=400)
    for module in (blocks, whole_table):
        monkeypatch.setattr(module, "BLOCK_ROWS", 37)
    silver, embeddings = tables.arrow()
    many = run_suites(
        lambda columns: silver.select(columns or silver.column_names).to_batches(20),
        lambda columns: embeddings.select(columns or embeddings.column_names).to_batches(20),
        space=tables.space, bars=GateSettings(), last_rows=400, docs=tmp_path / "many", run_name="run-1",
    )  # fmt: skip
    for whole, parts in zip(one.checks, many.checks, strict=True):
        assert outcomes(parts) == outcomes(whole)
        assert (parts.passed, parts.observed, parts.detail) == (whole.passed, whole.observed, whole.detail)
    twice = outcomes(many.checks[0])["silver rows", "item_id is the key: given once"]
    assert (twice["rows"], twice["unexpected"]) == (300, 3)
    assert twice["examples"] == ["brand-0:concept-2"] * 3
    assert told(tmp_path / "many") == told(tmp_path / "one")


def told(docs):
    """What the pages of the validations show, without the moment at which they were made."""
    pages = [page.read_text() for page in _pages(docs / "validations")]
    assert len(pages) == 5
    return sorted(re.sub(r"<[^>]*>|\s+|[0-9TZ:.-]{16,}", " ", page) for page in pages)


def test_a_table_without_a_contract_column_fails_by_name_and_does_not_crash(tables, tmp_path):
    silver, embeddings = tables.arrow()
    report = run_suites(
        silver.drop_columns(["title"]), embeddings.drop_columns(["vector"]), space=tables.space, bars=GateSettings(),
        last_rows=None, docs=tmp_path / "docs", run_name="run-1",
    )  # fmt: skip
    assert {"every column of the contract is there with its type", "title is given"} <= failures(report.checks[0])
    assert failures(report.checks[1]) == {"every column of the contract is there with its type"}


def _pages(root: Path) -> list[Path]:
    return list(root.rglob("*.html"))
