"""In whose spaces the nightly job embeds: of the encoder in use, live, previous, and an announced encoder.

The stream writes to the same. So a release can be built from any of them, the live one stays fresh while a re-embed
for the next is under way, and a roll-back finds the vectors of the day.
"""

import logging

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings
from lookalike.releases.encoder_in_use import encoder_in_use, has_registry
from lookalike.releases.registry import Registry
from lookalike.releases.release import Alias

LOG = logging.getLogger("lookalike.embed")


def encoders_to_build(settings: Settings) -> list[str]:
    """Path of one encoder per space that the next release may be built in: the one in use first, the live release's."""
    return list(_to_build(settings).values())


def encoders_in_use(settings: Settings) -> list[str]:
    """Path of one encoder per space to embed in, those of `encoders_to_build` first.

    The previous release's or an announced encoder that cannot be opened is left out with a word in the log, as the
    stream does; any other one raises.
    """
    paths = _to_build(settings)
    if not has_registry(settings):
        return list(paths.values())
    registry = Registry(settings)
    previous = registry.alias(Alias.PREVIOUS)
    for folder in (previous.encoder_dir if previous is not None else None, registry.incoming_encoder()):
        if folder is None:
            continue
        try:
            paths.setdefault(_space(str(folder)), str(folder))
        except LookalikeError as error:
            LOG.error("the encoder in %s cannot be opened, its space gets no vectors: %s", folder, error)
    return list(paths.values())


def _to_build(settings: Settings) -> dict[str, str]:
    """Path by space; opens the one in use only, the registry knows the space of the live release's."""
    first = encoder_in_use(settings)
    paths = {_space(first): first}
    live = Registry(settings).live() if has_registry(settings) else None
    if live is not None:
        paths.setdefault(live.space, str(live.encoder_dir))
    return paths


def _space(path: str) -> str:
    from models.encoders import open_encoder

    return open_encoder(path, device="cpu", threads=1).space.fingerprint
