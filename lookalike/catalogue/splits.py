"""Who may be trained on: trained brands, test brands, and the concepts that are held out in every brand.

The ten brands below were chosen by `brands_by_hash` from the sets of the pinned `@iconify/json` (data/icon_sets.toml).
"""

import hashlib
from collections.abc import Iterable, Mapping

from lookalike.catalogue.licences import is_free

TRAINED_BRANDS = ("openmoji", "twemoji", "noto", "fluent-emoji-flat", "emojione")
"""Five brands that draw the same concepts: the demo's catalogue and the heart of the training pictures."""

NAMED_TEST_BRANDS = ("fxemoji", "noto-v1", "emojione-v1", "flat-color-icons", "fluent-color")
HASHED_TEST_BRANDS = (
    "icon-park-twotone", "simple-icons", "fa-solid", "eva", "lineicons", "icons8", "cib", "brandico", "wpf", "entypo",
)  # fmt: skip
TEST_BRANDS = NAMED_TEST_BRANDS + HASHED_TEST_BRANDS
"""Never trained on."""

HELD_OUT_COUNT = 380


def held_out(slugs: Iterable[str]) -> frozenset[str]:
    """The first 380 of the concept slugs ordered by sha256 of the slug: never trained on in any brand."""
    return frozenset(sorted(set(slugs), key=_sha256)[:HELD_OUT_COUNT])


def brands_by_hash(licences: Mapping[str, tuple[str, str]], count: int) -> tuple[str, ...]:
    """The rule for the ten: of all sets under a free licence that are neither trained nor named, least sha256 first.

    `licences`: set prefix -> (SPDX name, title) as Iconify gives them.
    """
    taken = {*TRAINED_BRANDS, *NAMED_TEST_BRANDS}
    free = [prefix for prefix, licence in licences.items() if is_free(*licence) and prefix not in taken]
    return tuple(sorted(free, key=_sha256)[:count])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
