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
from index_builder.list_codes import most_axes, numbers_of_axes
from index_builder.reader import open_index
from index_builder.source import Block, Coverage, Sample, Shard
from index_builder.trial import CodedSample, choose_codes
from index_builder.truth import exact_top_k
from index_builder.tune import draw_questions
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IndexSettings, Settings

DIM, ITEMS = 64, 4_000


def spread(deviations, count, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, len(deviations))) * deviations
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def chosen(vectors, code_bytes=32, recall=0.95):
    coded = CodedSample(ListCentres.of(find_centres(vectors, 16)), vectors)
    return choose_codes(AxesFit(vectors), coded, draw_questions(vectors), code_bytes, recall)


def test_numbers_of_axes_end_with_all_that_fit():
    assert numbers_of_axes(most_axes(512, 64)) == [16, 32, 48, 64, 96, 128]
    assert numbers_of_axes(most_axes(512, 50)) == [16, 32, 48, 64, 96, 100]
    assert numbers_of_axes(most_axes(40, 64)) == [16, 32, 40]
    assert numbers_of_axes(most_axes(7, 64)) == [7]
    assert numbers_of_axes(most_axes(512, 4)) == [8]


def test_vectors_that_vary_alike_everywhere_keep_all_axes():
    facts = chosen(spread(np.ones(DIM), ITEMS, 0))
    assert facts.axes == DIM and facts.finer_axes == DIM and facts.finer_kept == 1
    shares = [each.lowest for each in facts.tried]
    assert shares == sorted(shares) and shares[0] < shares[-1] - 0.1


def test_vectors_that_vary_along_few_axes_are_coded_along_these():
    facts = chosen(spread(np.arange(1, DIM + 1) ** -3.0, ITEMS, 0))
    known = {each.axes: each.lowest for each in facts.tried}
    assert facts.axes < DIM and known[facts.axes] >= max(known.values()) - trial.NEAR
    assert facts.finer_axes < DIM and 0.999 <= facts.finer_kept < 1


def test_the_more_is_to_be_found_the_more_finer_axes_are_kept():
    vectors = spread(np.arange(1, DIM + 1) ** -1.5, ITEMS, 0)
    some, more = (chosen(vectors, recall=recall) for recall in (0.8, 0.99))
    assert some.finer_axes < more.finer_axes and some.finer_kept >= 0.996 and more.finer_kept >= 0.9998


def test_of_numbers_as_good_the_least(monkeypatch):
    monkeypatch.setattr(trial, "NEAR", 2.0)
    assert chosen(spread(np.ones(DIM), ITEMS, 0)).axes == 16


def test_recall_is_that_of_faiss_without_a_fast_scan():
    """By its plain index, which decodes each code and compares in float32, with images by a plain product."""
    vectors = spread(np.arange(1, DIM + 1) ** -0.5, ITEMS, 0)
    coded, questions = CodedSample(ListCentres.of(find_centres(vectors, 16)), vectors), draw_questions(vectors)
    fit = AxesFit(vectors)
    facts = choose_codes(fit, coded, questions, 32, 0.95)
    true = np.argsort(-(questions.vectors @ vectors.T), axis=1)[:, :10]
    for tried in facts.tried:
        axes = fit.cut(tried.axes)
        images, centres = vectors @ axes.items, coded.centres.vectors @ axes.items
        learned = coded.empty_codes(axes)
        deviations = np.ascontiguousarray(images - centres[coded.lists])
        decoded = centres[coded.lists] + learned.pq.decode(learned.pq.compute_codes(deviations))
        near = np.argsort(-(questions.vectors @ axes.queries @ decoded.T), axis=1)[:, : trial.CANDIDATES]
        naive = np.mean([np.isin(a, b).mean() for a, b in zip(true, near, strict=True)])
        assert tried.pictures == pytest.approx(naive, abs=0.02), tried
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
    assert [each["axes"] for each in said["tried"]] == numbers_of_axes(most_axes(DIM, 64))
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
