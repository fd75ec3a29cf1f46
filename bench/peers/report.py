"""Tables and plots of the engines that were measured: memory, build, and what each recall costs.

python bench/peers/report.py --folder var/bench/peers       Markdown on standard output, one PNG per kind of query
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bar import bar, held
from curves import BOTH, RECALLS, at, front, per_second
from sweep import lowest

MEBIBYTE = 2**20
QUIET = 0.05
"""Share of the processors that others may take unmentioned."""
Result = dict[str, Any]


def main() -> None:
    """Read all results of a folder; print, and draw where matplotlib is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("var/bench/peers"), help="of run.py")
    folder = parser.parse_args().folder / "results"
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not results:
        raise SystemExit(f"{folder} holds no results; run bench/peers/run.py first")
    newest = max(results, key=lambda result: result["date"])["inputs"]["sha256"]
    others = [result["engine"] for result in results if result["inputs"]["sha256"] != newest]
    results = [result for result in results if result["inputs"]["sha256"] == newest]
    if others:
        print(f"Left out, because they were measured on other vectors or queries: {', '.join(others)}.\n")
    print(tables(results))
    for kind in results[0]["inputs"]["queries"]:
        draw(results, kind, folder / f"{kind}.png")


def tables(results: Sequence[Result]) -> str:
    """Markdown: what was built, one table per recall, and whether the bar is held."""
    inputs, machine = results[0]["inputs"], results[0]["machine"]
    kinds = list(inputs["queries"])
    what = "generated vectors" if "generated" in inputs else "vectors"
    head = f"{inputs['vectors']:,} {what} of {inputs['dim']} dimensions; {machine}; one core for search."
    parts = [head, table(BUILT_HEAD, [built(result) for result in results]), REMARKS]
    for recall in RECALLS:
        rows = [costs(result, recall, kinds) for result in results if result["points"]]
        names = ["engine", "QPS", "p50 ms", "p99 ms", "batched QPS", *(f"recall of {kind}" for kind in kinds)]
        parts += [f"recall@10 {recall:.2f} of the kind of query that is found worst", table(names, rows)]
    return "\n\n".join([*parts, *bar(results)])


BUILT_HEAD = [
    "engine", "what", "memory MiB", "files MiB", "of them finer codes", "with files MiB", "disk MiB", "build min",
    "build CPU min", "build peak MiB", "highest recall", "ended",
]  # fmt: skip
REMARKS = """Memory: what search holds after all of it, beyond the process before it opened the index, without pages of
files; files: pages of the index's files in memory, of engines that read them while they search. * beside other work,
which took the share of the processors that is named."""


def built(result: Result) -> list[str]:
    """One line of the first table."""
    build, peak = result.get("build"), max((lowest(point) for point in result["points"]), default=None)
    row = [result["engine"], result.get("what", "")]
    now = result.get("memory", {}).get("searched")
    sizes = [held(result) - now["files"], now["files"], now["finer"], held(result)] if now else []
    row += [f"{size / MEBIBYTE:,.0f}" for size in sizes] or [""] * 4
    row.append(f"{build['disk_bytes'] / MEBIBYTE:,.0f}" if build else "")
    row.append(f"{build['seconds'] / 60:.1f}{beside(build, build['cores'])}" if build else "")
    row.append(f"{build['cpu_seconds'] / 60:.1f}" if build else "")
    row.append(f"{build['peak'].get('anonymous', 0) / MEBIBYTE:,.0f}" if build else "")
    searched = beside(result["search"], 1) if "search" in result else ""
    return [*row, "" if peak is None else f"{peak:.4f}", (result["error"] or searched)[:100]]


def beside(took: dict[str, float], cores: int) -> str:
    """A mark, and the share of so many cores that others took, where it was more than a little."""
    share = took["others_cpu_seconds"] / max(took["seconds"] * cores, 1e-9)
    return f"* ({share:.0%})" if share > QUIET else ""


def costs(result: Result, recall: float, kinds: Sequence[str]) -> list[str]:
    """QPS, p50 and p99 of single queries, QPS of batches, and the recall of each kind there."""
    points = result["points"]
    mean, p50, p99 = (at(points, recall, "single", BOTH, figure) for figure in ("mean_ms", "p50_ms", "p99_ms"))
    batched = rate(at(points, recall, "batched", BOTH, "mean_ms"))
    if mean is None:
        return [result["engine"], "not reached", "", "", batched, *("" for _ in kinds)]
    nearest = min(points, key=lambda point: (lowest(point) < recall, abs(lowest(point) - recall)))
    reached = [f"{nearest['single'][kind]['recall']:.3f}" for kind in kinds]
    return [result["engine"], rate(mean), f"{p50:.3f}", f"{p99:.3f}", batched, *reached]


def rate(milliseconds: float | None) -> str:
    """Queries a second, in words where there are none."""
    found = per_second(milliseconds)
    return "not reached" if found is None else f"{found:,.0f}"


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(results: Sequence[Result], kind: str, path: Path) -> None:
    """Recall against queries a second, one line per engine; our own is drawn thicker."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 7))
    styles = ("-", "--", ":", "-.")
    for number, result in enumerate(each for each in results if each["points"]):
        best = [each for each in front(result["points"], "single", kind) if each["recall"] >= 0.8]
        width = 3.0 if result["engine"].startswith("lookalike") else 1.3
        style = styles[number // 10 % len(styles)]
        rates = [1_000 / each["mean_ms"] for each in best]
        axes.plot([each["recall"] for each in best], rates, style, marker=".", linewidth=width, label=result["engine"])
    axes.set(yscale="log", xlabel="recall@10", ylabel="queries a second, one at a time, one core", xlim=(0.8, 1.0))
    axes.set_title(f"{kind}: {results[0]['inputs']['vectors']:,} × {results[0]['inputs']['dim']}")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8, ncol=2)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
