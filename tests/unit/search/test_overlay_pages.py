"""Pages of one query while the catalogue changes: no item twice, nothing lost that was there all the time."""

from datetime import UTC, datetime

import numpy as np
import pytest

from lookalike.contracts.change import ChangeKind, Position
from lookalike.contracts.errors import CursorExpired
from lookalike.contracts.item_state import state_of_row
from lookalike.contracts.query import Filter, QueryPart, SearchQuery
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.search import cursor as cursor_module
from lookalike.search.cursor import Cursor, FirstSeen, Last, decode

STOCKED = Filter(field="stock", at_least=1)


def stocked(state):
    return state.columns["stock"] is not None and state.columns["stock"] >= 1


def walk(engine, asked, between=lambda: None):
    """All pages; `between` runs after each."""
    pages = []
    while True:
        pages.append(engine.search(asked))
        if pages[-1].next_cursor is None:
            return pages
        between()
        asked = asked.model_copy(update={"cursor": pages[-1].next_cursor})


def ids_of(pages):
    return [hit.item_id for page in pages for hit in page.hits]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("filters", [(), (STOCKED,)])
def test_no_item_comes_twice_and_none_that_stays_is_lost(make_live, make_shop, seed, filters):
    overlay, engine = make_live()
    shop = make_shop(0, 400)
    shop.random = np.random.default_rng(seed)
    overlay.apply(shop.changes(200))
    began = shop.found(shop.states)
    steady = set(began)

    def between():
        group = shop.changes(25)
        overlay.apply(group)
        for update in group:
            state = update.state
            old = began.get(state.item_id)
            same = old is not None and state.content_hash == old.content_hash and not state.deleted
            if not same or (filters and not stocked(state)):
                steady.discard(state.item_id)

    asked = SearchQuery(parts=(QueryPart(text="x"),), k=int(13 + seed), filters=filters)
    given = ids_of(walk(engine, asked, between))
    assert len(given) == len(set(given))
    expected = {item_id for item_id in steady if not filters or stocked(began[item_id])}
    assert len(expected) > 100 and expected <= set(given)


def test_without_changes_pages_are_those_of_depth(make_live, make_shop):
    overlay, engine = make_live()
    overlay.apply(make_shop(0, 400).changes(100))
    asked = SearchQuery(parts=(QueryPart(text="x"),), k=70)
    pages = walk(engine, asked)
    whole = ids_of(walk(engine, asked.model_copy(update={"k": 200})))
    assert ids_of(pages) == whole and [len(page.hits) for page in pages[:-1]] == [70] * (len(pages) - 1)


def test_a_cursor_from_another_process_goes_on_after_its_last_item(make_live, make_shop):
    updates = make_shop(0, 400).changes(200)
    overlay, engine = make_live()
    overlay.apply(updates)
    other_overlay, other = make_live()
    other_overlay.apply(updates)
    asked = SearchQuery(parts=(QueryPart(text="x"),), k=50)
    first = engine.search(asked)
    assert decode(first.next_cursor).first.overlay != other_overlay.view().overlay_id
    second = asked.model_copy(update={"cursor": first.next_cursor})
    assert ids_of([other.search(second)]) == ids_of([engine.search(second)])
    # A cursor of a server without an overlay counts results only.
    _, plain = make_live(overlay=False)
    old = plain.search(asked).next_cursor
    assert decode(old).last is None and len(old) < len(first.next_cursor)
    assert len(other.search(asked.model_copy(update={"cursor": old})).hits) == 50


def test_a_cursor_of_the_old_form_stays_readable(monkeypatch):
    assert decode(Cursor("7", "q", 24).encode()) == Cursor("7", "q", 24)
    whole = Cursor("7", "q", 24, Last(0.123456, 'an "item" ä'), FirstSeen("abcd", 5))
    assert decode(whole.encode()) == whole
    assert cursor_module.CHECKSUM_LENGTH == 12


def test_a_query_item_with_a_new_picture_is_another_query(make_live, make_shop):
    shop = make_shop(0, 400)
    overlay, engine = make_live()
    asked = SearchQuery(parts=(QueryPart(item_id="item-0007"),), k=5)
    second = asked.model_copy(update={"cursor": engine.search(asked).next_cursor})
    assert len(engine.search(second).hits) == 5
    shop.states["item-0007"], _ = shop.states["item-0007"].upsert(1, shop.columns("another"), None)
    overlay.apply([shop.message(shop.states["item-0007"])])
    with pytest.raises(CursorExpired, match="'item-0007' of the query has got a new picture"):
        engine.search(second)
    assert len(engine.search(asked).hits) == 5


def test_an_approximate_index_repeats_nothing_either(make_engine, vectors, columns, rows, array_overlay):
    overlay = array_overlay(forgetful=True)
    engine = make_engine(forgetful=True, overlay=overlay)
    states = {row["item_id"]: state_of_row(row) for row in rows}
    random, version, gone = np.random.default_rng(3), 1, set()

    def delete(item_ids):
        nonlocal version
        version += 1
        at = datetime(2026, 11, 23, tzinfo=UTC)
        made = [states[item_id].set_deleted(version, True, at)[0] for item_id in item_ids]
        overlay.apply([VectorUpdate(Position(0, version), state, ChangeKind.DELETE, at) for state in made])
        gone.update(item_ids)

    delete(["item-0001"])
    asked = SearchQuery(parts=(QueryPart(text="x"),), k=23)
    steady = ids_of(walk(engine, asked))
    assert len(steady) == len(set(steady)) == 599
    given = []
    while True:
        answer = engine.search(asked)
        given += [hit.item_id for hit in answer.hits]
        if answer.next_cursor is None:
            break
        # The page's last item goes, and some that may come later.
        delete({given[-1], *random.choice(sorted(states), 2).tolist()})
        asked = asked.model_copy(update={"cursor": answer.next_cursor})
    assert answer.plan == "index" and len(given) == len(set(given))
    assert len(set(states) - gone - set(given)) < 30
