"""Lists joined range by range are the file that faiss writes of one index that got all vectors."""

from itertools import pairwise

import faiss
import pytest

from index_builder import lists_file
from index_builder.lists_file import imbalance_of, join_lists, sizes_of
from lookalike.contracts.errors import CorruptArtifact

NLIST, CUTS = 32, [0, 700, 700, 3_001, 5_000]
BLOCK_BYTES = 512


class Counted:
    done = 0

    def advance(self, count: int = 1) -> None:
        self.done += count


def made(kit, folder, nlist, cuts):
    """An empty index, its parts, and all vectors."""
    factory = f"IVF{nlist},PQ{kit.DIM}x4fs"
    empty = faiss.index_factory(kit.DIM, factory, faiss.METRIC_INNER_PRODUCT)
    vectors = kit.clustered(cuts[-1], 1)
    empty.train(vectors)
    found = []
    for number, (first, last) in enumerate(pairwise(cuts)):
        part = faiss.clone_index(empty)
        if last > first:
            part.add(vectors[first:last])
        faiss.write_index(part, str(folder / f"part-{number}"))
        found.append((folder / f"part-{number}", sizes_of(part.invlists)))
    return empty, found, vectors


@pytest.fixture
def parts(kit, tmp_path):
    return made(kit, tmp_path, NLIST, CUTS)


@pytest.mark.parametrize("range_bytes", [1, 5_000, 2**26])
def test_the_file_is_the_one_that_faiss_writes(parts, tmp_path, monkeypatch, range_bytes):
    monkeypatch.setattr(lists_file, "RANGE_BYTES", range_bytes)
    empty, found, vectors = parts
    step = Counted()
    join_lists(tmp_path / "joined", empty, found, step)
    empty.add(vectors)
    faiss.write_index(empty, str(tmp_path / "by faiss"))
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "by faiss").read_bytes()
    assert imbalance_of(sizes_of(empty.invlists)) == pytest.approx(empty.invlists.imbalance_factor())
    assert step.done == len(vectors)
    assert not any(path.exists() for path, _ in found)


@pytest.mark.parametrize(
    "cuts", [[0, BLOCK_BYTES, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 100], [0, 10_000, 32 * BLOCK_BYTES + 10]]
)
def test_long_lists_are_joined_too(kit, tmp_path, cuts):
    """faiss's own joining writes beyond the end of a list that has as many codes as a block has bytes, and its packer
    refuses places that lie further."""
    empty, found, vectors = made(kit, tmp_path, 1, cuts)
    assert faiss.downcast_InvertedLists(empty.invlists).block_size == BLOCK_BYTES
    join_lists(tmp_path / "joined", empty, found, Counted())
    empty.add(vectors)
    faiss.write_index(empty, str(tmp_path / "by faiss"))
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "by faiss").read_bytes()


def test_a_join_that_was_killed_is_done_again_and_a_finished_one_is_not(parts, tmp_path, monkeypatch):
    empty, found, vectors = parts
    monkeypatch.setattr(lists_file, "RANGE_BYTES", 5_000)
    with monkeypatch.context() as killed:
        killed.setattr(lists_file, "_written", lambda lists: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            join_lists(tmp_path / "joined", empty, found, Counted())
    assert not (tmp_path / "joined").exists()
    join_lists(tmp_path / "joined", empty, found, Counted())
    again = Counted()
    join_lists(tmp_path / "joined", empty, found, again)
    assert again.done == 0
    assert faiss.read_index(str(tmp_path / "joined")).ntotal == len(vectors)


def test_no_more_than_a_range_is_read_at_a_time(parts, tmp_path, monkeypatch):
    empty, found, _ = parts
    monkeypatch.setattr(lists_file, "RANGE_BYTES", 20_000)
    read, most = lists_file._read, []

    def counted(path, start, stop):
        most.append(stop - start)
        return read(path, start, stop)

    monkeypatch.setattr(lists_file, "_read", counted)
    in_all = sum(path.stat().st_size for path, _ in found)
    join_lists(tmp_path / "joined", empty, found, Counted())
    assert max(most) <= 20_000 < in_all


def test_a_part_of_another_size_is_named(parts, tmp_path):
    empty, found, _ = parts
    path = found[2][0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptArtifact, match=r"part-2 has .* expected"):
        join_lists(tmp_path / "joined", empty, found, Counted())


def test_lists_that_were_read_are_freed(parts, tmp_path, monkeypatch):
    """By how the process grows: reading gives what nobody else frees."""
    empty, found, _ = parts
    monkeypatch.setattr(lists_file, "RANGE_BYTES", 2**26)
    lists_file._join(tmp_path / "joined", empty, found, Counted())
    before = lists_file_memory()
    for _ in range(60):
        lists_file._join(tmp_path / "joined", empty, found, Counted())
    size = (tmp_path / "joined").stat().st_size
    assert lists_file_memory() - before < 20 * size  # a leak of either side would be 60 or more


def lists_file_memory() -> int:
    from index_builder.memory import resident

    return resident()
