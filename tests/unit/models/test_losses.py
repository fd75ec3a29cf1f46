"""Each loss against a naive loop over pairs."""

import math

import pytest
import torch
import torch.nn.functional as F

from models.losses import concept_contrast, cosine_distillation, masked_info_nce, relational_distillation


@pytest.fixture
def vectors() -> torch.Tensor:
    return F.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64), dim=1)


def naive_info_nce(left, right, scale, not_negative) -> float:
    total, count = 0.0, len(left)
    for i in range(count):
        row = [j for j in range(count) if j == i or not not_negative[i][j]]
        column = [j for j in range(count) if j == i or not not_negative[j][i]]
        own = math.exp(scale * float(left[i] @ right[i]))
        total -= math.log(own / sum(math.exp(scale * float(left[i] @ right[j])) for j in row)) / (2 * count)
        total -= math.log(own / sum(math.exp(scale * float(left[j] @ right[i])) for j in column)) / (2 * count)
    return total


def test_masked_info_nce_equals_the_loop(vectors):
    right = vectors.flip(1)
    mask = torch.zeros(7, 7, dtype=torch.bool)
    mask[0, 3] = mask[2, 1] = mask[5, 5] = True  # the diagonal stays, whatever the mask says
    got = masked_info_nce(vectors, right, torch.tensor(1.3, dtype=torch.float64), mask)
    assert float(got) == pytest.approx(naive_info_nce(vectors, right, math.exp(1.3), mask), abs=1e-9)


def test_a_masked_pair_does_not_push(vectors):
    scale, mask = torch.tensor(2.0), torch.zeros(7, 7, dtype=torch.bool)
    mask[0, 1:] = mask[1:, 0] = True
    left = vectors.float().requires_grad_()
    masked_info_nce(left, vectors.float(), scale, mask).backward()
    assert left.grad is not None
    assert left.grad[0].abs().max() < 1e-6
    assert left.grad[1].abs().max() > 1e-4


def test_temperature_is_bounded(vectors):
    mask = torch.zeros(7, 7, dtype=torch.bool)
    high = masked_info_nce(vectors, vectors.flip(0), torch.tensor(50.0, dtype=torch.float64), mask)
    bound = masked_info_nce(vectors, vectors.flip(0), torch.tensor(math.log(100.0), dtype=torch.float64), mask)
    assert float(high) == pytest.approx(float(bound), rel=1e-3)


def naive_contrast(vectors, concepts, scale) -> float:
    rows = []
    for i in range(len(vectors)):
        negatives = sum(
            math.exp(scale * float(vectors[i] @ vectors[j])) for j in range(len(vectors)) if concepts[j] != concepts[i]
        )
        terms = []
        for j in range(len(vectors)):
            if j != i and concepts[j] == concepts[i]:
                own = math.exp(scale * float(vectors[i] @ vectors[j]))
                terms.append(-math.log(own / (own + negatives)))
        if terms:
            rows.append(sum(terms) / len(terms))
    return sum(rows) / len(rows)


def test_concept_contrast_equals_the_loop(vectors):
    concepts = torch.tensor([0, 1, 0, 2, 1, 0, 3])  # 2 and 3 have no positive
    got = concept_contrast(vectors, concepts, torch.tensor(1.7, dtype=torch.float64))
    assert float(got) == pytest.approx(naive_contrast(vectors, concepts.tolist(), math.exp(1.7)), abs=1e-9)


def test_concept_contrast_without_any_positive_is_zero_and_differentiable(vectors):
    leaf = vectors.clone().requires_grad_()
    loss = concept_contrast(leaf, torch.arange(7), torch.tensor(1.0))
    loss.backward()
    assert loss.item() == 0.0


def test_cosine_distillation(vectors):
    assert float(cosine_distillation(vectors, vectors)) == pytest.approx(0.0, abs=1e-12)
    assert float(cosine_distillation(vectors, -vectors)) == pytest.approx(2.0, abs=1e-12)


def test_relational_distillation_equals_the_loop_and_is_least_at_the_teacher(vectors):
    anchors = vectors[:4].flip(1)
    teacher = vectors @ anchors.T
    got = relational_distillation(vectors, anchors, teacher, 3.0)
    expected = 0.0
    for i in range(7):
        weights = [math.exp(3.0 * float(vectors[i] @ anchors[j])) for j in range(4)]
        expected -= sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights) / 7
    assert float(got) == pytest.approx(expected, abs=1e-9)
    assert float(relational_distillation(vectors.roll(1, 0), anchors, teacher, 3.0)) > float(got)
