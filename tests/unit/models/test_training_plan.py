"""The parts of training that need no training: schedules, snapshot reading, the teacher's projection."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lookalike.contracts.errors import NotFound
from lookalike.contracts.progress import LogProgress
from models.configuration import read_config
from models.dataset import load_pictures, read_rows, snapshot_schema
from models.picture_stage import picture_side, rate_factor
from models.teacher import Projection


def test_the_rate_rises_stays_and_falls_to_nearly_nothing():
    plan = read_config("smoke").contrast.model_copy(update={"steps": 100, "warm_up": 10, "cool_down": 20})
    factors = [rate_factor(step, plan) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and set(factors[9:80]) == {1.0}
    assert factors[90] == pytest.approx(0.5) and 0 < factors[99] <= 0.05
    longer = plan.model_copy(update={"steps": 200})
    assert [rate_factor(step, longer) for step in range(80)] == factors[:80]  # a run can be made longer later


def test_the_pictures_grow_with_the_steps():
    config = read_config("smoke")
    assert [picture_side(step, config) for step in (0, 7, 8, 11)] == [16, 16, 32, 32]
    without = config.model_copy(update={"contrast": config.contrast.model_copy(update={"sides": ()})})
    assert picture_side(0, without) == config.towers.pixels


def test_a_snapshot_is_read_in_order_with_english_keywords_and_without_ungrouped_rows(tmp_path):
    row = {
        "item_id": "b:1", "title": "Cup", "image_path": "x.png", "brand": "b", "group_id": "cup",
        "category_path": ["kitchen", "drink"], "tags": ["tea", "mug"],
        "keywords": {"en": ["mug", "beaker"], "de": ["Tasse"]},
    }  # fmt: skip
    rows = [row, {**row, "item_id": "a:1", "keywords": None, "tags": None}, {**row, "item_id": "c:1", "group_id": None}]
    for number, part in enumerate((rows[:1], rows[1:])):
        pq.write_table(pa.Table.from_pylist(part, snapshot_schema()), tmp_path / f"part-{number:05}.parquet")
    read = read_rows(tmp_path)
    assert [product.item_id for product in read] == ["a:1", "b:1"]
    assert read[1].words == ("tea", "mug", "beaker") and read[0].words == ()
    assert read[1].category == "kitchen/drink"
    with pytest.raises(NotFound, match="lookalike catalogue fetch icons"):
        read_rows(tmp_path / "none")


def test_pictures_keep_their_transparency(tmp_path):
    Image.new("RGBA", (40, 20), (10, 200, 30, 128)).save(tmp_path / "x.png")
    pq.write_table(
        pa.Table.from_pylist(
            [{"item_id": "a", "title": "t", "image_path": "x.png", "brand": "b", "group_id": "g"}], snapshot_schema()
        ),
        tmp_path / "part-00000.parquet",
    )
    cache = load_pictures(read_rows(tmp_path), tmp_path, 20, LogProgress())
    assert cache.shape == (1, 20, 20, 4)
    assert np.abs(cache[0, 10, 10].astype(int) - (10, 200, 30, 128)).max() <= 2  # resizing rounds premultiplied colours
    assert cache[0, 0, 0].tolist() == [255, 255, 255, 0]


def test_the_projection_keeps_the_directions_of_largest_variance():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(200, 12)) * np.linspace(3, 0.1, 12) + 5).astype(np.float32)
    projection = Projection.fit(vectors, 4)
    _, _, right = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)  # an independent way
    overlap = np.abs(projection.components.T @ right[:4].T)
    assert np.allclose(overlap, np.eye(4), atol=1e-3)
    assert np.allclose(np.linalg.norm(projection(vectors), axis=1), 1, atol=1e-5)


def test_a_space_wider_than_the_teacher_keeps_the_teachers_cosines():
    vectors = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    wide, all_of_it = Projection.fit(vectors, 9)(vectors), Projection.fit(vectors, 6)(vectors)
    assert wide.shape == (50, 9)
    assert np.allclose(wide @ wide.T, all_of_it @ all_of_it.T, atol=1e-5)
