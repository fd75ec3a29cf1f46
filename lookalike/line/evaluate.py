"""Encoder → report: retrieval figures on real pictures, for brands and concepts that it was and was not trained on.

Pictures are encoded here, straight from the snapshots, and not read from the tables: the report is about the encoder,
whatever has been embedded with it.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lookalike.catalogue.intake import decode_picture, read_picture
from lookalike.catalogue.splits import TEST_BRANDS, TRAINED_BRANDS, held_out
from lookalike.contracts.encoder import Encoder, Prepared, Vectors
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.product import Refusal
from lookalike.contracts.progress import Progress, Step
from lookalike.contracts.settings import Settings
from lookalike.evaluation.protocol import ITEM_COLUMNS, EvaluationItems, evaluate_encoder
from lookalike.evaluation.report import EncoderReport
from lookalike.releases.encoder_in_use import encoder_in_use
from lookalike.storage.atomic import write_bytes

BATCH = 128
COLUMNS = [*ITEM_COLUMNS, "image_path"]


@dataclass(frozen=True)
class Evaluation:
    """The figures of one encoder and where its report lies (Markdown and JSON)."""

    space: str
    items: int
    report: EncoderReport
    path: Path


def evaluate(settings: Settings, progress: Progress, encoder_path: str | None) -> Evaluation:
    """Measure an encoder (default: the one in use) on the icon brands; writes the report below HOME/reports."""
    from lookalike.catalogue.icons import fetch_icons, fetch_test_brands
    from models.encoders import open_encoder

    encoder = open_encoder(encoder_path or encoder_in_use(settings), settings.encoder.device, settings.encoder.threads)
    folders = [fetch_icons(settings, progress).folder, fetch_test_brands(settings, progress).folder]
    rows = pa.concat_tables(
        [pq.read_table(sorted(folder.glob("part-*.parquet")), columns=COLUMNS) for folder in folders]
    )
    with progress.step("encode pictures", total=rows.num_rows) as step:
        vectors = _encode(encoder, rows["image_path"].to_pylist(), settings, step)
    items = EvaluationItems.from_rows(rows, vectors)
    trained = {group for group, brand in zip(items.group_ids, items.brands, strict=True) if brand in TRAINED_BRANDS}
    report = evaluate_encoder(
        items,
        encoder.encode_texts,
        held_out=held_out(group for group in trained if group),
        trained_brands=TRAINED_BRANDS,
        test_brands=TEST_BRANDS,
        seed=settings.gate.seed,
    )
    return Evaluation(encoder.space.fingerprint, rows.num_rows, report, _write(settings, encoder, report))


def _encode(encoder: Encoder, paths: list[str], settings: Settings, step: Step) -> Vectors:
    def prepare(path: str) -> Prepared:
        data = read_picture(path, settings.pictures_root, settings.intake)
        if isinstance(data, Refusal):
            raise LookalikeError(f"picture {path}: {data.detail}")
        return encoder.prepare(decode_picture(data))

    def encoded(pool: ThreadPoolExecutor) -> Iterator[Vectors]:
        for start in range(0, len(paths), BATCH):
            some = paths[start : start + BATCH]
            yield encoder.encode_prepared(list(pool.map(prepare, some)))
            step.advance(len(some))

    with ThreadPoolExecutor(settings.embed.decode_threads) as pool:
        return np.concatenate(list(encoded(pool)))


def _write(settings: Settings, encoder: Encoder, report: EncoderReport) -> Path:
    space = encoder.space
    stem = settings.reports_root / f"encoder-{space.fingerprint}"
    title = f"# {space.encoder}, space {space.fingerprint}, {space.dim} dims\n\n"
    write_bytes(stem.with_suffix(".md"), (title + report.to_markdown()).encode())
    figures = {"space": space.model_dump(), "fingerprint": space.fingerprint, **report.as_dict()}
    write_bytes(stem.with_suffix(".json"), json.dumps(figures, indent=1).encode())
    return stem.with_suffix(".md")
