"""Which codes a trial chooses for vectors of known spread, and an index of it that finds words among pictures."""

import faiss
import numpy as np
import pyarrow as pa
import pytest

from index_builder import trial
from index_builder.axes import AxesFit
from index_builder.build import build
from index_builder.clustering import find_centres
from index_builder.list_centres import ListCentres
from index_builder.reader import open_index
from index_builder.source import Block, Coverage, Sample, Shard
from index_builder.trial import choose_codes, ways
from index_builder.truth import exact_top_k
from index_builder.tune import draw_questions
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IndexSettings, Settings

DIM, ITEMS = 64, 4_000


def spread(deviations, count, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, len(deviations))) * deviations
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def chosen(vectors, bits_per_axis=1.0):
    centres = ListCentres.of(find_centres(vectors, 16))
    return choose_codes(AxesFit(vectors), centres, vectors, draw_questions(vectors), bits_per_axis)


def test_ways_fit_the_same_bytes():
    assert ways(512, 1.0) == [(512, 1), (256, 2), (168, 3), (128, 4), (96, 5)]
    assert ways(32, 1.0) == [(32, 1), (16, 2), (8, 3), (8, 4)]
    assert ways(100, 2.0) == [(100, 1), (96, 2), (64, 3), (48, 4), (40, 5)]
    assert ways(6, 1.0) == [(6, 1)]
    assert all(axes * bits <= 512 * 0.75 for axes, bits in ways(512, 0.75))


def test_vectors_that_vary_alike_everywhere_keep_many_axes_and_all_finer_ones():
    facts = chosen(spread(np.ones(DIM), ITEMS, 0))
    known = {(each.axes, each.bits): each.lowest for each in facts.tried}
    assert facts.axes >= DIM / 2 and facts.bits <= 2
    assert known[facts.axes, facts.bits] >= known[DIM, 1] - trial.NEAR
    assert min(known, key=known.get) == (8, 5)
    assert facts.finer_axes == DIM and facts.finer_kept == 1


def test_vectors_that_vary_along_few_axes_get_more_bits_of_these():
    facts = chosen(spread(np.arange(1, DIM + 1) ** -1.5, ITEMS, 0))
    assert facts.bits > 1 and facts.axes < DIM
    known = {(each.axes, each.bits): each.lowest for each in facts.tried}
    assert known[facts.axes, facts.bits] > known[DIM, 1] + 0.05
    assert facts.finer_axes < DIM and 0.999 <= facts.finer_kept < 1


def test_of_ways_as_good_the_one_of_fewest_axes(monkeypatch):
    monkeypatch.setattr(trial, "NEAR", 2.0)
    assert chosen(spread(np.ones(DIM), ITEMS, 0)).axes == 8


def test_recall_is_that_of_faiss_without_a_fast_scan():
    """By its plain index, one list after the other, with images by a plain product."""
    vectors = spread(np.arange(1, DIM + 1) ** -0.5, ITEMS, 0)
    centres, questions = ListCentres.of(find_centres(vectors, 16)), draw_questions(vectors)
    fit = AxesFit(vectors)
    facts = choose_codes(fit, centres, vectors, questions, 1.0)
    true = np.argsort(-(questions.vectors @ vectors.T), axis=1)[:, :10]
    lists, rows = (vectors @ centres.vectors.T).argmax(axis=1), np.arange(ITEMS)
    for tried in facts.tried:
        axes = fit.cut(tried.axes)
        flat = faiss.IndexFlatIP(tried.axes)
        flat.add(centres.vectors @ axes.items)
        plain = faiss.IndexIVFRaBitQ(flat, tried.axes, 16, faiss.METRIC_INNER_PRODUCT, True, tried.bits)
        images = vectors @ axes.items
        plain.train(images)
        plain.add_core(ITEMS, *map(faiss.swig_ptr, (images, rows, lists)))
        plain.nprobe = 16
        near = plain.search(questions.vectors[::4] @ axes.queries, trial.CANDIDATES)[1]
        naive = np.mean([np.isin(a, b).mean() for a, b in zip(true[::4], near, strict=True)])
        assert tried.pictures == pytest.approx(naive, abs=0.05), tried
        assert tried.texts is None


class Shop:
    """Pictures whose words ask for dimensions in which they differ little; item i has the title i."""

    def __init__(self, kit) -> None:
        self.space, self.versions = kit.space_of("a", DIM), {"shop": 1}
        random = np.random.default_rng(5)
        self._turn = np.linalg.qr(random.normal(size=(DIM, DIM)))[0].astype(np.float32)
        deviations = np.concatenate([np.arange(1, 53) ** -1.0, np.full(12, 0.05)])
        self._straight = spread(deviations, ITEMS, 6)
        self.vectors = self._straight @ self._turn

    def encode_texts(self, titles):
        random = np.random.default_rng(7)
        asked = self._straight[[int(title) for title in titles]].copy()
        asked[:, :52] *= 0.02
        asked[:, 52:] += 0.03 * random.normal(size=(len(asked), 12))
        asked = asked @ self._turn
        return (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)

    def count(self):
        return ITEMS

    def item_bytes(self):
        return 100.0

    def shards(self, items):
        return (Shard(number=0, start=None, stop=None),)

    def sample(self, wanted, scratch, progress):
        rows = np.linspace(0, ITEMS - 1, min(wanted, ITEMS)).astype(np.int64)
        return Sample(self.vectors[rows], pa.chunked_array([[str(row) for row in rows]]))

    def blocks(self, shard, scratch, progress):
        names = [f"{row:06d}" for row in range(ITEMS)]
        items = pa.table({"item_id": names, "title": names})
        yield Block(items, self.vectors, Coverage(silver_items=ITEMS, indexed=ITEMS))


def recall(found, true):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), true.tolist(), strict=True)])


def test_words_are_found_that_codes_on_the_encoders_own_axes_lose(kit, tmp_path, monkeypatch):
    shop = Shop(kit)
    monkeypatch.setattr("index_builder.merge.write_sets", lambda *_: None)
    settings = Settings(home=tmp_path, index=IndexSettings(recipe="ivf_pq"))
    manifest = build(settings, shop, tmp_path / "index", LogProgress(), encode_texts=shop.encode_texts)
    said = Manifest.read(tmp_path / "index").build["codes"]
    assert {(each["axes"], each["bits"]) for each in said["tried"]} == set(ways(DIM, 1.0))
    assert all(0 <= each["texts"] <= 1 for each in said["tried"])
    index, nlist = open_index(tmp_path / "index"), manifest.recipe.nlist
    asked = shop.encode_texts([str(row) for row in range(3, ITEMS, 40)])
    true = exact_top_k(shop.vectors, asked, 10)[1]
    own = faiss.index_factory(DIM, f"IVF{nlist},RaBitQfs,Refine(SQ8)", faiss.METRIC_INNER_PRODUCT)
    own.train(shop.vectors)
    own.add(shop.vectors)
    params = faiss.IndexRefineSearchParameters(k_factor=4, base_index_params=faiss.SearchParametersIVF(nprobe=nlist))
    before = recall(own.search(asked, 10, params=params)[1], true)
    after = recall(index.search_with({"nprobe": nlist, "k_factor": 4}, asked, 10)[1], true)
    assert after > 0.75 and after > before + 0.3, (before, after)
    assert recall(index.search(asked, 10, exact=True)[1], true) > 0.95
