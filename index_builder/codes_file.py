"""Codes in a file: a faiss index of plain codes that is written part by part and never has to fit into memory.

faiss writes such an index as a header, a number of bytes, and the bytes. The header of a full index is that of the
empty one with another count of vectors, so the file can be put together from the codes of any number of parts.
"""

import os
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss

from lookalike.contracts.errors import CorruptArtifact

COUNT_AT = 8
"""Of the header: after the kind of index and the dimension, four bytes each."""
COPY_BYTES = 8 * 2**20
JOINING = ".joining"


def join_codes(target: Path, empty: Any, parts: Sequence[tuple[Path, int]]) -> None:
    """Write the codes of `parts`, (file, rows) in order, as the index that `empty` would be with all of them added.

    A part is deleted when it is in the file, so that both together need little more disk than one; killed and called
    again with the same parts, it goes on where it was. Raises CorruptArtifact when a part is missing or of another
    size.
    """
    if target.exists():
        return
    size = int(empty.code_size)
    header = _header(empty, sum(rows for _, rows in parts))
    joining = target.with_suffix(JOINING)
    with joining.open("r+b" if joining.exists() else "w+b") as file:
        there = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(header)
        end = len(header)
        for path, rows in parts:
            start, end = end, end + rows * size
            if path.exists():
                _append(file, start, path, rows * size)
            elif there < end:
                raise CorruptArtifact(f"{path} is missing, and {joining} does not hold it; remove the build's folder")
        file.truncate(end)
        file.flush()
        os.fsync(file.fileno())
    joining.replace(target)


def _append(file: Any, start: int, path: Path, size: int) -> None:
    if path.stat().st_size != size:
        raise CorruptArtifact(f"{path} has {path.stat().st_size:,} bytes, expected {size:,}; remove the build's folder")
    file.seek(start)
    with path.open("rb") as part:
        shutil.copyfileobj(part, file, COPY_BYTES)
    file.flush()
    os.fsync(file.fileno())
    path.unlink()


def _header(empty: Any, rows: int) -> bytes:
    """All that comes before the codes."""
    data = bytearray(faiss.serialize_index(empty).tobytes())
    assert empty.ntotal == 0 and bytes(data[-8:]) == bytes(8), "an empty index ends with its number of bytes of codes"
    data[COUNT_AT : COUNT_AT + 8] = struct.pack("<q", rows)
    unit = 4 if isinstance(empty, faiss.IndexFlat) else 1  # plain vectors are counted in floats, codes in bytes
    data[-8:] = struct.pack("<Q", rows * int(empty.code_size) // unit)
    return bytes(data)
