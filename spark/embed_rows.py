"""The row function of the embedding job, as Spark's Python workers run it: pictures in, unit vectors out.

The encoder is opened once per worker process and device and must reproduce its probe there before it embeds anything.
A bounded pool of threads fetches, checks and prepares the next batch while the encoder works on this one. Rows keep
their order, so that batches are composed alike in every run. Spark pickles functions of modules by reference, hence a
module of its own.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from lookalike.contracts.encoder import Encoder, Prepared
from lookalike.contracts.probe import Probe
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import EncoderSettings, IntakeSettings

Row = TypeVar("Row")
Result = TypeVar("Result")

EncoderSource = Callable[[str, str, int], tuple[Encoder, Probe]]
"""Opens (path, device, torch threads): the encoder and the probe it must reproduce."""

CPU_BATCH, CUDA_BATCH = 32, 256

EMBEDDED = pa.schema(
    [
        pa.field("content_hash", pa.string()),
        pa.field("vector", pa.list_(pa.float32())),
        pa.field("l2_norm", pa.float32()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class EmbedJob:
    """What a worker needs to know. `fingerprint` is the space the driver planned for; another one is refused.

    `pictures_per_second` is the limit of one task; 0: none.
    """

    source: EncoderSource
    encoder: EncoderSettings
    fingerprint: str
    pictures_root: str
    limits: IntakeSettings
    batch_size: int
    decode_threads: int
    pictures_per_second: float = 0.0


def embed_rows(
    job: EmbedJob, tell: Callable[[int], None], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """(content_hash, image_paths) → EMBEDDED, one batch per forward pass; `tell` is told how many rows are done."""
    device, threads = _device_and_threads(job)
    encoder = open_checked(job.source, job.encoder.path, device, threads)
    encoder.space.require(job.fingerprint, "this embedding job")
    size = job.batch_size or (CUDA_BATCH if _on_cuda(device) else CPU_BATCH)
    rows = (row for batch in batches for row in batch.to_pylist())
    with ThreadPoolExecutor(job.decode_threads, thread_name_prefix="decode") as pool:
        ready = run_ahead(pool, partial(load, job, encoder), rows, ahead=size)
        started, done = time.monotonic(), 0
        while group := list(islice(ready, size)):
            yield encode(encoder, group)
            tell(len(group))
            done += len(group)
            if job.pictures_per_second:
                time.sleep(max(0.0, started + done / job.pictures_per_second - time.monotonic()))


def embedder(job: EmbedJob, tell: Callable[[int], None]) -> Callable[..., Iterator[pa.RecordBatch]]:
    """`embed_rows` for one job, as mapInArrow takes it."""
    return partial(embed_rows, job, tell)


@cache
def open_checked(source: EncoderSource, path: str, device: str, threads: int) -> Encoder:
    """The encoder of this process. Raises SpaceMismatch when it does not reproduce its probe on this machine."""
    encoder, probe = source(path, device, threads)
    probe.require(encoder)
    return encoder


def open_from_models(path: str, device: str, threads: int) -> tuple[Encoder, Probe]:
    """The encoders of `models`: the one in the package, a folder, or a hub id."""
    from models.encoders import open_encoder, read_probe

    return open_encoder(path, device=device, threads=threads), read_probe(path)


def run_ahead(
    pool: ThreadPoolExecutor, work: Callable[[Row], Result], rows: Iterable[Row], ahead: int
) -> Iterator[Result]:
    """`work` on every row in order, at most `ahead` of them begun but not yet taken."""
    begun: deque[Future[Result]] = deque()
    for row in rows:
        begun.append(pool.submit(work, row))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def load(job: EmbedJob, encoder: Encoder, row: dict[str, Any]) -> tuple[str, Prepared | Refusal]:
    """Prepared picture of one content hash, from the first of its paths that still has it; else why not."""
    refusal = Refusal(RefusalReason.PICTURE_MISSING, "no path is known for this picture")
    for path in row["image_paths"]:
        picture = _load_path(job, encoder, path, row["content_hash"])
        if not isinstance(picture, Refusal):
            return row["content_hash"], picture
        refusal = picture
    return row["content_hash"], refusal


def encode(encoder: Encoder, group: Sequence[tuple[str, Prepared | Refusal]]) -> pa.RecordBatch:
    """One forward pass over the pictures of `group`; refusals go along as rows without a vector."""
    good = [(content_hash, picture) for content_hash, picture in group if not isinstance(picture, Refusal)]
    refused = [(content_hash, refusal) for content_hash, refusal in group if isinstance(refusal, Refusal)]
    vectors = encoder.encode_prepared([picture for _, picture in good])
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    offsets = np.arange(len(good) + 1, dtype=np.int32) * encoder.space.dim
    offsets = np.concatenate([offsets, np.repeat(offsets[-1:], len(refused))])
    nothing = np.concatenate([np.zeros(len(good), bool), np.ones(len(refused), bool)])
    norms = np.concatenate([np.linalg.norm(vectors, axis=1), np.zeros(len(refused))]).astype(np.float32)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([content_hash for content_hash, _ in (*good, *refused)], pa.string()),
            pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(nothing)),
            pa.array(norms, pa.float32(), mask=nothing),
            pa.array([None] * len(good) + [refusal.reason.value for _, refusal in refused], pa.string()),
            pa.array([None] * len(good) + [refusal.detail for _, refusal in refused], pa.string()),
        ],
        schema=EMBEDDED,
    )


def _load_path(job: EmbedJob, encoder: Encoder, path: str, content_hash: str) -> Prepared | Refusal:
    from lookalike.catalogue.intake import decode_picture, read_picture

    data = read_picture(path, job.pictures_root, job.limits)
    if isinstance(data, Refusal):
        return data
    found = hashlib.sha256(data).hexdigest()
    if found != content_hash:
        return Refusal(
            RefusalReason.PICTURE_UNREADABLE,
            f"{path} changed since it was ingested: its sha256 is {found}, the table says {content_hash}; "
            "send the item again with a higher version",
        )
    try:
        return encoder.prepare(decode_picture(data))
    except (OSError, ValueError, SyntaxError) as error:
        return Refusal(RefusalReason.PICTURE_UNREADABLE, f"{path} could be read at ingest but not now: {error}")


def _device_and_threads(job: EmbedJob) -> tuple[str, int]:
    """The GPU that Spark gave this task, or the device asked for; torch threads = the task's own cores."""
    from pyspark import TaskContext

    task = TaskContext.get()
    granted = task.resources().get("gpu") if task is not None else None
    device = f"cuda:{granted.addresses[0]}" if granted and job.encoder.device != "cpu" else job.encoder.device
    cores = task.cpus() if task is not None else 1
    return device, job.encoder.threads or max(1, cores)


def _on_cuda(device: str) -> bool:
    from models.torch_encoder import choose_device

    return choose_device(device, threads=0).type == "cuda"
