"""Losses of the dual encoder, each a plain function of vectors and masks.

InfoNCE is van den Oord et al. (2018) in its symmetric form (Radford et al., 2021); pairs that are no real negatives
(the same concept, a text that is true of another picture too) are taken out of the denominator.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_LOG_SCALE = 4.6052  # ln 100, CLIP's bound


def masked_info_nce(left: Tensor, right: Tensor, log_scale: Tensor, not_negative: Tensor) -> Tensor:
    """Symmetric InfoNCE of unit vectors, shape (n, dim) each; row i of `left` belongs to row i of `right`.

    `not_negative`, bool (n, n): cell (i, j) is left out of row i's and column j's denominators; the diagonal is
    always kept. Returns the mean of both directions, a scalar.
    """
    logits = left @ right.T * log_scale.clamp(max=MAX_LOG_SCALE).exp()
    diagonal = torch.eye(len(left), dtype=torch.bool, device=left.device)
    logits = logits.masked_fill(not_negative & ~diagonal, float("-inf"))
    target = torch.arange(len(left), device=left.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def concept_contrast(vectors: Tensor, concepts: Tensor, log_scale: Tensor) -> Tensor:
    """Supervised contrast over pictures (Khosla et al., 2020, the outer form, "L_out").

    `vectors`, unit rows, shape (n, dim); `concepts`, shape (n,). All other rows of a row's concept are its positives,
    rows of other concepts its negatives; a positive never stands in another positive's denominator. A row without
    a positive does not count.
    """
    logits = vectors @ vectors.T * log_scale.clamp(max=MAX_LOG_SCALE).exp()
    same = concepts[:, None] == concepts[None, :]
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    negatives = logits.masked_fill(same, float("-inf")).logsumexp(dim=1, keepdim=True)
    per_pair = torch.logaddexp(logits, negatives) - logits  # -log of p(positive | positive and all negatives)
    positive = same & ~itself
    counts = positive.sum(1)
    per_row = (per_pair * positive).sum(1) / counts.clamp(min=1)
    return per_row[counts > 0].mean() if bool((counts > 0).any()) else vectors.sum() * 0.0


def cosine_distillation(vectors: Tensor, targets: Tensor) -> Tensor:
    """1 - cosine to the teacher's unit vectors, mean over rows."""
    return 1.0 - (vectors * targets).sum(1).mean()


def relational_distillation(vectors: Tensor, anchors: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """Cross-entropy between the teacher's and our distribution of similarities (Park et al., 2019; Tian et al., 2020).

    Row i says how near sample i is to all `anchors`, shape (m, dim): ours is softmax(scale * vectors @ anchors.T), the
    teacher's is softmax(scale * teacher), where `teacher`, shape (n, m), holds its cosines.
    """
    wanted = F.softmax(teacher * scale, dim=1)
    return -(wanted * F.log_softmax(vectors @ anchors.T * scale, dim=1)).sum(1).mean()
