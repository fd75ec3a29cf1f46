"""The gate lets a healthy candidate through and stops each planted fault with the check that names it."""

import math
from dataclasses import replace

import pytest

from lookalike.contracts.verdict import Verdict
from lookalike.quality.gate import judge_unreadable
from lookalike.quality.measured import SpaceFigures

CHECKS = [
    "silver_expectations", "embedding_expectations", "space_fingerprint", "manifest_checksums", "stored_items",
    "row_loss", "recall_at_10", "filtered_recall_at_10", "label_metrics", "latency", "size", "churn",
]  # fmt: skip


def failed(verdict):
    return [check.name for check in verdict.checks if not check.passed]


def test_a_healthy_candidate_passes_every_check(bench):
    verdict = bench.verdict()
    assert verdict.passed
    assert [check.name for check in verdict.checks] == CHECKS
    assert verdict.manifest_sha256 == bench.healthy().manifest.sha256
    assert verdict.compared_with == "7"


def test_the_verdict_survives_json(bench):
    verdict = bench.verdict(space={"probe_cosine": math.nan}, index={"overlap": math.nan})
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert "NaN" not in verdict.model_dump_json()


def test_the_first_release_passes_and_says_that_there_is_no_live(bench):
    verdict = bench.verdict(index={"live_items": None, "differences": None, "overlap": None}, compared_with=None)
    assert verdict.passed
    said = {check.name: check.observed for check in verdict.checks}
    assert all("no live release" in said[name] for name in ("row_loss", "label_metrics", "churn"))


def test_without_live_a_low_recall_still_fails(bench):
    index = {"live_items": None, "differences": None, "overlap": None, "recall": {"picture": bench.figure(0.5, 0, 1)}}
    assert failed(bench.verdict(index=index, compared_with=None)) == ["recall_at_10"]


INDEX_FAULTS = {
    "an item twice": ("stored_items", {"duplicates": 1}),
    "an unknown item": ("stored_items", {"foreign": 1}),
    "an item lacking": ("stored_items", {"missing": 1}),
    "a wrong stored vector": ("stored_items", {"lowest_stored_cosine": 0.4}),
    "a stored vector NaN": ("stored_items", {"lowest_stored_cosine": math.nan}),
    "a fifth of the rows lost against live": ("row_loss", {"live_items": 1_250}),
    "live not counted": ("row_loss", {"live_items": None}),
    "nothing asked": ("churn", {"overlap": None}),
    "churn NaN": ("churn", {"overlap": math.nan}),
}


@pytest.mark.parametrize("fault", INDEX_FAULTS)
def test_faults_of_the_index(bench, fault):
    name, change = INDEX_FAULTS[fault]
    assert failed(bench.verdict(index=change)) == [name]


def test_a_manifest_that_claims_more_items_than_there_are(bench):
    manifest = bench.healthy().manifest.model_copy(update={"items": 1_001})
    assert failed(bench.verdict(manifest=manifest)) == ["stored_items"]


def test_the_allowed_row_loss_is_allowed(bench):
    assert bench.verdict(index={"live_items": 1_052}).passed
    assert failed(bench.verdict(index={"live_items": 1_054})) == ["row_loss"]


@pytest.mark.parametrize("value", [0.94, math.nan])
@pytest.mark.parametrize("kind", ["picture", "title"])
def test_recall_below_the_bar_in_one_kind_of_query_fails(bench, kind, value):
    recall = dict(bench.healthy().index.recall) | {kind: bench.figure(value, value, value)}
    assert failed(bench.verdict(index={"recall": recall})) == ["recall_at_10"]


@pytest.mark.parametrize("recall", [{}, {"picture": (0.99, 0.98, 1.0, 200)}, {"title": (0.99, 0.99, 0.99, 0)}])
def test_recall_that_was_not_measured_fails(bench, recall):
    figures = {kind: bench.figure(*numbers) for kind, numbers in recall.items()}
    assert failed(bench.verdict(index={"recall": figures})) == ["recall_at_10"]


FILTER_FAULTS = {
    "pictures": {"picture": 0.94},
    "titles": {"title": 0.5},
    "lost": {"title": math.nan},
    "too few answers": {"short": 1},
    "answers that do not pass": {"outside": 1},
}


@pytest.mark.parametrize("fault", FILTER_FAULTS)
@pytest.mark.parametrize("at", [0, 3, 4])
def test_one_filter_of_one_share_below_the_bar_fails_and_is_named(bench, fault, at):
    filtered = list(bench.healthy().index.filtered)
    filtered[at] = replace(filtered[at], **FILTER_FAULTS[fault])
    verdict = bench.verdict(index={"filtered": filtered})
    assert failed(verdict) == ["filtered_recall_at_10"]
    detail = next(check.detail for check in verdict.checks if not check.passed)
    assert f"{filtered[at].filter} ({filtered[at].allowed} of 1,000 items" in detail.split(";")[0]


def test_a_share_that_was_not_measured_fails_unless_the_catalogue_is_too_small_for_it(bench):
    filtered = bench.healthy().index.filtered
    assert failed(bench.verdict(index={"filtered": filtered[1:]})) == ["filtered_recall_at_10"]
    assert failed(bench.verdict(index={"filtered": []})) == ["filtered_recall_at_10"]
    check = bench.verdict().checks[CHECKS.index("filtered_recall_at_10")]
    assert "0.01%: less than one of 1,000 items, not measured" in check.observed
    assert (check.evidence["not_measured"], len(check.evidence["filters"])) == (["0.01%"], 5)


