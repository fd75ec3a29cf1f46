import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lookalike.contracts.errors import BadQuery, CursorExpired, NotFound, SpaceMismatch
from lookalike.contracts.query import MAX_DEPTH, Box, Filter, QueryPart, SearchQuery
from lookalike.contracts.settings import IntakeSettings
from lookalike.search import ranking

ACME = Filter(field="brand", any_of=("acme",))


def query(*parts, **changes):
    return SearchQuery(parts=parts, **changes)


def brute_order(fused, vectors, rows, passes=lambda row: True, without=()):
    """All matching ids, best cosine first, ties by id: plain Python over all items."""
    fused = np.asarray(fused, np.float64) / np.linalg.norm(fused)
    scored = [
        (-round(float(np.dot(vector.astype(np.float64), fused) / np.linalg.norm(vector.astype(np.float64))), 6), row)
        for vector, row in zip(vectors, rows, strict=True)
        if passes(row) and row["item_id"] not in without
    ]
    return [row["item_id"] for _, row in sorted(scored, key=lambda each: (each[0], each[1]["item_id"]))]


def walk(engine, asked):
    """All pages of a query."""
    pages = []
    while True:
        answer = engine.search(asked)
        pages.append(answer)
        if answer.next_cursor is None:
            return pages
        asked = asked.model_copy(update={"cursor": answer.next_cursor})


def ids_of(answers):
    return [hit.item_id for answer in answers for hit in answer.hits]


def stored(vectors, rows, item_id):
    return vectors[[row["item_id"] for row in rows].index(item_id)]


def test_text_against_brute_force(engine, vectors, rows, encode):
    answer = engine.search(query(QueryPart(text="red apple"), k=50))
    expected = brute_order(encode("red apple"), vectors, rows)[:50]
    assert ids_of([answer]) == expected
    assert answer.release == "7" and answer.plan == "exact" and answer.matching == len(rows)
    top = stored(vectors, rows, expected[0])
    assert answer.hits[0].score == pytest.approx(float(top @ encode("red apple")), abs=2e-6)


def test_mix_with_negative_weight_picture_crop_and_item(engine, encoder, vectors, rows, encode):
    box = Box(left=0.25, top=0, width=0.5, height=1)
    parts = (
        QueryPart(text="red", weight=0.5),
        QueryPart(picture=b"0123456789", weight=2),
        QueryPart(item_id="item-0042", weight=-1.5),
        QueryPart(picture=b"01234567", crop=box),
        QueryPart(text="round"),
        QueryPart(item_id="item-0001", crop=box),
    )
    each = [
        encode("red"), encode(b"0123456789"), stored(vectors, rows, "item-0042"), encode(b"2345"), encode("round"),
        encode(bytes(range(25, 75))),
    ]  # fmt: skip
    fused = sum(part.weight * vector for part, vector in zip(parts, each, strict=True))
    answer = engine.search(query(*parts, k=20))
    assert ids_of([answer]) == brute_order(fused, vectors, rows, without=("item-0042", "item-0001"))[:20]
    for hit in answer.hits:
        vector = stored(vectors, rows, hit.item_id)
        np.testing.assert_allclose(hit.part_scores, [float(vector @ other) for other in each], atol=2e-6)
        assert hit.score == pytest.approx(float(vector @ fused / np.linalg.norm(fused)), abs=2e-6)
    assert encoder.batches == [("texts", 2), ("pictures", 3)]


def test_a_negative_part_pushes_away(engine):
    plain = engine.search(query(QueryPart(text="a"), k=10))
    away = engine.search(query(QueryPart(text="a"), QueryPart(text="b", weight=-1), k=10))
    assert np.mean([hit.part_scores[1] for hit in away.hits]) < 0
    b_alone = engine.search(query(QueryPart(text="b", weight=-1), k=1))
    assert b_alone.hits[0].part_scores[0] < -0.5
    assert ids_of([plain]) != ids_of([away])


