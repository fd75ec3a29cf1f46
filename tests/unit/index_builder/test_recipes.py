import pytest

from index_builder.bounds import Bounds
from index_builder.costs import Workload, estimate
from index_builder.lists import derive_nlist
from index_builder.recipes import choose, list_recipes, load_recipe, settle
from lookalike.contracts.errors import LookalikeError, NotFound, SettingsError

GIB = 2**30


def test_every_recipe_reads():
    assert list_recipes() == ["exact", "hnsw", "ivf_pq"]
    assert {load_recipe(name).name for name in list_recipes()} == set(list_recipes())


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(NotFound, match=r"'magic'.*exact, hnsw, ivf_pq"):
        load_recipe("magic")


@pytest.mark.parametrize(
    ("items", "dim", "memory", "latency", "expected"),
    [
        (8_113, 256, 8 * GIB, 20.0, "exact"),
        (1_000_000, 256, 8 * GIB, 20.0, "hnsw"),
        (1_000_000, 256, 1 * GIB, 20.0, "ivf_pq"),
        (100_000_000, 512, 80 * GIB, 1_000.0, "ivf_pq"),
        (100_000_000, 256, 200 * GIB, 500.0, "ivf_pq"),  # its graph would take hours
        (500, 64, 8 * GIB, 1.0, "exact"),
    ],
)
def test_choice(items, dim, memory, latency, expected):
    recipe, why = choose(Workload(items, dim, 0.95), Bounds(memory, latency))
    assert recipe.name == expected
    assert why.startswith(f"{expected} for {items:,} items of {dim} dimensions")
    assert f"{memory:,}" in why


def test_the_reason_says_what_was_passed_over_and_why():
    _, why = choose(Workload(1_000_000, 256, 0.95), Bounds(1 * GIB, 20.0))
    assert "exact would not do: needs index.latency_ms" in why or "exact would not do: needs index.memory_bytes" in why
    assert "hnsw would not do: needs index.memory_bytes of" in why


def test_nothing_fits_says_which_bound_to_raise():
    with pytest.raises(SettingsError) as caught:
        choose(Workload(100_000_000, 512, 0.95), Bounds(2**20, 20.0))
    assert "ivf_pq: needs index.memory_bytes of" in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        choose(Workload(1_000_000, 512, 0.95), Bounds(1000 * GIB, 0.0001))
    assert "hnsw: needs index.latency_ms of" in str(caught.value)


def test_raising_the_named_bound_is_enough():
    needed = estimate(load_recipe("exact"), 1_000, 64)
    few = Workload(1_000, 64, 0.95)
    with pytest.raises(SettingsError):
        choose(few, Bounds(needed.memory_bytes - 1, 20.0), [load_recipe("exact")])
    assert choose(few, Bounds(needed.memory_bytes, 20.0), [load_recipe("exact")])[0].name == "exact"


@pytest.mark.parametrize(
    ("items", "expected"), [(1_024, 16), (8_000, 64), (100_000, 1_024), (1_000_000, 8_192), (100_000_000, 131_072)]
)
def test_lists_follow_from_the_number_of_items(items, expected):
    nlist = derive_nlist(items, 64)
    assert nlist == expected
    assert nlist * 64 <= items


def test_too_few_items_name_the_minimum():
    with pytest.raises(LookalikeError, match=r"1,023 items: it needs at least 1,024"):
        settle(load_recipe("ivf_pq"), 1_023)
    assert settle(load_recipe("ivf_pq"), 1_024).nlist == 16
