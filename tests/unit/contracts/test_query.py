"""A request that makes no sense is refused at the edge, in words."""

import pytest
from pydantic import ValidationError

from lookalike.contracts.query import Box, Filter, QueryPart, SearchQuery


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (QueryPart, "exactly one of"),
        (lambda: QueryPart(text="a", item_id="b"), "exactly one of"),
        (lambda: QueryPart(text="a", weight=0), "weight 0"),
        (lambda: QueryPart(text="a", crop=Box(left=0, top=0, width=1, height=1)), "not with text"),
        (lambda: Box(left=0.5, top=0, width=0.6, height=1), "leaves the picture"),
        (lambda: Filter(field="brand"), "needs any_of"),
        (lambda: SearchQuery(parts=()), "at least 1"),
        (lambda: SearchQuery(parts=(QueryPart(text="a"),), k=0), "greater than or equal to 1"),
        (lambda: Filter(field="price", at_most=float("nan")), "finite"),
    ],
)
def test_nonsense_is_refused(build, words):
    with pytest.raises(ValidationError, match=words):
        build()