def test_more_like_this_uses_the_stored_vector_and_leaves_the_item_out(engine, encoder, vectors, rows):
    similar = query(QueryPart(item_id="item-0100"), k=10)
    order = brute_order(stored(vectors, rows, "item-0100"), vectors, rows)
    assert order[0] == "item-0100"
    assert ids_of([engine.search(similar)]) == order[1:11]
    with_it = engine.search(similar.model_copy(update={"exclude_query_items": False}))
    assert ids_of([with_it]) == order[:10]
    assert with_it.hits[0].score == 1.0
    assert encoder.batches == []


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize("k", [3, 24, 63, 64, 200])
def test_pages_repeat_nothing_and_lose_nothing(make_engine, vectors, rows, encode, k, forgetful):
    engine = make_engine(forgetful=forgetful)
    asked = query(QueryPart(text="red apple"), QueryPart(item_id="item-0005", weight=0.5), k=k, filters=(ACME,))
    fused = encode("red apple") + 0.5 * stored(vectors, rows, "item-0005")
    expected = brute_order(fused, vectors, rows, lambda row: row["brand"] == "acme", without=("item-0005",))
    pages = walk(engine, asked)
    assert len(ids_of(pages)) == len(set(ids_of(pages)))
    if forgetful:
        assert set(ids_of(pages)) == set(expected)
    else:
        assert ids_of(pages) == expected
    assert all(len(page.hits) == k for page in pages[:-1])
    assert {page.matching for page in pages} == {200}
    assert {page.plan for page in pages} == {"index" if forgetful else "exact"}


def test_pages_stay_the_same_whatever_their_size(make_engine):
    engine = make_engine(forgetful=True)
    whole = [ids_of(walk(engine, query(QueryPart(text="x"), k=k))) for k in (11, 24, 150)]
    assert whole[0] == whole[1] == whole[2]
    assert len(whole[0]) == len(set(whole[0])) == 600


def test_no_page_lies_below_the_deepest_rank(engine, monkeypatch):
    monkeypatch.setattr("lookalike.search.engine.MAX_DEPTH", 100)
    monkeypatch.setattr(ranking, "TIERS", (64, 100))
    pages = walk(engine, query(QueryPart(text="x"), k=30))
    assert [len(page.hits) for page in pages] == [30, 30, 30, 10]
    assert ranking.TIERS[-1] == 100 and MAX_DEPTH == 2_000


def test_a_full_last_page_has_no_next(engine):
    pages = walk(engine, query(QueryPart(text="x"), k=100, filters=(ACME,)))
    assert [len(page.hits) for page in pages] == [100, 100]


def test_equal_pictures_come_in_the_order_of_their_ids(make_engine, vectors, rows, encode):
    same = vectors.copy()
    twins = np.arange(0, 600, 6)
    same[twins] = encode("x")
    engine = make_engine(vectors=same)
    pages = walk(engine, query(QueryPart(text="x"), k=9))
    twin_ids = sorted(rows[at]["item_id"] for at in twins)
    assert sorted(ids_of(pages)[:100]) == twin_ids
    assert ids_of(pages)[:9] == sorted(ids_of(pages)[:9])
    assert ids_of(pages) == ids_of(walk(engine, query(QueryPart(text="x"), k=9)))


def test_cursor_of_another_release_or_query(make_engine):
    answer = make_engine("7").search(query(QueryPart(text="x")))
    with pytest.raises(CursorExpired, match="release '7', but release '8'"):
        make_engine("8").search(query(QueryPart(text="x"), cursor=answer.next_cursor))
    with pytest.raises(CursorExpired, match="another query"):
        make_engine("7").search(query(QueryPart(text="y"), cursor=answer.next_cursor))


def test_a_filter_that_nothing_passes(engine):
    answer = engine.search(query(QueryPart(text="x"), filters=(Filter(field="brand", any_of=("nobody",)),)))
    assert answer.hits == () and answer.matching == 0 and answer.next_cursor is None


def test_what_cannot_be_answered_says_why(engine):
    with pytest.raises(NotFound, match="no item 'nothing' in release 7"):
        engine.search(query(QueryPart(item_id="nothing")))
    with pytest.raises(BadQuery, match="cancel each other out"):
        engine.search(query(QueryPart(text="x"), QueryPart(text="x", weight=-1)))
    with pytest.raises(BadQuery, match="there is no such field"):
        engine.search(query(QueryPart(text="x"), filters=(Filter(field="nope", any_of=("x",)),)))


