"""Whether an index of generated vectors is searched as one of real ones is, both built as shipped by `bench/scale.py`.

    python bench/scale_match.py var/bench/scale/1000000-real var/bench/scale/1000000 [--out docs/performance]

Compared: similarities of the true nearest and their local dimension (Levina & Bickel 2004), how evenly lists are
filled, which codes were chosen, and recall@10 over the lists probed, refined deeply, and over the refine depth, many
lists probed. Writes match.json and match.png.
"""

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from figures import marked, panels, table
from mixture_fit import local_dimension
from peers.curves import RECALLS
from scale_latency import KINDS, K, Queries

from index_builder.reader import FaissIndex, open_index
from lookalike.storage.atomic import write_bytes

NEIGHBOURS = (1, 10, 100)
QUANTILES = (0.1, 0.5, 0.9)
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
FACTORS = (1, 2, 4, 8, 16, 32, 64)
ASKED_TOGETHER = 50
TOLERANCE = 0.02
WORLDS = ("real", "made")
Curve = dict[int, float]


class World:
    """One index: `figures` of how its vectors lie, and `curves` of recall over a setting."""

    def __init__(self, folder: Path) -> None:
        index, queries = open_index(folder / "index", verify=False), Queries(folder)
        manifest = index.manifest
        self.figures: dict[str, float] = {
            "items": manifest.items,
            "dimensions": manifest.space.dim,
            "lists": manifest.recipe.nlist or 0,
            "imbalance of lists": manifest.build["quantiser"]["imbalance_of_all"],
            "axes coded": manifest.build["codes"]["axes"],
            "finer axes": manifest.build["codes"]["finer_axes"],
        }
        for kind, scores in queries.truth.items():
            for nearest in NEIGHBOURS:
                for quantile in QUANTILES:
                    name = f"{kind}: similarity of nearest {nearest}, quantile {quantile}"
                    self.figures[name] = float(np.quantile(scores[:, nearest - 1], quantile))
            self.figures[f"{kind}: local dimension"] = local_dimension(scores)
        self.curves: dict[str, Curve] = {}
        for kind in KINDS:
            self.curves |= recall_curves(index, queries, kind)


def recall_curves(index: FaissIndex, queries: Queries, kind: str) -> dict[str, Curve]:
    """Recall of one kind of query over the lists probed, and over the refine depth."""
    probes = [probe for probe in PROBES if probe <= (index.manifest.recipe.nlist or 0)]
    over_lists: Curve = {}
    for probe in probes:
        found = by_depth(index, queries, kind, probe)
        over_lists[probe] = found[FACTORS[-1]]
    return {f"{kind}: lists probed": over_lists, f"{kind}: refine depth": found}


def by_depth(index: FaissIndex, queries: Queries, kind: str, probe: int) -> Curve:
    """Recall by refine depth; a few queries at a time, for the memory of their candidates."""
    asked, parts = queries.vectors[kind], []
    for start in range(0, len(asked), ASKED_TOGETHER):
        few = asked[start : start + ASKED_TOGETHER]
        parts.append(index.search_depths({"nprobe": probe}, few, K, FACTORS))
        index.let_go()
    return {factor: queries.share(np.concatenate([part[factor] for part in parts]), kind) for factor in FACTORS}


def setting_at(curve: Curve, recall: float) -> float | None:
    """The setting that gives `recall`, between two measured ones by its logarithm; None beyond what was measured."""
    for (low, under), (high, over) in pairwise(curve.items()):
        if under < recall <= over:
            share = (recall - under) / (over - under)
            return math.exp((1 - share) * math.log(low) + share * math.log(high))
    return None


def compared(real: World, made: World) -> dict[str, Any]:
    """Print both side by side, and what all differences come to. Raises SystemExit where they cannot be compared."""
    for name in ("items", "dimensions", "lists"):
        if real.figures[name] != made.figures[name]:
            raise SystemExit(
                f"{name}: {real.figures[name]:,} real and {made.figures[name]:,} made; build both alike, "
                "with the same --items, --recipe and --memory of bench/scale.py"
            )
    print(table(["", *WORLDS], [[name, *(f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" for value in
                                (one, made.figures[name]))] for name, one in real.figures.items()]))  # fmt: skip
    differences: dict[str, Curve] = {}
    for name, curve in real.curves.items():
        other = made.curves[name]
        differences[name] = {setting: round(other[setting] - value, 4) for setting, value in curve.items()}
        rows = [[word, *(f"{value:{form}}" for value in values.values())] for word, values, form in
                (("real", curve, ".3f"), ("made", other, ".3f"), ("differs", differences[name], "+.3f"))]  # fmt: skip
        print("\n" + table([name, *map(str, curve)], rows))
    greatest = max(abs(value) for curve in differences.values() for value in curve.values())
    within = [abs(value) <= TOLERANCE for curve in differences.values() for value in curve.values()]
    print(f"\ngreatest difference of recall: {greatest:.3f}; {sum(within)} of {len(within)} within {TOLERANCE}\n")
    needed = settings_needed(real, made)
    print(table(["setting at a recall", *WORLDS, "made / real"], [
        [f"{name}, {recall}", f"{one:.1f}", f"{two:.1f}", f"{two / one:.2f}"] for name, recall, one, two in needed
    ]))  # fmt: skip
    worlds = dict(zip(WORLDS, (real, made), strict=True))
    return {
        "figures": {name: world.figures for name, world in worlds.items()},
        "curves": {name: world.curves for name, world in worlds.items()},
        "differences": differences,
        "greatest difference": greatest,
        "settings": [dict(zip(("curve", "recall", *WORLDS), row, strict=True)) for row in needed],
    }


def settings_needed(real: World, made: World) -> list[tuple[str, float, float, float]]:
    """Curve, recall, and the setting that gives it in either world, where both reach it."""
    found = []
    for name, curve in real.curves.items():
        for recall in RECALLS:
            one, two = setting_at(curve, recall), setting_at(made.curves[name], recall)
            if one is not None and two is not None:
                found.append((name, recall, one, two))
    return found


def draw(real: World, made: World, path: Path) -> None:
    """Recall over each setting, real and made."""
    title = f"Real and generated vectors, {real.figures['items']:,} × {real.figures['dimensions']}, same recipe"
    with panels(path, 2, 2, title) as axes:
        for axis, (name, curve) in zip(axes, real.curves.items(), strict=True):
            for word, other, style in (("real", curve, "-o"), ("generated", made.curves[name], "--x")):
                axis.plot(list(other), list(other.values()), style, label=word)
            kind, setting = name.split(": ")
            marked(axis, list(curve))
            unit = "lists probed" if setting == "lists probed" else f"candidates refined, in times of {K}"
            axis.set(title=f"{kind}: {setting}", xlabel=unit, ylabel="recall@10", ylim=(0, 1.02))
            axis.legend(loc="lower right")


def main() -> None:
    """Measure both, compare, write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, help="folder of bench/scale.py --vectors")
    parser.add_argument("made", type=Path, help="folder of bench/scale.py")
    parser.add_argument("--out", type=Path, default=Path("docs/performance"), help="folder")
    given = parser.parse_args()
    faiss.omp_set_num_threads(1)
    real, made = World(given.real), World(given.made)
    said = compared(real, made)
    write_bytes(given.out / "match.json", (json.dumps(said, indent=1) + "\n").encode())
    draw(real, made, given.out / "match.png")


if __name__ == "__main__":
    main()
