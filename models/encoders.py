"""Opens an encoder by what its folder holds: our own, open_clip's format, or Hugging Face's.

A path is `lookalike-mini` (the one in this package), a folder, or a hub id (`hf-hub:organisation/name`). Weights are
read as safetensors only: a pickle can run code when it is opened.
"""

import json
from pathlib import Path

from lookalike.contracts.encoder import PACKAGED, Encoder
from lookalike.contracts.errors import LookalikeError, NotFound
from lookalike.contracts.probe import Probe
from models.checkpoint_files import HUB_PREFIX, download, require_safetensors
from models.own_encoder import DESCRIPTION, KIND
from models.probes import PROBE_NAME, load_probe, make_probe, write_probe
from models.torch_encoder import choose_device

PACKAGED_FOLDER = Path(__file__).parent / "lookalike_mini"
KINDS = (KIND, "open_clip", "huggingface")


def open_encoder(path: str, device: str = "auto", threads: int = 0, allow_remote_code: bool = False) -> Encoder:
    """Open an encoder for inference.

    `device`: auto, cpu, cuda or cuda:N. `threads` above 0 sets torch's threads for the whole process. Code that a
    downloaded checkpoint brings along is executed only with `allow_remote_code`.
    Raises NotFound (no such folder or no weights), LookalikeError (pickled weights, unknown kind) or CorruptArtifact.
    """
    folder = _folder(path)
    kind = encoder_kind(folder)
    require_safetensors(folder)
    target = choose_device(device, threads)
    if kind == KIND:
        from models.own_encoder import open_own

        return open_own(folder, target)
    if kind == "open_clip":
        from models.open_clip_encoder import open_open_clip

        return open_open_clip(folder, target)
    from models.hugging_face_encoder import open_hugging_face

    return open_hugging_face(folder, target, allow_remote_code)


def read_probe(path: str) -> Probe:
    """The probe of an encoder.

    A foreign checkpoint comes without one: the first machine that asks computes it and leaves it in the folder, and
    from then on every other must reproduce it. Raises LookalikeError when that folder cannot be written.
    """
    return load_probe(encoder_directory(path))


def encoder_directory(path: str) -> Path:
    """The folder with all of an encoder's files, its probe included, ready to be copied beside a release."""
    folder = _folder(path)
    if not (folder / PROBE_NAME).is_file():
        if encoder_kind(folder) == KIND:
            raise NotFound(f"{folder} lacks {PROBE_NAME}; export the encoder again with `lookalike train`")
        probe = make_probe(open_encoder(str(folder), device="cpu"))
        try:
            write_probe(folder, probe)
        except OSError as error:
            raise LookalikeError(f"{folder} has no {PROBE_NAME} and it cannot be written there: {error}") from error
    return folder


def encoder_kind(folder: Path) -> str:
    """Which of KINDS a folder holds. Raises LookalikeError naming what was looked for."""
    if (folder / DESCRIPTION).is_file():
        kind = json.loads((folder / DESCRIPTION).read_text()).get("kind")
        if kind not in KINDS:
            raise LookalikeError(f"{folder / DESCRIPTION}: kind is {kind!r}; allowed: {', '.join(KINDS)}")
        return str(kind)
    if (folder / "open_clip_config.json").is_file():
        return "open_clip"
    if (folder / "config.json").is_file():
        return "huggingface"
    raise LookalikeError(
        f"{folder} is no encoder: it holds none of {DESCRIPTION} (lookalike), open_clip_config.json (open_clip), "
        f"config.json (Hugging Face)"
    )


def _folder(path: str) -> Path:
    if path == PACKAGED:
        if not (PACKAGED_FOLDER / DESCRIPTION).is_file():
            raise NotFound(f"the package holds no {PACKAGED} weights ({PACKAGED_FOLDER}); train with `lookalike train`")
        return PACKAGED_FOLDER
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if path.startswith(HUB_PREFIX):
        return download(path.removeprefix(HUB_PREFIX))
    raise NotFound(
        f"encoder {path!r} is not a folder; allowed: {PACKAGED}, a folder, or {HUB_PREFIX}organisation/name for the hub"
    )
