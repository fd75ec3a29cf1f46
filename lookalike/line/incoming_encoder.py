"""The encoder of a release to come: announced, the stream writes its vectors too, until it is live or withdrawn."""

from dataclasses import dataclass
from pathlib import Path

from lookalike.contracts.settings import Settings
from lookalike.line.actor import current_actor
from lookalike.releases.registry import Registry


@dataclass(frozen=True)
class Announced:
    """An incoming encoder: its name, its space's fingerprint and its folder in the encoder store."""

    encoder: str
    space: str
    folder: Path


def announce(settings: Settings, path: str) -> Announced:
    """Check the encoder (folder, hub id or the packaged one) against its probe, keep it, and announce it."""
    from models.encoders import encoder_directory, open_encoder, read_probe

    folder = encoder_directory(path)
    encoder = open_encoder(str(folder), device=settings.encoder.device)
    read_probe(str(folder)).require(encoder)
    kept = Registry(settings).announce_encoder(folder, encoder.space, current_actor())
    return Announced(encoder.space.encoder, encoder.space.fingerprint, kept)


def withdraw(settings: Settings) -> Path:
    """Take the announcement back; the folder that was announced."""
    return Registry(settings).withdraw_encoder(current_actor())
