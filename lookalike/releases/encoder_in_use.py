"""Which encoder the batch works with when none is named: that of the live release.

So a re-embed needs no second act: once its release is live, the next night embeds and builds in the new space, and a
roll-back takes the nights back with it. The setting `encoder.path` holds the batch to one encoder whatever is live.
"""

from pathlib import Path

from lookalike.contracts.encoder import PACKAGED
from lookalike.contracts.settings import Settings
from lookalike.releases.registry import Registry

_SQLITE = "sqlite:///"


def encoder_in_use(settings: Settings) -> str:
    """Path of the encoder: that of the setting, else the live release's, else the packaged one."""
    if settings.encoder.path is not None:
        return settings.encoder.path
    live = Registry(settings).live() if has_registry(settings) else None
    return str(live.encoder_dir) if live is not None else PACKAGED


def with_encoder(settings: Settings, path: str) -> Settings:
    """The same settings with another encoder: folder, hub id or the packaged one."""
    return settings.model_copy(update={"encoder": settings.encoder.model_copy(update={"path": path})})


def has_registry(settings: Settings) -> bool:
    """False before the first release on one machine: opening the registry would make its database, in seconds."""
    uri = settings.tracking_uri
    return not uri.startswith(_SQLITE) or Path(uri.removeprefix(_SQLITE)).is_file()
