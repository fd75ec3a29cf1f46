"""Trains lookalike-mini on a snapshot and writes it as an encoder folder: one call for the command line.

Two stages: the text tower from its teacher, then pictures against each other and against texts. A run can be killed
and started again with the same arguments; it goes on from its last checkpoint.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lookalike.catalogue.splits import TRAINED_BRANDS, held_out
from lookalike.contracts.errors import LookalikeError, NotFound
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.storage.atomic import write_bytes
from models.configuration import TrainingConfig, read_config
from models.dataset import Row, read_rows, training_rows
from models.export import export
from models.model_card import model_card
from models.picture_stage import CHECKPOINT, PictureReport, picture_stage
from models.text_stage import TEXT_STAGE, text_stage
from models.towers import DualEncoder

RUN_SUFFIX = ".training"
IDENTITY = "identity.json"


@dataclass(frozen=True)
class TrainingReport:
    """What a run did. `loss` is the last smoothed picture-picture loss, `text_cosine` the closeness to the teacher."""

    directory: Path
    steps: int
    pictures_seen: int
    seconds: float
    loss: float
    text_cosine: float
    losses: dict[str, float]
    concepts: int
    products: int


def train(
    settings: Settings,
    snapshot_dir: Path,
    pictures_root: Path,
    out_dir: Path,
    config: str | Path,
    progress: Progress,
    resume: bool = True,
) -> TrainingReport:
    """Train on the trained brands of a snapshot without its held-out concepts and export to `out_dir`.

    `config` is a name in models/configs or a path. The run's state lies beside `out_dir`, in
    `run_state(out_dir)`; `out_dir` appears when the encoder is whole.
    `settings.encoder.threads` above 0 overrides the configuration's.
    Raises SettingsError (configuration), NotFound (no snapshot, no row to train on), MissingPrerequisite (no teacher)
    and LookalikeError (a state of another configuration, a loss that is not finite).
    """
    plan = read_config(config)
    if settings.encoder.threads:
        plan = plan.model_copy(update={"threads": settings.encoder.threads})
    rows = read_rows(snapshot_dir)
    chosen = training_rows(rows, TRAINED_BRANDS, held_out({row.concept for row in rows if row.brand in TRAINED_BRANDS}))
    if not chosen:
        raise NotFound(f"{snapshot_dir} holds no product of a trained brand ({', '.join(TRAINED_BRANDS)}) to train on")
    model, report = fit(chosen, pictures_root, run_state(out_dir), plan, progress, resume)
    finished = _report(report[0], report[1], out_dir, chosen)
    facts = {"config": plan.model_dump(mode="json"), "snapshot": snapshot_dir.name, **_facts(finished)}
    export(model, out_dir, plan.name, model_card(plan, facts, Path(config).stem), facts)
    return finished


def run_state(out_dir: Path) -> Path:
    """Where a run keeps what it goes on from; may be deleted when the encoder is there."""
    return out_dir.with_name(out_dir.name + RUN_SUFFIX)


def fit(
    rows: list[Row], pictures_root: Path, state: Path, config: TrainingConfig, progress: Progress, resume: bool = True
) -> tuple[DualEncoder, tuple[PictureReport, float]]:
    """Both stages on `rows` (already without held-out concepts); `state` keeps what a later call goes on from."""
    before = torch.get_num_threads()
    torch.manual_seed(config.seed)
    state.mkdir(parents=True, exist_ok=True)
    _claim(state, config, rows, resume)
    model = DualEncoder(config.towers)
    try:
        torch.set_num_threads(1)  # the threads are Python's: see models.workers
        material, text_cosine = text_stage(model, rows, pictures_root, state, config, progress)
        report = picture_stage(model, material, state, config, progress)
    finally:
        torch.set_num_threads(before)
    return model.eval(), (report, text_cosine)


def _claim(state: Path, config: TrainingConfig, rows: list[Row], resume: bool) -> None:
    """Bind the folder to this configuration and data, so that a resumed run cannot mix two."""
    plan = config.model_dump(mode="json")
    for name in ("steps", "sides", "cool_down"):  # the plan for steps to come may change while a run goes on
        del plan["contrast"][name]
    del plan["threads"], plan["checkpoint_steps"]
    identity = json.dumps({"config": plan, "items": [row.item_id for row in rows]})
    path = state / IDENTITY
    if not resume:
        for name in (CHECKPOINT, TEXT_STAGE):
            (state / name).unlink(missing_ok=True)
    elif path.is_file() and path.read_text() != identity:
        raise LookalikeError(
            f"{state} holds a training run of another configuration or other data; start afresh (resume=False) or "
            f"choose another folder"
        )
    write_bytes(path, identity.encode())


def _report(pictures: PictureReport, text_cosine: float, out: Path, rows: list[Row]) -> TrainingReport:
    return TrainingReport(
        directory=out,
        steps=pictures.steps,
        pictures_seen=pictures.pictures_seen,
        seconds=pictures.seconds,
        loss=pictures.losses.get("picture", float("nan")),
        text_cosine=text_cosine,
        losses=pictures.losses,
        concepts=len({row.concept for row in rows}),
        products=len(rows),
    )


def _facts(report: TrainingReport) -> dict[str, Any]:
    return {key: value for key, value in asdict(report).items() if key != "directory"}
