"""Facets that are known to the artifact against those that are counted over its columns."""

import pyarrow as pa
import pytest
from pyarrow import ipc

from index_builder.attribute_sets import open_sets, write_sets
from lookalike.search.facets import FacetChanges, SealedFacets


@pytest.fixture
def sets_of(tmp_path):
    def make(columns):
        with ipc.new_file(tmp_path / "items.arrow", columns.schema) as writer:
            writer.write_table(columns)
        write_sets(tmp_path / "items.arrow", tmp_path / "attributes.sets")
        return open_sets(tmp_path / "attributes.sets", columns.num_rows)

    return make


def test_known_and_counted_are_equal(columns, sets_of):
    known, counted = SealedFacets(columns, sets_of(columns)), SealedFacets(columns)
    changes = FacetChanges()
    assert known.facets() == counted.facets()
    assert isinstance(known.facets()["stock"]["max"], int)
    before = columns.select(["brand", "tags", "price"]).slice(1, 1).to_pylist()[0]
    changes.note(before, {"brand": "zeta", "tags": ["new", "new"], "price": 1e6})
    changes.commit()
    assert known.facets(changes) == counted.facets(changes)
    assert {"value": "new", "count": 1} in known.facets(changes)["tags"]


def test_a_value_that_an_item_lists_twice_counts_once(columns, sets_of):
    tags = pa.array([["a", "b", "a"], None, ["b", None], []] * 3, columns.schema.field("tags").type)
    table = columns.slice(0, 12).set_column(columns.schema.get_field_index("tags"), "tags", tags)
    for facets in (SealedFacets(table), SealedFacets(table, sets_of(table))):
        assert facets.facets()["tags"] == [{"value": "b", "count": 6}, {"value": "a", "count": 3}]


def test_nothing_there(columns, sets_of):
    none = columns.slice(0, 0)
    assert SealedFacets(none, sets_of(none)).facets() == SealedFacets(none).facets()
