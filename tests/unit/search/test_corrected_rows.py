"""What passes filters is put right from view to view: only new entries are looked at, and the answer is the truth's."""

import numpy as np
import pytest

from lookalike.contracts.query import Filter, QueryPart, SearchQuery
from lookalike.contracts.row_set import RowSet
from lookalike.search import corrected
from lookalike.search.corrected import Corrected, CorrectedRows
from lookalike.search.entry_masks import EntryMasks

STOCKED, SALE = Filter(field="stock", at_least=1), Filter(field="tags", none_of=("sale",))
ASKED = [
    ((STOCKED,), lambda c: c["stock"] is not None and c["stock"] >= 1),
    ((SALE, STOCKED), lambda c: "sale" not in c["tags"] and c["stock"] is not None and c["stock"] >= 1),
    ((Filter(field="brand", any_of=("cobra",)),), lambda c: c["brand"] == "cobra"),
]


def changing(make_shop, seed):
    shop = make_shop(0, 400)
    shop.random = np.random.default_rng(seed)
    return shop


def query(filters, k=30):
    return SearchQuery(parts=(QueryPart(text="boat"),), filters=filters, k=k)


def assert_true(engine, shop, encode):
    for filters, passes in ASKED:
        answer = engine.search(query(filters))
        expected = shop.scores(encode("boat"), passes, set())
        assert [hit.item_id for hit in answer.hits] == [item_id for _, item_id in expected[:30]]
        assert answer.matching == sum(passes(state.columns) for state in shop.found().values())


def deliver(overlay, shop, count, **settings):
    group = shop.changes(count, **settings)
    overlay.apply(group)
    for update in group:
        shop.deliver(update)


def test_the_same_filters_after_every_group_of_changes(make_live, make_shop, encode):
    overlay, engine = make_live()
    shop = changing(make_shop, 3)
    # Enough that the dead are left behind in between: then all is looked at once more.
    for _ in range(150):
        deliver(overlay, shop, 20)
        assert_true(engine, shop, encode)


def test_only_what_is_new_is_looked_at(make_live, make_shop, encode, monkeypatch):
    overlay, engine = make_live()
    shop = changing(make_shop, 4)
    deliver(overlay, shop, 200)
    assert_true(engine, shop, encode)
    starts, passed = [], EntryMasks.passed
    monkeypatch.setattr(
        EntryMasks, "passed", lambda self, each, rows, sealed, start=0: starts.append(len(rows) - start)
        or passed(self, each, rows, sealed, start),
    )  # fmt: skip
    deliver(overlay, shop, 10)
    assert_true(engine, shop, encode)
    assert starts and max(starts) <= 10
    starts.clear()
    assert_true(engine, shop, encode)
    assert starts == []


def test_a_search_may_end_after_one_of_a_later_view(make_live, make_shop, encode):
    overlay, engine = make_live()
    shop = changing(make_shop, 5)
    deliver(overlay, shop, 100)
    older = engine._merged(overlay.view())
    expected = [engine._merged(overlay.view()).allowed(filters).count for filters, _ in ASKED]
    for _ in range(3):
        deliver(overlay, shop, 30)
        assert_true(engine, shop, encode)
    assert [older.allowed(filters).count for filters, _ in ASKED] == expected


def test_many_hidden_rows_are_ruled_out_by_one_set_for_all_queries(make_live, make_shop, encode, monkeypatch):
    overlay, engine = make_live()
    shop = changing(make_shop, 6)
    for _ in range(200):
        deliver(overlay, shop, 1, kinds="d", late=0.0)
    every, made = RowSet.every, []
    monkeypatch.setattr(RowSet, "every", classmethod(lambda cls, items: made.append(items) or every(items)))
    for _ in range(3):
        hits = engine.search(query(())).hits
        assert [hit.item_id for hit in hits] == [
            item for _, item in shop.scores(encode("boat"), lambda c: True, set())[:30]
        ]
    assert len(made) == 1


def of_entries(count, items=8_000):
    return Corrected(RowSet.of(np.arange(items) % 2 == 0), np.ones(count, bool))


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setattr(corrected, "KEPT_BYTES", 5_000)
    return CorrectedRows()


def test_what_is_kept_is_bounded(kept):
    for count in range(1, 20):
        kept.keep((STOCKED,), of_entries(count))
        kept.keep((SALE,), of_entries(count))
    assert kept.before((STOCKED,), 100).entries.shape == (19,)
    assert kept.before((STOCKED,), 18).entries.shape == (18,)
    assert kept.before((STOCKED,), 17) is None
    assert kept.bytes == 2 * (2 * 1_000 + 19 + 18)
    for number in range(20):
        kept.keep((Filter(field="stock", at_least=number),), of_entries(10))
    assert kept.bytes <= 5_000 and kept.before((STOCKED,), 100) is None
