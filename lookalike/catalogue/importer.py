"""`catalogue import`: a user's own table to a snapshot, streaming, in parts that a killed run need not write again.

Nothing is judged here: values that cannot be read stay as they came, so that ingest refuses the row and says why.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from lookalike.catalogue.mapping import PICTURE_BYTES, TARGETS, Mapping, read_mapping
from lookalike.catalogue.picture_source import PictureSource
from lookalike.catalogue.readers import Row, find_files, read_rows, rows_of_batches
from lookalike.catalogue.snapshot import RECEIVED_SCHEMA, Night, Snapshot, SnapshotWriter
from lookalike.catalogue.validation import UNREADABLE
from lookalike.contracts.errors import BadQuery, NotFound
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings

ROWS_PER_PART = 20_000
_MAX_SOURCE = re.compile(r"[\w.+:-]{1,100}")
_TEXTS = ("item_id", "title", "brand", "group_id", "currency", "licence", "licence_url", "author", "author_url")
_NUMBERS = {
    ".": re.compile(r"^\d{1,3}(,\d{3})+(\.\d+)?$|^\d*\.?\d+$"),
    ",": re.compile(r"^\d{1,3}(\.\d{3})+(,\d+)?$|^\d*,?\d+$"),
}
_CURRENCY = re.compile(r"^(?:[€$£¥]|[A-Z]{3})\s*|\s*(?:[€$£¥]|[A-Z]{3})$")


def import_catalogue(
    settings: Settings,
    path: str,
    mapping: Path | None,
    progress: Progress,
    source: str = "import",
    complete: bool = False,
    batches: Iterator[pa.RecordBatch] | None = None,
    night: Night | None = None,
) -> Snapshot:
    """Write a snapshot from Parquet, CSV or JSON Lines files, or from `batches` (a Delta table opened by the caller).

    `complete`: the files are the source's whole catalogue, so items that are absent were withdrawn. Rows without a
    version get the time of the import in ms, with `night` its moment of that day: rows of a later night are newer.
    Raises NotFound, BadQuery, SettingsError (mapping) or LookalikeError.
    """
    if not _MAX_SOURCE.fullmatch(source):
        raise BadQuery(f"source {source!r}: allowed are up to 100 letters, digits and . _ + : -")
    columns = read_mapping(mapping)
    if batches is None:
        files = find_files(path)
        rows, folder, fingerprint = read_rows(files, columns), files.folder, files.fingerprint
    else:
        rows, folder, fingerprint = rows_of_batches(batches), path.rstrip("/"), _delta_fingerprint(path)
    same_job = [path, fingerprint, columns.model_dump(mode="json"), source, complete]
    job = json.dumps(same_job if night is None else [*same_job, night.day.isoformat()])
    writer = SnapshotWriter(
        settings.snapshots_root, f"import-{hashlib.sha256(job.encode()).hexdigest()[:24]}", RECEIVED_SCHEMA, night
    )
    pictures = PictureSource(columns, folder, settings.pictures_root)
    receive = Receiver(columns, pictures, writer.started_ms())
    with progress.step(f"import {source}") as step:
        rows = _checked(rows, columns, path)
        part = 0
        while first := next(rows, None):
            some = (row for group in ([first], islice(rows, ROWS_PER_PART - 1)) for row in group)
            if writer.has(part):
                done = sum(1 for _ in some)
            else:
                received = [receive.row(row) for row in some]
                writer.write(part, received)
                done = len(received)
            step.advance(done)
            part += 1
    return writer.finish(source, complete)


class Receiver:
    """Turns a user's row into the columns of a snapshot."""

    def __init__(self, mapping: Mapping, pictures: PictureSource, version: int) -> None:
        self._mapping, self._pictures, self._version = mapping, pictures, version
        self._sources = {target: mapping.source_of(target) for target in TARGETS}
        self._taken = {*self._sources.values(), *mapping.ignore}

    def row(self, row: Row) -> dict[str, Any]:
        """One received row; never raises for a bad value."""
        if UNREADABLE in row:
            return {"attributes": [(UNREADABLE, row[UNREADABLE])]}
        value = {target: row.get(column) for target, column in self._sources.items()}
        constants = self._mapping.constants
        received: dict[str, Any] = {name: _text(value[name]) or constants.get(name) for name in _TEXTS}
        version = _version(value["version"])
        return received | {
            "version": str(self._version) if version is None else version,
            "image_path": self._pictures.locate(row),
            "price": self._number(value["price"]),
            "stock": self._number(value["stock"]),
            "category_path": self._list("category_path", value["category_path"]),
            "tags": self._list("tags", value["tags"]),
            "attributes": self._attributes(row, value["attributes"]),
            "keywords": _keywords(value["keywords"]),
            "synthetic": [],
        }

    def _number(self, value: Any) -> str | None:
        """ "€ 1,299.00" -> "1299.00"; what does not look like a number in the mapping's notation stays as it is."""
        text = _text(value)
        if text is None or not isinstance(value, str):
            return text
        bare = _CURRENCY.sub("", text)
        decimal = self._mapping.decimal
        if not _NUMBERS[decimal].match(bare):
            return text
        return bare.replace("." if decimal == "," else ",", "").replace(",", ".")

    def _list(self, column: str, value: Any) -> list[str] | None:
        if isinstance(value, str):
            cut = self._mapping.separators.get(column)
            return [word.strip() for word in (value.split(cut) if cut else [value]) if word.strip()]
        if isinstance(value, list | tuple):
            return [text for text in map(_text, value) if text]
        text = _text(value)
        return [text] if text else None

    def _attributes(self, row: Row, given: Any) -> list[tuple[str, str]]:
        found = dict(given) if isinstance(given, dict) else {}
        if given is not None and not isinstance(given, dict):
            found["attributes"] = given
        found |= {name: value for name, value in row.items() if name and name not in self._taken}
        texts = {str(name): _text(value) for name, value in found.items()}
        return [(name, text) for name, text in texts.items() if text is not None]


