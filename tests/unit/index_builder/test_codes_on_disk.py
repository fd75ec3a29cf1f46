"""Codes that are written part by part and read by row: the bytes that faiss would write, and the rows it would give."""

import os
import time
from pathlib import Path

import faiss
import numpy as np
import pytest

from index_builder.codes_file import join_codes
from index_builder.finest_codes import FinestCodes, PagedRows
from lookalike.contracts.errors import CorruptArtifact

SIZES = [5, 0, 700, 33]


@pytest.fixture(params=["SQ8", "SQ4", "SQfp16", "Flat"])
def empty(request, kit):
    index = faiss.index_factory(kit.DIM, request.param, faiss.METRIC_INNER_PRODUCT)
    index.train(kit.clustered(500, 1))
    return index


@pytest.fixture
def vectors(kit):
    return kit.clustered(sum(SIZES), 7)


@pytest.fixture
def parts(empty, vectors, tmp_path):
    paths = [tmp_path / f"part-{number}" for number in range(len(SIZES))]
    for path, rows in zip(paths, np.split(vectors, np.cumsum(SIZES)[:-1]), strict=True):
        path.write_bytes(empty.sa_encode(rows).tobytes())
    return list(zip(paths, SIZES, strict=True))


@pytest.fixture
def expected(empty, vectors, tmp_path):
    full = faiss.clone_index(empty)
    full.add(vectors)
    faiss.write_index(full, str(tmp_path / "by faiss"))
    return (tmp_path / "by faiss").read_bytes()


def test_the_file_is_the_one_that_faiss_writes_and_parts_are_gone(empty, parts, expected, tmp_path):
    join_codes(tmp_path / "codes.faiss", empty, parts)
    assert (tmp_path / "codes.faiss").read_bytes() == expected
    assert not any(path.exists() for path, _ in parts)
    join_codes(tmp_path / "codes.faiss", empty, parts)  # done is done


@pytest.mark.parametrize("after", range(len(SIZES)))
@pytest.mark.parametrize("gone", [False, True], ids=["before its part goes", "after"])
def test_killed_at_any_part_it_goes_on(empty, parts, expected, tmp_path, monkeypatch, after, gone):
    class Killed(BaseException):
        pass

    real, dying = Path.unlink, parts[after][0]

    def unlink(path, *args, **kwargs):
        if path != dying or gone:
            real(path, *args, **kwargs)
        if path == dying:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", unlink)
        with pytest.raises(Killed):
            join_codes(tmp_path / "codes.faiss", empty, parts)
    assert not (tmp_path / "codes.faiss").exists()
    join_codes(tmp_path / "codes.faiss", empty, parts)
    assert (tmp_path / "codes.faiss").read_bytes() == expected


def test_a_part_that_is_missing_or_cut_is_named(empty, parts, tmp_path):
    path = parts[2][0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(CorruptArtifact, match=r"part-2 has .* expected"):
        join_codes(tmp_path / "codes.faiss", empty, parts)
    path.unlink()
    with pytest.raises(CorruptArtifact, match="part-2 is missing"):
        join_codes(tmp_path / "codes.faiss", empty, parts)


@pytest.fixture
def on_disk(empty, parts, expected, tmp_path):
    path = tmp_path / "codes.faiss"
    join_codes(path, empty, parts)
    return FinestCodes(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), sum(SIZES), path)


def test_rows_are_decoded_as_faiss_decodes_them(on_disk, expected, tmp_path):
    plain = faiss.read_index(str(tmp_path / "codes.faiss"))
    rows = np.random.default_rng(3).integers(0, sum(SIZES), 300)
    np.testing.assert_array_equal(on_disk.vectors(rows), plain.reconstruct_batch(rows))
    np.testing.assert_array_equal(FinestCodes(plain, sum(SIZES)).vectors(rows), plain.reconstruct_batch(rows))


def test_the_best_of_candidates_by_score_then_row(on_disk, kit):
    queries = kit.clustered(6, 11)
    random = np.random.default_rng(4)
    candidates = np.stack([random.choice(sum(SIZES), 40, replace=False) for _ in queries])
    candidates[0, 3:] = -1
    scores, rows = on_disk.best_of(queries, candidates, 10)
    stored = on_disk.vectors(np.arange(sum(SIZES)))
    for query, given, score, found in zip(queries, candidates, scores, rows, strict=True):
        dots = {row: float(stored[row] @ query) for row in given.tolist() if row >= 0}
        best = sorted(dots, key=lambda row: (-dots[row], row))[:10]
        assert found.tolist() == best + [-1] * (10 - len(best))
        np.testing.assert_allclose(score[: len(best)], [dots[row] for row in best], atol=1e-6)
        assert np.isneginf(score[len(best) :]).all()


def test_the_best_of_the_first_few_are_those_of_each_few_alone_and_rows_are_decoded_once(on_disk, kit, monkeypatch):
    queries, random, depths = kit.clustered(6, 11), np.random.default_rng(4), [40, 3, 25]
    candidates = np.stack([random.choice(sum(SIZES), 40, replace=False) for _ in queries])
    candidates[0, 20:], candidates[1, 2] = -1, -1
    alone = [on_disk.best_of(queries, candidates[:, :depth], 10) for depth in depths]
    decoded, real = [], FinestCodes._decoded
    monkeypatch.setattr(FinestCodes, "_decoded", lambda self, rows: decoded.extend(rows) or real(self, rows))
    found = on_disk.best_of_first(queries, candidates, 10, depths)
    assert len(decoded) == (candidates >= 0).sum()
    for (scores, rows), (right_scores, right_rows) in zip(found, alone, strict=True):
        np.testing.assert_array_equal(rows, right_rows)
        np.testing.assert_allclose(scores, right_scores, atol=1e-6)


def test_rows_that_are_not_in_memory_are_asked_for_and_come(tmp_path):
    size, items, before = 512, 20_000, 77
    data = np.random.default_rng(0).integers(0, 256, before + size * items, dtype=np.uint8)
    path = tmp_path / "rows"
    with path.open("wb") as file:
        file.write(data.tobytes())
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    paged, rows = PagedRows(path, items, size), np.random.default_rng(1).integers(0, items, 200)
    paged.ask_for(rows)
    deadline = time.monotonic() + 20
    while not paged.in_memory(rows) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert paged.in_memory(rows)
    np.testing.assert_array_equal(paged.rows[rows], data[before:].reshape(items, size)[rows])
    paged.ask_for(np.array([0, items - 1] * 20))  # the last page is not a whole one
