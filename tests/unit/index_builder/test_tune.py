"""Search parameters: the cheapest that hold the recall, by figures that a plain comparison gives too."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from index_builder import list_search
from index_builder import tune as tuning
from index_builder.reader import open_index
from index_builder.tune import DEPTH, QUESTIONS, draw_questions, find_truth, tune
from lookalike.contracts.manifest import Manifest


def far_off(titles):
    """Vectors away from all pictures, as words are: another half of the space for the most part."""
    random = np.random.default_rng(len(titles))
    vectors = random.normal(size=(len(titles), 32))
    vectors[:, :8] *= 5
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def truth(catalogue):
    vectors = catalogue.vectors_by_id()
    titles = pa.chunked_array([[f"title {row}" for row in range(len(vectors))]])
    return find_truth(vectors, draw_questions(vectors, titles, far_off))


def recall_of(index, search, truth, texts: bool, vectors) -> float:
    """By a plain product and a sort."""
    asked = truth.questions.vectors[truth.questions.are_texts == texts]
    found = index.search_with(search, asked, DEPTH)[1]
    best = np.argsort(-(asked @ vectors.T), axis=1)[:, :DEPTH]
    return float(np.mean([len(set(a) & set(b)) / DEPTH for a, b in zip(found.tolist(), best.tolist(), strict=True)]))


def test_questions_are_of_both_kinds_and_the_same_every_time(catalogue, truth):
    questions = truth.questions
    assert questions.vectors.shape == (2 * QUESTIONS, 32) and questions.are_texts.sum() == QUESTIONS
    np.testing.assert_allclose(np.linalg.norm(questions.vectors, axis=1), 1, atol=1e-5)
    assert not (questions.vectors[:QUESTIONS, None] == catalogue.vectors[None, :20]).all(axis=2).any()


@pytest.mark.parametrize("recipe", ["hnsw", "ivf_pq"])
@pytest.mark.parametrize("recall", [0.5, 0.9])
def test_the_cheapest_that_holds_the_recall_is_chosen(built, catalogue, truth, recipe, recall):
    index, vectors = open_index(built[recipe]), catalogue.vectors_by_id()
    search, points = tune(index, truth, recall)
    lowest = [min(point.recall_at_10, point.recall_at_10_of_texts) for point in points]
    assert lowest == sorted(set(lowest))
    chosen = next(number for number, found in enumerate(lowest) if found >= recall)
    assert search == points[chosen].search
    for point in points:  # equal estimates of two rows may be cut off on either side
        assert point.recall_at_10 == pytest.approx(recall_of(index, point.search, truth, False, vectors), abs=0.005)
        by_text = recall_of(index, point.search, truth, True, vectors)
        assert point.recall_at_10_of_texts == pytest.approx(by_text, abs=0.005)
    assert tune(index, truth, recall)[0] == search


def test_the_narrowest_margin_that_leaves_enough_leaves_lists_out_for_pictures(built, catalogue, truth, monkeypatch):
    monkeypatch.setattr(list_search, "ROWS_PER_RESULT", 8)  # of 32 lists
    monkeypatch.setattr(tuning, "MARGINS", tuple(range(50, 600, 50)))
    index, vectors = open_index(built["ivf_pq"]), catalogue.vectors_by_id()
    search, points = tune(index, truth, 0.95)
    assert {point.search["margin"] for point in points} == {search["margin"]}
    assert all(point.lists_probed < point.lists_probed_of_texts <= point.search["nprobe"] for point in points[-3:])
    pictures, words = (truth.questions.vectors[truth.questions.are_texts == texts] for texts in (False, True))
    assert index.lists_probed(search, pictures, DEPTH).mean() < 0.7 * index.lists_probed(search, words, DEPTH).mean()

    def enough(margin):
        """Of either kind at most half of what is beyond the recall is lost."""
        without = {name: value for name, value in search.items() if name != "margin"}
        found = [
            [recall_of(index, each, truth, texts, vectors) for texts in (False, True)]
            for each in (without, without | {"margin": margin})
        ]
        return all(after >= before - (before - 0.95) / 2 - 0.0005 for before, after in zip(*found, strict=True))

    narrower = tuning.MARGINS[tuning.MARGINS.index(search["margin"]) - 1]
    assert enough(search["margin"]) and not enough(narrower)


def test_without_one_that_holds_it_the_cheapest_that_is_nearly_the_best_is_chosen(built, truth):
    search, points = tune(open_index(built["ivf_pq"]), truth, 1.01)
    lowest = [min(point.recall_at_10, point.recall_at_10_of_texts) for point in points]
    at = [point.search for point in points].index(search)
    assert lowest[at] >= lowest[-1] - tuning.NEARLY and len(points) > 3
    assert all(each < lowest[-1] - tuning.NEARLY for each in lowest[:at])


class Lawful:
    """A hundred million rows in 65,536 lists, of which more are found by a known law; the first ten are true."""

    def __init__(self, finer_bytes: int) -> None:
        codes = SimpleNamespace(bytes=finer_bytes)
        recipe = SimpleNamespace(nlist=65_536)
        self.manifest = SimpleNamespace(recipe=recipe, items=100_000_000, files={"refine.faiss": codes})
        self.probed: set[int] = set()

    def search_depths(self, search, queries, k, factors):
        self.probed |= {search["nprobe"]}
        reach = 1 - np.exp(-search["nprobe"] / 100)
        return {factor: self.found(reach * (1 - np.exp(-factor / 3)), len(queries), k) for factor in factors}

    def lists_probed(self, search, queries, k):
        lists = search["nprobe"] if "margin" not in search else len(tuning.MARGINS) * search["nprobe"]
        return np.full(len(queries), lists)

    def found(self, recall, queries, k):
        there = np.floor(recall * k + np.arange(queries) / queries)[:, None]
        return np.where(np.arange(k) < there, np.arange(k), -1)

    def search_with(self, search, queries, k):
        return None, None

    def let_go(self):
        pass


def lawful_truth():
    """Of 64 questions; rows from the tenth on are further off."""
    scores = np.tile(np.where(np.arange(100) < DEPTH, 0.9, 0.5).astype(np.float32), (64, 1))
    questions = tuning.Questions(np.zeros((64, 8), np.float32), np.arange(64) >= 32)
    return tuning.Truth(questions, scores, np.tile(np.arange(100), (64, 1)))


def test_lists_are_probed_for_a_few_times_the_work_of_what_is_chosen_and_no_more():
    index = Lawful(finer_bytes=2**30)
    search, points = tune(index, lawful_truth(), 0.8)
    rows_per_list = 100_000_000 / 65_536
    chosen = search["nprobe"] * rows_per_list + search["k_factor"] * DEPTH * tuning.ROW_WORK
    assert max(index.probed) * rows_per_list <= tuning.MORE_WORK * chosen
    assert 2 * search["nprobe"] < max(index.probed) < max(tuning.PROBES)
    assert points[-1].recall_at_10 > 0.8  # the curve goes on
    tune(index, lawful_truth(), 1.01)  # none holds it
    assert index.probed == set(tuning.PROBES)


def test_where_finer_codes_come_from_disk_more_lists_are_probed_for_fewer_of_them():
    warm, cold = (tune(Lawful(size), lawful_truth(), 0.7)[0] for size in (2**30, 40 * 2**30))
    assert cold["k_factor"] < warm["k_factor"] and cold["nprobe"] > warm["nprobe"]


def test_questions_with_more_equal_nearest_than_truth_holds_do_not_count():
    truth = lawful_truth()
    copies = truth.scores.copy()
    copies[::4] = 0.9  # a hundred copies: whichever is found is right, and most are not known
    misled = tuning.Truth(truth.questions, copies, np.where(np.arange(64)[:, None] % 4 == 0, 1_000, truth.rows))
    assert tune(Lawful(2**30), misled, 0.8)[0] == tune(Lawful(2**30), truth, 0.8)[0]
    assert len(tuning._tellable(misled).scores) == 48


def test_comparing_all_has_one_point(built, truth):
    search, points = tune(open_index(built["exact"]), truth, 0.98)
    assert search == {} and [point.recall_at_10 for point in points] == [1.0]


def test_a_server_searches_with_what_was_tuned(built, queries, tmp_path):
    manifest = Manifest.read(built["ivf_pq"])
    assert manifest.search in [point.search for point in manifest.operating_points]
    for file in built["ivf_pq"].iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "manifest.json").unlink()
    shallow = manifest.model_copy(update={"search": {"nprobe": 1, "k_factor": 1}})
    (tmp_path / "manifest.json").write_text(shallow.model_dump_json())
    tuned, weak = open_index(built["ivf_pq"]), open_index(tmp_path)
    for index, search in ((tuned, manifest.search), (weak, {"nprobe": 1, "k_factor": 1})):
        np.testing.assert_array_equal(index.search(queries, 10)[1], index.search_with(search, queries, 10)[1])
    assert (tuned.search(queries, 10)[1] != weak.search(queries, 10)[1]).any()


def test_an_artifact_from_before_tuning_keeps_its_identity(built, tmp_path):
    told = json.loads((built["hnsw"] / "manifest.json").read_text())
    del told["search"]
    del told["recipe"]["code_bytes"]
    told["operating_points"] = [{"search": {"efSearch": 64}, "recall_at_10": 0.97, "mean_ms": 0.2}]
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":"))
    assert Manifest.read(tmp_path).sha256 == hashlib.sha256(canonical.encode()).hexdigest()