def _text(value: Any) -> str | None:
    """Text of any value; None and empty text give None."""
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return value.hex() if isinstance(value, bytes) else str(value)


def _version(value: Any) -> str | None:
    """A version as whole-number text; times (also ISO 8601 text with a date) become ms since 1970, UTC if unnamed."""
    if isinstance(value, str) and re.match(r"^\d{4}-\d\d-\d\d", value.strip()):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return str(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return str(int(aware.timestamp() * 1_000))
    return _text(value)


def _keywords(value: Any) -> list[tuple[str, list[str]]]:
    if not isinstance(value, dict):
        return []
    return [(str(key), [str(word) for word in words]) for key, words in value.items() if isinstance(words, list)]


def _checked(rows: Iterator[Row], mapping: Mapping, path: str) -> Iterator[Row]:
    """The rows, after the first readable one has shown that the columns which every product needs can be found."""
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if UNREADABLE not in row:
            _require_columns(set(row), mapping, path)
            break
    yield from held
    yield from rows


def _require_columns(there: set[str], mapping: Mapping, path: str) -> None:
    needed = {*mapping.columns, "item_id", "title"}
    missing = [target for target in sorted(needed) if mapping.source_of(target) not in there]
    if not {mapping.source_of("image_path"), mapping.source_of(PICTURE_BYTES)} & there and not mapping.picture_pattern:
        missing.append("image_path or image_bytes (or picture_pattern)")
    if missing:
        raise NotFound(
            f"{path} has no column for {', '.join(missing)}. Its columns: {', '.join(sorted(map(str, there)))}. Name "
            f'them in a mapping file: [columns] with lines such as item_id = "sku"'
        )


def _delta_fingerprint(path: str) -> str:
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(f"{path.rstrip('/')}/_delta_log")
    log = sorted(filesystem.ls(root, detail=False)) if filesystem.exists(root) else []
    return hashlib.sha256(json.dumps(log).encode()).hexdigest()
