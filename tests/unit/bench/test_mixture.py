"""The generator of vectors: blocks that can be made again, families, moments, and what a fit finds."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lookalike.contracts.errors import LookalikeError

FOLDER = Path(__file__).parents[3] / "bench"
DIM, ROWS = 64, 3_000


@pytest.fixture(scope="module")
def bench():
    """Its modules, which import each other as scripts of one folder do."""
    names = ("mixture", "mixture_families", "mixture_fit")
    sys.path.insert(0, str(FOLDER))
    try:
        yield type("bench", (), {name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            del sys.modules[name]


def unit(points):
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def real():
    """Two flat clouds; every third vector has two near copies; and texts that lean on them by 0.6."""
    random = np.random.default_rng(0)
    spread = np.linspace(1.5, 0.2, DIM)
    single = random.normal(size=(600, DIM)) * spread + np.where(np.arange(600) % 2, 4, -4)[:, None] * np.eye(DIM)[0]
    copies = np.repeat(single[::3], 2, axis=0) + 0.1 * random.normal(size=(400, DIM))
    pictures = unit(np.concatenate([single, copies]))
    other = random.normal(size=pictures.shape)
    other -= (other * pictures).sum(axis=1, keepdims=True) * pictures
    return pictures, unit(0.6 * pictures + 0.8 * unit(other))


@pytest.fixture(scope="module")
def fitted(bench, real):
    return bench.mixture_fit.fit(*real, components=2)


def one_component(bench, families, nodes, middle=None, likeness=0.3):
    """Independent values of equal spread about `middle`."""
    axes = np.zeros((1, 33, DIM), np.float32)
    axes[0, :32, :32] = np.eye(32)
    axes[0, 32] = 0 if middle is None else middle
    rests = np.diag(np.repeat([0, 32**-0.5], 32)).astype(np.float32)
    return bench.mixture.Mixture(
        axes, np.array([np.sqrt(32)], np.float32), rests,
        np.array(families, bench.mixture.FAMILY), np.array(nodes, bench.mixture.NODE),
        np.array([likeness], np.float32), np.zeros(DIM, np.float32), np.eye(DIM, dtype=np.float32),
    )  # fmt: skip


def test_blocks_are_the_same_in_any_order_and_process(bench, fitted, tmp_path):
    path = tmp_path / "mixture.npz"
    fitted.save(path)
    blocks = [bench.mixture.Mixture.load(path).block(7, number, 500) for number in range(3)]
    again = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from mixture import Mixture\n"
        "mixture = Mixture.load(Path(sys.argv[2]))\n"
        "for number in (2, 0, 1):\n"
        "    Path(f'{sys.argv[2]}.{number}').write_bytes(mixture.block(7, number, 500).tobytes())\n"
    )
    subprocess.run([sys.executable, "-c", again, str(FOLDER), str(path)], check=True)
    for number, block in enumerate(blocks):
        assert Path(f"{path}.{number}").read_bytes() == block.tobytes()


def test_what_is_kept_in_few_bytes_draws_nearly_the_same(bench, fitted, real, tmp_path):
    path = tmp_path / "mixture.npz"
    fitted.save(path)
    kept = bench.mixture.Mixture.load(path)
    whole = sum(getattr(fitted, name).nbytes for name in fitted.__dataclass_fields__)
    assert path.stat().st_size < 0.5 * whole
    block, again = fitted.block(7, 0, 1_000), kept.block(7, 0, 1_000)
    assert np.einsum("ij,ij->i", block, again).min() > 0.999
    texts, other = fitted.texts(7, 0, block), kept.texts(7, 0, again)
    assert np.einsum("ij,ij->i", texts, other).min() > 0.999


def test_of_many_families_some_are_kept_with_their_own_nodes(bench, real, monkeypatch):
    monkeypatch.setattr(bench.mixture_fit, "MOST_FAMILIES", 100)
    few = bench.mixture_fit.fit(*real, components=2)
    assert len(few.families) == 100 and few.families["nodes"].sum() == len(few.nodes)
    for family in few.families:
        nodes = few.nodes[family["first"] : family["first"] + family["nodes"]]
        assert nodes["depth"][0] == 0 and (nodes["length"] > 0).sum() == family["leaves"]
    made = few.block(5, 0, 2_000)
    np.testing.assert_allclose(made.mean(axis=0), real[0].mean(axis=0), atol=0.1)


def test_blocks_and_seeds_differ(fitted):
    drawn = [fitted.block(7, 0, 100), fitted.block(7, 1, 100), fitted.block(8, 0, 100), fitted.held_out(7, 0, 100)]
    rows = np.concatenate(drawn)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_vectors_and_texts_are_of_unit_length_and_float32(fitted):
    block = fitted.block(1, 0, 777)
    texts = fitted.texts(1, 0, block)
    assert block.shape == texts.shape == (777, DIM)
    assert block.dtype == texts.dtype == np.float32
    for vectors in (block, texts):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_family_lies_as_its_tree_says(bench):
    # Two pairs that share 0.9 within and 0.5 between them.
    steps = [(0, 0, 0.5), (0, 1, 0.4), (0, 1, 0.4), (1, 2, 0.1), (1, 2, 0.1), (2, 2, 0.1), (2, 2, 0.1)]
    nodes = [(parent, depth, step**0.5, float(depth == 2)) for parent, depth, step in steps]
    made = one_component(bench, [(0, 0, 7, 4)], nodes).block(3, 0, ROWS)
    alike = np.sort(made @ made.T, axis=1)[:, ::-1]
    assert np.median(alike[:, 1]) == pytest.approx(0.9, abs=0.02)
    assert np.median(alike[:, 2:4]) == pytest.approx(0.5, abs=0.05)
    assert abs(np.mean(alike[:, 4:])) < 0.05


def test_moments_are_the_fitted_ones(fitted, real):
    made = np.concatenate([fitted.block(5, number, 2_000) for number in range(4)])
    np.testing.assert_allclose(made.mean(axis=0), real[0].mean(axis=0), atol=0.03)
    wanted, found = (np.linalg.eigvalsh(np.cov(vectors.T))[::-1] for vectors in (real[0], made))
    np.testing.assert_allclose(found[:40], wanted[:40], rtol=0.25)
    assert found.sum() == pytest.approx(wanted.sum(), rel=0.03)


def test_near_copies_are_as_frequent_as_real_ones(fitted, real):
    made = fitted.block(5, 0, len(real[0]))
    for share in (0.25, 0.7):
        wanted, found = (np.quantile(np.sort(vectors @ vectors.T, axis=1)[:, -2], share) for vectors in (real[0], made))
        assert found == pytest.approx(wanted, abs=0.05)


def test_a_text_leans_on_its_picture_as_drawn(bench, fitted, real):
    mixture = one_component(bench, [(0, 0, 1, 1)], [(0, 0, 1.0, 1.0)], likeness=0.37)
    pictures = mixture.block(1, 0, 500)
    np.testing.assert_allclose((mixture.texts(1, 0, pictures) * pictures).sum(axis=1), 0.37, atol=1e-5)
    assert 0.5 < np.median(fitted.text_likeness) < 0.75


def test_texts_have_chances_of_their_own(bench):
    # A shared stream of random numbers would make a text the picture it was drawn beside.
    mixture = one_component(bench, [(0, 0, 1, 1)], [(0, 0, 1.0, 1.0)], likeness=0.0)
    pictures = mixture.block(1, 0, 500)
    texts = mixture.texts(1, 0, np.roll(pictures, 1, axis=0))
    assert np.abs(texts @ pictures.T).max() < 0.7


def naive_families(alike, least):
    clusters = [[row] for row in range(len(alike))]
    while True:
        pairs = [
            (alike[np.ix_(one, other)].mean(), one, other)
            for at, one in enumerate(clusters) for other in clusters[at + 1 :]
        ]  # fmt: skip
        likeness, one, other = max(pairs, key=lambda pair: pair[0], default=(-1, None, None))
        if likeness < least:
            return sorted(len(cluster) for cluster in clusters)
        clusters = [cluster for cluster in clusters if cluster not in (one, other)] + [one + other]


def test_families_are_those_of_average_linkage(bench):
    random = np.random.default_rng(4)
    own = np.repeat(random.normal(size=(8, 6)), 5, axis=0) + random.normal(size=(40, 6))
    own = np.concatenate([own, own[:2]]).astype(np.float32)  # copies too
    families, nodes = bench.mixture_families.families_of(own)
    direction = unit(own)
    expected = naive_families(direction @ direction.T, bench.mixture_families.LEAST_ALIKE)
    assert sorted(families["leaves"].tolist()) == expected
    assert max(expected) > 2
    for family in families:
        tree = nodes[family["first"] : family["first"] + family["nodes"]]
        assert np.count_nonzero(tree["length"]) == family["leaves"]
        variance = np.zeros(len(tree))
        for at, node in enumerate(tree):
            assert at == 0 or node["parent"] < at
            variance[at] = node["step"] ** 2 + (variance[node["parent"]] if at else 0)
        np.testing.assert_allclose(variance[tree["length"] > 0], 1, atol=1e-5)


def test_too_few_vectors_are_refused_with_what_is_needed(bench, real):
    with pytest.raises(LookalikeError, match="each needs at least 32"):
        bench.mixture_fit.fit(real[0][:50], real[1][:50], components=2)
