"""The gate: measurements against bars, one named check each, joined into a verdict bound to one manifest.

Every comparison is written so that NaN fails it (`not value >= bar`), and a measurement that was not made fails too.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from lookalike.contracts.manifest import Manifest
from lookalike.contracts.probe import MIN_PROBE_COSINE
from lookalike.contracts.settings import GateSettings
from lookalike.contracts.verdict import Check, Verdict
from lookalike.quality.expectations import EMBEDDING_CHECK, SILVER_CHECK
from lookalike.quality.filter_checks import filtered_recall
from lookalike.quality.index_checks import churn, finite, label_metrics, recall, row_loss, stored_items
from lookalike.quality.measured import Measured

MIN_REENCODED_COSINE = 0.99
"""Looser than the probe's: batches, threads and devices of the job and of this machine may differ."""


def judge(measured: Measured, bars: GateSettings, at: datetime) -> Verdict:
    """Judge a candidate. All checks are demanded; the order is that of the straight line.

    Without a live release, the checks that compare with it pass and say so.
    """
    rules: tuple[Callable[[Measured, GateSettings], Check], ...] = (
        space_fingerprint,
        manifest_checksums,
        stored_items,
        row_loss,
        recall,
        filtered_recall,
        label_metrics,
        latency,
        size,
        churn,
    )
    checks = (*_expectations(measured), *(rule(measured, bars) for rule in rules))
    return Verdict(
        at=at,
        manifest_sha256=measured.manifest.sha256,
        compared_with=measured.compared_with,
        checks=checks,
    )


def judge_unreadable(manifest: Manifest, faults: Sequence[str], at: datetime, compared_with: str | None) -> Verdict:
    """The verdict on an artifact whose files are not what was built: failed, and nothing else is measured on it.

    `faults` are those of `artifact.corrupt_files`. Raises ValueError without any: such an artifact must be measured.
    """
    if not faults:
        raise ValueError("files without a fault are judged by measuring them; use judge")
    checks = (_checksums(manifest, faults),)
    return Verdict(at=at, manifest_sha256=manifest.sha256, compared_with=compared_with, checks=checks)


def _expectations(measured: Measured) -> list[Check]:
    """The suites' checks as they are; a suite that did not run is a failed check."""
    given = {check.name: check for check in measured.expectations}
    return [
        given.get(name) or Check(name=name, passed=False, observed="the suite did not run", bar="all hold")
        for name in (SILVER_CHECK, EMBEDDING_CHECK)
    ]


def space_fingerprint(measured: Measured, bars: GateSettings) -> Check:
    """One space from vectors over index to encoder, and an encoder that computes here what it computed there."""
    space, wanted = measured.space, measured.manifest.space.fingerprint
    faults = []
    if space.encoder != wanted:
        faults.append(f"the encoder's space is {space.encoder}")
    foreign = sorted(set(space.vectors) - {wanted})
    if foreign or not space.vectors:
        faults.append(f"vectors of space {', '.join(foreign) or '(none)'}")
    if not space.probe_cosine >= MIN_PROBE_COSINE:
        faults.append(f"the probe gives cosine {space.probe_cosine:.4f}")
    if not (space.reencoded > 0 and space.reencoded_cosine >= MIN_REENCODED_COSINE):
        faults.append(f"of {space.reencoded} pictures encoded again, one has cosine {space.reencoded_cosine:.4f}")
    return Check(
        name="space_fingerprint",
        passed=not faults,
        observed="; ".join(faults)
        or f"{wanted}, probe {space.probe_cosine:.4f}, {space.reencoded} encoded again {space.reencoded_cosine:.4f}",
        bar=f"index, vectors and encoder of one space; probe from {MIN_PROBE_COSINE}, encoded again from "
        f"{MIN_REENCODED_COSINE}",
        evidence={
            "manifest": wanted,
            "encoder": space.encoder,
            "vectors": sorted(set(space.vectors)),
            "probe_cosine": finite(space.probe_cosine),
            "reencoded_cosine": finite(space.reencoded_cosine),
            "reencoded": space.reencoded,
        },
    )


def manifest_checksums(measured: Measured, bars: GateSettings) -> Check:
    """Every file as the manifest says."""
    return _checksums(measured.manifest, measured.corrupt_files)


def _checksums(manifest: Manifest, faults: Sequence[str]) -> Check:
    count = len(manifest.files)
    return Check(
        name="manifest_checksums",
        passed=not faults and count > 0,
        observed=f"{len(faults)} of {count} files differ" if faults else f"{count} files as written",
        bar="every file has the manifest's size and sha256",
        detail="; ".join(faults),
        evidence={"files": {name: record.sha256 for name, record in manifest.files.items()}},
    )


def latency(measured: Measured, bars: GateSettings) -> Check:
    """p99 of single queries. The bar is for one caller; more callers are reported for the operator."""
    single = next((figures for figures in measured.latency if figures.callers == 1), None)
    passed = single is not None and single.p99_ms <= bars.max_latency_ms
    said = [
        f"p99 {figures.p99_ms:.2f} ms, p50 {figures.p50_ms:.2f} ms with {figures.callers} at a time"
        for figures in measured.latency
    ]
    return Check(
        name="latency",
        passed=passed,
        observed="; ".join(said) or "not measured",
        bar=f"p99 of one caller at most {bars.max_latency_ms:g} ms",
        evidence={
            str(figures.callers): {
                "p50_ms": finite(figures.p50_ms),
                "p99_ms": finite(figures.p99_ms),
                "calls": figures.calls,
                "per_second": finite(figures.per_second),
            }
            for figures in measured.latency
        },
    )


def size(measured: Measured, bars: GateSettings) -> Check:
    """Bytes on disk per item that the index really holds."""
    items = measured.index.items
    per_item = measured.bytes_on_disk / items if items else float("nan")
    return Check(
        name="size",
        passed=per_item <= bars.max_bytes_per_item,
        observed=f"{per_item:,.0f} bytes per item ({measured.bytes_on_disk:,} in all)",
        bar=f"at most {bars.max_bytes_per_item:,} bytes per item",
        evidence={"bytes": measured.bytes_on_disk, "items": items},
    )
