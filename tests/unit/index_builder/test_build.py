from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from index_builder.build import build
from index_builder.delta_source import DeltaSource
from index_builder.gather import BadVectors, place_vectors
from index_builder.reader import open_index
from index_builder.sizes import Codes, Columns, sizes_of_lists, sizes_of_vectors
from lookalike.contracts.errors import LookalikeError, NotFound, SpaceMismatch
from lookalike.contracts.item_state import state_of_row
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.tables import EMBEDDINGS, SILVER

DIM, ITEMS = 32, 3_000
RECIPES = ("exact", "hnsw", "ivf_pq")
ITEM_FILES = ["items.arrow", "attributes.sets"]
LIST_FILES = ["refine.faiss", "centres.faiss", "axes.npz"]
FILES = {False: ["index.faiss", *ITEM_FILES], True: ["index.faiss", *ITEM_FILES, *LIST_FILES]}


def test_row_i_of_the_columns_describes_vector_i(catalogue, index):
    ids = index.columns["item_id"].to_pylist()
    assert ids == sorted(catalogue.ids)
    stored = index.vectors(np.arange(ITEMS))
    vectors = catalogue.vectors_by_id()
    cosines = np.einsum("nd,nd->n", stored, vectors) / np.linalg.norm(stored, axis=1)
    assert cosines.min() > 0.98 and np.quantile(cosines, 0.05) > 0.999  # a few lie beyond the sample's span
    assert index.columns["title"][5].as_py() == f"title of {ids[5]}"
    assert set(index.columns.column_names) == set(SILVER.schema.names) - {"snapshot_id", "deleted", "shard"}


def test_manifest_says_from_what(catalogue, built):
    for recipe, folder in built.items():
        manifest = Manifest.read(folder)
        assert manifest.items == ITEMS
        assert manifest.table_versions == {name: catalogue.tables.version(name) for name in ("silver", "embeddings")}
        assert manifest.space == catalogue.space
        assert manifest.recipe.name == recipe
        assert manifest.build["coverage"]["indexed"] == ITEMS
        assert max(point.recall_at_10 for point in manifest.operating_points) > 0.95
        assert {path.name for path in folder.iterdir()} == {*FILES[recipe == "ivf_pq"], "manifest.json"}


def test_registers_and_how_far_the_log_is_covered_are_in_the_artifact(kit, small, tmp_path):
    table = kit.silver_rows(["streamed"])
    at = datetime(2026, 1, 1, tzinfo=UTC)
    registers = {"base_version": [5], "column_versions": [[("price", 7)]], "changed_at": [at], "version": [7]}
    for name, values in registers.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    vectors = kit.embedding_rows(["streamed"], kit.clustered(1, 5), small.space.fingerprint)
    tables = small.extend(table, vectors).tables
    build(
        small.settings,
        DeltaSource.newest(tables, small.space),
        tmp_path / "index",
        LogProgress(),
        "exact",
        {"0": 17, "1": 4},
    )
    assert Manifest.read(tmp_path / "index").log_offsets == {"0": 17, "1": 4}
    index = open_index(tmp_path / "index")
    rows = index.rows_of(["streamed", small.ids[0]])
    state = state_of_row(index.columns.slice(int(rows[0]), 1).to_pylist()[0])
    assert (state.base_version, state.column_versions, state.changed_at) == (5, {"price": 7}, at)
    older = state_of_row(index.columns.slice(int(rows[1]), 1).to_pylist()[0])
    assert (older.base_version, older.column_versions, older.changed_at) == (1, {}, None)


