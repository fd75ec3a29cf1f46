"""Second stage of a run: pictures against each other and against texts, resumable at every checkpoint.

Every step draws from its own seed, so a run that was stopped and continued takes the steps of an unbroken one.
"""

import copy
import io
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import Progress
from lookalike.storage.atomic import write_bytes
from models.augmentation import augment
from models.configuration import ContrastPlan, TrainingConfig
from models.losses import concept_contrast, cosine_distillation, masked_info_nce, relational_distillation
from models.sampling import Draw, draw, step_generator
from models.text_stage import Material
from models.towers import DualEncoder, ImageTower
from models.workers import workers

LOG = logging.getLogger("lookalike.train")
CHECKPOINT = "checkpoint.pt"
_LOG_EVERY = 50
_MAX_GRADIENT = 5.0


def _optimiser(model: DualEncoder, plan: ContrastPlan) -> torch.optim.AdamW:
    """Weight decay on matrices only; the text tower apart with its own rate, its token table fixed."""
    model.text.tokens.weight.requires_grad_(False)
    text = [value for name, value in model.text.named_parameters() if not name.startswith("tokens")]
    image = list(model.image.parameters())
    scales = [model.picture_scale, model.text_scale]
    return torch.optim.AdamW(
        [
            {"params": [p for p in image if p.ndim > 1], "lr": plan.learning_rate, "weight_decay": plan.weight_decay},
            {"params": [p for p in image if p.ndim <= 1] + scales, "lr": plan.learning_rate, "weight_decay": 0.0},
            {"params": text, "lr": plan.text_learning_rate, "weight_decay": 0.0},
        ],
        fused=True,
    )


@dataclass(frozen=True)
class PictureReport:
    """Steps taken, pictures shown, seconds over all interruptions, and the last losses by name (smoothed)."""

    steps: int
    pictures_seen: int
    seconds: float
    losses: dict[str, float]


@dataclass(frozen=True)
class _Run:
    """What every step needs."""

    model: DualEncoder
    optimiser: torch.optim.AdamW
    material: Material
    config: TrainingConfig
    replicas: tuple[ImageTower, ImageTower]
    pool: ThreadPoolExecutor


def picture_stage(
    model: DualEncoder, material: Material, out: Path, config: TrainingConfig, progress: Progress
) -> PictureReport:
    """Train the image tower (and, gently, the text tower's upper part); goes on from the checkpoint in `out`."""
    plan, started = config.contrast, time.monotonic()
    model.to(memory_format=torch.channels_last).train()
    optimiser = _optimiser(model, plan)
    rates = [group["lr"] for group in optimiser.param_groups]
    first, spent, losses = _restore(model, optimiser, out / CHECKPOINT)
    with progress.step("train towers", plan.steps) as bar, workers(config.threads) as pool:
        run = _Run(model, optimiser, material, config, _replicas(model.image), pool)
        bar.advance(first)
        for step in range(first, plan.steps):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * rate_factor(step, plan)
            parts = _train_step(run, step)
            losses = {name: 0.9 * losses.get(name, value) + 0.1 * value for name, value in parts.items()}
            seconds = spent + time.monotonic() - started
            if (step + 1) % _LOG_EVERY == 0:
                _log(step + 1, plan, losses, seconds)
            if (step + 1) % config.checkpoint_steps == 0 or step + 1 == plan.steps:
                _save(model, optimiser, out / CHECKPOINT, {"step": step + 1, "seconds": seconds, "losses": losses})
            bar.advance()
    seen = plan.steps * 2 * min(plan.concepts, len(material.concepts.names))
    return PictureReport(plan.steps, seen, spent + time.monotonic() - started, losses)


def rate_factor(step: int, plan: ContrastPlan) -> float:
    """Linear warm-up, a constant part, then a linear cool-down to zero ("WSD"; Hägele et al., 2024).

    Up to the cool-down the factor does not depend on the number of steps, so that a run can be made longer later.
    """
    up = min(1.0, (step + 1) / max(1, plan.warm_up))
    down = min(1.0, (plan.steps - step) / max(1, plan.cool_down))
    return min(up, down)


def picture_side(step: int, config: TrainingConfig) -> int:
    """Side of the training pictures at a step: the last of `sides` that has begun, else the tower's own."""
    begun = [side for first, side in config.contrast.sides if first <= step]
    return begun[-1] if begun else config.towers.pixels


