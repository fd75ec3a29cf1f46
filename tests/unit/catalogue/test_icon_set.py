import json

import numpy as np
import pytest

from lookalike.catalogue.concepts import Concept, match, read_concepts
from lookalike.catalogue.icon_set import IconSet, slug
from lookalike.catalogue.intake import decode_picture
from lookalike.catalogue.render import render_svg

RED_LEFT = '<path fill="#f00" d="M0 0h8v16H0z"/>'
DATA = {
    "prefix": "brand", "width": 16, "height": 16, "lastModified": 1_700_000_000,
    "icons": {
        "left": {"body": RED_LEFT},
        "wide": {"body": '<path d="M0 0h32v16H0z"/>', "width": 32},
        "hand": {"body": "<g/>"}, "hand-dark": {"body": "<g/>"}, "hand-medium-skin-tone": {"body": "<g/>"},
        "moon-dark": {"body": "<g/>"}, "old": {"body": "<g/>", "hidden": True},
    },
    "aliases": {
        "same": {"parent": "left"},
        "right": {"parent": "left", "hFlip": True}, "back": {"parent": "right", "hFlip": True},
        "top": {"parent": "left", "rotate": 1}, "bottom": {"parent": "top", "rotate": 2},
    },
}  # fmt: skip
INFO = {"category": "Emoji", "license": {"spdx": "MIT"}}


@pytest.fixture
def icons(tmp_path) -> IconSet:
    for name, content in {
        "icons": DATA,
        "info": INFO,
        "metadata": {"suffixes": {"": "Plain", "outline": "Outline"}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return IconSet.read(tmp_path)


def red(icons, name):
    """Mean over halves: is the red on the left, right, top or bottom?"""
    pixels = decode_picture(render_svg(icons.svg(name, 32)))
    is_red = (pixels[..., 1] < 50).astype(float)
    halves = {"left": is_red[:, :16], "right": is_red[:, 16:], "top": is_red[:16], "bottom": is_red[16:]}
    return {name for name, half in halves.items() if half.mean() > 0.95}


@pytest.mark.parametrize(
    ("name", "side"),
    [("left", "left"), ("same", "left"), ("right", "right"), ("back", "left"), ("top", "top"), ("bottom", "bottom")],
)
def test_aliases_flip_and_turn(icons, name, side):
    assert red(icons, name) == {side}


def test_a_wide_drawing_is_centred_in_a_square_and_single_colour_is_black(icons):
    pixels = decode_picture(render_svg(icons.svg("wide", 32)))
    assert pixels.shape == (32, 32, 3)
    assert np.unique(pixels[9:23]).tolist() == [0]
    assert np.unique(pixels[:7]).tolist() == np.unique(pixels[25:]).tolist() == [255]


def test_skin_tones_hidden_ones_and_aliases_are_not_products(icons):
    assert list(icons.visible()) == ["left", "wide", "hand", "moon-dark"]


def test_identity_tells_drawings_apart(icons):
    assert icons.identity("same") == icons.identity("left") != icons.identity("right")


def test_style_words_leave_the_plain_name(icons):
    assert [icons.plain_name(name) for name in ("home-outline", "home", "outline")] == ["home", "home", "outline"]


def test_the_full_packages_single_file_gives_the_same_set(icons, tmp_path):
    (tmp_path / "brand.json").write_text(json.dumps(DATA | {"info": INFO, "suffixes": {"": "", "outline": ""}}))
    assert IconSet.read(tmp_path / "brand.json") == icons


@pytest.mark.parametrize(
    ("text", "expected"),
    [("flag: Côte d’Ivoire", "flag-cote-divoire"), ("Q&A", "qanda"), ("man’s shoe", "mans-shoe"), ("  ", "")],
)
def test_slug(text, expected):
    assert slug(text) == expected


def test_concepts_leave_out_tones_components_and_extras(tmp_path):
    def entry(emoji, hexcode, annotation, group="food-drink", skintone="", tags="a, b"):
        return {
            "emoji": emoji, "hexcode": hexcode, "group": group, "subgroups": "food-fruit", "annotation": annotation,
            "tags": tags, "openmoji_tags": "b, c", "skintone": skintone,
        }  # fmt: skip

    (tmp_path / "data").mkdir()
    entries = [
        entry("🍎", "1F34E", "red apple"),
        entry("❤️", "2764-FE0F", "red heart"),
        entry("👍🏻", "1F44D-1F3FB", "t", skintone=1),
        entry("🏻", "1F3FB", "light", group="component"), entry("x", "E000", "x", group="extras-openmoji"),
    ]  # fmt: skip
    (tmp_path / "data" / "openmoji.json").write_text(json.dumps(entries))
    german = tmp_path / "annotations" / "de"
    german.mkdir(parents=True)
    table = {"❤": {"default": ["Herz", "rotes Herz"], "tts": ["rotes Herz"]}}
    (german / "annotations.json").write_text(json.dumps({"annotations": {"annotations": table}}))
    apple, heart = read_concepts(tmp_path, tmp_path, ["de"])
    assert (apple.slug, apple.tags, apple.keywords, apple.code_points) == ("red-apple", ("a", "b", "c"), {}, "1f34e")
    assert (heart.code_points, heart.keywords) == ("2764", {"de": ("rotes Herz", "Herz")})


def concept(name, character, points):
    return Concept(slug(name), name, "g", "s", (), character, points, {})


def test_concepts_are_matched_by_code_point_then_name_then_older_names(tmp_path):
    names = ["apple-red", "redapple", "dizzyface", "imp", "flag-for-spain", "pear-a"]
    data = {
        "prefix": "b",
        "icons": {name: {"body": name} for name in names},
        "aliases": {"pear": {"parent": "pear-a"}, "pear-b": {"parent": "pear-a"}},
    }
    (tmp_path / "b.json").write_text(json.dumps(data | {"chars": {"1f34e-fe0f": "apple-red"}}))
    concepts = [
        concept("red apple", "🍎", "1f34e"),
        concept("face with crossed-out eyes", "😵", "1f635"),
        concept("angry face with horns", "👿", "1f47f"),
        concept("flag: Spain", "🇪🇸", "1f1ea-1f1f8"),
        concept("pear", "🍐", "1f350"),
        concept("pear b", "x", "e001"),
        concept("lemon", "🍋", "1f34b"),
    ]
    found = {name: concept.slug for name, concept in match(concepts, IconSet.read(tmp_path / "b.json")).items()}
    assert found == {
        "apple-red": "red-apple",
        "dizzyface": "face-with-crossed-out-eyes",
        "imp": "angry-face-with-horns",
        "flag-for-spain": "flag-spain",
        "pear": "pear",
    }
