"""The protocol against naive loops on a small catalogue; slices, exclusions and the faults it must not hide."""

import numpy as np
import pytest

from lookalike.contracts.errors import LookalikeError
from lookalike.evaluation.protocol import EvaluationItems, evaluate_encoder
from lookalike.evaluation.retrieval import image_to_image, text_to_image, text_to_image_by_tag


def naive_ranks(queries, gallery, judge):
    """judge(query, column) -> True, False or None (ignored); rank of the first True, None where there is none."""
    ranks = []
    for i, query in enumerate(queries):
        verdicts = [judge(i, int(column)) for column in np.argsort(-(gallery @ query), kind="stable")]
        verdicts = [verdict for verdict in verdicts if verdict is not None]
        ranks.append(verdicts.index(True) + 1 if True in verdicts else None)
    return ranks


def test_image_to_image_equals_a_naive_loop(small_catalogue):
    c = small_catalogue
    queries, gallery = np.arange(0, 180, 2), np.arange(0, 150)
    found = image_to_image(c.vectors, c.groups, c.brands, queries, gallery, seed=1)

    def judge(i, column):
        q, g = queries[i], gallery[column]
        if q == g or (c.groups[q] == c.groups[g] and c.brands[q] == c.brands[g]):
            return None
        return c.groups[q] == c.groups[g]

    ranks = naive_ranks(c.vectors[queries], c.vectors[gallery], judge)
    counted = [rank for rank in ranks if rank is not None]
    assert found.not_counted == ranks.count(None) == 15
    for name, value in (("R@1", [r == 1 for r in counted]), ("R@10", [r <= 10 for r in counted])):
        assert found.measures[name].value == pytest.approx(np.mean(value))
    assert found.measures["MRR"].value == pytest.approx(np.mean([1 / r for r in counted]))
    assert 0.3 < found.measures["R@1"].value < 1.0
    assert (found.measures["R@1"].n, found.measures["R@1"].clusters) == (len(counted), 50)


def test_items_without_group_are_distractors_and_never_questions(small_catalogue):
    c = small_catalogue
    groups = [None if i < 30 else group for i, group in enumerate(c.groups)]
    found = image_to_image(c.vectors, groups, c.brands, np.arange(180), np.arange(180), seed=1)
    assert found.not_counted == 30
    assert found.gallery == 180


