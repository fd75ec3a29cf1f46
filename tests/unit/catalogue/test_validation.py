import json

import pytest

from lookalike.catalogue.validation import UNREADABLE, parse_product
from lookalike.contracts.product import Product, Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings

NOW = 1_790_000_000_000
LIMITS = IntakeSettings(max_version_lead_seconds=60)
GOOD = {"item_id": "a:1", "version": 3, "title": "red apple", "image_path": "ab/abc.png"}


def parse(**changes):
    return parse_product(json.dumps(GOOD | changes), NOW, LIMITS)


BAD = [
    ({"item_id": None}, RefusalReason.MISSING_ID),
    ({"item_id": "   "}, RefusalReason.MISSING_ID),
    ({"item_id": ["a"]}, RefusalReason.MISSING_ID),
    ({"item_id": "x" * 513}, RefusalReason.BAD_VALUE),
    ({"item_id": "\x00progress:0"}, RefusalReason.BAD_VALUE),
    ({"item_id": "a\nb"}, RefusalReason.BAD_VALUE),
    ({"title": None}, RefusalReason.EMPTY_TITLE),
    ({"title": " \t\n"}, RefusalReason.EMPTY_TITLE),
    ({"title": "x" * 2_001}, RefusalReason.BAD_VALUE),
    ({"title": {"en": "apple"}}, RefusalReason.BAD_VALUE),
    ({"title": "bad \ud800"}, RefusalReason.BAD_VALUE),
    ({"image_path": ""}, RefusalReason.PICTURE_MISSING),
    ({"price": -0.01}, RefusalReason.BAD_PRICE),
    ({"price": "-1"}, RefusalReason.BAD_PRICE),
    ({"price": "free"}, RefusalReason.BAD_PRICE),
    ({"price": "12,50"}, RefusalReason.BAD_PRICE),
    ({"price": "1_000"}, RefusalReason.BAD_PRICE),
    ({"price": "١٢"}, RefusalReason.BAD_PRICE),
    ({"price": float("nan")}, RefusalReason.BAD_PRICE),
    ({"price": "inf"}, RefusalReason.BAD_PRICE),
    ({"price": True}, RefusalReason.BAD_PRICE),
    ({"price": [1]}, RefusalReason.BAD_PRICE),
    ({"version": NOW + 60_001}, RefusalReason.FUTURE_VERSION),
    ({"version": None}, RefusalReason.BAD_VALUE),
    ({"version": -1}, RefusalReason.BAD_VALUE),
    ({"version": 1.5}, RefusalReason.BAD_VALUE),
    ({"version": 2**63}, RefusalReason.BAD_VALUE),
    ({"version": "9" * 5_000}, RefusalReason.BAD_VALUE),
    ({"stock": -1}, RefusalReason.BAD_VALUE),
    ({"stock": "many"}, RefusalReason.BAD_VALUE),
    ({"tags": "red"}, RefusalReason.BAD_VALUE),
    ({"tags": [1]}, RefusalReason.BAD_VALUE),
    ({"tags": ["\ud800"]}, RefusalReason.BAD_VALUE),
    ({"attributes": {"\ud800": "red"}}, RefusalReason.BAD_VALUE),
    ({"attributes": "red"}, RefusalReason.BAD_VALUE),
    ({"attributes": {"colour": ["red"]}}, RefusalReason.BAD_VALUE),
    ({"keywords": {"de": "Apfel"}}, RefusalReason.BAD_VALUE),
    ({"colour": "red"}, RefusalReason.MALFORMED),
]


@pytest.mark.parametrize(("changes", "reason"), BAD)
def test_a_bad_row_is_refused_with_its_reason(changes, reason):
    refused = parse(**changes)
    assert isinstance(refused, Refusal)
    assert refused.reason == reason
    if reason is not RefusalReason.MISSING_ID and "item_id" not in changes and "colour" not in changes:
        assert refused.item_id == "a:1"
    assert next(iter(changes)) in refused.detail


@pytest.mark.parametrize("payload", ["", "{", "[1]", "null", '"text"', "[" * 100_000])
def test_what_is_not_an_object_is_malformed(payload):
    assert parse_product(payload, NOW, LIMITS).reason is RefusalReason.MALFORMED


@pytest.mark.parametrize("form", [dict, lambda pairs: [list(pair) for pair in pairs]])
def test_a_row_that_its_reader_could_not_read_is_malformed_and_says_why(form):
    row = dict.fromkeys(GOOD) | {"attributes": form([(UNREADABLE, "x.csv, row 7: 3 fields")])}
    refused = parse_product(json.dumps(row), NOW, LIMITS)
    assert (refused.reason, refused.detail) == (RefusalReason.MALFORMED, "x.csv, row 7: 3 fields")


def test_every_column_arrives():
    product = parse(
        title=" red apple ", brand=7, category_path=["food", " ", "fruit"], tags=[" red "], group_id="red-apple",
        price="12.50", currency="EUR", stock="4", licence="MIT", licence_url="u", author="a", author_url="b",
        attributes={"organic": True, "grams": 120, "none": None}, keywords={"de": ["Apfel"]}, synthetic=["price"],
    )  # fmt: skip
    assert product == Product(
        item_id="a:1", version=3, title="red apple", image_path="ab/abc.png", brand="7",
        category_path=("food", "fruit"), tags=("red",), group_id="red-apple", price=12.5, currency="EUR", stock=4,
        licence="MIT", licence_url="u", author="a", author_url="b", attributes={"organic": "true", "grams": "120"},
        keywords={"de": ("Apfel",)}, synthetic=("price",),
    )  # fmt: skip


def test_maps_may_arrive_as_pairs_and_absent_values_as_empty_text():
    product = parse(attributes=[["colour", "red"]], keywords=[["de", ["Apfel"]]], price="", stock=" ", tags=None)
    assert product.attributes == {"colour": "red"}
    assert product.keywords == {"de": ("Apfel",)}
    assert (product.price, product.stock, product.tags) == (None, None, ())


@pytest.mark.parametrize("version", [0, "17", 17.0, NOW + 60_000, 2**53 + 1, str(2**53 + 1)])
def test_versions_are_kept_exactly(version):
    assert parse_product(json.dumps(GOOD | {"version": version}), 2**60, LIMITS).version == int(version)
