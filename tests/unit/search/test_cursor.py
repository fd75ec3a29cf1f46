import base64

import pytest

from lookalike.contracts.errors import BadQuery, CursorExpired
from lookalike.contracts.query import MAX_DEPTH, Box, Filter, QueryPart, SearchQuery
from lookalike.search.cursor import Cursor, cursor_of, decode, query_hash

PICTURE = QueryPart(picture=b"abc", crop=Box(left=0, top=0, width=0.5, height=1))
QUERY = SearchQuery(parts=(QueryPart(text="a"), PICTURE), filters=(Filter(field="price", at_most=3),))


def with_cursor(query, cursor):
    return query.model_copy(update={"cursor": cursor})


def test_back_and_forth():
    cursor = Cursor("7", query_hash(QUERY), 24)
    assert decode(cursor.encode()) == cursor
    assert cursor_of(with_cursor(QUERY, cursor.encode()), "7") == cursor
    assert cursor_of(QUERY, "7") is None


def test_the_page_size_may_change():
    text = Cursor("7", query_hash(QUERY), 24).encode()
    assert cursor_of(with_cursor(QUERY.model_copy(update={"k": 3}), text), "7").depth == 24


def test_of_another_release():
    with pytest.raises(CursorExpired, match="release '7', but release '8'"):
        cursor_of(with_cursor(QUERY, Cursor("7", query_hash(QUERY), 24).encode()), "8")


@pytest.mark.parametrize(
    "change",
    [
        {"parts": (QueryPart(text="b"), PICTURE)},
        {"parts": (PICTURE, QueryPart(text="a"))},
        {"parts": (QueryPart(text="a", weight=2), PICTURE)},
        {"parts": (QueryPart(text="a"), QueryPart(picture=b"abd", crop=PICTURE.crop))},
        {"parts": (QueryPart(text="a"), QueryPart(picture=b"abc"))},
        {"filters": ()},
        {"filters": (Filter(field="price", at_most=4),)},
        {"exclude_query_items": False},
    ],
)
def test_of_another_query(change):
    text = Cursor("7", query_hash(QUERY), 24).encode()
    with pytest.raises(CursorExpired, match="another query"):
        cursor_of(with_cursor(QUERY.model_copy(update=change), text), "7")


def test_every_single_changed_character_is_noticed():
    text = Cursor("7", query_hash(QUERY), 24).encode()
    for at, old in enumerate(text):
        for new in ("A", "B", "_"):
            if new != old:
                with pytest.raises(BadQuery, match="damaged"):
                    decode(text[:at] + new + text[at + 1 :])


@pytest.mark.parametrize("text", ["", "x", "????", "ä", "AAAA", base64.urlsafe_b64encode(b"0" * 40).decode()])
def test_what_is_no_cursor(text):
    with pytest.raises(BadQuery, match="damaged"):
        decode(text)


@pytest.mark.parametrize("depth", [-1, 0, MAX_DEPTH])
def test_depths_that_are_never_given(depth):
    with pytest.raises(BadQuery, match="damaged"):
        decode(Cursor("7", "q", depth).encode())
