"""Train: list centres, axes and empty codes, from a sample of the vectors; every shard is encoded with them.

Clustering keeps all threads: the same sample gives the same bytes with any number of them.
"""

import time
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa

from index_builder.artifact import AXES_NAME, CENTRES_NAME
from index_builder.axes import ArtifactAxes, Axes, AxesFit
from index_builder.facts import TRAIN, StepFacts, write_facts
from index_builder.list_centres import ListCentres
from index_builder.memory import FEWEST_PER_LIST, TEXT_SAMPLE
from index_builder.pin import Pin, require_format
from index_builder.quantiser import TRAINED_ANEW, QuantiserFacts, centres_for
from index_builder.source import Sample, Source
from index_builder.trial import CodedSample, CodesFacts, choose_codes
from index_builder.tune import EncodeTexts, Questions, draw_questions, question_rows
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import LookalikeError, MissingPrerequisite
from lookalike.contracts.progress import Progress
from lookalike.storage.atomic import new_directory

TRAINED = "trained"
EMPTY_NAME = "empty.faiss"
EMPTY_REFINE = "empty-refine.faiss"
QUANTISER_NAME = "quantiser.json"
QUESTIONS_NAME = "questions.npz"
CODES_FACTS = "codes.json"
RANGE_SAMPLE = 65_536
"""Images of the sample that the finer codes span. Of the others four numbers in 100,000 are clipped, by little, and
recall is within 0.001 of what the span of all vectors gives, for which these would have to be read once more."""
NO_LISTS = "the recipe has no quantiser; shards hold vectors, and the merge builds the index from them"


def train(
    work: Path, pin: Pin, source: Source, progress: Progress, encode_texts: EncodeTexts | None = None
) -> QuantiserFacts:
    """Write the folder `work/trained`, whole or not at all; a finished one stays as it is.

    `encode_texts`: the encoder's, so that search is tuned for words too; without it for pictures only.
    Raises BadVectors, SpaceMismatch, MissingPrerequisite (no GPU, and the build was pinned for one), or LookalikeError
    when the sample is too small.
    """
    require_format(pin)
    target = work / TRAINED
    if not target.exists():
        started = time.monotonic()
        with new_directory(target) as folder:
            if pin.recipe.nlist is None:
                facts = QuantiserFacts(how="none", because=NO_LISTS)
            else:
                facts = _train_lists(folder, pin, source, progress, encode_texts)
            (folder / QUANTISER_NAME).write_text(facts.model_dump_json(indent=2))
            trained_on = {TRAIN: pin.device} if facts.how == TRAINED_ANEW else {}
            write_facts(folder, StepFacts.since(started, devices=trained_on))
    return read_quantiser(work)


def require_trained(work: Path, pin: Pin) -> None:
    """Raises MissingPrerequisite before the training step."""
    if not (work / TRAINED).is_dir():
        raise MissingPrerequisite(f"build {pin.build_id} is not trained yet: `lookalike index train` comes first")


def read_quantiser(work: Path) -> QuantiserFacts:
    """What the training step wrote. Raises FileNotFoundError before it."""
    return QuantiserFacts.model_validate_json((work / TRAINED / QUANTISER_NAME).read_text())


def read_codes_facts(trained: Path) -> CodesFacts | None:
    """What the training step chose; None for a recipe without lists."""
    path = trained / CODES_FACTS
    return CodesFacts.model_validate_json(path.read_text()) if path.exists() else None


def read_questions(trained: Path) -> Questions:
    """What search is tuned for, as the training step wrote it."""
    with np.load(trained / QUESTIONS_NAME) as kept:
        return Questions(kept["vectors"], kept["are_texts"])


def _train_lists(
    folder: Path, pin: Pin, source: Source, progress: Progress, encode_texts: EncodeTexts | None
) -> QuantiserFacts:
    sample = _sample(folder, pin, source, progress)
    with progress.step(f"train {pin.recipe.nlist:,} lists") as step:
        found, facts = centres_for(pin, sample.vectors)
        centres = ListCentres.of(found)
        centres.write(folder / CENTRES_NAME)
        questions = draw_questions(sample.vectors, sample.titles, encode_texts)
        np.savez(folder / QUESTIONS_NAME, vectors=questions.vectors, are_texts=questions.are_texts)
        step.advance(len(sample.vectors))
    with progress.step("make axes for the questions"):
        fit = AxesFit(sample.vectors, _texts(sample, encode_texts))
        coded = CodedSample(centres, sample.vectors)
        chosen = choose_codes(fit, coded, questions, pin.recipe.code_bytes, pin.recall)
        (folder / CODES_FACTS).write_text(chosen.model_dump_json(indent=2))
        axes = ArtifactAxes(fit.cut(chosen.axes), fit.cut(chosen.finer_axes))
        axes.save(folder / AXES_NAME)
        faiss.write_index(coded.empty_codes(axes.codes), str(folder / EMPTY_NAME))
        faiss.write_index(_finer_codes(axes.finer, sample.vectors), str(folder / EMPTY_REFINE))
    return facts


def _texts(sample: Sample, encode_texts: EncodeTexts | None) -> Vectors | None:
    """Titles of some of the sample's items as the encoder writes them, none of them a question of the trial."""
    if encode_texts is None:
        return None
    others = np.setdiff1d(np.arange(len(sample.vectors)), question_rows(len(sample.vectors)))
    some = others[np.linspace(0, len(others) - 1, min(len(others), TEXT_SAMPLE)).astype(np.int64)]
    return encode_texts(sample.titles.take(pa.array(some)).to_pylist())


def _finer_codes(axes: Axes, sample: Vectors) -> faiss.IndexScalarQuantizer:
    """Empty. What they span follows from some images: each is a sum of many numbers, and few lie far beyond."""
    images = axes.of_items(sample[:: -(-len(sample) // RANGE_SAMPLE)])
    codes = faiss.IndexScalarQuantizer(images.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    codes.train(images)
    return codes


def _sample(folder: Path, pin: Pin, source: Source, progress: Progress) -> Sample:
    nlist = pin.recipe.nlist or 1
    sample = source.sample(nlist * pin.recipe.train_points_per_list, folder, progress)
    if len(sample.vectors) < nlist * FEWEST_PER_LIST:
        raise LookalikeError(
            f"recipe {pin.recipe.name} with {nlist:,} lists cannot be trained on {len(sample.vectors):,} items with a "
            f"current vector (at least {nlist * FEWEST_PER_LIST:,} are needed); run `lookalike embed`, or choose "
            "recipe exact or hnsw"
        )
    return sample
