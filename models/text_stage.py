"""First stage of a run: the text tower from its teacher, and the teacher's vectors that the second stage leans on.

Its result is kept in one file, so that a run that was stopped later does not ask the teacher again.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lookalike.contracts.progress import Progress
from lookalike.storage.atomic import write_bytes
from models.configuration import TrainingConfig
from models.dataset import Concepts, Row, group_concepts, load_pictures
from models.distillation import TextCorpus, distil, initialise_text_tower, make_corpus
from models.teacher import Teacher
from models.tokens import TextTokenizer
from models.towers import DualEncoder

LOG = logging.getLogger("lookalike.train")
TEXT_STAGE = "text-stage.safetensors"


@dataclass(frozen=True)
class Material:
    """What the picture stage needs, all in memory."""

    concepts: Concepts
    pictures: Tensor  # uint8 RGBA (n, 4, side, side)
    title_vectors: Tensor  # teacher's, projected, (concepts, dim)
    anchor_tokens: Tensor  # distillation texts as tokens
    anchor_vectors: Tensor  # their teacher vectors
    tokenizer: TextTokenizer


def text_stage(
    model: DualEncoder, rows: list[Row], pictures_root: Path, out: Path, config: TrainingConfig, progress: Progress
) -> tuple[Material, float]:
    teacher = Teacher(config.contrast.bf16, config.threads)
    tokenizer = TextTokenizer(teacher.tokenizer, config.towers.max_tokens)
    concepts = group_concepts(rows)
    titles = sorted({row.title for row in rows})
    words = sorted({word for row in rows for word in row.words})
    kept = out / TEXT_STAGE
    if kept.is_file():
        tensors = load_file(kept)
        LOG.info("text stage: kept from %s", kept)
    else:
        corpus = make_corpus(titles, words, config.distillation, teacher, config.towers.dim, config.seed, progress)
        initialise_text_tower(model.text, corpus)
        cosine = distil(model.text, tokenizer, corpus, config.distillation, config.seed, progress)
        tensors = _text_tensors(model, corpus, tokenizer, teacher, concepts, cosine, progress)
        write_bytes(kept, save(tensors))
    model.text.load_state_dict({key[5:]: value for key, value in tensors.items() if key.startswith("text.")})
    pictures = load_pictures(rows, pictures_root, config.cache_pixels, progress)
    cache = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    material = Material(
        concepts, cache, tensors["title_vectors"], tensors["anchor_tokens"], tensors["anchor_vectors"], tokenizer
    )
    return material, float(tensors["cosine"])


def _text_tensors(
    model: DualEncoder,
    corpus: TextCorpus,
    tokenizer: TextTokenizer,
    teacher: Teacher,
    concepts: Concepts,
    cosine: float,
    progress: Progress,
) -> dict[str, Tensor]:
    first_titles = [titles[0] for titles in concepts.titles]
    title_vectors = corpus.projection(teacher.encode(first_titles, progress, "titles"))
    state = {f"text.{key}": value.contiguous() for key, value in model.text.state_dict().items()}
    return {
        **state,
        "title_vectors": torch.from_numpy(title_vectors),
        "anchor_tokens": tokenizer(corpus.texts),
        "anchor_vectors": torch.from_numpy(corpus.vectors),
        "cosine": torch.tensor(cosine),
    }
