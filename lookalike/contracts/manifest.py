"""Manifest: what a sealed index is, from what it was built, and the checksum of each of its files."""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lookalike.contracts.space import EmbeddingSpace

MANIFEST_NAME = "manifest.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Frozen):
    """One file of the artifact."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class IndexRecipe(_Frozen):
    """A way to build an index, as data (index_builder/recipes/*.toml)."""

    name: str
    description: str
    factory: str = Field(description="faiss index_factory string; {nlist} is filled in by the builder")
    search: dict[str, int] = Field(default_factory=dict, description="search parameters, e.g. nprobe, efSearch")
    train_points_per_list: int = Field(default=0, ge=0)
    nlist: int | None = Field(default=None, ge=1)
    code_bytes: int = Field(default=0, ge=0, description="of an item's code in a list, at most; 0 in older artifacts")


class OperatingPoint(_Frozen):
    """Measured by the builder; a gate measures again and never trusts this."""

    search: dict[str, int]
    recall_at_10: float = Field(description="of questions that are pictures")
    recall_at_10_of_texts: float | None = Field(default=None, description="of questions that are words, when asked")
    lists_probed: float | None = Field(default=None, description="for a picture, on average, of an index with lists")
    lists_probed_of_texts: float | None = None
    mean_ms: float


class Manifest(_Frozen):
    """Everything needed to decide whether an artifact may be opened, and with which encoder."""

    format_version: Literal[1] = 1
    created_at: datetime
    space: EmbeddingSpace
    recipe: IndexRecipe
    chosen_because: str
    items: int = Field(ge=0)
    table_versions: dict[str, int] = Field(description="pinned Delta version by table name")
    log_offsets: dict[str, int] = Field(default_factory=dict, description="update-log offsets covered, by partition")
    search: dict[str, int] = Field(default_factory=dict, description="tuned search parameters; none: the recipe's")
    operating_points: tuple[OperatingPoint, ...] = Field(
        default=(), description="the curve that `search` is chosen from"
    )
    files: dict[str, FileRecord]
    build: dict[str, Any] = Field(default_factory=dict, description="seconds, peak memory, library versions")

    @property
    def sha256(self) -> str:
        """Identity of the whole artifact: it covers each file through its checksum."""
        dumped = self.model_dump(mode="json")
        # What came to the format later and is not used leaves no trace: older artifacts keep their identity.
        if not self.search:
            del dumped["search"]
        if not self.recipe.code_bytes:
            del dumped["recipe"]["code_bytes"]
        for point in dumped["operating_points"]:
            for name in ("recall_at_10_of_texts", "lists_probed", "lists_probed_of_texts"):
                if point[name] is None:
                    del point[name]
        canonical = json.dumps(dumped, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """Read `manifest.json` of an artifact directory."""
        return cls.model_validate_json((directory / MANIFEST_NAME).read_text())