def _train_step(run: _Run, step: int) -> dict[str, float]:
    """One step. Each half of the pictures runs in its own thread; the losses see both (GradCache; Gao et al., 2021)."""
    config, plan, material = run.config, run.config.contrast, run.material
    rng = step_generator(config.seed, step)
    drawn = draw(material.concepts, plan.concepts, plan.neighbours, rng)
    seeds = [int(seed) for seed in rng.integers(2**62, size=3)]
    side = picture_side(step, config)
    halves = [
        (config, replica, material.pictures[torch.from_numpy(chosen)], seed, side)
        for replica, chosen, seed in zip(run.replicas, np.split(drawn.pictures, 2), seeds, strict=False)
    ]
    outputs = list(run.pool.map(lambda half: _encode_half(*half), halves))
    images = torch.cat([output.detach() for output in outputs]).requires_grad_()
    anchors = torch.randint(
        len(material.anchor_tokens), (plan.concepts,), generator=torch.Generator().manual_seed(seeds[2])
    )
    parts = _losses(run.model, material, plan, drawn, images, anchors)
    total = _weighted(parts, plan)
    if not bool(torch.isfinite(total)):
        raise LookalikeError(f"training loss is {float(total)} at step {step}; lower the learning rate")
    run.model.zero_grad(set_to_none=True)
    total.backward()
    gradients = images.grad.chunk(2) if images.grad is not None else ()
    list(run.pool.map(lambda pair: pair[0].backward(pair[1]), zip(outputs, gradients, strict=True)))
    _gather_gradients(run.replicas)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), _MAX_GRADIENT)
    run.optimiser.step()
    return {name: float(value.detach()) for name, value in parts.items()}


def _weighted(parts: dict[str, Tensor], plan: ContrastPlan) -> Tensor:
    return (
        parts["picture"]
        + plan.picture_text * parts["text"]
        + plan.relation * parts["relation"]
        + plan.text_anchor * parts["anchor"]
    )


def _encode_half(config: TrainingConfig, tower: ImageTower, pictures: Tensor, seed: int, side: int) -> Tensor:
    views = augment(pictures, side, config.augmentation, torch.Generator().manual_seed(seed))
    with torch.autocast("cpu", torch.bfloat16, enabled=config.contrast.bf16):
        vectors: Tensor = tower(views)
    return vectors


def _replicas(tower: ImageTower) -> tuple[ImageTower, ImageTower]:
    """The tower and a twin with the same weights in memory but gradients and normalisation statistics of its own."""
    twin = copy.deepcopy(tower)
    for mine, its in zip(tower.parameters(), twin.parameters(), strict=True):
        its.data = mine.data
    return tower, twin


def _gather_gradients(replicas: tuple[ImageTower, ImageTower]) -> None:
    """Add the twin's gradients to the tower's, always in this order, and clear them."""
    for mine, its in zip(*(replica.parameters() for replica in replicas), strict=True):
        if mine.grad is not None and its.grad is not None:
            mine.grad += its.grad
        its.grad = None


def _losses(
    model: DualEncoder, material: Material, plan: ContrastPlan, drawn: Draw, images: Tensor, anchors: Tensor
) -> dict[str, Tensor]:
    count = len(drawn.concepts)
    texts = model.text(material.tokenizer(drawn.texts))
    concepts = torch.from_numpy(drawn.concepts)
    titles = material.title_vectors[concepts]
    teacher = (titles @ titles.T).repeat(2, 1)
    return {
        "picture": concept_contrast(images, concepts.repeat(2), model.picture_scale),
        "text": (
            masked_info_nce(images[:count], texts, model.text_scale, drawn.not_negative)
            + masked_info_nce(images[count:], texts, model.text_scale, drawn.not_negative)
        )
        / 2,
        "relation": relational_distillation(images, titles, teacher, plan.relation_scale),
        "anchor": cosine_distillation(model.text(material.anchor_tokens[anchors]), material.anchor_vectors[anchors]),
    }


def _log(step: int, plan: ContrastPlan, losses: dict[str, float], seconds: float) -> None:
    values = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
    LOG.info("step %d of %d, %.0f s, %s", step, plan.steps, seconds, values)


def _save(model: DualEncoder, optimiser: torch.optim.Optimizer, path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), **state}, buffer)
    write_bytes(path, buffer.getvalue())


def _restore(model: DualEncoder, optimiser: torch.optim.Optimizer, path: Path) -> tuple[int, float, dict[str, float]]:
    """Steps taken, seconds spent and smoothed losses of the checkpoint; nothing of each without one."""
    if not path.is_file():
        return 0, 0.0, {}
    state: dict[str, Any] = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    LOG.info("picture stage: goes on from step %d", state["step"])
    return int(state["step"]), float(state["seconds"]), dict(state.get("losses", {}))
