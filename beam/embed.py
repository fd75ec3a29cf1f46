"""Embeds the pictures of a bundle: our model handler for Beam's RunInference.

A bundle comes as one element and is cut into forward passes here: batching by the runner would wait on timers where it
waits at all, and one element per bundle stays whole whatever a runner fuses. A batch that fails is encoded picture by
picture, so that a bad one costs only itself.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from beam.counts import add
from beam.elements import Change, SeenPicture, Vector
from beam.job import Job, job_of
from lookalike.contracts.encoder import Encoder, Prepared
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import Settings

LOG = logging.getLogger("lookalike.stream")
Bundle = list[Change]


class EmbedHandler(ModelHandler[Change, Bundle, Job]):  # type: ignore[misc]
    """Bundles in, the same bundles with vectors out. The model is what this process holds open, encoders included;
    they follow the registry, so a new one is used from the next bundle on.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def load_model(self) -> Job:
        """What this process holds open."""
        return job_of(self._settings)

    def run_inference(
        self, batch: Sequence[Change], model: Job, inference_args: dict[str, Any] | None = None
    ) -> list[Bundle]:
        """The bundle with vectors, as one prediction."""
        return [embed(batch, model.releases.now.encoders, self._settings.stream.batch_size)]

    def should_skip_batching(self) -> bool:
        """An element is a batch already."""
        return True

    def get_num_bytes(self, batch: Sequence[Change]) -> int:
        """Bytes of the encoders' inputs; the default would pickle them all to know."""
        pictures = (change.picture for change in batch if change.picture is not None)
        return sum(prepared.nbytes for picture in pictures for prepared in picture.prepared.values())

    def get_metrics_namespace(self) -> str:
        """Namespace of RunInference's own metrics."""
        return "lookalike_embed"


def embed(changes: Sequence[Change], encoders: Mapping[str, Encoder], batch_size: int) -> Bundle:
    """Every prepared picture encoded, each content once; a picture that cannot be is refused."""
    waiting: dict[str, dict[str, Prepared]] = defaultdict(dict)
    for change in changes:
        if change.picture is not None:
            for space, prepared in change.picture.prepared.items():
                waiting[space].setdefault(change.picture.info.content_hash, prepared)
    if not waiting:
        return list(changes)
    encoded = {
        space: _encode_all(encoders[space], pictures, batch_size)
        for space, pictures in waiting.items()
        if space in encoders  # else it was withdrawn since the picture was prepared
    }
    add({"vectors_embedded": sum(len(vectors) for vectors in encoded.values())})
    return [_with_vectors(change, encoded) for change in changes]


def _with_vectors(change: Change, encoded: Mapping[str, Mapping[str, Vector | Refusal]]) -> Change:
    picture = change.picture
    if picture is None or not picture.prepared:
        return change
    vectors = dict(picture.vectors)
    for space in picture.prepared:
        found = encoded.get(space, {}).get(picture.info.content_hash)
        if isinstance(found, Refusal):
            return change.refused(replace(found, item_id=change.event.item_id if change.event else None))
        if found is not None:
            vectors[space] = found
    return replace(change, picture=SeenPicture(picture.info, vectors), embedded=True)


def _encode_all(encoder: Encoder, pictures: Mapping[str, Prepared], batch_size: int) -> dict[str, Vector | Refusal]:
    encoded: dict[str, Vector | Refusal] = {}
    hashes = list(pictures)
    for start in range(0, len(hashes), batch_size):
        part = hashes[start : start + batch_size]
        try:
            encoded |= dict(zip(part, encoder.encode_prepared([pictures[each] for each in part]), strict=True))
        except Exception as error:
            LOG.warning("a batch of %d pictures cannot be encoded (%s); one by one now", len(part), error)
            encoded |= {each: _encode_one(encoder, pictures[each]) for each in part}
    return encoded


def _encode_one(encoder: Encoder, prepared: Prepared) -> Vector | Refusal:
    try:
        return np.asarray(encoder.encode_prepared([prepared])[0], dtype=np.float32)
    except Exception as error:
        encoder.encode_pictures([np.full((8, 8, 3), 255, np.uint8)])  # raises when the fault is not the picture's
        return Refusal(
            RefusalReason.PICTURE_UNREADABLE,
            f"encoder {encoder.space.encoder} cannot encode the picture: {type(error).__name__}: {error}",
        )
