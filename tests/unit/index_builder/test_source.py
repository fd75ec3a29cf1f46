"""A source other than tables: a generator of numbered items, in blocks of its own size and with its own shards."""

import numpy as np
import pyarrow as pa
import pytest

from index_builder.build import build
from index_builder.delta_source import ITEM_SCHEMA
from index_builder.reader import open_index
from index_builder.source import Block, Coverage, Sample, Shard, even
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IndexSettings, Settings

ITEMS = 2_500


class Numbered:
    """Items 0..ITEMS-1 whose ids are padded numbers."""

    def __init__(self, kit, block_rows: int = 300, spoil=None) -> None:
        self.space, self.versions = kit.space_of("a"), {"numbers": 1}
        self.vectors, self._rows, self._spoil = kit.clustered(ITEMS, 1), block_rows, spoil

    def count(self) -> int:
        return ITEMS

    def item_bytes(self) -> float:
        return 100.0

    def shards(self, items: int) -> tuple[Shard, ...]:
        starts = list(range(0, ITEMS, items))
        bounds = [None, *(f"{start:06d}" for start in starts[1:]), None]
        return tuple(Shard(number=at, start=bounds[at], stop=bounds[at + 1]) for at in range(len(starts)))

    def sample(self, wanted, scratch, progress) -> Sample:
        return Sample(self.vectors[:wanted], pa.chunked_array([["t"] * min(wanted, ITEMS)]))

    def blocks(self, shard, scratch, progress):
        start, stop = int(shard.start or 0), int(shard.stop or ITEMS)
        for first in range(start, stop, self._rows):
            numbers = list(range(first, min(first + self._rows, stop)))
            if self._spoil is not None:
                numbers = self._spoil(numbers)
            columns = {"item_id": [f"{number:06d}" for number in numbers], "title": [f"t{n}" for n in numbers]}
            items = pa.table(
                [columns.get(f.name, pa.nulls(len(numbers), f.type)) for f in ITEM_SCHEMA], names=ITEM_SCHEMA.names
            ).cast(ITEM_SCHEMA)
            yield Block(items, self.vectors[numbers], Coverage(silver_items=len(numbers), indexed=len(numbers)))

    def explain_nothing(self):
        raise LookalikeError("no numbers")


def settings(tmp_path, shard_items: int) -> Settings:
    return Settings(home=tmp_path, index=IndexSettings(shard_items=shard_items))


@pytest.mark.parametrize("recipe", ["exact", "ivf_pq"])
def test_any_blocks_and_shards_give_the_same_bytes(kit, tmp_path, recipe):
    whole = build(settings(tmp_path, ITEMS), Numbered(kit), tmp_path / "whole", LogProgress(), recipe)
    assert (whole.items, whole.table_versions) == (ITEMS, {"numbers": 1})
    parts = build(settings(tmp_path, ITEMS), Numbered(kit, 77), tmp_path / "parts", LogProgress(), recipe)
    assert parts.files == whole.files
    index = open_index(tmp_path / "whole")
    assert index.rows_of(["000007", "002499", "9"]).tolist() == [7, 2_499, -1]
    stored = index.vectors(np.arange(ITEMS))
    cosines = np.einsum("nd,nd->n", stored, Numbered(kit).vectors) / np.linalg.norm(stored, axis=1)
    assert cosines.min() > 0.98  # a few lie beyond what the sample spans
    assert Manifest.read(tmp_path / "whole").build["coverage"]["indexed"] == ITEMS


@pytest.mark.parametrize("spoil", [lambda n: [n[0], *n], lambda n: n[::-1]], ids=["twice", "backwards"])
def test_ids_that_do_not_ascend_are_refused(kit, tmp_path, spoil):
    with pytest.raises(LookalikeError, match="is there twice, or not in the order of ids"):
        build(settings(tmp_path, ITEMS), Numbered(kit, spoil=spoil), tmp_path / "index", LogProgress(), "exact")


def test_even_blocks_keep_rows_order_and_counts():
    def block(first: int, count: int) -> Block:
        ids = pa.table({"item_id": pa.array([f"{at:03d}" for at in range(first, first + count)], pa.string())})
        vectors = np.arange(first, first + count, dtype=np.float32)[:, None]
        return Block(ids, vectors, Coverage(silver_items=count + 1, indexed=count, first_left_out=(f"x{first}",)))

    given = [block(0, 3), block(3, 0), block(3, 11), block(14, 1)]
    found = list(even(given, 4))
    assert [len(each.vectors) for each in found] == [4, 4, 4, 3]
    assert np.concatenate([each.vectors for each in found])[:, 0].tolist() == list(range(15))
    assert [i for each in found for i in each.items["item_id"].to_pylist()] == [f"{at:03d}" for at in range(15)]
    total = Coverage.joined(each.coverage for each in found)
    assert total == Coverage(silver_items=19, indexed=15, first_left_out=("x0", "x3", "x3", "x14"))
