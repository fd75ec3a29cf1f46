"""The check on filtered searches: recall under filters of each share, and as many answers as there are."""

import math

from lookalike.contracts.settings import GateSettings
from lookalike.contracts.verdict import Check
from lookalike.quality.index_checks import RECALL_KINDS, told
from lookalike.quality.measured import FilteredFigures, Measured


def filtered_recall(measured: Measured, bars: GateSettings) -> Check:
    """Recall@10 of each kind of query under each filter, against exact search among the items that pass it.

    Of every share that the catalogue has a row of, random rows are demanded; an attribute counts where one is near.
    """
    bar, figures, items = bars.min_filtered_recall_at_10, measured.index.filtered, measured.index.items
    lacking = [
        f"{share:.4g} of the items, random rows: not measured"
        for share in bars.filter_shares
        if share * items >= 1 and not any(each.random and each.share == share for each in figures)
    ]
    failed = [_said(each) for each in figures if not _holds(each, bar)]
    measures = [(estimate.value, kind, each) for each in figures for kind, estimate in each.recall.items()]
    worst = min(measures, key=lambda entry: -1.0 if math.isnan(entry[0]) else entry[0], default=None)
    too_small = [f"{share:.2%}" for share in bars.filter_shares if share * items < 1]
    told_of = [_said(each) for each in figures if _holds(each, bar)]
    faults = [f"below the bar: {', '.join([*lacking, *failed])}"] if lacking or failed else []
    left = f"; {', '.join(too_small)}: less than one of {items:,} items, not measured" if too_small else ""
    lowest = "not measured" if worst is None else f"lowest {worst[1]} {worst[0]:.3f} with {_filter(worst[2])}"
    return Check(
        name="filtered_recall_at_10",
        passed=not lacking and not failed,
        observed=f"{len(figures)} filters, {lowest}{left}",
        bar=f"each from {bar:g}, as many answers as there are, none that the filter keeps out",
        detail="; ".join([*faults, *told_of]),
        evidence={"filters": [_evidence(each) for each in figures], "not_measured": too_small},
    )


def _holds(figures: FilteredFigures, bar: float) -> bool:
    kinds = [figures.recall.get(kind) for kind in RECALL_KINDS]
    found = all(estimate is not None and estimate.n > 0 and estimate.value >= bar for estimate in kinds)
    return found and figures.short == 0 and figures.outside == 0


def _said(figures: FilteredFigures) -> str:
    """One filter's figures as people read them."""
    recall = ", ".join(f"{kind} {estimate.value:.3f}" for kind, estimate in figures.recall.items())
    short = f", {figures.short} questions with too few answers" if figures.short else ""
    outside = f", {figures.outside} answers that it keeps out" if figures.outside else ""
    return f"{_filter(figures)}: {recall}{short}{outside}"


def _filter(figures: FilteredFigures) -> str:
    return f"{figures.filter} ({figures.allowed:,} of {figures.items:,} items, {figures.allowed / figures.items:.2%})"


def _evidence(figures: FilteredFigures) -> dict[str, object]:
    return {
        "share": figures.share,
        "filter": figures.filter,
        "random": figures.random,
        "allowed": figures.allowed,
        "recall": told(figures.recall),
        "too_few_answers": figures.short,
        "answers_outside": figures.outside,
    }
