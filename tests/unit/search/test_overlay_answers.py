"""The engine with an overlay against a naive truth: a dictionary of states, every vector compared, loops as filters."""

import json

import numpy as np
import pytest

from lookalike.contracts.query import Filter, QueryPart, SearchQuery

FILTERS = [
    (Filter(field="brand", any_of=("acme", "bolt")), lambda c: c["brand"] in ("acme", "bolt")),
    (Filter(field="brand", none_of=("acme",)), lambda c: c["brand"] != "acme"),
    (Filter(field="tags", any_of=("sale",)), lambda c: "sale" in c["tags"]),
    (Filter(field="tags", none_of=("sale", "bio")), lambda c: not {"sale", "bio"} & set(c["tags"])),
    (Filter(field="category", any_of=("drink",)), lambda c: "drink" in c["category_path"]),
    (Filter(field="stock", at_least=1), lambda c: c["stock"] is not None and c["stock"] >= 1),
    (Filter(field="stock", any_of=("0",)), lambda c: c["stock"] == 0),
    (Filter(field="price", at_most=40), lambda c: c["price"] is not None and c["price"] <= 40),
    (Filter(field="price", at_least=20, at_most=60), lambda c: c["price"] is not None and 20 <= c["price"] <= 60),
    (Filter(field="attributes.colour", any_of=("red",)), lambda c: c["attributes"].get("colour") == "red"),
    (Filter(field="attributes.colour", none_of=("red",)), lambda c: c["attributes"].get("colour") != "red"),
]


def random_query(shop, encode, random):
    """A query, its vector by hand, a predicate, and the ids that it leaves out."""
    parts, fused, without = [], np.zeros(16), set()
    found = sorted(shop.found())
    for _ in range(random.integers(1, 3)):
        weight = float(random.choice([1.0, 0.5, -0.4]))
        if random.random() < 0.4:
            item_id = found[random.integers(len(found))]
            without.add(item_id)
            parts.append(QueryPart(item_id=item_id, weight=weight))
            fused = fused + weight * shop.vector(shop.found()[item_id])
        else:
            text = f"text {random.integers(1000)}"
            parts.append(QueryPart(text=text, weight=weight))
            fused = fused + weight * encode(text)
    chosen = [FILTERS[at] for at in random.choice(len(FILTERS), random.integers(0, 3), replace=False)]
    asked = SearchQuery(parts=tuple(parts), filters=tuple(each for each, _ in chosen), k=int(random.integers(1, 60)))
    return asked, fused, lambda columns: all(passes(columns) for _, passes in chosen), without


def walk(engine, asked, pages):
    answers = [engine.search(asked)]
    while len(answers) < pages and answers[-1].next_cursor is not None:
        answers.append(engine.search(asked.model_copy(update={"cursor": answers[-1].next_cursor})))
    return answers


def assert_equals_truth(engine, shop, encode, random, pages=3):
    asked, fused, passes, without = random_query(shop, encode, random)
    expected = shop.scores(fused, passes, without)
    answers = walk(engine, asked, pages)
    hits = [hit for answer in answers for hit in answer.hits]
    assert [hit.item_id for hit in hits] == [item_id for _, item_id in expected[: pages * asked.k]]
    np.testing.assert_allclose([hit.score for hit in hits], [-score for score, _ in expected[: len(hits)]], atol=1e-6)
    assert answers[-1].next_cursor is not None or len(hits) == len(expected)
    assert {answer.matching for answer in answers} == {sum(passes(state.columns) for state in shop.found().values())}
    for hit in hits:
        state = shop.found()[hit.item_id]
        assert {name: hit.product[name] for name in state.columns if name != "keywords"} == {
            name: value for name, value in state.columns.items() if name != "keywords"
        }
        assert hit.product["version"] == state.version
        json.dumps(hit.product)
    changed = [hit for hit in hits if shop.found()[hit.item_id] != shop.sealed.get(hit.item_id)]
    assert sum(answer.fresh for answer in answers) == len(changed)


@pytest.mark.parametrize(
    ("seed", "steps"), [(0, 60), (1, 60), *(pytest.param(seed, 250, marks=pytest.mark.slow) for seed in range(2, 10))]
)
def test_random_changes_against_the_truth(make_live, make_shop, encode, seed, steps):
    overlay, engine = make_live()
    shop, random = make_shop(0, 400), np.random.default_rng(seed)
    shop.random = np.random.default_rng(100 + seed)
    held_back, sent = [], []
    for step in range(steps):
        group = shop.changes(int(random.integers(1, 20)))
        # Some messages wait and come late, some come twice, and groups arrive in no order.
        held_back += [each for each in group if random.random() < 0.15]
        late = {id(each) for each in held_back}
        group = [each for each in group if id(each) not in late]
        if random.random() < 0.3:
            group += held_back
            held_back = []
        if sent:
            group += [sent[at] for at in random.integers(0, len(sent), 2)]
        random.shuffle(group)
        sent += group
        overlay.apply(group)
        for update in group:
            shop.deliver(update)
        if step % 5 == 0:
            assert_equals_truth(engine, shop, encode, random)
    assert len(sent) > 6 * steps
    for _ in range(12):
        assert_equals_truth(engine, shop, encode, random, pages=20)
