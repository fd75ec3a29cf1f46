"""Makes, writes and reads probes: 16 fixed pictures and texts beside an encoder, with the vectors they must give.

The pictures are drawn by formula, not taken from anyone: gradients, stripes, discs, noise, and awkward shapes.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from lookalike.contracts.encoder import Encoder, Picture
from lookalike.contracts.errors import CorruptArtifact, NotFound
from lookalike.contracts.probe import PROBE_COUNT, Probe
from lookalike.storage.atomic import write_bytes

PROBE_NAME = "probe.safetensors"
_TEXTS = (
    "red apple", "a", "running shoes", "blue cotton shirt with long sleeves", "wooden chair", "Überzug, grün",
    "sunflower", "dog", "hot dog", "flag of Japan", "coffee mug 350 ml", "watch", "42", "small green car",
    "smiling face with sunglasses", "the quick brown fox jumps over the lazy dog again and again",
)  # fmt: skip
_SIZES = ((64, 64), (128, 128), (96, 40), (40, 96), (1, 1), (200, 3), (63, 65), (256, 192))


def probe_pictures() -> list[Picture]:
    """16 pictures, the same on every machine: integers only, no random generator of a library."""
    return [_picture(number, *_SIZES[number % len(_SIZES)]) for number in range(PROBE_COUNT)]


def _picture(number: int, height: int, width: int) -> Picture:
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    reach = max(height, width)
    disc = (2 * y - height) ** 2 + (2 * x - width) ** 2 < (reach * (6 + number) // 16) ** 2
    stripes = ((x * (number % 3 + 1) + y * (number // 4 + 1)) * 8 // reach) % 2
    noise = (x * 7919 + y * 104_729 + number * 15_485_863) * 2_654_435_761 % 2**32 // 2**24
    channels = (
        np.where(disc, 255 - 13 * number, (x * 255 // max(1, width - 1) + 11 * number) % 256),
        np.where(disc, noise, stripes * 200),
        np.where(disc, stripes * 255, y * 255 // max(1, height - 1)),
    )
    return np.stack(channels, axis=2).astype(np.uint8)


def make_probe(encoder: Encoder) -> Probe:
    """Encode the fixed pictures and texts."""
    pictures = probe_pictures()
    return Probe(pictures, _TEXTS, encoder.encode_pictures(pictures), encoder.encode_texts(_TEXTS))


def write_probe(folder: Path, probe: Probe) -> None:
    """Write a probe into an encoder's folder, in one step."""
    tensors = {f"picture_{i:02}": torch.from_numpy(picture) for i, picture in enumerate(probe.pictures)}
    tensors["picture_vectors"] = torch.from_numpy(probe.picture_vectors)
    tensors["text_vectors"] = torch.from_numpy(probe.text_vectors)
    write_bytes(folder / PROBE_NAME, save(tensors, {"texts": json.dumps(list(probe.texts))}))


def load_probe(folder: Path) -> Probe:
    """Read the probe of a folder. Raises NotFound without one, CorruptArtifact when it is not whole."""
    path = folder / PROBE_NAME
    if not path.is_file():
        raise NotFound(f"{folder} holds no {PROBE_NAME}")
    try:
        with safe_open(path, framework="numpy") as file:
            texts = json.loads(file.metadata()["texts"])
            pictures = [file.get_tensor(f"picture_{i:02}") for i in range(PROBE_COUNT)]
            return Probe(pictures, texts, file.get_tensor("picture_vectors"), file.get_tensor("text_vectors"))
    except Exception as error:  # safetensors raises its own type; any failure here means the file is not a whole probe
        raise CorruptArtifact(f"{path} is not a whole probe: {error}") from error
