"""What the bench of updates calls wrong: every fault that a server could make is told, and right answers are not."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from lookalike.contracts.query import Filter, Hit, SearchAnswer
from lookalike.contracts.space import EmbeddingSpace

FOLDER = Path(__file__).parents[3] / "bench"
ITEMS, DIM, K = 300, 16, 10
CHEAP = (Filter(field="price", at_most=50),)


@pytest.fixture(scope="module")
def bench():
    """Its modules, which import each other as scripts of one folder do."""
    names = ("update_server", "update_traffic", "update_truth", "search_latency")
    sys.path.insert(0, str(FOLDER))
    try:
        modules = {name: importlib.import_module(name) for name in names[:3]}
        yield SimpleNamespace(
            **vars(modules["update_truth"]),
            **{"MIXES": modules["update_traffic"].MIXES},
            traffic=modules["update_traffic"],
        )
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


class Index:
    """As much of a sealed index as traffic and truth ask for."""

    def __init__(self):
        random = np.random.default_rng(1)
        self._vectors = random.normal(size=(ITEMS, DIM)).astype(np.float32)
        digest = "0" * 64
        space = EmbeddingSpace(
            encoder="none", weights_sha256=digest, preprocessing_sha256=digest, tokenizer_sha256=digest, dim=DIM
        )
        self.manifest = SimpleNamespace(items=ITEMS, space=space)
        columns = {"item_id": [f"{row:06d}" for row in range(ITEMS)], "version": [1] * ITEMS}
        columns |= {"brand": [f"brand {row % 5}" for row in range(ITEMS)], "content_hash": [digest] * ITEMS}
        columns |= {"price": random.random(ITEMS) * 100, "stock": random.integers(0, 5, ITEMS)}
        self.columns = pa.table(columns)

    def vectors(self, rows):
        return self._vectors[rows]

    def rows_of(self, ids):
        return np.array([int(item) if item.isdigit() else -1 for item in ids])


@pytest.fixture
def changed(bench):
    """An index, what traffic knows, and right answers to some queries, by loops."""
    index = Index()
    traffic = bench.traffic.Traffic(index, 4, bench.MIXES["shop"])
    sent = {update.state.item_id: update for update in traffic.take(200)}
    items = {
        row["item_id"]: (vector, row) for row, vector in zip(index.columns.to_pylist(), index._vectors, strict=True)
    }
    for item, update in sent.items():
        vector = next(iter(update.vectors.values()), None)
        items[item] = (items[item][0] if vector is None else vector, update.state.columns)
        if update.state.deleted:
            del items[item]
    queries = bench.unit(np.random.default_rng(2).normal(size=(12, DIM)).astype(np.float32))
    asked = [bench.Asked(query, (CHEAP, ())[at % 2]) for at, query in enumerate(queries)]
    return SimpleNamespace(
        index=index, known=traffic.known, asked=asked, items=items, answers=[answer(each, items) for each in asked]
    )


def answer(asked, items):
    found = []
    for item, (vector, columns) in items.items():
        if not asked.filters or columns["price"] <= asked.filters[0].at_most:
            product = {"price": columns["price"], "stock": columns["stock"]}
            score = float(vector @ asked.vector / np.linalg.norm(vector))
            found.append(Hit(item_id=item, score=score, part_scores=(), product=product))
    hits = tuple(sorted(found, key=lambda hit: -hit.score)[:K])
    return SearchAnswer(release="1", hits=hits, next_cursor=None, plan="index", matching=1, fresh=0, took_ms={})


def told(bench, changed, answers):
    return bench.Truth(changed.index, changed.known).compare(changed.asked, answers, K)


def test_right_answers_are_right(bench, changed):
    assert len(changed.known) > 100 and any(known.gone for known in changed.known.values())
    assert told(bench, changed, changed.answers) == ([], 1.0)


def with_hit(changed, hit):
    """The first answer, with this hit instead of its last."""
    first = changed.answers[0]
    return [first.model_copy(update={"hits": (*first.hits[:-1], hit)}), *changed.answers[1:]]


def test_each_fault_is_told(bench, changed):
    hit = changed.answers[0].hits[0]
    gone = next(item for item, known in changed.known.items() if known.gone)
    dear = next(item for item, (_, columns) in changed.items.items() if columns["price"] > 50)
    faults = {
        "is gone": hit.model_copy(update={"item_id": gone}),
        "does not pass": hit.model_copy(update={"item_id": dear}),
        "has the score": hit.model_copy(update={"score": hit.score + 0.001}),
        "is shown with stock 77": hit.model_copy(update={"product": {**hit.product, "stock": 77}}),
    }
    for says, wrong in faults.items():
        problems, _ = told(bench, changed, with_hit(changed, wrong))
        assert any(says in problem for problem in problems), says


def test_a_changed_picture_that_is_missed_is_told_and_recall_counts_the_rest(bench, changed):
    moved = {item for item, known in changed.known.items() if known.between and not known.gone}
    answers = [
        each.model_copy(update={"hits": tuple(hit for hit in each.hits if hit.item_id not in moved)})
        for each in changed.answers
    ]
    problems, recall = told(bench, changed, answers)
    assert problems and all("is not found" in problem for problem in problems)
    assert recall == pytest.approx(sum(len(each.hits) for each in answers) / (K * len(answers)))


def test_what_an_item_is_follows_from_its_last_change(bench):
    traffic = bench.traffic.Traffic(Index(), 4, bench.MIXES["shop"], seed=5)
    updates = traffic.take(400)
    last = {update.state.item_id: update.state for update in updates}
    for item, known in traffic.known.items():
        state = last[item]
        assert (state.deleted, state.columns["price"], state.columns["stock"]) == (known.gone, known.price, known.stock)
    versions = [update.state.version for update in updates]
    assert versions == sorted(versions) and len(set(versions)) == len(versions)
    kinds = {str(update.kind) for update in updates}
    assert kinds == {"attributes", "upsert", "delete"}
