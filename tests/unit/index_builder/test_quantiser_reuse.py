"""Lists of the live release serve again while vectors lie as they lay at training; the manifest says which happened."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from index_builder.merge import merge
from index_builder.pin import Pin, make_pin, with_quantiser_of
from index_builder.quantiser import figures
from index_builder.reader import open_index
from index_builder.shard import encode
from index_builder.train import train
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IndexSettings, Settings

ITEMS = 3_000


def pinned(catalogue, recipe: str = "ivf_pq", **index: object) -> Pin:
    settings = Settings(home=catalogue.settings.home, index=IndexSettings(shard_items=1_000, **index))
    return make_pin(settings, catalogue.source, recipe)


def release(catalogue, pin: Pin, folder: Path) -> Manifest:
    work = folder.with_name(folder.name + "-work")
    train(work, pin, catalogue.source_of(pin), LogProgress())
    for shard in pin.shards:
        encode(work, pin, shard.number, catalogue.source_of(pin), LogProgress())
    folder.mkdir(parents=True)
    return merge(work, folder, pin, catalogue.source_of(pin), LogProgress())


def more(kit, catalogue, vectors: np.ndarray, name: str):
    ids = [f"{name}-{number:04d}" for number in range(len(vectors))]
    return catalogue.extend(kit.silver_rows(ids), kit.embedding_rows(ids, vectors, catalogue.space.fingerprint))


@pytest.fixture
def live(kit, tmp_path):
    """A catalogue and its first release."""
    catalogue = kit.make_catalogue(tmp_path / "home", ITEMS)
    release(catalogue, pinned(catalogue), tmp_path / "live")
    return catalogue, tmp_path / "live"


def offered(catalogue, live: Path, **index: object) -> Pin:
    return with_quantiser_of(pinned(catalogue, **index), "7", live, Manifest.read(live))


def test_the_first_release_says_trained_and_keeps_its_figures(live):
    catalogue, folder = live
    said = Manifest.read(folder).build["quantiser"]
    assert said["how"] == "trained" and said["because"] == "no release was offered for reuse"
    assert said["at_training"] == said["now"]
    index = open_index(folder)
    centres = index.centres()
    vectors = catalogue.vectors_by_id()
    nearest = np.array([max(range(len(centres)), key=lambda at: vector @ centres[at]) for vector in vectors[:50]])
    naive = np.mean([np.sqrt(((vectors[at] - centres[nearest[at]]) ** 2).sum()) for at in range(50)])
    counts = np.bincount(nearest, minlength=len(centres))
    measured = figures(centres, np.ascontiguousarray(vectors[:50]))
    assert measured.mean_distance == pytest.approx(naive, rel=1e-5)
    assert measured.imbalance == pytest.approx(len(centres) * (counts**2).sum() / counts.sum() ** 2)
    assert measured.sample == 50


def test_new_items_like_the_old_reuse_the_lists_again_and_again(kit, live, tmp_path):
    catalogue, first = live
    folder, trained = first, Manifest.read(first).build["quantiser"]["at_training"]
    for night in range(2):
        catalogue = more(kit, catalogue, kit.clustered(150, seed=50 + night), f"night{night}")
        pin = offered(catalogue, folder)
        manifest = release(catalogue, pin, tmp_path / f"night{night}")
        said = manifest.build["quantiser"]
        assert said["how"] == "reused from version 7", said
        assert said["at_training"] == trained != said["now"]  # always compared with the day of training
        assert manifest.items == ITEMS + 150 * (night + 1)
        folder = tmp_path / f"night{night}"
        np.testing.assert_array_equal(open_index(folder).centres(), open_index(first).centres())
        assert max(point.recall_at_10 for point in manifest.operating_points) > 0.95
    assert open_index(folder).rows_of(["night1-0149"])[0] >= 0


def test_lists_of_a_release_from_before_axes_are_taken_over(kit, live, tmp_path):
    catalogue, first = live
    kit.turn_back(first, catalogue.vectors_by_id())
    manifest = release(catalogue, offered(catalogue, first, max_drift=10, max_imbalance_growth=10), tmp_path / "next")
    assert manifest.build["quantiser"]["how"] == "reused from version 7"
    older, newer = open_index(first), open_index(tmp_path / "next")
    np.testing.assert_array_equal(older.centres(), newer.centres())
    assert "codes" in manifest.build and "axes.npz" in manifest.files


def test_vectors_that_moved_away_train_new_lists(kit, live, tmp_path):
    catalogue, first = live
    random = np.random.default_rng(4)
    strangers = random.normal(size=(1_000, 32))
    strangers = (strangers / np.linalg.norm(strangers, axis=1, keepdims=True)).astype(np.float32)
    catalogue = more(kit, catalogue, strangers, "stranger")
    manifest = release(catalogue, offered(catalogue, first), tmp_path / "next")
    said = manifest.build["quantiser"]
    assert said["how"] == "trained"
    assert "version 7: mean distance +" in said["because"] and "(allowed +5.0%)" in said["because"]
    assert said["at_training"] == said["now"] != Manifest.read(first).build["quantiser"]["now"]
    assert not np.array_equal(open_index(tmp_path / "next").centres(), open_index(first).centres())
    lenient = release(catalogue, offered(catalogue, first, max_drift=10, max_imbalance_growth=10), tmp_path / "lenient")
    assert lenient.build["quantiser"]["how"] == "reused from version 7"


def test_lists_that_fill_unevenly_are_trained_anew_although_vectors_lie_near(kit, live, tmp_path):
    catalogue, first = live
    centre = open_index(first).centres()[3]
    crowd = centre + 0.02 * np.random.default_rng(5).normal(size=(900, 32))
    crowd = (crowd / np.linalg.norm(crowd, axis=1, keepdims=True)).astype(np.float32)
    catalogue = more(kit, catalogue, crowd, "crowd")
    said = release(catalogue, offered(catalogue, first), tmp_path / "next").build["quantiser"]
    assert said["how"] == "trained"
    assert "mean distance -" in said["because"] and "(allowed +25.0%)" in said["because"]


def test_what_is_offered_makes_another_build_and_what_cannot_be_is_explained(kit, live, tmp_path):
    catalogue, first = live
    alone, manifest = pinned(catalogue), Manifest.read(first)
    assert offered(catalogue, first).build_id != alone.build_id
    assert offered(catalogue, first, max_drift=0.5).build_id != offered(catalogue, first).build_id
    assert pinned(catalogue, max_drift=0.5).build_id == alone.build_id  # nothing to compare with

    def because(of: Manifest, pin: Pin = alone) -> str:
        told = with_quantiser_of(pin, "7", first, of)
        assert told.reusable is None
        return told.not_reusable_because

    other = manifest.model_copy(update={"space": kit.space_of("d")})
    assert because(other) == "release 7 is of another embedding space"
    coarser = manifest.model_copy(update={"recipe": manifest.recipe.model_copy(update={"nlist": 16})})
    assert because(coarser) == "release 7 has recipe ivf_pq with 16 lists"
    assert "keeps no figures" in because(manifest.model_copy(update={"build": {}}))
    assert because(manifest, pinned(catalogue, "exact")) == "recipe exact has no lists to train"


@pytest.mark.parametrize("fault", ["gone", "another"])
def test_a_live_release_that_cannot_be_read_is_no_hindrance(live, tmp_path, fault):
    catalogue, first = live
    pin = offered(catalogue, first)
    if fault == "gone":
        shutil.rmtree(first)
    else:
        text = (first / "manifest.json").read_text()
        (first / "manifest.json").write_text(text.replace('"chosen_because": "', '"chosen_because": "not '))
    said = release(catalogue, pin, tmp_path / "next").build["quantiser"]
    assert said["how"] == "trained"
    assert "the centres of version 7 cannot be read" in said["because"]