LABEL_CASES = [
    ((-0.05, -0.08, -0.02), False, "large and certain"),
    ((-0.05, -0.11, 0.01), True, "large but within the noise"),
    ((-0.005, -0.006, -0.004), True, "certain but smaller than the allowed drop"),
    ((0.05, 0.02, 0.08), True, "better"),
    ((math.nan, math.nan, math.nan), False, "lost"),
    ((-0.05, -0.08, math.nan), False, "interval lost"),
]


@pytest.mark.parametrize(("figures", "passes", "why"), LABEL_CASES)
def test_label_metrics_against_live(bench, figures, passes, why):
    verdict = bench.verdict(index={"differences": {"picture R@10": bench.figure(*figures)}})
    assert failed(verdict) == ([] if passes else ["label_metrics"]), why


def test_a_metric_that_was_not_compared_with_live_fails(bench):
    assert failed(bench.verdict(index={"differences": {}})) == ["label_metrics"]
    assert failed(bench.verdict(index={"differences": None})) == ["label_metrics"]


def test_a_label_metric_that_is_nan_fails_without_live_too(bench):
    lost = {"picture R@10": bench.figure(math.nan, math.nan, math.nan)}
    assert failed(bench.verdict(index={"labels": lost, "live_items": None}, compared_with=None)) == ["label_metrics"]
    assert failed(bench.verdict(index={"labels": {}})) == ["label_metrics"]


def test_labels_that_exist_but_were_not_asked_fail(bench):
    nothing = {"picture R@10": bench.figure(math.nan, math.nan, math.nan, 0)}
    index = {"labels": nothing, "differences": nothing, "labelled": 200}
    assert failed(bench.verdict(index=index)) == ["label_metrics"]


def test_a_catalogue_without_groups_passes_and_says_so(bench):
    verdict = bench.verdict(index={"labels": {}, "labelled": 0, "differences": {}, "overlap": None})
    assert verdict.passed
    assert "no item has a group_id" in next(c.observed for c in verdict.checks if c.name == "label_metrics")


SPACE_FAULTS = {
    "the encoder of another space": {"encoder": "0123456789abcdef"},
    "vectors of two spaces": {"vectors": ["0123456789abcdef"]},
    "no vectors": {"vectors": []},
    "an encoder that computes otherwise here": {"probe_cosine": 0.99},
    "probe NaN": {"probe_cosine": math.nan},
    "vectors of another encoder under a true stamp": {"reencoded_cosine": 0.1},
    "encoded again NaN": {"reencoded_cosine": math.nan},
    "nothing encoded again": {"reencoded": 0},
}


@pytest.mark.parametrize("fault", SPACE_FAULTS)
def test_faults_of_the_space(bench, fault):
    assert failed(bench.verdict(space=SPACE_FAULTS[fault])) == ["space_fingerprint"]


def test_one_foreign_stamp_among_many_fails(bench):
    own = bench.healthy().manifest.space.fingerprint
    figures = SpaceFigures(own, [own, own, "0123456789abcdef"], 1.0, 1.0, 8)
    verdict = bench.verdict(space=vars(figures))
    assert failed(verdict) == ["space_fingerprint"]
    assert "0123456789abcdef" in verdict.checks[2].observed


@pytest.mark.parametrize("p99", [100.1, math.nan])
def test_slow_answers_fail(bench, p99):
    assert failed(bench.verdict(latency=[bench.speed(p99_ms=p99)])) == ["latency"]


def test_latency_needs_a_single_caller_and_only_that_is_barred(bench):
    assert failed(bench.verdict(latency=[])) == ["latency"]
    assert failed(bench.verdict(latency=[bench.speed(callers=10)])) == ["latency"]
    assert bench.verdict(latency=[bench.speed(), bench.speed(callers=10, p99_ms=500.0)]).passed


def test_size_is_counted_per_item_really_held(bench):
    assert failed(bench.verdict(bytes_on_disk=1_000 * 8_193)) == ["size"]
    empty = bench.verdict(index={"items": 0}, manifest=bench.healthy().manifest.model_copy(update={"items": 0}))
    assert {"size", "stored_items", "row_loss"} <= set(failed(empty))


def test_a_corrupt_file_fails(bench):
    verdict = bench.verdict(corrupt_files=["index.faiss: sha256 differs"])
    assert failed(verdict) == ["manifest_checksums"]
    assert "index.faiss" in verdict.checks[3].detail


def test_an_unreadable_artifact_is_failed_without_measuring(bench):
    manifest = bench.healthy().manifest
    verdict = judge_unreadable(manifest, ["index.faiss: missing"], bench.at, "7")
    assert (verdict.passed, failed(verdict)) == (False, ["manifest_checksums"])
    assert (verdict.manifest_sha256, verdict.compared_with) == (manifest.sha256, "7")
    with pytest.raises(ValueError, match="use judge"):
        judge_unreadable(manifest, [], bench.at, None)


def test_a_suite_that_failed_or_did_not_run_fails(bench):
    silver, embeddings = bench.healthy().expectations
    assert failed(bench.verdict(expectations=[embeddings])) == ["silver_expectations"]
    broken = silver.model_copy(update={"passed": False})
    assert failed(bench.verdict(expectations=[broken, embeddings])) == ["silver_expectations"]


def test_the_bars_are_those_of_the_settings(bench):
    bench.bars = bench.bars.model_copy(update={"min_recall_at_10": 0.98})
    assert failed(bench.verdict()) == ["recall_at_10"]
