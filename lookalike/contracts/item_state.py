"""ItemState: everything known about one item, as last-writer-wins registers that merge in any order.

A change carries one version, but touches one column (a price) or all (an upsert). So each column is a register with
the version that last set it, and of two writes to one register the higher version wins. Applying changes and merging
states is then commutative, associative and idempotent as long as an item's versions are distinct (of two values of
one version the one that came first stays): late, repeated and replayed changes are harmless, and a nightly snapshot
and the stream cannot undo each other (a state-based LWW map: Shapiro et al., "A comprehensive study of Convergent and
Commutative Replicated Data Types", INRIA RR-7506, 2011).

The picture's columns are one register: a path of one version never meets a content hash of another.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

PICTURE = "picture"
DELETED = "deleted"
PICTURE_COLUMNS = ("image_path", "content_hash", "width", "height")
PLAIN_COLUMNS = (
    "title", "brand", "category_path", "tags", "group_id", "price", "currency", "stock", "licence", "licence_url",
    "author", "author_url", "attributes", "keywords", "synthetic", "source",
)  # fmt: skip
STATE_COLUMNS = (*PLAIN_COLUMNS, *PICTURE_COLUMNS)
REGISTERS = (*PLAIN_COLUMNS, PICTURE, DELETED)
PATCHABLE = tuple(column for column in PLAIN_COLUMNS if column not in ("group_id", "synthetic", "source"))
"""Columns that an attribute change may set."""
UNSEEN = -1
"""Version of a register that nothing has set: a tombstone of an item that was never described."""


class Outcome(StrEnum):
    """What applying a change did."""

    CHANGED = "changed"
    REPEATED = "repeated"  # a register that it touches has exactly its version: the same change again
    BEHIND = "behind"  # every register that it touches has a higher version


@dataclass(frozen=True)
class ItemState:
    """Immutable. `columns` has all of STATE_COLUMNS (None or empty where absent) once a whole row has described the
    item; before that, as for a bare tombstone, it is empty or has the columns that were set.

    `base_version` is the version of the last whole row; `column_versions` has the registers set since, by name, each
    higher than `base_version`. `changed_at` is the event time of the change of the highest version, None when that is
    a row of a snapshot; it follows the version, since a change that is behind must leave no trace.
    """

    item_id: str
    base_version: int
    columns: Mapping[str, Any] = field(default_factory=dict)
    column_versions: Mapping[str, int] = field(default_factory=dict)
    deleted: bool = False
    changed_at: datetime | None = None

    @property
    def version(self) -> int:
        """Highest version of any register: what the `version` column shows."""
        return max(self.base_version, *self.column_versions.values(), UNSEEN)

    @property
    def described(self) -> bool:
        """Whether the item's columns are known; not so for the tombstone of an unknown item."""
        return self.base_version > UNSEEN

    @property
    def content_hash(self) -> str | None:
        """sha256 of the picture's bytes."""
        return self.columns.get("content_hash")

    def version_of(self, register: str) -> int:
        """Version that last set the register."""
        return self.column_versions.get(register, self.base_version)

    def upsert(self, version: int, columns: Mapping[str, Any], at: datetime | None) -> "tuple[ItemState, Outcome]":
        """A whole row: sets every register that has no higher version, and undoes an older delete."""
        row = ItemState(self.item_id, version, columns, {}, False, at)
        if version <= self.base_version:
            return self, Outcome.REPEATED if version == self.base_version else Outcome.BEHIND
        return self.merge(row), Outcome.CHANGED

    def set_columns(self, version: int, columns: Mapping[str, Any], at: datetime) -> "tuple[ItemState, Outcome]":
        """An attribute change: names and values of PATCHABLE columns."""
        return self._set({name: (name, value) for name, value in columns.items()}, version, at)

    def set_deleted(self, version: int, deleted: bool, at: datetime) -> "tuple[ItemState, Outcome]":
        """A delete or a restore."""
        return self._set({DELETED: (None, deleted)}, version, at)

    def merge(self, other: "ItemState") -> "ItemState":
        """Both states joined: per register the higher version, on a tie this one's value."""
        base = max(self.base_version, other.base_version)
        columns: dict[str, Any] = {}
        versions: dict[str, int] = {}
        deleted = self.deleted
        for register in REGISTERS:
            mine, theirs = self.version_of(register), other.version_of(register)
            winner = other if theirs > mine else self
            if max(mine, theirs) > base:
                versions[register] = max(mine, theirs)
            if register == DELETED:
                deleted = winner.deleted
            else:
                names = PICTURE_COLUMNS if register == PICTURE else (register,)
                source = winner if winner.columns else (other if other.columns else self)
                columns |= {name: source.columns[name] for name in names if name in source.columns}
        return ItemState(
            self.item_id, base, columns, versions, deleted, self._changed_at(other.version, other.changed_at)
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "item_id": self.item_id,
            "base_version": self.base_version,
            "columns": dict(self.columns),
            "column_versions": dict(self.column_versions),
            "deleted": self.deleted,
            "changed_at": None if self.changed_at is None else self.changed_at.astimezone(UTC).isoformat(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ItemState":
        """The other way."""
        at = values["changed_at"]
        return cls(
            values["item_id"], values["base_version"], values["columns"], values["column_versions"],
            values["deleted"], None if at is None else datetime.fromisoformat(at),
        )  # fmt: skip

    def to_json(self) -> str:
        """Canonical: equal states give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def _changed_at(self, version: int, at: datetime | None) -> datetime | None:
        if version != self.version:
            return at if version > self.version else self.changed_at
        return max((time for time in (at, self.changed_at) if time is not None), default=None)

    def _set(
        self, writes: Mapping[str, tuple[str | None, Any]], version: int, at: datetime
    ) -> "tuple[ItemState, Outcome]":
        newer = {register: write for register, write in writes.items() if version > self.version_of(register)}
        if not newer:
            same = any(self.version_of(register) == version for register in writes)
            return self, Outcome.REPEATED if same else Outcome.BEHIND
        columns = dict(self.columns) | {column: value for column, value in newer.values() if column is not None}
        deleted = newer[DELETED][1] if DELETED in newer else self.deleted
        versions = dict(self.column_versions) | dict.fromkeys(newer, version)
        changed_at = self._changed_at(version, at)
        return ItemState(self.item_id, self.base_version, columns, versions, deleted, changed_at), Outcome.CHANGED


def unknown_item(item_id: str) -> ItemState:
    """The state of an item of which nothing is known: every change is newer."""
    return ItemState(item_id, UNSEEN)


def state_of_row(row: Mapping[str, Any]) -> ItemState:
    """The state that a SILVER row (or a row of a release's item columns) holds. Maps may be pairs, as Arrow gives."""
    base = row.get("base_version")
    columns = {name: row.get(name) for name in STATE_COLUMNS}
    for name in ("attributes", "keywords"):
        columns[name] = dict(columns[name] or ())
    for name in ("category_path", "tags", "synthetic"):
        columns[name] = list(columns[name] or ())
    return ItemState(
        item_id=row["item_id"],
        base_version=row["version"] if base is None else base,
        columns=columns,
        column_versions=dict(row.get("column_versions") or ()),
        deleted=bool(row.get("deleted", False)),
        changed_at=row.get("changed_at"),
    )