@pytest.mark.parametrize("recipe", RECIPES)
def test_cost_model_knows_the_size_of_each_file(built, recipe):
    manifest = Manifest.read(built[recipe])
    found = {name: record.bytes for name, record in manifest.files.items()}
    codes, columns = (
        manifest.build.get("codes"),
        Columns(found["items.arrow"] / ITEMS, found["attributes.sets"] / ITEMS),
    )
    if codes is None:
        sizes = sizes_of_vectors(ITEMS, DIM, columns, links=32 if recipe == "hnsw" else 0)
    else:
        known = Codes(codes["axes"], codes["finer_axes"])
        sizes = sizes_of_lists(ITEMS, DIM, manifest.recipe.nlist, known, columns)
        assert sizes.centres == pytest.approx(found["centres.faiss"] + found["axes.npz"], abs=2_000)  # headers
        assert sizes.finer == pytest.approx(found["refine.faiss"], rel=0.02)
    assert sizes.index == pytest.approx(found["index.faiss"], rel=0.02)
    assert sizes.disk == pytest.approx(sum(found.values()), rel=0.02)


def test_same_rows_in_another_order_give_the_same_bytes(kit, built, tmp_path):
    again = kit.make_catalogue(tmp_path / "again", ITEMS, order_seed=4, files=3)
    for recipe in RECIPES:
        again.build(tmp_path / recipe, recipe)
        one, two = Manifest.read(built[recipe]), Manifest.read(tmp_path / recipe)
        assert one.files == two.files, recipe
        varying = {"created_at", "table_versions", "operating_points", "build"}
        assert one.model_dump(exclude=varying) == two.model_dump(exclude=varying)


def test_another_vector_gives_other_bytes(kit, small, tmp_path):
    first = small.build(tmp_path / "one")
    second = small.extend(
        kit.silver_rows(["new"]), kit.embedding_rows(["new"], kit.clustered(1, 5), small.space.fingerprint)
    )
    assert second.build(tmp_path / "two").files != first.files


def test_deleted_items_and_items_without_a_vector_are_left_out_and_reported(kit, small, tmp_path):
    silver = kit.silver_rows(["gone", "no-vector", "newer-picture"], deleted=frozenset({"gone"}))
    vectors = kit.embedding_rows(["gone", "newer-picture", "unknown"], kit.clustered(3, 5), small.space.fingerprint)
    hashes = [kit.content_hash("gone"), kit.content_hash("an older picture"), kit.content_hash("unknown")]
    vectors = vectors.set_column(2, EMBEDDINGS.schema.field("content_hash"), pa.array(hashes))
    manifest = small.extend(silver, vectors).build(tmp_path / "index")
    assert manifest.items == 40
    assert manifest.build["coverage"] == {
        "silver_items": 42,
        "indexed": 40,
        "without_vector": 1,
        "vector_of_an_older_picture": 1,
        "first_left_out": ["newer-picture", "no-vector"],
    }
    index = open_index(tmp_path / "index")
    assert index.rows_of(["gone", "no-vector", "newer-picture", "unknown"]).tolist() == [-1] * 4
    np.testing.assert_array_equal(index.vectors(np.arange(40)), small.vectors_by_id())


def test_vectors_of_another_space_beside_ours_are_not_read(kit, small, tmp_path):
    other = kit.embedding_rows(small.ids, -small.vectors, kit.space_of("d").fingerprint)
    small.extend(embeddings=other).build(tmp_path / "index")
    np.testing.assert_array_equal(open_index(tmp_path / "index").vectors(np.arange(40)), small.vectors_by_id())


def test_a_table_of_another_space_only_is_refused(kit, small, tmp_path):
    other = kit.space_of("d")
    with pytest.raises(SpaceMismatch, match=small.space.fingerprint):
        build(small.settings, DeltaSource.newest(small.tables, other), tmp_path / "index", LogProgress(), "exact")
    assert list(tmp_path.glob("*index*")) == []


