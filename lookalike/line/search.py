"""The live release and the changes since, opened for a search from the command line: a server's checks, no server."""

from dataclasses import dataclass

from lookalike.contracts.errors import NotFound
from lookalike.contracts.settings import Settings
from lookalike.releases.registry import Registry
from lookalike.releases.release import Alias
from lookalike.search.engine import SearchEngine


@dataclass(frozen=True)
class LiveSearch:
    """An engine over the live release, and a reader of its items' stored pictures."""

    engine: SearchEngine
    settings: Settings

    def read_picture(self, item_id: str) -> bytes:
        """Bytes of the item's picture. Raises OSError when it cannot be had."""
        from lookalike.catalogue.intake import read_picture
        from lookalike.contracts.product import Refusal

        data = read_picture(self.engine.item(item_id)["image_path"], self.settings.pictures_root, self.settings.intake)
        if isinstance(data, Refusal):
            raise OSError(data.detail)
        return data


def open_live(settings: Settings) -> LiveSearch:
    """Open the live release, verified, with all changes until now. Raises NotFound when nothing is live."""
    from contextlib import closing

    from lookalike.serving.release import load_release
    from lookalike.storage.log.opening import open_log

    live = Registry(settings).alias(Alias.LIVE)
    if live is None:
        raise NotFound("nothing is live yet: `lookalike demo`, or ingest, embed, build, gate and promote")
    with closing(open_log(settings)) as log, closing(load_release(live, settings, log=log)) as loaded:
        return LiveSearch(loaded.engine, settings)
