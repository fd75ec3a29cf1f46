"""What one update does: effects, order, repeats, memory, and that nothing unsound gets in."""

import gc
import logging
import random
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from lookalike.contracts.change import Position
from lookalike.contracts.errors import BadQuery, NotFound, SpaceMismatch
from lookalike.contracts.query import Box, Filter, QueryPart, SearchQuery
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.search import overlay as overlay_module
from lookalike.search.overlay import Overlay

TIME = datetime(2026, 11, 23, tzinfo=UTC)


def all_answers(engine):
    """Everything that a few deep queries, the facets and every item say."""
    said = []
    for text in ("a", "b"):
        for filters in ((), (Filter(field="stock", at_least=1),), (Filter(field="tags", none_of=("sale",)),)):
            asked = SearchQuery(parts=(QueryPart(text=text),), filters=filters, k=200)
            while True:
                answer = engine.search(asked)
                said.append((answer.matching, [(hit.item_id, hit.score, hit.product) for hit in answer.hits]))
                if answer.next_cursor is None:
                    break
                asked = asked.model_copy(update={"cursor": answer.next_cursor})
    facets = {name: value for name, value in engine.facets().items() if name not in ("price", "stock")}
    found = [hit[0] for hit in said[0][1] + said[1][1]]
    return said, facets, [engine.item(item_id) for item_id in sorted(found)]


def effects(applied):
    return [each.effect for each in applied]


def upsert(shop, item_id, version, picture=None, **columns):
    old = shop.states.get(item_id)
    kept = dict(old.columns) if old is not None and picture is None else shop.columns(picture or item_id)
    base = shop.states.get(item_id) or replace(shop.states["item-0000"], item_id=item_id, base_version=-1, columns={})
    shop.states[item_id], _ = base.upsert(version, kept | columns, TIME)
    return shop.message(shop.states[item_id])


def deleted(shop, item_id, version, value=True):
    shop.states[item_id], _ = shop.states[item_id].set_deleted(version, value, TIME)
    return shop.message(shop.states[item_id], "delete" if value else "restore")


def test_each_effect(make_live, shop):
    overlay, engine = make_live()
    assert effects(overlay.apply([upsert(shop, "new-1", 1)])) == ["searchable"]
    assert effects(overlay.apply([upsert(shop, "new-1", 2, price=3)])) == ["patched"]
    assert effects(overlay.apply([upsert(shop, "item-0001", 3, price=3)])) == ["patched"]
    assert engine.item("item-0001")["price"] == 3.0
    assert effects(overlay.apply([upsert(shop, "item-0001", 4, picture="other")])) == ["searchable"]
    last = deleted(shop, "item-0001", 5)
    assert effects(overlay.apply([last, last])) == ["gone", "unchanged"]
    with pytest.raises(NotFound, match="item-0001"):
        engine.item("item-0001")
    with pytest.raises(NotFound, match="item-0001"):
        engine.search(SearchQuery(parts=(QueryPart(item_id="item-0001"),)))
    assert effects(overlay.apply([upsert(shop, "item-0002", 6, picture="lost!")])) == ["unplaced"]
    assert effects(overlay.apply([deleted(shop, "item-0001", 7, False)])) == ["searchable"]
    assert overlay.apply([VectorUpdate(Position(0, 99))]) == []
    stats = overlay.stats()
    assert (stats.touched, stats.slots, stats.patched, stats.hidden, stats.unplaced) == (3, 2, 0, 2, 1)
    answer = engine.search(SearchQuery(parts=(QueryPart(text="x"),), k=200))
    assert answer.matching == 400
    applied = overlay.apply([upsert(shop, "item-0003", 8, price=1)])[0]
    assert (applied.item_id, applied.kind) == ("item-0003", "upsert") and applied.event_time is not None


def test_a_restored_item_comes_back_to_its_sealed_row(make_live, shop):
    overlay, engine = make_live()
    before = all_answers(engine)[0]
    gone = deleted(shop, "item-0005", 1)
    overlay.apply([gone])
    assert engine.search(SearchQuery(parts=(QueryPart(text="x"),))).matching == 399
    back = deleted(shop, "item-0005", 2, False)
    assert effects(overlay.apply([back])) == ["searchable"]
    assert overlay.stats().hidden == 0 and overlay.stats().slots == 0
    after = all_answers(engine)[0]
    assert [[hit[:2] for hit in page[1]] for page in after] == [[hit[:2] for hit in page[1]] for page in before]


def test_between_two_changes_the_caller_may_let_others_go_first_and_none_is_shown_before_all(make_live, shop):
    overlay, _ = make_live()
    seen = []
    updates = [upsert(shop, f"new-{number}", 1) for number in range(3)]
    overlay.apply(updates, lambda: seen.append(len(overlay.view().entry_at)))
    assert seen == [0, 0, 0]
    assert len(overlay.view().entry_at) == 3


