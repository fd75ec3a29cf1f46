"""Encoder store: the files of each encoder once per embedding space, so that a release never depends on a package.

A server opens the encoder from here, beside the index that was built with it, even after the code moved on.
"""

import shutil
from pathlib import Path

from lookalike.contracts.errors import LookalikeError, NotFound
from lookalike.storage.atomic import new_directory


def keep_encoder(encoder_dir: Path, encoders_root: Path, fingerprint: str) -> Path:
    """Copy the encoder's folder to `encoders_root/fingerprint`, whole or not at all; a kept one stays as it is."""
    target = encoders_root / fingerprint
    if target.is_dir():
        return target
    if not encoder_dir.is_dir():
        raise NotFound(f"encoder folder {encoder_dir} does not exist; name it with the setting encoder.path")
    try:
        with new_directory(target) as fresh:
            shutil.copytree(encoder_dir, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    except (OSError, LookalikeError):
        if not target.is_dir():  # else another process kept the same encoder at the same moment
            raise
    return target
