import numpy as np
import pytest
from PIL import Image

from lookalike.catalogue import synthesise as module
from lookalike.catalogue.intake import decode_picture
from lookalike.catalogue.pictures import store_picture
from lookalike.catalogue.snapshot import SnapshotWriter
from lookalike.catalogue.synthesise import Composition, compose, draw, synthesise
from lookalike.contracts.errors import BadQuery
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings

COLOURS = {"apple": (255, 0, 0), "pear": (0, 255, 0), "plum": (0, 0, 255)}


def base(settings, encode, **changes):
    writer = SnapshotWriter(settings.snapshots_root, "base")
    rows = [
        {
            "item_id": name, "version": 1, "title": name, "group_id": name, "tags": [name], "licence": "MIT",
            "author": name.title(), "category_path": ["fruit"],
            "image_path": store_picture(settings.pictures_root, encode(colour=colour), ".png"),
        } | changes
        for name, colour in COLOURS.items()
    ]  # fmt: skip
    writer.write(0, rows)
    return writer.finish("base", True).folder


def made(settings, folder, items, seed=7):
    return synthesise(settings, items, seed, LogProgress(), folder)


def test_the_same_seed_gives_the_same_products_anywhere(tmp_path, encode):
    here, there = Settings(home=tmp_path / "a"), Settings(home=tmp_path / "b")
    first, second = (made(home, base(home, encode), 30) for home in (here, there))
    assert first.snapshot_id == second.snapshot_id
    assert list(first.rows()) == list(second.rows())
    assert list(made(here, base(here, encode), 30, seed=8).rows()) != list(first.rows())


def test_more_items_begin_with_the_fewer_and_parts_are_independent(settings, encode, monkeypatch):
    folder = base(settings, encode)
    rows = list(made(settings, folder, 20).rows())
    monkeypatch.setattr(module, "ITEMS_PER_PART", 7)
    parted = made(settings, folder, 25)
    assert len(parted.parts) == 4
    assert list(parted.rows())[:20] == rows


def test_a_killed_run_continues(settings, encode, monkeypatch):
    folder = base(settings, encode)
    monkeypatch.setattr(module, "ITEMS_PER_PART", 5)
    expected = made(settings, folder, 20)
    content = list(expected.rows())
    for path in expected.folder.iterdir():
        path.unlink()
    expected.folder.rmdir()
    composed, whole = [], module._part

    def dies(job):
        if len(composed) == 2:
            raise KeyboardInterrupt
        composed.append(job[0])
        return whole(job)

    monkeypatch.setattr(module, "_part", dies)
    with pytest.raises(KeyboardInterrupt):
        made(settings, folder, 20)
    monkeypatch.setattr(module, "_part", lambda job: (composed.append(job[0]), whole(job))[1])
    assert list(made(settings, folder, 20).rows()) == content
    assert composed == [0, 1, 2, 3]


def test_ground_truth_caption_and_licence_say_what_is_shown(settings, encode):
    rows = list(made(settings, base(settings, encode), 80).rows())
    pairs = [row for row in rows if "+" in row["group_id"]]
    assert 5 < len(pairs) < 50
    for row in rows:
        shown = row["group_id"].split("+")
        assert sorted(row["attributes"]["composed_of"].split("+")) == shown == sorted(set(shown))
        assert all(name in row["title"] for name in shown)
        assert set(row["author"].split(" + ")) == {name.title() for name in shown}
        assert sorted(row["tags"]) == shown
        assert {"price", "stock", "title", "image_path"} <= set(row["synthetic"])
    assert len({row["image_path"] for row in rows}) > 70


def test_the_picture_shows_the_composed_ones_on_the_background():
    red, blue = (Image.new("RGBA", (40, 40), colour) for colour in ((255, 0, 0, 255), (0, 0, 255, 255)))
    composition = Composition((0, 1), (1.0, 0.5), (0.0, 0.0), "", 0.0, "yellow")
    pixels = np.asarray(draw(composition, [red, blue]))
    assert pixels.shape == (128, 128, 3)
    assert pixels[64, 32].tolist() == [255, 0, 0]
    assert pixels[64, 96].tolist() == [0, 0, 255]
    assert pixels[64, 66].tolist() == pixels[0, 0].tolist() == [250, 220, 100]


@pytest.mark.parametrize(
    ("recolour", "hue", "expected"),
    [("pale ", 0, [255, 128, 128]), ("grey ", 0, [76, 76, 76]), ("colour-shifted ", 1 / 3, [0, 255, 0])],
)
def test_recolouring(recolour, hue, expected):
    picture = Image.new("RGBA", (40, 40), (255, 0, 0, 255))
    pixels = np.asarray(draw(Composition((0,), (1.0,), (0.0,), recolour, hue, "white"), [picture]))
    assert np.abs(pixels[64, 64].astype(int) - expected).max() <= 1


def test_compositions_vary_and_never_pair_a_picture_with_itself():
    drawn = [compose(number, 1, 5) for number in range(300)]
    assert all(len(set(one.bases)) == len(one.bases) for one in drawn)
    assert {base for one in drawn for base in one.bases} == set(range(5))
    assert len({one.recolour for one in drawn}) == 4
    assert all(len(compose(number, 1, 1).bases) == 1 for number in range(50))


def test_a_base_without_usable_pictures_is_named(settings, encode):
    with pytest.raises(BadQuery, match="picture store"):
        made(settings, base(settings, encode, group_id=None), 5)
    with pytest.raises(BadQuery, match="items = 0"):
        made(settings, base(settings, encode), 0)


def test_stored_pictures_decode(settings, encode):
    row = next(made(settings, base(settings, encode), 3).rows())
    assert decode_picture((settings.pictures_root / row["image_path"]).read_bytes()).shape == (128, 128, 3)
