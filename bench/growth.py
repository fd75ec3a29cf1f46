"""How an index grows: memory, time to build and latency at equal recall by number of vectors, and by which law.

    python bench/growth.py var/bench/scale/{1000000,3000000,10000000,30000000,100000000} [--out docs/performance]

Each folder was built by `bench/scale.py` and measured by `bench/scale_latency.py`. What a recall costs is taken between
the two measured operating points around it, for pictures and texts together: the lower recall of both, times of all.
A law is fitted to the smallest sizes, and to the next one as long as it foretells that. Writes growth.json and
growth.png.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from figures import counted, marked, panels, table
from growth_law import TOLERANCE, Law, fitted
from peers.curves import BOTH, RECALLS, at
from scale_plots import read_latency

from lookalike.contracts.manifest import Manifest
from lookalike.storage.atomic import write_bytes

GIB = 2**30
STEPS = ("pin", "train", "encode", "merge")
FIRST = ("index.faiss", "centres.faiss", "axes.npz")
"""Files of what each search starts with; the others are read by row."""
AT_RECALL = {"lists probed": "nprobe", "p50 ms": "p50_ms", "p99 ms": "p99_ms"}
SPACE = ("disk GiB", "searched first GiB", "anonymous GiB", "resident at most GiB")
"""All files; FIRST; memory that is no page of a file, at the end; the most at a time, pages of files included."""
BUILD = "build µs a vector"
DRAWN_RECALL = 0.95
"""Deviations are drawn for this one only; the table has them all."""


@dataclass(frozen=True)
class Size:
    """One index. `figures`: by name, those of AT_RECALL once per recall that was reached; `steps`: µs a vector."""

    items: int
    dim: int
    lists: int
    axes: int
    machine: str
    memory_limit: int | None
    steps: dict[str, float]
    figures: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> "Size":
        """Raises SystemExit where it was not built or not measured."""
        try:
            manifest, built = Manifest.read(folder / "index"), json.loads((folder / "build.json").read_text())
        except FileNotFoundError as error:
            raise SystemExit(f"{folder} holds no finished index: {error}; bench/scale.py builds") from None
        measured = read_latency(folder)
        steps = {name: built["seconds"].get(name, 0.0) / manifest.items * 1e6 for name in STEPS}
        sizes = {name: record.bytes / GIB for name, record in manifest.files.items()}
        figures = {
            "disk GiB": sum(sizes.values()),
            "searched first GiB": sum(size for name, size in sizes.items() if name in FIRST),
            "anonymous GiB": measured["memory"]["RssAnon"] / 2**10,
            "resident at most GiB": measured["memory"]["VmHWM"] / 2**10,
            BUILD: sum(steps.values()),
        }
        return cls(
            items=manifest.items, dim=manifest.space.dim, lists=manifest.recipe.nlist or 0,
            axes=manifest.build["codes"]["axes"], machine=measured["machine"],
            memory_limit=measured["memory limit"], steps=steps, figures=figures | _at_recalls(measured["points"]),
        )  # fmt: skip


def _at_recalls(points: list[dict[str, Any]]) -> dict[str, float]:
    """Settings count as figures of a point, so that they are taken between two points as its times are."""
    known = [
        {"single": {kind: figures | point["search"] for kind, figures in point["single"].items()}} for point in points
    ]
    found = {}
    for recall in RECALLS:
        for name, figure in AT_RECALL.items():
            value = at(known, recall, "single", BOTH, figure)
            if value is not None:
                found[at_recall(name, recall)] = value
    return found


def at_recall(name: str, recall: float) -> str:
    """Name of a figure at that recall."""
    return f"{name} at {recall:.2f}"


def laws_of(sizes: list[Size]) -> list[Law]:
    """Of every figure that two sizes have at least."""
    forms = dict.fromkeys(SPACE, "line") | {BUILD: "log"}
    forms |= {at_recall(name, recall): "power" for name in AT_RECALL for recall in RECALLS}
    values = {name: {size.items: size.figures[name] for size in sizes if name in size.figures} for name in forms}
    return [fitted(name, form, values[name]) for name, form in forms.items() if len(values[name]) > 1]


def tables(sizes: list[Size], laws: list[Law]) -> str:
    """Markdown: all figures by size, then the laws."""
    every = dict.fromkeys(name for size in sizes for name in size.figures)
    names = ["lists", "axes coded", *(f"{step}, µs a vector" for step in STEPS), *every]
    rows = []
    for size in sizes:
        numbers = {f"{step}, µs a vector": took for step, took in size.steps.items()} | size.figures
        rows.append([f"{size.lists:,}", str(size.axes), *(_shown(numbers.get(name)) for name in names[2:])])
    columns = [[name, *(row[place] for row in rows)] for place, name in enumerate(names)]
    limits = ("none" if size.memory_limit is None else f"{size.memory_limit / GIB:g}" for size in sizes)
    by_size = table(["vectors", *(counted(size.items) for size in sizes)], [["memory limit GiB", *limits], *columns])
    head = ["figure", "law, M million vectors", "off by at most", "holds to", "stops at"]
    told = [[law.name, law.text, f"{law.worst:.0%}", law.range_text, law.stop_text] for law in laws]
    return f"{sizes[0].machine}\n\n{by_size}\n\n{table(head, told)}"


def _shown(value: float | None) -> str:
    if value is None:
        return "not reached"
    return f"{value:.3g}" if value < 1_000 else f"{value:,.0f}"


def draw(sizes: list[Size], laws: list[Law], path: Path) -> None:
    """Space, time to build, and what each recall costs, with the laws and how far off they are."""
    by_name = {law.name: law for law in laws}
    with panels(path, 2, 3, f"Growth from {counted(sizes[0].items)} to {counted(sizes[-1].items)} vectors") as axes:
        _with_laws(axes[0], sizes, by_name, {name: name for name in SPACE})
        axes[0].set(title="space", ylabel="GiB", yscale="log")
        _build(axes[1], sizes, by_name)
        for axis, name in zip(axes[2:5], AT_RECALL, strict=True):
            _with_laws(axis, sizes, by_name, {at_recall(name, recall): f"recall {recall:.2f}" for recall in RECALLS})
            axis.set(title=f"{name} at equal recall", ylabel=name, yscale="log")
        for name in (*SPACE, BUILD, *(at_recall(name, DRAWN_RECALL) for name in AT_RECALL)):
            if name in by_name:
                off = by_name[name].off
                axes[5].plot(list(off), [share * 100 for share in off.values()], "-o", markersize=4, label=name)
        axes[5].axhspan(-100 * TOLERANCE, 100 * TOLERANCE, color="grey", alpha=0.15)
        axes[5].set(title="how far off the laws are", ylabel="% above the law")
        for axis in axes:
            marked(axis, [size.items for size in sizes])
            axis.set_xticklabels([counted(size.items) for size in sizes])
            axis.set_xlabel("vectors")
            axis.legend(fontsize=7)


def _with_laws(axis: Any, sizes: list[Size], laws: dict[str, Law], names: dict[str, str], first: int = 0) -> None:
    """Measured ones as points, laws as lines; `first`: number of the first colour."""
    for number, (name, label) in enumerate(names.items(), start=first):
        known = [size for size in sizes if name in size.figures]
        items, color = [size.items for size in known], f"C{number}"
        axis.plot(items, [size.figures[name] for size in known], "o", color=color, label=label)
        if name in laws:
            axis.plot(items, [laws[name](each) for each in items], "--", color=color, label=laws[name].text)


def _build(axis: Any, sizes: list[Size], laws: dict[str, Law]) -> None:
    for step in STEPS:
        axis.plot([size.items for size in sizes], [size.steps[step] for size in sizes], "-x", label=step)
    _with_laws(axis, sizes, laws, {BUILD: "in all"}, len(STEPS))
    axis.set(title="time to build", ylabel="µs a vector", ylim=(0, None))


def main() -> None:
    """Read all sizes, find the laws, write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of bench/scale.py, measured by bench/scale_latency.py")
    parser.add_argument("--out", type=Path, default=Path("docs/performance"), help="folder")
    given = parser.parse_args()
    sizes = sorted((Size.read(folder) for folder in given.folders), key=lambda size: size.items)
    if len({size.items for size in sizes}) < max(2, len(sizes)) or len({size.dim for size in sizes}) > 1:
        raise SystemExit("growth is over two or more numbers of vectors of one dimension, each given once")
    laws = laws_of(sizes)
    print(tables(sizes, laws))
    said = {"sizes": [asdict(size) for size in sizes], "laws": [law.told() for law in laws]}
    write_bytes(given.out / "growth.json", (json.dumps(said, indent=1) + "\n").encode())
    draw(sizes, laws, given.out / "growth.png")


if __name__ == "__main__":
    main()
