"""Quantiser: the list centres of an IVF index, trained or taken over from a release that serves.

Training is most of the time of a large build, and centres go out of date slowly. They are taken over while a fresh
sample lies as near to them, and fills the lists as evenly, as on the day when they were trained; the comparison is
always with that day, so that small steps do not add up unseen.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict

from index_builder.clustering import BLOCK_ROWS, find_centres
from index_builder.list_centres import ListCentres
from index_builder.pin import Figures, Pin
from index_builder.reader import open_index
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import CorruptArtifact

MEASURED_PER_LIST = 16
LEAST_DISTANCE = 1e-6
TRAINED_ANEW = "trained"
UNIT_TOLERANCE = 1e-3


class QuantiserFacts(BaseModel):
    """Where the list centres come from, for the manifest. Figures are None for a recipe without lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: str
    because: str
    now: Figures | None = None
    at_training: Figures | None = None


def centres_for(pin: Pin, sample: Vectors) -> tuple[Vectors, QuantiserFacts]:
    """Centres, shape (nlist, dim), reused from the pinned release or trained on `sample`, shape (n, dim)."""
    if pin.reusable is None:
        return _trained(pin, sample, pin.not_reusable_because)
    name = f"version {pin.reusable.version}"
    try:
        centres = _centres_of(pin)
    except CorruptArtifact as error:
        return _trained(pin, sample, f"the centres of {name} cannot be read: {error}")
    now, then = figures(centres, sample), pin.reusable.at_training
    drift = now.mean_distance / max(then.mean_distance, LEAST_DISTANCE) - 1
    growth = now.imbalance / then.imbalance - 1
    said = (
        f"{name}: mean distance {drift:+.1%} since training (allowed {pin.max_drift:+.1%}), imbalance of lists "
        f"{growth:+.1%} (allowed {pin.max_imbalance_growth:+.1%})"
    )
    if drift > pin.max_drift or growth > pin.max_imbalance_growth:
        return _trained(pin, sample, said)
    return centres, QuantiserFacts(how=f"reused from {name}", because=said, now=now, at_training=then)


def figures(centres: Vectors, sample: Vectors) -> Figures:
    """Distance and balance of a sample, spread evenly over its rows; each row goes to its nearest centre."""
    wanted = min(len(sample), MEASURED_PER_LIST * len(centres))
    chosen = np.linspace(0, len(sample) - 1, wanted).astype(np.int64)
    nearest, distances = np.empty(wanted, np.int64), np.empty(wanted, np.float32)
    lists = ListCentres.of(centres)
    for start in range(0, wanted, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        block = sample[chosen[part]]
        nearest[part] = lists.nearest_of(block)
        distances[part] = np.linalg.norm(block - centres[nearest[part]], axis=1)
    filled = np.bincount(nearest, minlength=len(centres)).astype(np.float64)
    return Figures(
        mean_distance=float(distances.mean(dtype=np.float64)),
        imbalance=float(len(centres) * (filled**2).sum() / filled.sum() ** 2),
        sample=wanted,
    )


def _trained(pin: Pin, sample: Vectors, because: str) -> tuple[Vectors, QuantiserFacts]:
    centres = find_centres(sample, pin.recipe.nlist or 1, pin.device)
    measured = figures(centres, sample)
    return centres, QuantiserFacts(how=TRAINED_ANEW, because=because, now=measured, at_training=measured)


def _centres_of(pin: Pin) -> Vectors:
    """Raises CorruptArtifact when the release is gone, is another one now, or its centres are not unit vectors."""
    assert pin.reusable is not None
    index = open_index(pin.reusable.index_dir, verify=False)
    if index.manifest.sha256 != pin.reusable.manifest_sha256:
        raise CorruptArtifact(f"{pin.reusable.index_dir} is no longer the release that was pinned")
    centres = index.centres()
    if centres is None or centres.shape != (pin.recipe.nlist, pin.space.dim):
        raise CorruptArtifact(f"{pin.reusable.index_dir} holds no {pin.recipe.nlist} list centres")
    norms = np.linalg.norm(centres, axis=1)
    if not (np.abs(norms - 1) <= UNIT_TOLERANCE).all():
        raise CorruptArtifact(f"{pin.reusable.index_dir}: list centres are not of unit length")
    return centres