def test_order_and_repeats_do_not_matter(make_live, make_shop):
    shop = make_shop(0, 400)
    updates = shop.changes(600)
    overlay, engine = make_live()
    for start in range(0, len(updates), 7):
        overlay.apply(updates[start : start + 7])
    expected = all_answers(engine)
    for seed in range(3):
        mixed = updates * (1 + seed % 2)
        random.Random(seed).shuffle(mixed)
        other, other_engine = make_live()
        for start in range(0, len(mixed), 13):
            other.apply(mixed[start : start + 13])
        assert all_answers(other_engine) == expected
        assert all(value == "unchanged" for value in effects(other.apply(updates)))


def test_the_same_as_a_release_built_from_the_final_states(make_live, make_shop, seal):
    shop = make_shop(0, 400)
    overlay, engine = make_live()
    updates = shop.changes(800)
    for start in range(0, len(updates), 11):
        overlay.apply(updates[start : start + 11])
    shop.offset += 1
    _, built = make_live(index=seal(shop.states), overlay=False)
    with_overlay, fresh = all_answers(engine), all_answers(built)
    assert with_overlay[0] == fresh[0]
    assert with_overlay[1] == fresh[1]
    # Rows that nothing touched say nothing of registers when they are sealed, but the table does.
    assert with_overlay[2] == fresh[2]
    for field in ("price", "stock"):
        wide, narrow = engine.facets()[field], built.facets()[field]
        assert wide["min"] <= narrow["min"] and narrow["max"] <= wide["max"]


def test_an_unsound_vector_never_gets_in(make_live, shop, caplog):
    overlay, engine = make_live()
    sound = upsert(shop, "new-1", 1)
    space = next(iter(sound.vectors))
    bad = [np.ones(16, np.float32), np.full(16, np.nan, np.float32), np.ones(3, np.float32) / np.sqrt(3)]
    with caplog.at_level(logging.WARNING):
        for vector in bad:
            assert effects(overlay.apply([replace(sound, vectors={space: vector})])) in (["unplaced"], ["unchanged"])
    assert overlay.stats().refused_vectors == 3 and len(caplog.records) == 1
    assert "new-1" in caplog.text and "16 finite numbers" in caplog.text
    with pytest.raises(NotFound):
        engine.item("new-1")
    assert effects(overlay.apply([replace(sound, vectors={"another space": bad[0]})])) == ["unchanged"]
    assert effects(overlay.apply([sound])) == ["searchable"]
    assert engine.item("new-1")["version"] == 1


def test_a_vector_of_another_picture_is_never_taken(make_live, shop):
    overlay, engine = make_live()
    old = upsert(shop, "item-0001", 1, picture="first")
    new = upsert(shop, "item-0001", 2, picture="second!")
    assert effects(overlay.apply([new, old])) == ["unplaced", "unchanged"]
    with pytest.raises(NotFound):
        engine.item("item-0001")


def test_an_overlay_of_another_space(sealed_shop):
    with pytest.raises(SpaceMismatch, match="the overlay"):
        Overlay(sealed_shop, "f" * 16, 1)


@pytest.mark.parametrize("dead", [5, 1_000_000])
def test_the_dead_are_left_behind_and_nobody_notices(make_live, make_shop, monkeypatch, dead):
    monkeypatch.setattr(overlay_module, "LEAST_DEAD", dead)
    shop = make_shop(0, 400)
    overlay, engine = make_live()
    asked = SearchQuery(parts=(QueryPart(text="x"),), filters=(Filter(field="stock", at_least=1),), k=200)
    for _ in range(40):
        group = shop.changes(20)
        old = overlay.view()
        overlay.apply(group)
        for update in group:
            shop.deliver(update)
            assert old.entry_of(update.state.item_id) < old.count
        passing = [s for s in shop.found().values() if s.columns["stock"] is not None and s.columns["stock"] >= 1]
        assert engine.search(asked).matching == len(passing)
        items = overlay.view().items
        assert dead > 5 or items.dead_entries <= max(5, len(items.latest))
    ids = {hit.item_id for hit in engine.search(asked.model_copy(update={"filters": ()})).hits}
    assert ids <= set(shop.found())


@pytest.mark.parametrize(("kind", "count"), [("pictures", 1_500), ("patches", 1_500)])
def test_the_bytes_told_are_those_taken(sealed_shop, make_shop, kind, count):
    shop = make_shop(0, 400)
    states = [shop.states[f"item-{at % 400:04d}"] for at in range(count)]
    messages = []
    for number, state in enumerate(states):
        columns = dict(state.columns) | {"price": number / 7, "tags": [f"tag {number}", "sale"]}
        item_id = state.item_id
        if kind == "pictures":
            item_id = f"new-{number}"
            columns |= {"content_hash": f"{number:064d}", "title": f"title of new item number {number}"}
        messages.append(
            shop.message(replace(state, item_id=item_id, base_version=number + 1, columns=columns)).encode()
        )
    overlay = Overlay(sealed_shop, sealed_shop.manifest.space.fingerprint, 2**20)
    overlay.apply([VectorUpdate.decode(messages[0])])
    gc.collect()
    before = overlay.stats().bytes
    tracemalloc.start()
    for start in range(0, count, 100):
        overlay.apply([VectorUpdate.decode(message) for message in messages[start : start + 100]])
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    told = overlay.stats().bytes - before
    assert 0.7 * taken < told < 1.3 * taken, (told, taken)
    assert overlay.stats().over_budget == (overlay.stats().bytes > 2**20)


