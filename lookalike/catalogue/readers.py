"""Rows of a user's files as dictionaries, streaming: Parquet, CSV and JSON Lines, local or through fsspec.

CSV values stay text ("00123" is an id, not a number). A line that cannot be read becomes a row that says so, and is
refused like any other bad row instead of ending the import.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookalike.catalogue.mapping import Mapping
from lookalike.catalogue.validation import UNREADABLE
from lookalike.contracts.errors import BadQuery, LookalikeError, MissingPrerequisite, NotFound

Row = dict[str, Any]
_FORMATS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}  # fmt: skip
_BATCH = 256  # rows decoded at once: a row may hold a picture's bytes
_MAX_FIELD = 2**30


@dataclass(frozen=True)
class Files:
    """The files of an import. `folder` is where relative picture paths start; `fingerprint` changes with the files."""

    filesystem: Any
    paths: tuple[str, ...]
    format: str
    folder: str
    fingerprint: str


def find_files(path: str) -> Files:
    """The files that `path` (file, folder, glob; local or a URL that fsspec knows) means, in order of their names.

    Raises NotFound when there is none, BadQuery for an unknown or mixed format.
    """
    import fsspec

    try:
        filesystem, root = fsspec.core.url_to_fs(path)
    except ImportError as error:
        raise MissingPrerequisite(f"{path} needs a package: {error}. pip install 'lookalike[cloud]'") from error
    except ValueError as error:
        raise BadQuery(f"{path}: {error}") from error
    if filesystem.isdir(root):
        found, base = filesystem.find(root), root
    elif filesystem.exists(root):
        found, base = [root], str(PurePosixPath(root).parent)
    else:
        found = filesystem.glob(root) if set("*?[") & set(root) else []
        base = str(PurePosixPath(root.partition("*")[0].partition("?")[0].partition("[")[0] + "x").parent)
    paths = sorted(file for file in found if _format(file) and not PurePosixPath(file).name.startswith((".", "_")))
    formats = {_format(file) for file in paths}
    if not paths:
        raise NotFound(f"{path}: no file with one of the endings {', '.join(_FORMATS)} (also .gz for text) is there")
    if len(formats) > 1:
        raise BadQuery(f"{path} holds files of several formats ({', '.join(sorted(formats))}): name one by a glob")
    marks = [[file, *(str(filesystem.info(file).get(key)) for key in ("size", "mtime", "ETag"))] for file in paths]
    fingerprint = hashlib.sha256(json.dumps(marks).encode()).hexdigest()
    return Files(filesystem, tuple(paths), formats.pop(), filesystem.unstrip_protocol(base), fingerprint)


def read_rows(files: Files, mapping: Mapping) -> Iterator[Row]:
    """All rows in order. Raises LookalikeError naming the file that cannot be opened as what its name says."""
    for path in files.paths:
        try:
            if files.format == "parquet":
                yield from _parquet(files, path)
            elif files.format == "csv":
                yield from _csv(files, path, mapping)
            else:
                yield from _json_lines(files, path, mapping)
        except (pa.ArrowInvalid, csv.Error, OSError, EOFError) as error:
            raise LookalikeError(f"{path} cannot be read as {files.format}: {error}") from error
        except (UnicodeDecodeError, LookupError) as error:
            raise LookalikeError(
                f"{path} is not text in {mapping.encoding}: {error}. Name its encoding in the mapping file, e.g. "
                f'encoding = "cp1252"'
            ) from error


def rows_of_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[Row]:
    """Rows of Arrow batches, a few at a time."""
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH):
            yield from batch.slice(start, _BATCH).to_pylist(maps_as_pydicts="lossy")


def _format(path: str) -> str:
    name = PurePosixPath(path).name.lower()
    packed = name.endswith(".gz")
    found = _FORMATS.get(PurePosixPath(name.removesuffix(".gz")).suffix, "")
    return "" if packed and found == "parquet" else found


def _parquet(files: Files, path: str) -> Iterator[Row]:
    with files.filesystem.open(path, "rb") as file:
        yield from rows_of_batches(pq.ParquetFile(file).iter_batches(batch_size=_BATCH))


def _text(files: Files, path: str, encoding: str) -> io.TextIOWrapper:
    raw = files.filesystem.open(path, "rb", compression="gzip" if path.lower().endswith(".gz") else None)
    return io.TextIOWrapper(raw, encoding=encoding, newline="")


def _csv(files: Files, path: str, mapping: Mapping) -> Iterator[Row]:
    csv.field_size_limit(_MAX_FIELD)
    with _text(files, path, mapping.encoding) as file:
        header = file.readline()
        delimiter = mapping.delimiter or max(",;\t|", key=header.count)
        names = next(csv.reader([header], delimiter=delimiter), [])
        for number, fields in enumerate(csv.reader(file, delimiter=delimiter), start=2):
            if not fields:
                continue
            if len(fields) != len(names):
                yield {UNREADABLE: f"{path}, row {number}: {len(fields)} fields, the header has {len(names)}"}
            else:
                yield dict(zip(names, fields, strict=True))


def _json_lines(files: Files, path: str, mapping: Mapping) -> Iterator[Row]:
    with _text(files, path, mapping.encoding) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield {UNREADABLE: f"{path}, line {number} is not JSON: {error}"}
                continue
            yield row if isinstance(row, dict) else {UNREADABLE: f"{path}, line {number} is not a JSON object"}
