import hashlib

import pytest

from lookalike.catalogue.licences import is_free
from lookalike.catalogue.packages import read_data
from lookalike.catalogue.splits import HASHED_TEST_BRANDS, TEST_BRANDS, TRAINED_BRANDS, brands_by_hash, held_out


def test_held_out_are_the_380_of_least_sha256():
    slugs = [f"concept-{number}" for number in range(1_000)]
    digests = {slug: hashlib.sha256(slug.encode()).hexdigest() for slug in slugs}
    chosen = held_out([*slugs, *slugs])
    assert len(chosen) == 380
    assert max(digests[slug] for slug in chosen) < min(digests[slug] for slug in slugs if slug not in chosen)


def test_the_ten_brands_follow_from_the_rule_over_the_real_list_of_sets():
    licences = {prefix: tuple(licence) for prefix, licence in read_data("icon_sets.toml").items()}
    assert len(licences) == 238
    assert brands_by_hash(licences, 10) == HASHED_TEST_BRANDS
    assert all(is_free(*licences[brand]) for brand in (*TEST_BRANDS, *TRAINED_BRANDS))


def test_no_brand_is_both_trained_and_tested():
    assert len(TEST_BRANDS) == len(set(TEST_BRANDS)) == 15
    assert not set(TEST_BRANDS) & set(TRAINED_BRANDS)


@pytest.mark.parametrize(
    ("spdx", "title", "free"),
    [
        ("MIT", "MIT", True), ("CC-BY-SA-4.0", "CC BY-SA 4.0", True), ("OFL-1.1", "Open Font License", True),
        ("CC-BY-NC-4.0", "CC BY-NC 4.0", False), ("CC-BY-NC-SA-4.0", "CC BY-NC-SA 4.0", False),
        ("CC-BY-ND-4.0", "CC BY-ND 4.0", False), ("GPL-2.0-or-later", "GPL", False), ("AGPL-3.0", "AGPL", False),
        ("", "GPL 3.0", False), ("LGPL-3.0-only", "", False), ("", "Non-Commercial use", False), (None, None, False),
        ("BSD-3-Clause", "", True),
    ],
)  # fmt: skip
def test_free_licences(spdx, title, free):
    assert is_free(spdx, title) is free
