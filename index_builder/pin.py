"""Pin: what one build is made of, decided once and written down before any work starts.

Table versions, space, recipe and thresholds make the build's id, so that the same inputs are the same build. Shards are
ranges of item ids: rows stand in the order of their ids, so shards joined in order are the whole, however many there
are and whoever encodes them when.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from index_builder.bounds import Bounds
from index_builder.costs import Workload
from index_builder.device import Device, choose_device, require_one_wheel
from index_builder.memory import MemoryPlan
from index_builder.recipes import AUTO, choose, load_recipe, settle
from index_builder.source import Shard, Source
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.manifest import IndexRecipe, Manifest
from lookalike.contracts.settings import IndexSettings, Settings
from lookalike.contracts.space import EmbeddingSpace

FORMAT: Literal[4] = 4
"""Of the pin and of what the steps leave: a build that was begun in another format cannot be gone on with."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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

    format_version: Literal[1, 2, 3, 4] = FORMAT
    created_at: datetime
    space: EmbeddingSpace
    table_versions: dict[str, int] = Field(description="of the source: equal versions are equal rows")
    log_offsets: dict[str, int] = Field(description="update-log offsets covered, by partition")
    recipe: IndexRecipe = Field(description="settled: the number of lists is decided")
    chosen_because: str
    shards: tuple[Shard, ...] = Field(min_length=1)
    max_drift: float
    max_imbalance_growth: float
    recall: float = Field(default=0.0, description="recall@10 that search is tuned for")
    device: Device = Field(default="cpu", description="that lists are trained and graphs made on")
    device_because: str = ""
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
        } | ({} if self.device == "cpu" else {"device": self.device})
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def make_pin(
    settings: Settings,
    source: Source,
    recipe: str | None = None,
    log_offsets: dict[str, int] | None = None,
    words: bool = False,
) -> Pin:
    """Count, choose and settle the recipe, cut the shards. `recipe` overrides `settings.index.recipe`.

    `words`: whether the steps will be given an encoder of texts, which takes memory too. Raises NotFound (table,
    recipe), SettingsError (no recipe fits, or the cap of memory is too low), MissingPrerequisite (a GPU is demanded),
    SpaceMismatch or LookalikeError (no vectors, too few for the recipe, or two wheels of faiss).
    """
    require_one_wheel()
    items, dim = source.count(), source.space.dim
    chosen, because = _choose(settings.index, recipe or settings.index.recipe, items, dim)
    plan = MemoryPlan(settings.index, chosen, dim, source.item_bytes(), words)
    plan.require_merge(items)
    chosen = chosen.model_copy(update={"train_points_per_list": plan.train_points()})
    device, why_device = choose_device(settings.index.device, chosen, items, dim)
    return Pin(
        created_at=datetime.now(UTC),
        space=source.space,
        table_versions=source.versions,
        log_offsets=log_offsets or {},
        recipe=chosen,
        chosen_because=because,
        shards=source.shards(plan.shard_items()),
        max_drift=settings.index.max_drift,
        max_imbalance_growth=settings.index.max_imbalance_growth,
        recall=settings.index.recall,
        device=device,
        device_because=why_device,
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
    theirs = manifest.recipe
    if pin.recipe.nlist != theirs.nlist:  # centres lie on the encoder's own axes, whatever is coded around them
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


def _not_reusable(pin: Pin, because: str) -> Pin:
    return pin.model_copy(update={"reusable": None, "not_reusable_because": because})


def _choose(settings: IndexSettings, name: str, items: int, dim: int) -> tuple[IndexRecipe, str]:
    if name != AUTO:
        return settle(load_recipe(name), items), f"{name} was named in the settings or on the command line"
    workload = Workload(items, dim, settings.recall)
    recipe, because = choose(workload, Bounds(settings.memory_bytes, settings.latency_ms))
    return settle(recipe, items), because
