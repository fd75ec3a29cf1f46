"""What the stream follows of the registry: the live release's items, and the encoders in whose spaces it writes.

A thread of its own looks at the aliases, and opens what is new beside what is in use; a bundle that is under way
never waits for it. Spaces: of the releases `live` and `previous`, so that a roll-back finds its vectors, and of the
registered encoder `incoming`, whose re-embedding is under way; before the first release the encoder in use.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lookalike.contracts.encoder import PACKAGED, Encoder
from lookalike.contracts.sealed_index import SealedIndex
from lookalike.contracts.settings import Settings
from lookalike.releases.release import Alias, Release

LOG = logging.getLogger("lookalike.stream")
RETRY_SECONDS = 60.0
"""Pause before an encoder that could not be opened is tried again: a missing mount may come back."""


class Source(Protocol):
    """Where the aliases are read; `lookalike.releases.registry.Registry` is one."""

    def alias(self, name: str) -> Release | None: ...

    def incoming_encoder(self) -> Path | None: ...


OpenEncoder = Callable[[str], Encoder]
OpenItems = Callable[[Path], SealedIndex]


@dataclass(frozen=True)
class Followed:
    """What is current. `release`: the live version, "" before the first; `encoders` by fingerprint of their space."""

    release: str = ""
    items: SealedIndex | None = None
    encoders: Mapping[str, Encoder] = field(default_factory=dict)


@dataclass(frozen=True)
class _Aliases:
    live: Release | None
    previous: Release | None
    incoming: Path | None

    @property
    def identity(self) -> tuple[str, ...]:
        versions = (release.version if release else "" for release in (self.live, self.previous))
        return (*versions, str(self.incoming or ""))


class ReleaseFollower:
    """Thread-safe. `start` returns with all that is needed now; then a thread keeps `now` current."""

    def __init__(self, settings: Settings, source: Source, open_encoder: OpenEncoder, open_items: OpenItems) -> None:
        self._settings, self._source = settings, source
        self._open_encoder, self._open_items = open_encoder, open_items
        self._opened: dict[str, Encoder] = {}
        self._identity: tuple[str, ...] | None = None
        self._again = math.inf
        self._fault = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="stream-releases", daemon=True)
        self.now = Followed()

    def start(self) -> None:
        """Open what is current and begin to follow. Raises what stands in the way of the live release."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Look at the aliases once; open and exchange what changed."""
        found = _Aliases(
            self._source.alias(Alias.LIVE), self._source.alias(Alias.PREVIOUS), self._source.incoming_encoder()
        )
        if found.identity == self._identity and time.monotonic() < self._again:
            return
        live = found.live
        items = self.now.items if live is None or live.version == self.now.release else self._open_items(live.index_dir)
        encoders = self._encoders(found)
        self.now = Followed(live.version if live else "", items if live else None, encoders)
        self._identity = found.identity
        LOG.info("the stream writes to the spaces %s; live: %s", ", ".join(encoders), self.now.release or "nothing")

    def _encoders(self, found: _Aliases) -> dict[str, Encoder]:
        """The encoders needed, opened ones kept. One that cannot be opened is left out, except the live one."""
        self._again = math.inf
        first = str(found.live.encoder_dir) if found.live else self._settings.encoder.path or PACKAGED
        encoder = self._encoder(first)
        if found.live:
            encoder.space.require(found.live.space, f"release {found.live.version}")
        encoders, folders = {encoder.space.fingerprint: encoder}, [first]
        for folder in (found.previous.encoder_dir if found.previous else None, found.incoming):
            if folder is None:
                continue
            try:
                encoder = self._encoder(str(folder))
            except Exception as error:
                LOG.error("the stream goes on without the encoder in %s, its space gets no vectors: %s", folder, error)
                self._again = time.monotonic() + RETRY_SECONDS
                continue
            encoders.setdefault(encoder.space.fingerprint, encoder)
            folders.append(str(folder))
        self._opened = {folder: self._opened[folder] for folder in folders}
        return encoders

    def _encoder(self, folder: str) -> Encoder:
        if folder not in self._opened:
            self._opened[folder] = self._open_encoder(folder)
        return self._opened[folder]

    def _follow(self) -> None:
        while not self._stopping.wait(self._settings.serving.poll_seconds):
            try:
                self.look()
                self._fault = ""
            except Exception as error:
                if str(error) != self._fault:  # one line per fault, not one per look
                    LOG.error("the stream goes on with what it has; the registry's news cannot be used: %s", error)
                self._fault = str(error)


def follow_registry(settings: Settings) -> ReleaseFollower:
    """A follower of the real registry, encoders and indexes; not started yet."""
    from index_builder.reader import open_index
    from lookalike.releases.registry import Registry
    from models.encoders import open_encoder, read_probe

    def checked(path: str) -> Encoder:
        encoder = open_encoder(path, settings.encoder.device, settings.stream.encoder_threads)
        read_probe(path).require(encoder)
        return encoder

    return ReleaseFollower(settings, Registry(settings), checked, lambda folder: open_index(folder, verify=False))
