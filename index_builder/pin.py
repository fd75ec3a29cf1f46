"""Pin: what one build is made of, decided once and written down before any work starts.

Table versions, space, recipe and thresholds make the build's id, so that the same inputs are the same build. Shards are
ranges of item ids: rows stand in the order of their ids, so shards joined in order are the whole, however many there
are and whoever encodes them when.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from index_builder.gather import LIVE_ITEMS, explain_nothing, of_space
from index_builder.recipes import AUTO, choose, load_recipe, settle
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.manifest import IndexRecipe, Manifest
from lookalike.contracts.settings import IndexSettings, Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER, TableContract
from lookalike.storage.delta import DeltaTables

BOUNDARY_SAMPLE = 200_000
"""So many ids are looked at to cut ranges of about equal size; up to as many items are cut exactly."""
SAMPLE_SIGMAS = 5.0
FORMAT: Literal[2] = 2
"""Of the pin and of what the steps leave: a build that was begun in another format cannot be gone on with."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(_Frozen):
    """Item ids from `start` (or the first) to before `stop` (or the last), in the order of their UTF-8 bytes."""

    number: int = Field(ge=0)
    start: str | None
    stop: str | None


class Figures(_Frozen):
    """How list centres lie to a sample: mean distance to the nearest one, and imbalance (1: all lists equally full)."""

    mean_distance: float
    imbalance: float
    sample: int


class Reusable(_Frozen):
    """A release whose list centres may serve again, and the figures of the day when they were trained."""

    version: str
    index_dir: Path
    manifest_sha256: str
    at_training: Figures


class Pin(_Frozen):
    """All inputs of a build."""

    format_version: Literal[1, 2] = FORMAT
    created_at: datetime
    space: EmbeddingSpace
    table_versions: dict[str, int]
    log_offsets: dict[str, int] = Field(description="update-log offsets covered, by partition")
    recipe: IndexRecipe = Field(description="settled: the number of lists is decided")
    chosen_because: str
    shards: tuple[Shard, ...] = Field(min_length=1)
    max_drift: float
    max_imbalance_growth: float
    recall: float = Field(default=0.0, description="recall@10 that search is tuned for")
    reusable: Reusable | None = None
    not_reusable_because: str = ""

    @property
    def build_id(self) -> str:
        """First 16 hex digits of the sha256 of all that the index's bytes depend on."""
        inputs = {
            "format": self.format_version,
            "tables": self.table_versions,
            "space": self.space.fingerprint,
            "recipe": self.recipe.model_dump(),
            "recall": self.recall,
            "quantiser": None
            if self.reusable is None
            else [self.reusable.manifest_sha256, self.max_drift, self.max_imbalance_growth],
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def make_pin(
    settings: Settings,
    space: EmbeddingSpace,
    tables: DeltaTables,
    versions: Mapping[str, int],
    recipe: str | None = None,
    log_offsets: dict[str, int] | None = None,
) -> Pin:
    """Count, choose and settle the recipe, cut the shards. `recipe` overrides `settings.index.recipe`.

    Raises NotFound (table, recipe), SettingsError (no recipe fits), SpaceMismatch or LookalikeError (no vectors, or too
    few for the recipe).
    """
    silver_items = count(tables, SILVER, LIVE_ITEMS, versions[SILVER.name])
    vectors = count(tables, EMBEDDINGS, of_space(space), versions[EMBEDDINGS.name])
    items = min(silver_items, vectors)
    if items == 0:
        explain_nothing(tables, versions, space, silver_items)
    chosen, because = _choose(settings.index, recipe or settings.index.recipe, items, space.dim)
    return Pin(
        created_at=datetime.now(UTC),
        space=space,
        table_versions=dict(versions),
        log_offsets=log_offsets or {},
        recipe=chosen,
        chosen_because=because,
        shards=_shards(tables, versions[SILVER.name], silver_items, settings.index.shard_items),
        max_drift=settings.index.max_drift,
        max_imbalance_growth=settings.index.max_imbalance_growth,
        recall=settings.index.recall,
        not_reusable_because="no release was offered for reuse",
    )


def require_format(pin: Pin) -> None:
    """Raises LookalikeError for a build that an earlier version began."""
    if pin.format_version != FORMAT:
        raise LookalikeError(
            f"build {pin.build_id} was begun by an earlier version, whose shards are of another format; "
            "`lookalike index pin` begins it anew"
        )


def with_quantiser_of(pin: Pin, version: str, index_dir: Path, manifest: Manifest) -> Pin:
    """The pin with that release's list centres offered for reuse, or with the reason why they cannot be used."""
    if pin.recipe.nlist is None:
        return _not_reusable(pin, f"recipe {pin.recipe.name} has no lists to train")
    if manifest.space != pin.space:
        return _not_reusable(pin, f"release {version} is of another embedding space")
    ours, theirs = pin.recipe, manifest.recipe
    if (ours.factory, ours.nlist) != (theirs.factory, theirs.nlist):
        return _not_reusable(pin, f"release {version} has recipe {theirs.name} with {theirs.nlist} lists")
    known = manifest.build.get("quantiser", {}).get("at_training")
    if known is None:
        return _not_reusable(pin, f"the manifest of release {version} keeps no figures of its training")
    offered = Reusable(
        version=version,
        index_dir=index_dir,
        manifest_sha256=manifest.sha256,
        at_training=Figures.model_validate(known),
    )
    return pin.model_copy(update={"reusable": offered, "not_reusable_because": ""})


def drawn(items: int, wanted: int) -> str:
    """SQL that holds for about `wanted` of `items` ids or a little more, the same ones whoever asks; "" for all."""
    share = (wanted + SAMPLE_SIGMAS * math.sqrt(wanted)) / max(items, 1)
    return "" if share >= 1 else f"md5(item_id) < '{int(share * 2**32):08x}'"


def count(tables: DeltaTables, contract: TableContract, where: str, version: int) -> int:
    """Rows of a pinned version, streamed: ids are not kept."""
    return sum(batch.num_rows for batch in tables.batches(contract, ["item_id"], where, version))


def _not_reusable(pin: Pin, because: str) -> Pin:
    return pin.model_copy(update={"reusable": None, "not_reusable_because": because})


def _choose(settings: IndexSettings, name: str, items: int, dim: int) -> tuple[IndexRecipe, str]:
    if name != AUTO:
        return settle(load_recipe(name), items), f"{name} was named in the settings or on the command line"
    recipe, because = choose(items, dim, settings.memory_bytes, settings.latency_ms)
    return settle(recipe, items), because


def _shards(tables: DeltaTables, version: int, items: int, shard_items: int) -> tuple[Shard, ...]:
    wanted = math.ceil(items / shard_items)
    starts: list[str] = []
    if wanted > 1:
        where = " AND ".join(filter(None, (LIVE_ITEMS, drawn(items, BOUNDARY_SAMPLE))))
        ids = tables.read(SILVER, ["item_id"], where, version, order_by="item_id")["item_id"]
        at = sorted({len(ids) * number // wanted for number in range(1, wanted)} - {0})
        starts = sorted({ids[place].as_py() for place in at}, key=str.encode)
    bounds = [None, *starts, None]
    return tuple(Shard(number=number, start=start, stop=stop) for number, (start, stop) in enumerate(pairwise(bounds)))
