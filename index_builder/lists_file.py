"""Lists in a file: a faiss index of inverted lists, joined from those of all shards without ever holding it.

faiss writes such an index as a header and its lists one after the other. The header of a full index is that of the
empty one with another count of vectors, and where a list begins follows from the sizes of those before; so a range of
lists is taken from every shard, joined by faiss itself, and written behind the ranges before it.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index_builder.codes_file import COUNT_AT, JOINING
from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.progress import Step

FAISS: Any = faiss
"""Its type stubs do not know all of its classes."""
RANGE_BYTES = 64 * 2**20
"""So much of all lists is joined at a time, or a single list."""
HEADER = 36
"""Of lists: their kind in four bytes, then in eight each their count, size of a code, codes per block, its bytes."""
EMPTY_LIST = 16
"""Two sizes, of its ids and of its blocks."""

Sizes = NDArray[np.int64]


def sizes_of(lists: Any) -> Sizes:
    """Codes in each of the inverted lists, shape (nlist,)."""
    return np.array([lists.list_size(number) for number in range(lists.nlist)], np.int64)


def imbalance_of(sizes: Sizes) -> float:
    """Of lists of these sizes; 1: all equally full (faiss's imbalance factor)."""
    return float(len(sizes) * (sizes.astype(np.float64) ** 2).sum() / sizes.sum(dtype=np.float64) ** 2)


def join_lists(target: Path, empty: Any, parts: Sequence[tuple[Path, Sizes]], step: Step) -> None:
    """Write the index that `empty` would be with the rows of all `parts`, (file, sizes of its lists), added in order.

    `target` is there whole or not at all, and is not written again; then the parts are deleted. `step` advances by
    rows. Raises CorruptArtifact for a part of another size.
    """
    if not target.exists():
        joining = target.with_suffix(JOINING)
        _join(joining, empty, parts, step)
        joining.replace(target)
    for path, _ in parts:
        path.unlink(missing_ok=True)


def _join(target: Path, empty: Any, parts: Sequence[tuple[Path, Sizes]], step: Step) -> None:
    lists = faiss.downcast_InvertedLists(empty.invlists)
    assert isinstance(lists, FAISS.BlockInvertedLists), "lists are of blocks of codes, as a fast scan reads them"
    data = bytearray(faiss.serialize_index(empty).tobytes())
    begin = len(data) - EMPTY_LIST * lists.nlist
    total = np.sum([sizes for _, sizes in parts], axis=0)
    data[COUNT_AT : COUNT_AT + 8] = struct.pack("<q", int(total.sum()))
    before = np.cumsum([0, *(int(sizes.sum()) for _, sizes in parts)])
    places = [_places(sizes, lists, begin) for _, sizes in parts]
    for (path, _), place in zip(parts, places, strict=True):
        if path.stat().st_size != place[-1]:
            raise CorruptArtifact(
                f"{path} has {path.stat().st_size:,} bytes, expected {place[-1]:,}; remove the build's folder"
            )
    kind = bytes(data[begin - HEADER : begin])
    with target.open("wb") as file:
        file.write(data[:begin])
        for first, last in _ranges(_places(total, lists, 0)):
            count = last - first
            with _lists(kind, count, bytes(EMPTY_LIST * count)) as joined:
                joined.packer = empty.get_CodePacker()  # which the lists own from now on
                for (path, _), place, start in zip(parts, places, before.tolist(), strict=False):
                    with _lists(kind, count, _read(path, place[first], place[last])) as piece:
                        _append(joined, piece, start)
                _clear_unused_slots(joined)
                file.write(_written(joined).data)
            step.advance(int(total[first:last].sum()))
        file.flush()
        os.fsync(file.fileno())


def _append(joined: Any, piece: Any, start: int) -> None:
    """The lists of `piece` behind those of `joined`, rows numbered from `start` on; `piece` is empty then."""
    held, more = sizes_of(joined), sizes_of(piece)
    # faiss 1.15 takes a list for empty whose codes are a multiple of a block's bytes, and writes beyond its end.
    for number in np.flatnonzero((held > 0) & (held % joined.block_size == 0) & (more > 0)).tolist():
        _append_blocks(joined, piece, number, start)
    joined.merge_from(piece, start)


def _append_blocks(joined: Any, piece: Any, number: int, start: int) -> None:
    """One list behind full blocks."""
    held, more = joined.list_size(number), piece.list_size(number)
    own, size = held // joined.n_per_block * joined.block_size, -(-more // joined.n_per_block) * joined.block_size
    joined.resize(number, held + more)
    faiss.rev_swig_ptr(joined.get_ids(number), held + more)[held:] = (
        faiss.rev_swig_ptr(piece.get_ids(number), more) + start
    )
    faiss.rev_swig_ptr(joined.get_codes(number), own + size)[own:] = faiss.rev_swig_ptr(piece.get_codes(number), size)
    piece.resize(number, 0)


def _places(sizes: Sizes, lists: Any, begin: int) -> list[int]:
    """Where in a file each list begins, and where the last one ends."""
    blocks = -(-sizes // lists.n_per_block)
    each = EMPTY_LIST + sizes * 8 + blocks * lists.block_size
    return [begin, *(begin + np.cumsum(each)).tolist()]


def _ranges(places: list[int]) -> Iterator[tuple[int, int]]:
    """Cut the lists so that each range has about RANGE_BYTES."""
    first = 0
    while first < len(places) - 1:
        last = int(np.searchsorted(places, places[first] + RANGE_BYTES, side="right")) - 1
        yield first, (last := max(last, first + 1))
        first = last


def _read(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), stop - start, start)


@contextmanager
def _lists(kind: bytes, count: int, body: bytes) -> Iterator[Any]:
    """faiss's object of the `count` lists in `body`."""
    reader = faiss.VectorIOReader()
    patched = kind[:4] + struct.pack("<Q", count) + kind[12:] + body
    faiss.copy_array_to_vector(np.frombuffer(patched, np.uint8), reader.data)
    lists: Any = faiss.read_InvertedLists(reader)
    try:
        yield lists
    finally:
        FAISS.BlockInvertedLists.__swig_destroy__(lists)  # reading gives what nobody else frees


def _written(lists: Any) -> NDArray[np.uint8]:
    """The lists as they stand in a file, without their header."""
    writer = faiss.VectorIOWriter()
    faiss.write_InvertedLists(lists, writer)
    return np.asarray(faiss.vector_to_array(writer.data))[HEADER:]


def _clear_unused_slots(lists: Any) -> None:
    """Zero the slots behind the last code of each list: joining leaves there what happened to lie in memory."""
    zero = np.zeros(lists.packer.code_size, np.uint8)
    for number in range(lists.nlist):
        full, used = divmod(lists.list_size(number), lists.n_per_block)
        if used:
            # The last block alone: faiss's Python layer refuses slots far into a long list.
            codes = faiss.rev_swig_ptr(lists.get_codes(number), (full + 1) * lists.block_size).reshape(full + 1, -1)
            for slot in range(used, lists.n_per_block):
                lists.packer.pack_1(zero, slot, codes[full:])
