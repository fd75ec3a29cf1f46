"""First stage of training: the text tower learns the teacher's sentence space.

The token table starts as the teacher's own vectors of single tokens, reduced by principal components and weighted by
rarity (model2vec; Tulkens and van Dongen, 2024; smooth inverse frequency, Arora et al., 2017). Then the whole tower is
fitted to the teacher's vectors of titles, tags, keywords, every whole word of the vocabulary, and random combinations
of these ("Tokenlearn"), so that it also understands words that no catalogue row has used.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.contracts.progress import Progress
from models.configuration import DistillationPlan
from models.losses import cosine_distillation, relational_distillation
from models.teacher import Projection, Teacher
from models.tokens import TextTokenizer
from models.towers import TextTower

_RARITY = 1e-3  # SIF's a; token ranks stand in for frequencies (Zipf), as WordPiece vocabularies are ordered by them
_RELATION_SCALE = 10.0
_RELATION_WEIGHT = 0.1


@dataclass(frozen=True)
class TextCorpus:
    """Texts, their teacher vectors (unit, projected, shape (n, dim)), the projection of all teacher vectors, and the
    projected vectors of single tokens, shape (vocabulary, dim)."""

    texts: list[str]
    vectors: NDArray[np.float32]
    projection: Projection
    tokens: NDArray[np.float32]


def vocabulary_words(teacher: Teacher) -> dict[str, int]:
    """Whole words of the vocabulary with their token numbers."""
    vocabulary = teacher.tokenizer.get_vocab()
    words = [word for word in vocabulary if word.isalpha() and word.isascii() and len(word) > 1]
    return {word: vocabulary[word] for word in sorted(words, key=vocabulary.__getitem__)}


def make_texts(titles: list[str], words: list[str], vocabulary: list[str], phrases: int, seed: int) -> list[str]:
    """Titles, words, and combinations of one to three of them with a word of the vocabulary; each text once."""
    rng = np.random.default_rng(seed)
    common = [*words, *titles]
    combined = []
    for _ in range(phrases):
        parts = [common[int(rng.integers(len(common)))] for _ in range(int(rng.integers(1, 4)))]
        if vocabulary:
            parts.insert(int(rng.integers(len(parts) + 1)), vocabulary[int(rng.integers(len(vocabulary)))])
        combined.append(" ".join(parts))
    return list(dict.fromkeys([*titles, *words, *combined]))


def make_corpus(
    titles: list[str],
    words: list[str],
    plan: DistillationPlan,
    teacher: Teacher,
    dim: int,
    seed: int,
    progress: Progress,
) -> TextCorpus:
    """Encode texts and tokens with the teacher and fit the projection to the common space on all of them."""
    tokens = teacher.encode_tokens(progress) if plan.vocabulary_words else teacher.input_table()
    vocabulary = vocabulary_words(teacher) if plan.vocabulary_words else {}
    texts = make_texts(titles, words, list(vocabulary), plan.phrases, seed)
    # A whole word of the vocabulary is one token: its sentence vector is the token's, already there.
    vectors = np.concatenate([teacher.encode(texts, progress), tokens[list(vocabulary.values())]])
    projection = Projection.fit(vectors, dim)
    return TextCorpus([*texts, *vocabulary], projection(vectors), projection, projection.raw(tokens))


def initialise_text_tower(tower: TextTower, corpus: TextCorpus) -> None:
    """Token table from the teacher's single-token vectors; the linear map leads back into the projected space."""
    projected = corpus.tokens
    dim, token_dim = projected.shape[1], tower.tokens.embedding_dim
    basis = Projection.fit(projected, min(token_dim, dim))
    table = np.zeros((len(projected), token_dim), dtype=np.float32)
    table[:, : basis.components.shape[1]] = projected @ basis.components
    frequency = 1.0 / (np.arange(len(table)) + 2.0)
    frequency /= frequency.sum()
    table *= (_RARITY / (_RARITY + frequency))[:, None]
    with torch.no_grad():
        tower.tokens.weight.copy_(torch.from_numpy(table))
        tower.linear.weight.zero_()
        tower.linear.weight[:, : basis.components.shape[1]] = torch.from_numpy(basis.components)


def distil(
    tower: TextTower,
    tokenizer: TextTokenizer,
    corpus: TextCorpus,
    plan: DistillationPlan,
    seed: int,
    progress: Progress,
) -> float:
    """Fit the text tower to the corpus with Adam and a cosine schedule; returns the mean cosine of the last steps.

    The table's gradient is sparse: a step touches a few thousand of its 30,000 rows.
    """
    tokens, targets = tokenizer(corpus.texts), torch.from_numpy(corpus.vectors)
    generator = torch.Generator().manual_seed(seed)
    tower.tokens.sparse = True
    rest = [value for name, value in tower.named_parameters() if not name.startswith("tokens")]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.SparseAdam([tower.tokens.weight], lr=plan.learning_rate),
        torch.optim.AdamW(rest, lr=plan.learning_rate, weight_decay=1e-4, fused=True),
    ]
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps) for optimiser in optimisers]
    cosines: list[float] = []
    tower.train()
    with progress.step("distil text tower", plan.steps) as step:
        for _ in range(plan.steps):
            chosen = torch.randint(len(tokens), (plan.batch,), generator=generator)
            loss, cosine = _distillation_loss(tower, trim(tokens[chosen]), targets[chosen])
            tower.zero_grad(set_to_none=True)
            loss.backward()
            for optimiser, schedule in zip(optimisers, schedules, strict=True):
                optimiser.step()
                schedule.step()
            cosines.append(cosine)
            step.advance()
    return float(np.mean(cosines[-max(1, plan.steps // 10) :]))


def _distillation_loss(tower: TextTower, tokens: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    vectors = tower(tokens)
    pointwise = cosine_distillation(vectors, targets)
    relation = relational_distillation(vectors, targets, targets @ targets.T, _RELATION_SCALE)
    return pointwise + _RELATION_WEIGHT * relation, 1.0 - float(pointwise.detach())


def trim(tokens: Tensor) -> Tensor:
    """Cut columns that are padding in every row."""
    return tokens[:, : max(1, int((tokens >= 0).sum(1).max()))]
