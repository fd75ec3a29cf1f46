"""Readers while a writer applies: every answer is that of some whole commit."""

import threading
from dataclasses import replace

import numpy as np

from lookalike.contracts.query import Filter, QueryPart, SearchQuery
from lookalike.search import overlay as overlay_module

COMMITS, READERS = 60, 3


def fingerprint(answer):
    return tuple((hit.item_id, hit.score, hit.product["version"]) for hit in answer.hits), answer.matching


def test_every_answer_is_that_of_one_commit(make_live, make_shop, monkeypatch):
    monkeypatch.setattr(overlay_module, "LEAST_DEAD", 40)
    shop = make_shop(0, 400)
    groups = []
    for number in range(COMMITS):
        group = shop.changes(8)
        # One item carries the number of the commit, so that going back in time would show.
        state = shop.states["item-0000"]
        state = replace(state, base_version=10**9 + number, columns=dict(state.columns) | {"price": float(number)})
        groups.append([*group, shop.message(state)])
    asked = [
        SearchQuery(parts=(QueryPart(text="x"),), k=25),
        SearchQuery(parts=(QueryPart(text="y"),), k=25, filters=(Filter(field="stock", at_least=1),)),
        SearchQuery(parts=(QueryPart(text="z"),), k=25, filters=(Filter(field="tags", none_of=("sale",)),)),
    ]
    slow_overlay, slow = make_live()
    possible = [{fingerprint(slow.search(each))} for each in asked]
    facets = [slow.facets()["brand"]]
    for group in groups:
        slow_overlay.apply(group)
        for known, each in zip(possible, asked, strict=True):
            known.add(fingerprint(slow.search(each)))
        facets.append(slow.facets()["brand"])
    assert min(map(len, possible)) > COMMITS / 3
    overlay, engine = make_live()
    faults, answered, done = [], [0] * READERS, threading.Event()

    def read(number):
        random, last = np.random.default_rng(number), -1.0
        try:
            while not done.is_set() or answered[number] < 20:
                at = int(random.integers(len(asked)))
                answer = engine.search(asked[at])
                ids = [hit.item_id for hit in answer.hits]
                assert len(set(ids)) == len(ids) == 25
                assert fingerprint(answer) in possible[at]
                assert engine.facets()["brand"] in facets
                price = engine.item("item-0000")["price"] if last >= 0 or engine.item("item-0000")["version"] else -1.0
                assert price >= last
                last = price
                answered[number] += 1
        except Exception as error:  # reported by the main thread
            faults.append(error)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for thread in threads:
        thread.start()
    for group in groups:
        overlay.apply(group)
    done.set()
    for thread in threads:
        thread.join(60)
    assert not faults, faults
    assert min(answered) >= 20
    assert [fingerprint(engine.search(each)) for each in asked] == [fingerprint(slow.search(each)) for each in asked]
