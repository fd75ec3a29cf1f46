"""The evidence folder holds the verdict as it was judged, once, and a page that escapes what it shows."""

import pytest

from lookalike.contracts.errors import LookalikeError
from lookalike.quality.evidence import read_verdict, report, write_evidence


def test_the_verdict_is_read_back_as_it_was_written(bench, tmp_path):
    verdict = bench.verdict(corrupt_files=["x: missing"])
    folder = write_evidence(tmp_path, verdict)
    assert read_verdict(folder) == verdict
    assert read_verdict(folder).sha256 == verdict.sha256
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "verdict.json"]
    assert folder.name.startswith("20260102T030405000678Z-")


def test_evidence_is_never_overwritten_and_leaves_no_temporary_folder(bench, tmp_path):
    write_evidence(tmp_path, bench.verdict())
    with pytest.raises(LookalikeError, match="exists already"):
        write_evidence(tmp_path, bench.verdict())
    assert len(list((tmp_path / "gate").iterdir())) == 1


def test_the_page_names_every_check_and_escapes(bench):
    page = report(bench.verdict(corrupt_files=["<script>alert(1)</script>: missing"]))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert all(f"<td>{check.name}<td" in page for check in bench.verdict().checks)
    assert 'class="failed">failed</span>' in page
    assert 'class="passed">passed</span>' in report(bench.verdict())


def test_the_page_says_where_the_data_docs_lie(bench):
    silver, embeddings = bench.healthy().expectations
    documented = silver.model_copy(update={"evidence": {"docs": "reports/data-docs/index.html"}})
    assert "data docs: reports/data-docs/index.html" in report(bench.verdict(expectations=[documented, embeddings]))