def test_a_vector_labelled_with_another_space_is_refused_by_its_id(kit, small):
    items = small.tables.read(SILVER, order_by="item_id")
    foreign = kit.embedding_rows([small.ids[3]], small.vectors[3:4], kit.space_of("d").fingerprint)
    with pytest.raises(SpaceMismatch, match=small.ids[3]):
        place_vectors(foreign.to_batches(), items, np.zeros((40, DIM), np.float32), small.space)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v * np.float32("nan"), "hold NaN or infinity"),
        (lambda v: v * np.float32("inf"), "hold NaN or infinity"),
        (lambda v: v * np.float32(1.01), "not of unit length"),
        (lambda v: v * np.float32(0), "not of unit length"),
        (lambda v: v[:, :-1], f"not of {DIM} dimensions"),
    ],
)
def test_bad_vectors_are_refused_with_their_ids(kit, small, tmp_path, spoil, message):
    ids = ["spoiled-1", "spoiled-2"]
    vectors = spoil(kit.clustered(2, 5))
    small.extend(kit.silver_rows(ids), kit.embedding_rows(ids, vectors, small.space.fingerprint))
    with pytest.raises(BadVectors, match=message) as caught:
        small.build(tmp_path / "index")
    assert "2 items" in str(caught.value)
    assert "spoiled-1, spoiled-2" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]


def test_two_vectors_of_one_item_are_refused(kit, small, tmp_path):
    twice = kit.embedding_rows(small.ids[:1], small.vectors[:1], small.space.fingerprint)
    with pytest.raises(BadVectors, match=f"two vectors.*{small.ids[0]}"):
        small.extend(embeddings=twice).build(tmp_path / "index")


def test_an_id_twice_in_silver_is_refused(kit, small, tmp_path):
    with pytest.raises(LookalikeError, match=f"1 item ids twice: {small.ids[7]}"):
        small.extend(kit.silver_rows([small.ids[7]])).build(tmp_path / "index")


def test_no_vectors_says_to_embed(kit, small, tmp_path):
    empty = kit.Catalogue(small.settings, small.tables, small.space, [], small.vectors)
    small.tables.append(SILVER, kit.silver_rows(["x"]))
    manifest = empty.build(tmp_path / "one")
    assert manifest.build["coverage"]["without_vector"] == 1
    stranger = kit.make_catalogue(tmp_path / "stranger", 4, files=1)
    stranger.extend(kit.silver_rows(["x"]))
    lonely = kit.embedding_rows(["nobody"], kit.clustered(1, 1), stranger.space.fingerprint)
    tables = type(stranger.tables)(tmp_path / "lonely")
    tables.append(SILVER, kit.silver_rows(["x"]))
    tables.append(EMBEDDINGS, lonely)
    with pytest.raises(LookalikeError, match="run `lookalike embed` first"):
        build(stranger.settings, DeltaSource.newest(tables, stranger.space), tmp_path / "two", LogProgress(), "exact")


def test_a_finished_directory_is_never_written_again(small, tmp_path):
    small.build(tmp_path / "index")
    with pytest.raises(LookalikeError, match="exists already"):
        small.build(tmp_path / "index")


def test_missing_tables_and_unknown_recipe(small, tmp_path):
    with pytest.raises(NotFound, match="index recipe 'best'"):
        small.build(tmp_path / "index", "best")
    nowhere = type(small.tables)(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="no Delta table"):
        build(small.settings, DeltaSource.newest(nowhere, small.space), tmp_path / "index", LogProgress())


def test_too_few_for_lists(small, tmp_path):
    with pytest.raises(LookalikeError, match="at least 1,024"):
        small.build(tmp_path / "index", "ivf_pq")


def test_auto_chooses_and_says_why(small, tmp_path):
    manifest = small.build(tmp_path / "index", "auto")
    assert manifest.recipe.name == "exact"
    assert "exact for 40 items" in manifest.chosen_because


def test_of_equal_vectors_any_is_a_right_answer(kit, tmp_path):
    catalogue = kit.make_catalogue(tmp_path / "home", 30, files=1)
    twins = [f"twin-{at}" for at in range(60)]
    same = np.tile(catalogue.vectors[:1], (60, 1))
    catalogue.extend(kit.silver_rows(twins), kit.embedding_rows(twins, same, catalogue.space.fingerprint))
    assert catalogue.build(tmp_path / "index").operating_points[0].recall_at_10 == 1.0