def test_hidden_neighbours_cost_no_result(make_live, shop, monkeypatch):
    overlay, engine = make_live()
    asked = SearchQuery(parts=(QueryPart(text="x"),), k=19)
    best = [hit.item_id for page in (0, 1) for hit in engine.search(asked.model_copy(update={"k": 150})).hits][:150]
    asks = []
    plain = type(engine._index).planned_search

    def counted(self, queries, k, allowed=None, exact=False):
        asks.append((k, allowed is not None))
        return plain(self, queries, k, allowed, exact)

    monkeypatch.setattr(type(engine._index), "planned_search", counted)
    monkeypatch.setattr("lookalike.search.ranking.TIERS", (20, 60))
    for hidden in (3, 30, 150):
        overlay.apply([deleted(shop, item_id, hidden) for item_id in best[:hidden]])
        asks.clear()
        found = [hit.item_id for hit in engine.search(asked).hits]
        assert len(found) == 19
        assert not set(found) & set(best[:hidden])
        assert found[: 150 - hidden] == best[hidden : hidden + 19]
        # Hardly any hidden: one search, no mask over all rows. The whole neighbourhood: a mask in the end.
        assert asks[-1][1] is (hidden == 150)
        assert hidden > 3 or len(asks) == 1


def test_facets_follow_changes(make_live, shop):
    overlay, engine = make_live()
    sealed = engine.facets()
    overlay.apply([upsert(shop, "new-1", 1, brand="zeta", tags=["unheard"], price=1e6, attributes={"size": "XL"})])
    facets = engine.facets()
    assert {"value": "zeta", "count": 1} in facets["brand"] and {"value": "unheard", "count": 1} in facets["tags"]
    assert facets["attributes"] == ["colour", "size"] and facets["price"]["max"] == 1e6
    overlay.apply([deleted(shop, "new-1", 2)])
    assert engine.facets() == sealed | {"price": facets["price"], "stock": engine.facets()["stock"]}


def test_an_attribute_that_only_a_change_has_can_be_filtered_by(make_live, shop):
    overlay, engine = make_live()
    asked = SearchQuery(parts=(QueryPart(text="x"),), filters=(Filter(field="attributes.weight", at_least=2),))
    with pytest.raises(BadQuery, match="no such field"):
        engine.search(asked)
    overlay.apply([upsert(shop, "new-1", 1, attributes={"weight": "heavy"})])
    with pytest.raises(BadQuery, match="none of its values is a number"):
        engine.search(asked)
    overlay.apply([upsert(shop, "item-0003", 2, attributes={"weight": "3.5"})])
    answer = engine.search(asked)
    assert [hit.item_id for hit in answer.hits] == ["item-0003"] and answer.matching == 1


def test_a_crop_is_taken_of_the_newest_picture(make_live, shop, encode):
    seen = []
    overlay, engine = make_live(item_picture=lambda path: seen.append(path) or b"abcd")
    overlay.apply([upsert(shop, "item-0002", 1, picture="fresh"), upsert(shop, "item-0003", 2, title="t")])
    for item_id, path in (("item-0002", "fresh.bin"), ("item-0003", "item-0003 picture 0.bin")):
        part = QueryPart(item_id=item_id, crop=Box(left=0.5, top=0, width=0.5, height=1))
        engine.search(SearchQuery(parts=(part,)))
        assert seen.pop() == path
    similar = engine.search(SearchQuery(parts=(QueryPart(item_id="item-0002"),), exclude_query_items=False, k=1))
    assert similar.hits[0].item_id == "item-0002" and similar.hits[0].score == 1.0


def test_equal_pictures_come_in_the_order_of_their_ids(make_live, shop, monkeypatch):
    monkeypatch.setattr("lookalike.search.ranking.TIERS", (10, 60))
    overlay, engine = make_live()
    names = [f"new-{number:02d}" for number in np.random.default_rng(1).permutation(30)]
    overlay.apply([upsert(shop, name, 1, picture="item-0100 picture 0") for name in names])
    asked = SearchQuery(parts=(QueryPart(item_id="item-0100"),), k=31, exclude_query_items=False)
    found = engine.search(asked).hits
    assert [hit.item_id for hit in found] == ["item-0100", *sorted(names)]
    assert {hit.score for hit in found} == {1.0}
    assert engine.search(asked.model_copy(update={"k": 5})).hits == found[:5]
