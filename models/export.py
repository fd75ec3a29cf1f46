"""Writes a trained encoder as a folder: safetensors (float16), encoder.json, tokenizer.json, probe, model card.

The folder is whole when it appears (temporary name, then rename), and the probe is computed from the written files.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lookalike.contracts.errors import LookalikeError
from lookalike.storage.atomic import new_directory, temporary_beside
from models.model_card import CARD
from models.own_encoder import DESCRIPTION, KIND, TOKENIZER, WEIGHTS, open_own
from models.probes import make_probe, write_probe
from models.teacher import teacher_directory
from models.towers import DualEncoder

MAX_BYTES = 20_000_000


def export(model: DualEncoder, target: Path, name: str, card: str, training: Mapping[str, Any]) -> Path:
    """Write `model` to the new folder `target`, replacing an encoder that is there.

    `training` (configuration, data, report) goes into encoder.json for people and machines.
    Raises LookalikeError when the weights exceed MAX_BYTES, the size that is kept in the repository.
    """
    staged = temporary_beside(target)
    with new_directory(staged) as folder:
        save_file(_half(model), folder / WEIGHTS)
        size = (folder / WEIGHTS).stat().st_size
        if size > MAX_BYTES:
            raise LookalikeError(f"the weights take {size:,} bytes, allowed are {MAX_BYTES:,}; make the towers smaller")
        description = {"kind": KIND, "name": name, "towers": model.spec.model_dump(mode="json"), "training": training}
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
        shutil.copyfile(teacher_directory() / TOKENIZER, folder / TOKENIZER)
        (folder / CARD).write_text(card)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors writes files that only their owner may read
        write_probe(folder, make_probe(open_own(folder, torch.device("cpu"))))
    _replace(target, staged)
    return target


def _half(model: DualEncoder) -> dict[str, torch.Tensor]:
    """All tensors as contiguous float16; the integer counters of the batch normalisation as they are."""
    state = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    lost = [key for key, value in half.items() if not bool(torch.isfinite(value.float()).all())]
    if lost:
        raise LookalikeError(f"weights do not fit float16: {', '.join(lost)}")
    return half


def _replace(target: Path, staged: Path) -> None:
    """Put the new folder in the old one's place; between the two renames there is none, never a mixed one."""
    old = temporary_beside(target)
    if target.exists():
        target.rename(old)
    staged.rename(target)
    shutil.rmtree(old, ignore_errors=True)
