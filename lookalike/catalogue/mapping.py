"""The mapping file of an import: which of the user's columns is which, and how text is read as lists and numbers.

Columns that are not named and are not product columns by their own name become filterable attributes.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lookalike.contracts.errors import NotFound, SettingsError
from lookalike.contracts.product import Product

PICTURE_BYTES = "image_bytes"
TARGETS = frozenset({*Product.model_fields, PICTURE_BYTES} - {"synthetic"})
CONSTANTS = frozenset({"brand", "currency", "licence", "licence_url", "author", "author_url"})


class Mapping(BaseModel):
    """A parsed mapping file (TOML); every part may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, str] = Field(default_factory=dict, description="product column -> your column")
    separators: dict[str, str] = Field(
        default={"category_path": ">", "tags": ","}, description="how a text column is cut into a list"
    )
    constants: dict[str, str] = Field(default_factory=dict, description="product column -> value for rows without one")
    ignore: tuple[str, ...] = Field(default=(), description="your columns that are not wanted, not even as attributes")
    picture_root: str | None = Field(default=None, description="where relative picture paths start; default: the data")
    picture_pattern: str | None = Field(
        default=None, description='picture path made from columns, e.g. "photos/{sku}*.jpg"'
    )
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8-sig"
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="of CSV; default: by the header"
    )

    @field_validator("columns")
    @classmethod
    def _known_targets(cls, value: dict[str, str]) -> dict[str, str]:
        return _only(value, TARGETS)

    @field_validator("constants")
    @classmethod
    def _known_constants(cls, value: dict[str, str]) -> dict[str, str]:
        return _only(value, CONSTANTS)

    @field_validator("separators")
    @classmethod
    def _known_lists(cls, value: dict[str, str]) -> dict[str, str]:
        return _only(value, frozenset({"category_path", "tags"}))

    def source_of(self, target: str) -> str:
        """The user's column for a product column: the named one, else the one of the same name."""
        return self.columns.get(target, target)


def _only(value: dict[str, str], allowed: frozenset[str]) -> dict[str, str]:
    unknown = sorted(set(value) - allowed)
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not one of: {', '.join(sorted(allowed))}")
    return value


def read_mapping(path: Path | None) -> Mapping:
    """Read a mapping file; None gives the default mapping (columns by their own names).

    Raises NotFound without the file, SettingsError naming file, key, value and what is allowed.
    """
    if path is None:
        return Mapping()
    if not path.is_file():
        raise NotFound(f"there is no mapping file {path}")
    try:
        return Mapping.model_validate(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"mapping file {path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(path, detail) for detail in error.errors())) from error


def _explain(path: Path, detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"mapping file {path}: unknown key {key}. Known: {', '.join(sorted(Mapping.model_fields))}"
    return f"mapping file {path}: {key} = {detail['input']!r} is not allowed: {detail['msg']}"
