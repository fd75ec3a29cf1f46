"""Train: an empty index with its quantiser, from a sample of the pinned tables; every shard is encoded with it.

The sample is drawn by a hash of the item id, and the 8-bit codes span the vectors of the whole table, so that neither
depends on shards, files or threads. Two things in faiss depend on the order in which threads finish: inserting into a
graph, and so the graph over the list centres too. Both are done by one thread; clustering and list filling keep all
threads, being deterministic.
"""

import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from index_builder.clustering import SEED
from index_builder.facts import StepFacts, write_facts
from index_builder.gather import VECTOR_COLUMNS, check_vectors, gather, of_space
from index_builder.parts import inverted_lists, refinement
from index_builder.pin import Pin, drawn, require_format
from index_builder.quantiser import QuantiserFacts, centres_for, put_centres
from index_builder.tune import EncodeTexts, Questions, draw_questions
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.manifest import IndexRecipe
from lookalike.contracts.progress import Progress
from lookalike.contracts.tables import EMBEDDINGS
from lookalike.storage.atomic import new_directory
from lookalike.storage.delta import DeltaTables

TRAINED = "trained"
EMPTY_NAME = "empty.faiss"
QUANTISER_NAME = "quantiser.json"
SAMPLE_NAME = "sample.f32"
QUESTIONS_NAME = "questions.npz"
FEWEST_PER_LIST = 39  # faiss's own guideline
NO_LISTS = "the recipe has no quantiser; shards hold vectors, and the merge builds the index from them"


def train(
    work: Path, pin: Pin, tables: DeltaTables, progress: Progress, encode_texts: EncodeTexts | None = None
) -> QuantiserFacts:
    """Write the folder `work/trained`, whole or not at all; a finished one stays as it is.

    `encode_texts`: the encoder's, so that search is tuned for words too; without it for pictures only.
    Raises BadVectors, SpaceMismatch, or LookalikeError when the sample is too small.
    """
    require_format(pin)
    target = work / TRAINED
    if not target.exists():
        started = time.monotonic()
        with new_directory(target) as folder:
            if pin.recipe.nlist is None:
                facts = QuantiserFacts(how="none", because=NO_LISTS)
            else:
                facts = _train_lists(folder, pin, tables, progress, encode_texts)
            (folder / QUANTISER_NAME).write_text(facts.model_dump_json(indent=2))
            write_facts(folder, StepFacts.since(started))
    return read_quantiser(work)


def read_quantiser(work: Path) -> QuantiserFacts:
    """What the training step wrote. Raises FileNotFoundError before it."""
    return QuantiserFacts.model_validate_json((work / TRAINED / QUANTISER_NAME).read_text())


def read_questions(trained: Path) -> Questions:
    """What search is tuned for, as the training step wrote it."""
    with np.load(trained / QUESTIONS_NAME) as kept:
        return Questions(kept["vectors"], kept["are_texts"])


def empty_index(recipe: IndexRecipe, dim: int) -> Any:
    """An untrained, empty index of a settled recipe."""
    return faiss.index_factory(dim, recipe.factory.format(nlist=recipe.nlist), faiss.METRIC_INNER_PRODUCT)


def _train_lists(
    folder: Path, pin: Pin, tables: DeltaTables, progress: Progress, encode_texts: EncodeTexts | None
) -> QuantiserFacts:
    low, high, vectors = _range(pin, tables, progress)
    sample, titles = _sample(folder / SAMPLE_NAME, pin, tables, vectors, progress)
    with progress.step(f"train {pin.recipe.nlist:,} lists") as step:
        centres, facts = centres_for(pin, sample)
        index = empty_index(pin.recipe, pin.space.dim)
        put_centres(inverted_lists(index), centres)
        index.train(sample)
        refine = refinement(index)
        if refine is not None:  # a sample's range would clip the others
            refine.train(np.stack([low, high]))
        faiss.write_index(index, str(folder / EMPTY_NAME))
        questions = draw_questions(sample, titles, encode_texts)
        np.savez(folder / QUESTIONS_NAME, vectors=questions.vectors, are_texts=questions.are_texts)
        step.advance(len(sample))
    return facts


def _range(pin: Pin, tables: DeltaTables, progress: Progress) -> tuple[Vectors, Vectors, int]:
    """Least and greatest value by dimension over all vectors of the space, and how many vectors there are."""
    low = np.full(pin.space.dim, np.inf, np.float32)
    high, seen = -low, 0
    version = pin.table_versions[EMBEDDINGS.name]
    with progress.step("span of vectors") as step:
        for batch in tables.batches(EMBEDDINGS, VECTOR_COLUMNS, of_space(pin.space), version):
            if batch.num_rows == 0:
                continue
            block = check_vectors(batch, pin.space)
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
            seen += len(block)
            step.advance(len(block))
    return low, high, seen


def _sample(
    scratch: Path, pin: Pin, tables: DeltaTables, vectors: int, progress: Progress
) -> tuple[Vectors, pa.ChunkedArray]:
    """Vectors to train on and the titles of their items."""
    nlist = pin.recipe.nlist or 1
    wanted = nlist * pin.recipe.train_points_per_list
    gathered = gather(tables, pin.table_versions, pin.space, drawn(vectors, wanted) or "true", scratch, progress)
    found = len(gathered.vectors)
    if found < nlist * FEWEST_PER_LIST:
        raise LookalikeError(
            f"recipe {pin.recipe.name} with {nlist:,} lists cannot be trained on {found:,} items with a current vector "
            f"(at least {nlist * FEWEST_PER_LIST:,} are needed); run `lookalike embed`, or choose recipe exact or hnsw"
        )
    rows = np.sort(np.random.default_rng(SEED).choice(found, min(found, wanted), replace=False))
    chosen = np.ascontiguousarray(gathered.vectors[rows], dtype=np.float32)
    scratch.unlink()
    return chosen, gathered.items["title"].take(pa.array(rows))
