"""Plots and tables of one index at scale, as `bench/scale_latency.py` measured it.

python bench/scale_plots.py var/bench/scale/100000000 [--out docs/performance/scale.png]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from figures import counted, marked, panels, table

Measured = dict[str, Any]
QUANTILES = ("p50 ms", "p95 ms", "p99 ms")
PARAMETERS = {"nprobe": "lists probed", "k_factor": "candidates refined, in times of 10"}


def read_latency(folder: Path) -> Measured:
    """What was measured of the index in this folder. Raises SystemExit where nothing was."""
    path = folder / "latency.json"
    try:
        found: Measured = json.loads(path.read_text())
    except FileNotFoundError:
        raise SystemExit(f"{path} is not there; `python bench/scale_latency.py {folder}` measures") from None
    if "points" not in found:
        raise SystemExit(f"{path} has no `points`; `python bench/scale_latency.py {folder}` measures anew")
    return found


def by_parameter(measured: Measured, name: str) -> list[Measured]:
    """Settings that differ from the chosen ones in `name` alone, ascending."""
    chosen = measured["search"]
    found = {
        each["search"][name]: each
        for each in measured["by parameters"]
        if {**each["search"], name: chosen[name]} == chosen
    }
    return [found[value] for value in sorted(found)]


def tables(measured: Measured) -> str:
    """Markdown."""
    chosen = ", ".join(f"{name} {value}" for name, value in measured["search"].items())
    recalls = ", ".join(f"{kind} {value}" for kind, value in measured["recall"].items())
    limit = measured.get("memory limit")
    under = f"; {limit / 2**30:g} GiB of memory, page cache included" if limit else ""
    parts = [f"{measured['items']:,} items, {chosen}; recall@10: {recalls}; {measured['machine']}{under}"]
    rows = [[name, *_figures(each)] for name, each in measured["latency"].items()]
    rows += [[f"k = {k}", *_figures(each)] for k, each in measured["by k"].items()]
    for name, words in PARAMETERS.items():
        rows += [
            [
                f"{words}: {each['search'][name]}",
                *_figures(each),
                *(f"{value:.4f}" for value in each["recall"].values()),
            ]
            for each in by_parameter(measured, name)
        ]
    head = ["one at a time", "p50 ms", "p95 ms", "p99 ms", "recall of pictures", "of texts"]
    parts.append(table(head, rows))
    load = [[clients, f"{each['queries/s']:,.0f}", *_figures(each)] for clients, each in measured["load"].items()]
    parts.append(table(["clients", "queries/s", "p50 ms", "p95 ms", "p99 ms"], load))
    parts.append(table(["memory", "MiB"], [[name, f"{value:,.0f}"] for name, value in measured["memory"].items()]))
    return "\n\n".join(parts)


def _figures(each: Measured) -> list[str]:
    return [f"{each[name]:.2f}" for name in QUANTILES]


def draw(measured: Measured, path: Path) -> None:
    """All figures of one index as panels."""
    limit = measured.get("memory limit")
    within = f", {limit / 2**30:g} GiB of memory" if limit else ""
    chosen = ", ".join(f"{name} {value}" for name, value in measured["search"].items())
    with panels(path, 2, 4, f"{counted(measured['items'])} vectors{within}; chosen: {chosen}") as axes:
        _distribution(axes[0], measured)
        _by_k(axes[1], measured)
        _load(axes[4], axes[5], measured)
        for column, name in enumerate(PARAMETERS, start=2):
            if name in measured["search"]:
                _by_parameter(axes[column], axes[column + 4], measured, name)


def _distribution(axis: Any, measured: Measured) -> None:
    for kind, each in measured["latency"].items():
        slower = {100 - float(share): took for share, took in each["ms by percentile"].items() if float(share) < 100}
        axis.plot(list(slower.values()), list(slower), "-o", markersize=4, label=kind)
    axis.set(title="one at a time", xscale="log", yscale="log", xlabel="ms", ylabel="% of queries that take longer")
    axis.legend(loc="lower left")


def _by_k(axis: Any, measured: Measured) -> None:
    _latencies(axis, [int(k) for k in measured["by k"]], list(measured["by k"].values()))
    axis.set(title="by results asked for", xlabel="k", ylabel="ms")


def _by_parameter(latency: Any, recall: Any, measured: Measured, name: str) -> None:
    found = by_parameter(measured, name)
    values = [each["search"][name] for each in found]
    _latencies(latency, values, found)
    latency.set(title=f"by {name}", xlabel=PARAMETERS[name], ylabel="ms")
    for kind in measured["recall"]:
        recall.plot(values, [each["recall"][kind] for each in found], "-o", label=kind)
    marked(recall, values)
    recall.set(title=f"by {name}", xlabel=PARAMETERS[name], ylabel="recall@10")
    recall.legend(loc="lower right")
    for axis in (latency, recall):
        axis.axvline(measured["search"][name], color="grey", linestyle=":")


def _load(rate: Any, latency: Any, measured: Measured) -> None:
    clients = [int(each) for each in measured["load"]]
    found = list(measured["load"].values())
    rate.plot(clients, [each["queries/s"] for each in found], "-o")
    rate.set(title="under load", xlabel="clients", ylabel="queries a second", ylim=(0, None))
    rate.set_xticks(clients)
    _latencies(latency, clients, found)
    latency.set(title="under load", xlabel="clients", ylabel="ms")


def _latencies(axis: Any, values: list[int], found: list[Measured]) -> None:
    for name, style in zip(QUANTILES, ("-o", "-.s", "--^"), strict=True):
        axis.plot(values, [each[name] for each in found], style, label=name.removesuffix(" ms"))
    marked(axis, values)
    axis.set_yscale("log")
    axis.legend()


def main() -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of bench/scale.py, measured by bench/scale_latency.py")
    parser.add_argument("--out", type=Path, default=Path("docs/performance/scale.png"))
    given = parser.parse_args()
    measured = read_latency(given.folder)
    print(tables(measured))
    draw(measured, given.out)


if __name__ == "__main__":
    main()
