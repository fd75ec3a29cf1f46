"""Whether generated vectors are searched as real ones are: a mixture is fitted on real vectors, as many are generated,
and both are measured alike.

python bench/mixture_match.py --pictures pictures.npy --texts texts.npy --out var/bench/match [--rows 200000]

Questions are pictures that are in neither the index nor the fit, and the texts of these; no text of the fit equals one
of them. Measured: similarity of the k-th nearest, local dimension (Levina & Bickel 2004), how evenly lists are filled,
and recall@10 of lists over nprobe, over refine depth, and of a graph over efSearch. Writes match.json and match.png.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from mixture import HELD_OUT, Mixture
from mixture_fit import fit, local_dimension, nearest
from numpy.typing import NDArray

from index_builder.clustering import find_centres, nearest_centres
from index_builder.finest_codes import FinestCodes
from index_builder.lists import derive_nlist
from index_builder.parts import coarse, empty_index, refinement
from index_builder.recipes import load_recipe
from index_builder.search_parameters import FAISS, parameters
from lookalike.contracts.encoder import Vectors

QUESTIONS = 1_024
KEPT = 1_000
NEIGHBOURS = (1, 10, 100, 1_000)
QUANTILES = (0.1, 0.5, 0.9)
DEPTH, DEEPEST = 10, 64
PROBES = (1, 2, 4, 8, 16, 32, 64, 128)
FACTORS = (1, 2, 4, 8, 16, 32, 64)
GRAPH_DEPTHS = (10, 16, 32, 64, 128, 256)
TOLERANCE = 0.02
ROUNDING = 1e-5
SEED = 3
KINDS = ("pictures", "texts")


def split(
    pictures: Vectors, texts: Vectors, rows: int | None
) -> tuple[Vectors, dict[str, Vectors], Vectors, NDArray[np.int64]]:
    """Vectors to index and fit, questions of each kind, and texts to fit with their rows."""
    order = np.random.default_rng(SEED).permutation(len(pictures))
    asked, kept = order[:QUESTIONS], np.sort(order[QUESTIONS:][:rows])
    taken = {texts[row].tobytes() for row in asked}
    paired = np.array([at for at, row in enumerate(kept) if texts[row].tobytes() not in taken])
    questions = {"pictures": pictures[asked], "texts": texts[asked]}
    return pictures[kept], questions, texts[kept[paired]], paired


def generated(mixture: Mixture, rows: int, seed: int) -> tuple[Vectors, dict[str, Vectors]]:
    """As many vectors and questions, in as many blocks as give QUESTIONS."""
    blocks = QUESTIONS // HELD_OUT
    each = -(-rows // blocks)
    vectors = np.concatenate([mixture.block(seed, number, each) for number in range(blocks)])[:rows]
    pictures = np.concatenate([mixture.held_out(seed, number, each) for number in range(blocks)])
    return vectors, {"pictures": pictures, "texts": mixture.texts(seed, 0, pictures)}


class Measured:
    """One world, real or generated: its geometry and its recall curves."""

    def __init__(self, vectors: Vectors, questions: dict[str, Vectors]) -> None:
        self.vectors, self.questions = vectors, questions
        self.truth = {kind: nearest(vectors, asked, KEPT) for kind, asked in questions.items()}
        self.figures: dict[str, float] = {}
        for kind, (scores, _) in self.truth.items():
            for k in NEIGHBOURS:
                for quantile in QUANTILES:
                    value = float(np.quantile(scores[:, k - 1], quantile))
                    self.figures[f"{kind}: similarity of nearest {k}, quantile {quantile}"] = value
            self.figures[f"{kind}: local dimension"] = local_dimension(scores)
        self.curves: dict[str, dict[int, float]] = {}
        self._lists()
        self._graph()

    def _recall(self, name: str, kind: str, setting: int, found: NDArray[np.int64]) -> None:
        """A found row counts when it is as near as the tenth: of equal pictures, any is right."""
        scores, rows = self.truth[kind]
        right = [
            len(set(here.tolist()) & set(known[near >= near[DEPTH - 1] - ROUNDING].tolist())) / DEPTH
            for here, known, near in zip(found, rows, scores, strict=True)
        ]
        self.curves.setdefault(f"{kind}: {name}", {})[setting] = float(np.mean(right))

    def _lists(self) -> None:
        nlist = derive_nlist(len(self.vectors), load_recipe("ivf_pq").train_points_per_list)
        dim = self.vectors.shape[1]
        factory = f"IVF{nlist},PQ{dim}x4fsr,Refine(SQ8)"  # the encoder's own axes: worlds are compared, not recipes
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        centres = find_centres(self.vectors, nlist)
        filled = np.bincount(nearest_centres(centres, self.vectors), minlength=len(centres)).astype(float)
        self.figures["imbalance of lists"] = float(len(centres) * (filled**2).sum() / filled.sum() ** 2)
        coarse(index).quantizer.add(centres)
        index.train(self.vectors)
        index.add(self.vectors)
        finest, first = FinestCodes(refinement(index), len(self.vectors)), coarse(index)
        probes = [probe for probe in PROBES if probe <= nlist]
        for kind, asked in self.questions.items():
            for probe in probes:
                found = first.search(asked, DEPTH * DEEPEST, params=FAISS.SearchParametersIVF(nprobe=probe))[1]
                self._recall("lists over nprobe", kind, probe, finest.best_of(asked, found, DEPTH)[1])
            for factor in FACTORS:
                best = finest.best_of(asked, found[:, : DEPTH * factor], DEPTH)[1]
                self._recall(f"lists over refine depth, nprobe {probes[-1]}", kind, factor, best)

    def _graph(self) -> None:
        index = empty_index(load_recipe("hnsw"), self.vectors.shape[1])
        index.add(self.vectors)
        for kind, asked in self.questions.items():
            for deep in GRAPH_DEPTHS:
                found = index.search(asked, DEPTH, params=parameters(index, {"efSearch": deep}, None))[1]
                self._recall("graph over efSearch", kind, deep, found)


def report(real: Measured, made: Measured) -> dict[str, Any]:
    """Print both side by side; the greatest difference of recall decides."""
    print(f"{'figure':56} {'real':>9} {'made':>9}")
    for name, value in real.figures.items():
        print(f"{name:56} {value:9.3f} {made.figures[name]:9.3f}")
    worst = 0.0
    for name, curve in real.curves.items():
        print(f"\n{name}\n{'':8}" + "".join(f"{setting:>8}" for setting in curve))
        other = made.curves[name]
        for title, values in (("real", curve.values()), ("made", other.values())):
            print(f"{title:8}" + "".join(f"{value:8.3f}" for value in values))
        differences = [other[setting] - value for setting, value in curve.items()]
        print(f"{'differs':8}" + "".join(f"{value:+8.3f}" for value in differences))
        worst = max(worst, *map(abs, differences))
    print(f"\ngreatest difference of recall: {worst:.3f} (allowed: {TOLERANCE})")
    return {
        "rows": len(real.vectors), "dim": real.vectors.shape[1], "greatest difference": worst,
        "figures": {"real": real.figures, "made": made.figures}, "curves": {"real": real.curves, "made": made.curves},
    }  # fmt: skip


def plot(said: dict[str, Any], path: Path) -> None:
    """Recall curves, real and made."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = list(said["curves"]["real"])
    figure, axes = pyplot.subplots(2, len(names) // 2, figsize=(15, 8), squeeze=False, sharey=True)
    for axis, name in zip(axes.flat, names, strict=True):
        for world, style in (("real", "-o"), ("made", "--x")):
            curve = said["curves"][world][name]
            axis.plot([int(setting) for setting in curve], list(curve.values()), style, label=world)
        axis.set(xscale="log", title=name, ylabel="recall@10")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(f"{said['rows']:,} vectors of {said['dim']} dimensions")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Fit, generate, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help=".npy of unit vectors, float16 or float32")
    parser.add_argument("--texts", type=Path, required=True, help=".npy of the texts that belong to them, row by row")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--rows", type=int, help="so many vectors, drawn at random; all unless given")
    parser.add_argument("--components", type=int, help="by the number of vectors unless given")
    parser.add_argument("--seed", type=int, default=1, help="of the generated vectors")
    given = parser.parse_args()
    pictures, texts = (np.load(path).astype(np.float32) for path in (given.pictures, given.texts))
    vectors, questions, texts, paired = split(pictures, texts, given.rows)
    started = time.process_time()
    mixture = fit(vectors, texts, given.components, paired)
    print(f"fitted {len(vectors):,} vectors in {time.process_time() - started:.0f} s of CPU")
    said = report(Measured(vectors, questions), Measured(*generated(mixture, len(vectors), given.seed)))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "match.json").write_text(json.dumps(said, indent=2))
    plot(said, given.out / "match.png")


if __name__ == "__main__":
    main()
