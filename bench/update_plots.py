"""Plots and a table of searches beside changes, as `bench/updates.py` measured them.

python bench/update_plots.py var/bench/updates/1000000-real-shop.json [--out docs/performance/updates.png]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from figures import panels, table

Rate = dict[str, Any]


def rates_table(rates: list[Rate]) -> str:
    """Markdown."""
    head = ["clients", "changes/s", "seen/s", "queries/s", "of those at rest", "p50 ms", "p99 ms", "× at rest (p99)",
            "visible after p50 / p99, s"]  # fmt: skip
    rows = [
        [
            str(each["clients"]), f"{each['rate']:g}", f"{each['changes seen/s']:g}", f"{each['queries/s']:g}",
            f"{each['queries/s, of those at rest']:.2f}", f"{each['p50 ms']:.2f}", f"{each['p99 ms']:.2f}",
            f"{each['p99, of that at rest']:.2f}",
            " / ".join(f"{value:.3f}" for value in each.get("visible after", {}).values()),
        ]
        for each in rates
    ]  # fmt: skip
    return table(head, rows)


def draw(results: dict[str, Any], path: Path) -> None:
    """Queries a second and latency over the rate of changes, and latency over the number of changed items."""
    with panels(path, 1, 3, f"Searches beside changes, {results['items']:,} items") as axes:
        for number, clients in enumerate(sorted({each["clients"] for each in results["rates"]})):
            known = [each for each in results["rates"] if each["clients"] == clients]
            changes = [each["rate"] for each in known]
            label = f"{clients} client" + "s" * (clients > 1)
            axes[0].plot(changes, [each["queries/s"] for each in known], "-o", label=label)
            for name, style in (("p50 ms", "-o"), ("p99 ms", "--^")):
                took = [each[name] for each in known]
                axes[1].plot(changes, took, style, color=f"C{number}", label=f"{label}, {name[:3]}")
        axes[0].set(title="rate of searches", xlabel="changes a second", ylabel="queries a second", ylim=(0, None))
        axes[1].set(title="latency", xlabel="changes a second", ylabel="ms", yscale="log")
        for number, rate in enumerate(sorted({each["rate"] for each in results["sizes"]})):
            known = [each for each in results["sizes"] if each["rate"] == rate]
            changed = [each["overlay"]["touched"] for each in known]
            for name, style in (("p50 ms", "-o"), ("p99 ms", "--^")):
                label = f"{rate:g} changes/s, {name[:3]}"
                axes[2].plot(changed, [each[name] for each in known], style, color=f"C{number}", label=label)
        axes[2].set(title="latency by changed items", xlabel="items in the overlay", ylabel="ms", xscale="log",
                    yscale="log")  # fmt: skip
        for axis in axes:
            if axis.has_data():
                axis.legend(fontsize=8)


def main() -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON of bench/updates.py")
    parser.add_argument("--out", type=Path, default=Path("docs/performance/updates.png"))
    given = parser.parse_args()
    if not given.results.exists():
        raise SystemExit(f"{given.results} is not there; `python bench/updates.py FOLDER` measures")
    results = json.loads(given.results.read_text())
    print(f"{results['items']:,} items; {results['machine']}\n\n{rates_table(results['rates'])}")
    draw(results, given.out)


if __name__ == "__main__":
    main()
