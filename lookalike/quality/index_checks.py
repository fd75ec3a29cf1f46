"""Checks on what the index holds and finds: stored items, rows against live, recall, label metrics, churn."""

import math
from collections.abc import Mapping
from typing import Any

from lookalike.contracts.settings import GateSettings
from lookalike.contracts.verdict import Check
from lookalike.quality.measured import Estimate, Measured

NO_LIVE = "no live release to compare with"
RECALL_KINDS = ("picture", "title")
MIN_STORED_COSINE = 0.97
"""Vectors decoded from 8-bit codes keep about 0.999; those of another item or space are far below."""


def stored_items(measured: Measured, bars: GateSettings) -> Check:
    """The index holds each item of the pinned tables once, with its own vector, and as many as it claims."""
    index, claimed = measured.index, measured.manifest.items
    counts = {"lacking": index.missing, "unknown": index.foreign, "held twice": index.duplicates}
    faults = [f"{count:,} {what}" for what, count in counts.items() if count]
    if index.items != claimed:
        faults.append(f"the manifest claims {claimed:,} items")
    if not index.lowest_stored_cosine >= MIN_STORED_COSINE:
        faults.append(f"a stored vector has cosine {index.lowest_stored_cosine:.4f} to the table's")
    return Check(
        name="stored_items",
        passed=index.items > 0 and not faults,
        observed="; ".join([f"{index.items:,} items, lowest cosine {index.lowest_stored_cosine:.4f}", *faults]),
        bar=f"the items of the pinned tables, each once; cosine to the table's vector from {MIN_STORED_COSINE}",
        evidence={
            "items": index.items,
            "claimed": claimed,
            **{name.replace(" ", "_"): count for name, count in counts.items()},
            "lowest_stored_cosine": finite(index.lowest_stored_cosine),
        },
    )


def row_loss(measured: Measured, bars: GateSettings) -> Check:
    """Items lost against live; an unnoticed half-empty snapshot shows here."""
    bar = f"at most {bars.max_row_loss:.0%} fewer than live"
    ours, theirs = measured.index.items, measured.index.live_items
    if measured.compared_with is None:
        return Check(name="row_loss", passed=ours > 0, observed=f"{ours:,} items; {NO_LIVE}", bar=bar)
    if not theirs:
        return Check(name="row_loss", passed=False, observed="the items of live were not counted", bar=bar)
    loss = 1 - ours / theirs
    return Check(
        name="row_loss",
        passed=loss <= bars.max_row_loss,
        observed=f"{ours:,} items, live has {theirs:,} ({ours / theirs - 1:+.1%})",
        bar=bar,
        evidence={"items": ours, "live_items": theirs, "loss": finite(loss)},
    )


def recall(measured: Measured, bars: GateSettings) -> Check:
    """Mean recall@10 against exact search, for each kind of query on its own: words lie elsewhere than pictures."""
    found = {kind: measured.index.recall.get(kind) for kind in RECALL_KINDS} | dict(measured.index.recall)
    faults = [
        f"{kind}: not measured" if estimate is None else f"{kind} {estimate.value:.3f}"
        for kind, estimate in found.items()
        if estimate is None or not (estimate.n > 0 and estimate.value >= bars.min_recall_at_10)
    ]
    measures = {kind: estimate for kind, estimate in found.items() if estimate is not None}
    return Check(
        name="recall_at_10",
        passed=not faults,
        observed=", ".join(f"{kind} {_interval(estimate)}" for kind, estimate in measures.items()) or "not measured",
        bar=f"each from {bars.min_recall_at_10:g}, against exact search over the pinned vectors",
        detail=f"below the bar: {', '.join(faults)}" if faults else "",
        evidence=told(measures),
    )


def label_metrics(measured: Measured, bars: GateSettings) -> Check:
    """Label metrics against live on the same questions (paired bootstrap over concepts).

    A metric fails when it fell by more than the allowed drop and the 95 % interval of the difference lies wholly
    below zero. The first half keeps tiny but certain falls of a huge sample from blocking, the second keeps the noise
    of a small sample from blocking; a fall that is large and certain never passes.
    """
    index = measured.index
    bar = f"no metric certainly below live by more than {bars.max_label_drop:g}"
    values = ", ".join(f"{name} {estimate.value:.3f}" for name, estimate in index.labels.items())
    evidence: dict[str, Any] = {"candidate": told(index.labels), "labelled_items": index.labelled}
    if index.labelled == 0:
        said = "no item has a group_id shared with another: nothing can be asked"
        return Check(name="label_metrics", passed=True, observed=said, bar=bar, evidence=evidence)
    broken = [name for name, estimate in index.labels.items() if math.isnan(estimate.value)]
    if broken or not index.labels:
        said = f"not measured: {', '.join(broken) or 'no metric'}"
        return Check(name="label_metrics", passed=False, observed=said, bar=bar, evidence=evidence)
    if measured.compared_with is None:
        return Check(name="label_metrics", passed=True, observed=f"{values}; {NO_LIVE}", bar=bar, evidence=evidence)
    differences = index.differences or {}
    fallen = [name for name in index.labels if _has_fallen(differences.get(name), bars.max_label_drop)]
    return Check(
        name="label_metrics",
        passed=not fallen,
        observed=", ".join(f"{name} {_signed(estimate)}" for name, estimate in differences.items()) or "not compared",
        bar=bar,
        detail=f"candidate: {values}" + (f"; fell: {', '.join(fallen)}" if fallen else ""),
        evidence=evidence | {"difference": told(differences)},
    )


def churn(measured: Measured, bars: GateSettings) -> Check:
    """Share of the first ten answers that change for users; reported, since a better encoder changes many."""
    shared = measured.index.overlap
    bar = "reported only; must be measured where there is a live release"
    if measured.compared_with is None:
        return Check(name="churn", passed=True, observed=NO_LIVE, bar=bar)
    if shared is None or math.isnan(shared):
        unasked = measured.index.labelled == 0
        return Check(name="churn", passed=unasked, observed="nothing to ask" if unasked else "not measured", bar=bar)
    said = f"{1 - shared:.1%} of the first ten answers differ from live"
    return Check(name="churn", passed=True, observed=said, bar=bar, evidence={"overlap_at_10": finite(shared)})


def finite(value: float) -> float | None:
    """A number that JSON can hold: NaN and infinity become None."""
    return float(value) if math.isfinite(value) else None


def _has_fallen(difference: Estimate | None, allowed: float) -> bool:
    if difference is None or math.isnan(difference.value) or math.isnan(difference.high):
        return True
    return difference.value < -allowed and difference.high < 0


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def told(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Estimates as a check's evidence holds them."""
    return {
        name: {"value": finite(e.value), "low": finite(e.low), "high": finite(e.high), "n": e.n}
        for name, e in estimates.items()
    }
