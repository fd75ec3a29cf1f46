"""Axes made for the questions: what they keep, against plain products, principal components and the loss reckoned."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from index_builder.axes import ROWS, ArtifactAxes, Axes, AxesFit, even_product

DIM, CUT = 64, 24


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def planted():
    """Items that vary along 52 dimensions, ever less; words ask for the other 12, in which items differ little."""
    random = np.random.default_rng(0)
    deviations = np.concatenate([np.arange(1, 53) ** -1.0, np.full(12, 0.04)])
    items = random.normal(size=(4_000, DIM)) * deviations
    texts = random.normal(size=(1_000, DIM)) * np.concatenate([np.full(52, 0.01), np.ones(12)])
    turn = np.linalg.qr(random.normal(size=(DIM, DIM)))[0]
    return unit(items @ turn), unit(texts @ turn)


def found(axes, items, queries):
    return np.argsort(-(axes.of_queries(queries) @ axes.of_items(items).T), axis=1)[:, :10]


def recall(rows, items, queries):
    true = np.argsort(-(queries @ items.T), axis=1)[:, :10]
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), true.tolist(), strict=True)])


@pytest.mark.parametrize("with_texts", [True, False])
def test_all_axes_keep_every_inner_product(planted, with_texts):
    items, texts = planted
    axes = AxesFit(items, texts if with_texts else None).cut(DIM)
    for queries in (items[:40], texts[:40]):
        np.testing.assert_allclose(axes.of_queries(queries) @ axes.of_items(items).T, queries @ items.T, atol=1e-4)
    np.testing.assert_allclose(axes.own(axes.of_items(items[:40])), items[:40], atol=1e-4)


def test_the_loss_is_the_one_that_is_reckoned_and_less_than_of_principal_components(planted):
    items, texts = planted
    fit = AxesFit(items, texts)
    values, vectors = np.linalg.eigh(items.T @ items)
    components = vectors[:, np.argsort(-values)[:CUT]].astype(np.float32)

    def loss(axes):
        """Mean square over pictures and words alike, by every pair."""
        both = [
            ((axes.of_queries(queries) @ axes.of_items(items).T - queries @ items.T) ** 2).mean()
            for queries in (items, texts)
        ]
        return np.mean(both)

    made, by_items = loss(fit.cut(CUT)), loss(Axes(components, components))
    assert made == pytest.approx((fit.weights[CUT:] ** 2).sum(), rel=0.02)
    assert made < 0.7 * by_items


def test_words_keep_their_ranking_where_components_of_the_items_lose_it(planted):
    items, texts = planted
    values, vectors = np.linalg.eigh(items.T @ items)
    components = vectors[:, np.argsort(-values)[:CUT]].astype(np.float32)
    made = AxesFit(items, texts).cut(CUT)
    asked = texts[:200]
    assert recall(found(made, items, asked), items, asked) > 0.9
    assert recall(found(Axes(components, components), items, asked), items, asked) < 0.3
    assert recall(found(made, items, items[:200]), items, items[:200]) > 0.8


def test_without_words_they_are_the_items_own_components(planted):
    items, _ = planted
    axes = AxesFit(items).cut(CUT)
    values, vectors = np.linalg.eigh(items.T.astype(np.float64) @ items)
    components = vectors[:, np.argsort(-values)[:CUT]]
    np.testing.assert_allclose(
        axes.of_items(items) @ axes.of_items(items[:30]).T,
        (items @ components) @ (items[:30] @ components).T,
        atol=1e-4,
    )


def test_axes_are_used_evenly(planted):
    """A uniform code loses the more, the more the spread of one axis differs from that of another."""
    items, texts = planted
    images = AxesFit(items, texts).cut(CUT).of_items(items)
    spread = images.std(axis=0)
    assert spread.max() / spread.min() < 4 < items.std(axis=0).max() / 1e-9
    own = AxesFit(items, texts)
    unturned = np.asarray(items @ own._items[:, :CUT].astype(np.float32)).std(axis=0)
    assert unturned.max() / unturned.min() > 2 * spread.max() / spread.min()


def test_inner_products_of_images_are_those_of_their_vectors(planted):
    items, texts = planted
    axes = AxesFit(items, texts).cut(CUT)
    images = axes.of_items(items[:100])
    np.testing.assert_allclose(texts[:50] @ axes.own(images).T, axes.of_queries(texts[:50]) @ images.T, atol=1e-5)


def test_the_encoders_own_axes_change_nothing(planted):
    items, texts = planted
    own = Axes()
    assert own.of_items(items) is items and own.of_queries(texts) is texts and own.own(items) is items


def test_equal_vectors_are_equal_bytes(planted, tmp_path):
    items, texts = planted
    for name in ("one", "two"):
        fit = AxesFit(items.copy(), texts.copy())
        ArtifactAxes(fit.cut(16), fit.cut(32)).save(tmp_path / f"{name}.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    kept = ArtifactAxes.load(tmp_path / "one.npz")
    np.testing.assert_array_equal(kept.codes.items, AxesFit(items, texts).cut(16).items)
    np.testing.assert_array_equal(kept.finer.queries, AxesFit(items, texts).cut(32).queries)


def test_axes_do_not_depend_on_how_many_threads_there_are():
    random = np.random.default_rng(5)
    items = unit(random.normal(size=(3_000, 256)) * np.arange(1, 257) ** -0.5)
    cuts = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads, user_api="blas"):
            fit = AxesFit(items, items[:500, ::-1].copy())
            cuts.append([fit.cut(count) for count in (48, 256)])
    for one, two in zip(*cuts, strict=True):
        np.testing.assert_array_equal(one.items, two.items)
        np.testing.assert_array_equal(one.queries, two.queries)


def test_a_row_is_the_same_wherever_it_stands():
    random = np.random.default_rng(1)
    vectors = random.normal(size=(3 * ROWS + 7, 48)).astype(np.float32)
    matrix = random.normal(size=(48, 40)).astype(np.float32)
    whole = even_product(vectors, matrix)
    np.testing.assert_allclose(whole, vectors @ matrix, atol=1e-4)
    for first, last in ((0, 1), (5, 6), (ROWS - 3, 2 * ROWS + 1), (3_000, 3_079), (7, 7)):
        np.testing.assert_array_equal(even_product(vectors[first:last], matrix), whole[first:last])