def test_crop_of_an_item_whose_picture_cannot_be_read(make_engine, store, columns):
    crop = query(QueryPart(item_id="item-0002", crop=Box(left=0, top=0, width=0.5, height=1)))
    with pytest.raises(BadQuery, match="part 0: the picture of item 'item-0002' cannot be read"):
        make_engine().search(crop)
    first = query(QueryPart(item_id="item-0001", crop=crop.parts[0].crop))
    with pytest.raises(BadQuery, match="more than 50 bytes"):
        make_engine(limits=IntakeSettings(max_picture_bytes=50)).search(first)
    with pytest.raises(BadQuery, match="no picture store"):
        make_engine(pictures_root=None).search(first)
    (store.parent / "secret").write_bytes(b"x" * 10)
    (store / "2.bin").symlink_to(store.parent / "secret")
    with pytest.raises(BadQuery, match="not in the picture store"):
        make_engine().search(crop)


def test_crop_of_an_item_through_a_given_reader(make_engine, encode):
    seen = []

    def read(image_path):
        seen.append(image_path)
        return b"abcd"

    engine = make_engine(item_picture=read)
    answer = engine.search(query(QueryPart(item_id="item-0002", crop=Box(left=0.5, top=0, width=0.5, height=1)), k=3))
    assert seen == ["2.bin"]
    assert ids_of([answer]) == ids_of([engine.search(query(QueryPart(picture=b"cd"), k=3))])
    assert "item-0002" not in ids_of([answer])


def test_products_are_plain_and_whole(engine, rows):
    product = engine.item("item-0001")
    row = next(row for row in rows if row["item_id"] == "item-0001")
    expected = row | {
        "attributes": dict(row["attributes"] or []), "keywords": dict(row["keywords"]),
        "category_path": row["category_path"] or [], "tags": row["tags"] or [],
        "column_versions": {},
    }  # fmt: skip
    assert product == expected
    assert json.loads(json.dumps(product)) == product
    answer = engine.search(query(QueryPart(text="x"), k=5))
    for hit in answer.hits:
        whole = engine.item(hit.item_id)
        registers = {whole.pop(name) is None for name in ("base_version", "changed_at")}
        assert registers == {True} and whole.pop("column_versions") == {} and whole.pop("keywords") is not None
        assert hit.product == whole
    with pytest.raises(NotFound, match="'nothing'"):
        engine.item("nothing")


def test_facets_are_counts_over_all_rows(engine, rows):
    facets = engine.facets()
    assert {each["value"]: each["count"] for each in facets["brand"]} == {"acme": 200, "bolt": 200}
    foods = sum("food" in (row["category_path"] or []) for row in rows)
    assert facets["category"][0] == {"value": "food", "count": foods}
    prices = [row["price"] for row in rows if row["price"] is not None]
    assert facets["price"] == {"min": min(prices), "max": max(prices)}
    assert facets["stock"] == {"min": 0, "max": 12}
    assert facets["attributes"] == ["colour", "weight"]
    json.dumps(facets)


def test_times_are_by_stage(engine):
    took = engine.search(query(QueryPart(text="x"))).took_ms
    assert set(took) == {"encode", "filter", "search", "enrich", "total"}
    assert took["total"] == pytest.approx(sum(took.values()) - took["total"], abs=0.01)


def test_an_encoder_of_another_space_is_refused(make_engine, encoder):
    encoder.space = encoder.space.model_copy(update={"weights_sha256": "d" * 64})
    with pytest.raises(SpaceMismatch, match="the encoder of release 7"):
        make_engine()


def test_many_threads_get_the_same_answers(engine):
    asked = [
        query(QueryPart(text=f"text {at}"), filters=(Filter(field="price", at_most=at % 7 + 20),), k=5)
        for at in range(60)
    ]
    alone = [ids_of([engine.search(each)]) for each in asked]
    with ThreadPoolExecutor(8) as pool:
        together = [ids_of([answer]) for answer in pool.map(engine.search, asked)]
    assert together == alone