def test_graded_ndcg_rewards_the_same_category(small_catalogue):
    c = small_catalogue
    rows, kinds = np.arange(180), [int(g.split("-")[1]) // 6 for g in c.groups]
    near = c.vectors + 0.8 * np.random.default_rng(0).normal(size=(10, 24))[kinds]
    near = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    names = [f"kind-{kind}" for kind in kinds]
    apart = image_to_image(c.vectors, c.groups, c.brands, rows, rows, seed=1, categories=names)
    together = image_to_image(near, c.groups, c.brands, rows, rows, seed=1, categories=names)
    assert together.measures["nDCG@10"].value > apart.measures["nDCG@10"].value + 0.1


def test_text_to_image_equals_a_naive_loop(small_catalogue):
    c = small_catalogue
    texts = c.vectors[::3] + 0.3 * np.random.default_rng(3).normal(size=(60, 24)).astype(np.float32)
    found = text_to_image(texts, c.groups[::3], c.vectors[:150], c.groups[:150], seed=1)
    ranks = naive_ranks(texts, c.vectors[:150], lambda i, column: c.groups[3 * i] == c.groups[column])
    assert found.not_counted == 10
    assert found.measures["R@10"].value == pytest.approx(np.mean([r <= 10 for r in ranks if r]))
    assert found.measures["MRR"].value == pytest.approx(np.mean([1 / r for r in ranks if r]))


def test_by_tag_leaves_out_same_tag_pictures_that_are_not_asked(small_catalogue):
    c = small_catalogue
    tags = [[f"tag-{i // 9}"] for i in range(180)]
    asked = np.arange(180) % 2 == 0
    texts, names = c.vectors[4::9], [f"tag-{i}" for i in range(20)]
    found = text_to_image_by_tag(texts, names, c.vectors, tags, asked, seed=1)

    def judge(i, column):
        tagged = f"tag-{i}" in tags[column]
        return tagged if not tagged or asked[column] else None

    ranks = naive_ranks(texts, c.vectors, judge)
    assert found.measures["MRR"].value == pytest.approx(np.mean([1 / r for r in ranks]))


def evaluate(c, vectors=None, **changes):
    centres = {}
    for group, vector in zip(c.groups, c.vectors, strict=True):
        centres[group.replace("-", " ")] = centres.get(group.replace("-", " "), 0) + vector

    def encode_texts(texts):
        rng = np.random.default_rng(0)
        rows = np.array([centres.get(text, rng.normal(size=24)) for text in texts], dtype=np.float32).reshape(-1, 24)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    items = EvaluationItems(
        vectors=c.vectors if vectors is None else vectors, group_ids=c.groups, brands=c.brands, titles=c.titles,
        tags=[[f"tag {group}"] for group in c.groups], categories=[f"k{int(g.split('-')[1]) // 6}" for g in c.groups],
    )  # fmt: skip
    splits = {"held_out": {"concept-1", "concept-2"}, "trained_brands": {"brand-0", "brand-1"}}
    return evaluate_encoder(items, encode_texts, **{**splits, "test_brands": {"brand-2"}, "seed": 7, **changes})


def test_slices_hold_the_right_queries_and_galleries(small_catalogue):
    report = evaluate(small_catalogue)
    picture = report.value("image→image", "held out", "trained brands", "R@1")
    assert (picture.n, picture.clusters, picture.gallery) == (4, 2, 120)
    assert report.value("image→image", "known", "test brands", "R@10").n == 58
    assert report.value("text→image by name", "held out", "test brands", "R@10").gallery == 60
    assert report.value("text→image by tag", "held out", "trained brands", "R@10").n == 2
    assert report.value("text→image by name", "known", "test brands", "R@1").value > 0.9
    with pytest.raises(KeyError, match="there are"):
        report.value("image→image", "held out", "trained brands", "R@7")


def test_the_report_prints_as_a_table_and_as_json(small_catalogue):
    report = evaluate(small_catalogue)
    lines = report.to_markdown().splitlines()
    assert lines[0].startswith("| question | concepts | brands | measure | value | 95 % interval")
    assert len([line for line in lines if line.startswith("| ")]) == len(report.rows) + 2
    assert len(report.as_dict()["rows"]) == len(report.rows)


def test_items_come_from_rows_of_silver(small_catalogue):
    c = small_catalogue
    rows = c.silver.append_column("brand", [c.brands]).append_column("tags", [[None, *[["a"]] * 179]])
    items = EvaluationItems.from_rows(rows, c.vectors)
    assert (items.group_ids, items.brands, items.titles) == (c.groups, c.brands, c.titles)
    assert (items.tags[:2], items.categories[0]) == ([(), ["a"]], "thing/kind-0")
    with pytest.raises(LookalikeError, match="one entry per item"):
        EvaluationItems.from_rows(rows, c.vectors[:-1])


def test_a_test_brand_that_was_trained_on_counts_as_trained(small_catalogue):
    report = evaluate(small_catalogue, test_brands={"brand-1"})
    assert "test brands" not in {row.brands for row in report.rows}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(small_catalogue, bad):
    vectors = small_catalogue.vectors.copy()
    vectors[5, 3] = bad
    with pytest.raises(LookalikeError, match=r"1 of \d+ vectors hold NaN or infinity"):
        evaluate(small_catalogue, vectors)


def test_a_gallery_that_is_not_finite_is_refused(small_catalogue):
    c, gallery = small_catalogue, small_catalogue.vectors.copy()
    gallery[7] = np.nan
    with pytest.raises(LookalikeError, match="gallery: 1 of 180"):
        text_to_image(c.vectors[:3], c.groups[:3], gallery, c.groups, seed=1)


def test_no_trained_brand_is_an_error_that_names_them(small_catalogue):
    with pytest.raises(LookalikeError, match="openmoji"):
        evaluate(small_catalogue, trained_brands={"openmoji"})
