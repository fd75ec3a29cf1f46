"""Where the picture of an imported row is: a path, a glob, a URL, or bytes in a column that go to the picture store."""

import base64
import binascii
import bisect
import fnmatch
import glob
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from lookalike.catalogue.mapping import PICTURE_BYTES, Mapping
from lookalike.catalogue.pictures import store_picture

_WILD = re.compile(r"[*?\[]")
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


class PictureSource:
    """Resolves pictures of one import. `folder` is where relative paths start (a URL or a local path)."""

    def __init__(self, mapping: Mapping, folder: str, pictures_root: Path) -> None:
        self._pattern = mapping.picture_pattern
        self._bytes_column = mapping.source_of(PICTURE_BYTES)
        self._path_column = mapping.source_of("image_path")
        base = mapping.picture_root or folder
        self._base = base.removeprefix("file://").removeprefix("local://")
        if "://" not in self._base:
            self._base = str(Path(self._base).absolute())
        self._root = pictures_root

    def locate(self, row: dict[str, Any]) -> str | None:
        """What becomes `image_path`; None when the row names no picture. A path that does not exist stays as it is."""
        data = _bytes(row.get(self._bytes_column))
        if data is not None:
            return store_picture(self._root, data, _suffix(data))
        value = row.get(self._path_column)
        if isinstance(value, dict):  # Hugging Face's form of a picture: {"bytes": …, "path": …}
            data = _bytes(value.get("bytes"))
            if data is not None:
                return store_picture(self._root, data, _suffix(data))
            value = value.get("path")
        if self._pattern is not None and not value:
            return self._find(re.sub(r"\{([^{}]+)\}", lambda match: _escaped(row.get(match[1])), self._pattern))
        if isinstance(value, bytes):
            return store_picture(self._root, value, _suffix(value))
        return self._find(value.strip()) if isinstance(value, str) and value.strip() else None

    def _find(self, path: str) -> str:
        if "://" in path:
            return path
        full = path if Path(path).is_absolute() else f"{self._base.rstrip('/')}/{path}"
        if "://" in full or not _WILD.search(path) or Path(full).exists():
            return full
        folder, _, name = full.rpartition("/")
        if _WILD.search(folder):
            return min(glob.iglob(full), default=full)  # noqa: PTH207
        return _first_match(folder, name) or full


def _first_match(folder: str, pattern: str) -> str | None:
    """First file by name: looked up by the fixed start of the pattern, so that a row does not cost a whole listing."""
    names = _listing(folder)
    literal = _WILD.split(pattern, maxsplit=1)[0]
    for name in names[bisect.bisect_left(names, literal) :]:
        if not name.startswith(literal):
            return None
        if fnmatch.fnmatchcase(name, pattern):
            return f"{folder}/{name}"
    return None


@lru_cache(maxsize=4)
def _listing(folder: str) -> tuple[str, ...]:
    path = Path(folder)
    return tuple(sorted(entry.name for entry in path.iterdir())) if path.is_dir() else ()


def _escaped(value: Any) -> str:
    return glob.escape("" if value is None else str(value))


def _bytes(value: Any) -> bytes | None:
    """Raw bytes, or base64 text (also a data: URL) as CSV and JSON carry them; other text is kept as bad bytes."""
    if isinstance(value, bytes):
        return value or None
    if not isinstance(value, str) or not value.strip():
        return None
    text = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return value.encode(errors="replace")


def _suffix(data: bytes) -> str:
    return next((suffix for start, suffix in _SUFFIXES.items() if data.startswith(start)), ".bin")
