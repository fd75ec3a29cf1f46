"""The folder a verdict leaves: verdict.json for machines and report.html for people, whole or not there at all."""

import html
from datetime import datetime
from pathlib import Path

from lookalike.contracts.verdict import Check, Verdict
from lookalike.storage.atomic import new_directory

VERDICT_FILE, REPORT_FILE = "verdict.json", "report.html"

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; }
tr { border-bottom: 1px solid #8884; } .passed { color: #197a3a; } .failed { color: #c3272b; font-weight: 600; }
small { display: block; overflow-wrap: anywhere; } dt { float: left; width: 9rem; } dd { overflow-wrap: anywhere; }
"""


def run_name(at: datetime, manifest_sha256: str) -> str:
    """Name of one run of the gate, for folders: sortable time, then the candidate."""
    return f"{at:%Y%m%dT%H%M%S%fZ}-{manifest_sha256[:12]}"


def write_evidence(reports_root: Path, verdict: Verdict) -> Path:
    """Write the folder `reports_root/gate/<time>-<manifest>` and return it. Raises LookalikeError when it exists."""
    target = reports_root / "gate" / run_name(verdict.at, verdict.manifest_sha256)
    with new_directory(target) as folder:
        (folder / VERDICT_FILE).write_text(verdict.model_dump_json(indent=2) + "\n")
        (folder / REPORT_FILE).write_text(report(verdict))
    return target


def read_verdict(folder: Path) -> Verdict:
    """The verdict of an evidence folder."""
    return Verdict.model_validate_json((folder / VERDICT_FILE).read_text())


def report(verdict: Verdict) -> str:
    """A self-contained HTML page of the verdict."""
    word = "passed" if verdict.passed else "failed"
    rows = "".join(_row(check) for check in verdict.checks)
    facts = {
        "candidate": verdict.manifest_sha256,
        "compared with": f"version {verdict.compared_with}" if verdict.compared_with else "no live release",
        "at": verdict.at.isoformat(),
        "verdict": verdict.sha256,
    }
    told = "".join(f"<dt>{name}</dt><dd><code>{html.escape(value)}</code></dd>" for name, value in facts.items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Gate: {word}</title><style>{_STYLE}</style>"
        f'<h1>Gate: <span class="{word}">{word}</span></h1><dl>{told}</dl>'
        "<table><thead><tr><th>check<th>result<th>observed<th>bar</tr></thead>"
        f"<tbody>{rows}</tbody></table></html>\n"
    )


def _row(check: Check) -> str:
    word = "passed" if check.passed else "failed"
    told = [check.detail, f"data docs: {check.evidence['docs']}" if "docs" in check.evidence else ""]
    detail = "".join(f"<small>{html.escape(text)}</small>" for text in told if text)
    return (
        f'<tr><td>{html.escape(check.name)}<td class="{word}">{word}'
        f"<td>{html.escape(check.observed)}{detail}<td>{html.escape(check.bar)}</tr>"
    )
