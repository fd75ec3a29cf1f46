"""In whose spaces the nightly job embeds: the configured encoder, the live release's, and one that is announced.

So a release can be built from any of them, and the live one stays fresh while a re-embed for the next is under way.
"""

import logging
from pathlib import Path

from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings
from lookalike.releases.registry import Registry

LOG = logging.getLogger("lookalike.embed")
_SQLITE = "sqlite:///"


def encoders_in_use(settings: Settings, incoming: bool = True) -> list[str]:
    """Path of one encoder per space, the configured one first; `incoming` False leaves out the announced one.

    An announced encoder that cannot be opened is left out with a word in the log, as the stream does; any other one
    raises.
    """
    from models.encoders import open_encoder

    paths = {open_encoder(settings.encoder.path, device="cpu", threads=1).space.fingerprint: settings.encoder.path}
    if not _has_registry(settings):
        return list(paths.values())
    registry = Registry(settings)
    live = registry.live()
    if live is not None:
        paths.setdefault(live.space, str(live.encoder_dir))
    announced = registry.incoming_encoder() if incoming else None
    if announced is not None:
        try:
            space = open_encoder(str(announced), device="cpu", threads=1).space
            paths.setdefault(space.fingerprint, str(announced))
        except LookalikeError as error:
            LOG.error("the announced encoder in %s cannot be opened, its space gets no vectors: %s", announced, error)
    return list(paths.values())


def _has_registry(settings: Settings) -> bool:
    """False before the first release on one machine: opening the registry would make its database, in seconds."""
    uri = settings.tracking_uri
    return not uri.startswith(_SQLITE) or Path(uri.removeprefix(_SQLITE)).is_file()
