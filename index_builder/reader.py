"""Reader: a sealed artifact opened read-only, every file checked against the manifest first.

What a search starts with (lists of 1-bit codes, a graph, or plain vectors) is in memory or mapped; finer codes, where
there are some, stay on disk and are read for the candidates only.

A search is planned per call. Where few rows pass the filter, they are compared exactly: a graph or a list probe would
find too few of them. Where many pass, the index searches deeper in proportion, and what it still misses is compared
exactly, so that k rows come back whenever k rows pass.
"""

import bisect
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc
from pydantic import ValidationError

from index_builder.coded_block import CodedBlock
from index_builder.finest_codes import FinestCodes
from index_builder.parts import coarse, finest, list_centres, refinement
from index_builder.plan import Plan, plan_search
from index_builder.search_parameters import parameters, selector
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.manifest import MANIFEST_NAME, Manifest
from lookalike.contracts.sealed_index import Rows

INDEX_NAME = "index.faiss"
REFINE_NAME = "refine.faiss"
ITEMS_NAME = "items.arrow"
SCAN_SHARE = 28
"""Gathering one row costs about as much as skipping this many in a scan with a bitmap (measured: 0.2 µs, 7 ns)."""


class FaissIndex:
    """The SealedIndex port over one artifact directory. Thread-safe: nothing changes after opening."""

    def __init__(self, manifest: Manifest, index: Any, columns: pa.Table, refine: FinestCodes | None = None) -> None:
        """`refine`: finer codes that `index` does not hold itself."""
        # `index` owns the memory: a downcast of it alone would be left dangling.
        self._manifest, self._index, self._columns = manifest, index, columns
        self._recipe = manifest.recipe.model_copy(update={"search": manifest.search or manifest.recipe.search})
        self._ids = columns["item_id"]
        self._coarse = coarse(index)
        self._refines = refine is not None or refinement(index) is not None
        self._finest = refine or FinestCodes(finest(index), manifest.items)

    @property
    def manifest(self) -> Manifest:
        """What this artifact is and from what it was built."""
        return self._manifest

    @property
    def columns(self) -> pa.Table:
        """Item columns, mapped from disk; row i describes vector i."""
        return self._columns

    def search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None, exact: bool = False
    ) -> tuple[Vectors, Rows]:
        """Best k rows per query; see the port. `exact` compares every allowed row."""
        scores, rows, _ = self.planned_search(queries, k, allowed, exact)
        return scores, rows

    def planned_search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None, exact: bool = False
    ) -> tuple[Vectors, Rows, Literal["index", "exact"]]:
        """`search`, and how it was answered: "exact" when every allowed row was compared for every query."""
        queries = self._checked(queries, allowed)
        matching = self._manifest.items if allowed is None else int(np.count_nonzero(allowed))
        wanted = min(k, matching)
        if wanted == 0 or len(queries) == 0:
            return (*_padded([], [], len(queries), k), "exact")
        plan = plan_search(self._recipe, self._manifest.items, matching, wanted, exact)
        if plan.exact:
            return (*self._exact(queries, k, allowed, matching), "exact")
        scores, rows = self._by_index(plan, queries, wanted, allowed)
        short = np.flatnonzero((rows[:, :wanted] < 0).any(axis=1))
        if len(short):
            scores[short], rows[short] = self._exact(queries[short], wanted, allowed, matching)
        return (*_padded(scores, rows, len(queries), k), "exact" if len(short) == len(queries) else "index")

    def search_with(self, search: dict[str, int], queries: Vectors, k: int) -> tuple[Vectors, Rows]:
        """Search with these parameters and no plan: for measuring operating points."""
        return self._by_index(Plan(False, search), self._checked(queries, None), k, None)

    def search_depths(
        self, search: dict[str, int], queries: Vectors, k: int, factors: Sequence[int]
    ) -> dict[int, Rows]:
        """Best k rows when `factor` times k candidates are refined, for each of `factors`, from one first search."""
        queries = self._checked(queries, None)
        given = parameters(self._coarse, search, None)
        candidates = self._coarse.search(queries, k * max(factors), params=given)[1]
        # The deepest first: it reads all that the others need.
        return {
            factor: self._finest.best_of(queries, candidates[:, : k * factor], k)[1]
            for factor in sorted(factors, reverse=True)
        }

    def vectors(self, rows: Rows) -> Vectors:
        """Decode rows from the finest codes; see the port. Raises IndexError for a row that is not there."""
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if len(rows) == 0:
            return np.empty((0, self._manifest.space.dim), np.float32)
        if rows.min() < 0 or rows.max() >= self._manifest.items:
            raise IndexError(f"rows must be within 0..{self._manifest.items - 1}; got {rows.min()}..{rows.max()}")
        return self._finest.decode(rows)

    def rows_of(self, item_ids: Sequence[str]) -> Rows:
        """Row of each item id, -1 where absent: bisection in the mapped, sorted id column, no table in memory."""
        found = np.full(len(item_ids), -1, dtype=np.int64)
        for position, item_id in enumerate(item_ids):
            row = bisect.bisect_left(range(len(self._ids)), item_id, key=lambda at: self._ids[at].as_py())
            if row < len(self._ids) and self._ids[row].as_py() == item_id:
                found[position] = row
        return found

    def centres(self) -> Vectors | None:
        """Centres of the inverted lists, shape (nlist, dim); None where the index has no lists."""
        return list_centres(self._index)

    def block(self, vectors: Vectors) -> CodedBlock:
        """A block of other vectors; see the port."""
        return CodedBlock.of(vectors)

    def _checked(self, queries: Vectors, allowed: NDArray[np.bool_] | None) -> Vectors:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self._manifest.space.dim:
            raise ValueError(f"queries must have shape (n, {self._manifest.space.dim}); got {queries.shape}")
        if allowed is not None and allowed.shape != (self._manifest.items,):
            raise ValueError(f"allowed must have shape ({self._manifest.items},); got {allowed.shape}")
        return queries

    def _by_index(
        self, plan: Plan, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[Vectors, Rows]:
        wanted = k * plan.search["k_factor"] if self._refines else k
        found = self._coarse.search(queries, wanted, params=parameters(self._coarse, plan.search, selector(allowed)))
        return self._finest.best_of(queries, found[1], k) if self._refines else _sorted(*found)

    def _exact(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None, matching: int
    ) -> tuple[Vectors, Rows]:
        """Compare every allowed row, as the finest codes hold it: a scan, or row by row when they are few."""
        wanted = min(k, matching)
        if allowed is None or matching * SCAN_SHARE > self._manifest.items:
            params = parameters(self._finest.index, {}, selector(allowed))
            scores, rows = _sorted(*self._finest.index.search(queries, wanted, params=params))
        else:
            survivors = np.flatnonzero(allowed)
            dots = queries @ self.vectors(survivors).T
            order = np.argsort(-dots, axis=1, kind="stable")[:, :wanted]
            scores, rows = np.take_along_axis(dots, order, axis=1), survivors[order]
        return _padded(scores, rows, len(queries), k)


def open_index(directory: Path, verify: bool = True) -> FaissIndex:
    """Open an artifact directory. Raises CorruptArtifact that names the file and what was expected of it.

    `verify` reads every file once to compare its sha256; without it only presence and size are checked.
    """
    manifest = _read_manifest(directory)
    for name, expected in manifest.files.items():
        check_file(directory, name, expected.sha256 if verify else None, expected.bytes)
    for name in (INDEX_NAME, ITEMS_NAME):
        if name not in manifest.files:
            raise CorruptArtifact(f"{directory / MANIFEST_NAME} does not list {name}; build the index again")
    try:
        index = faiss.read_index(str(directory / INDEX_NAME), faiss.IO_FLAG_MMAP_IFC)
        refine = _open_refine(directory, manifest)
        columns = ipc.open_file(pa.memory_map(str(directory / ITEMS_NAME), "r")).read_all()
    except (RuntimeError, pa.ArrowException) as error:
        raise CorruptArtifact(f"{directory}: a file cannot be read: {error}. Build the index again.") from error
    seen = {"vectors": index.ntotal, "item rows": columns.num_rows}
    if refine is not None:
        seen["refine codes"] = refine.index.ntotal
    if set(seen.values()) != {manifest.items} or index.d != manifest.space.dim:
        raise CorruptArtifact(
            f"{directory}: the manifest says {manifest.items:,} items of {manifest.space.dim} dimensions, the files "
            f"hold {seen} of {index.d}. Build the index again."
        )
    return FaissIndex(manifest, index, columns, refine)


def _open_refine(directory: Path, manifest: Manifest) -> FinestCodes | None:
    """The finer codes where they have a file of their own."""
    if REFINE_NAME not in manifest.files:
        return None
    path = directory / REFINE_NAME
    return FinestCodes(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), manifest.items, path)


def check_file(directory: Path, name: str, sha256: str | None, size: int) -> None:
    """Raise CorruptArtifact unless the file is there with this size and, when given, this sha256."""
    path = directory / name
    if Path(name).name != name:
        raise CorruptArtifact(f"{directory / MANIFEST_NAME} lists {name!r}, which is not a plain file name")
    if not path.is_file():
        raise CorruptArtifact(f"{path} is missing; the manifest lists it with {size:,} bytes. Build the index again.")
    actual = path.stat().st_size
    if actual != size:
        raise CorruptArtifact(f"{path} has {actual:,} bytes; the manifest says {size:,}. Build the index again.")
    if sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise CorruptArtifact(f"{path} has sha256 {found}; the manifest says {sha256}. Build the index again.")


def _read_manifest(directory: Path) -> Manifest:
    try:
        return Manifest.read(directory)
    except FileNotFoundError as error:
        raise CorruptArtifact(f"{directory / MANIFEST_NAME} is missing; this is not an index directory") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise CorruptArtifact(f"{directory / MANIFEST_NAME} is not a manifest of format 1: {error}") from error


def _sorted(scores: Vectors, rows: Rows) -> tuple[Vectors, Rows]:
    """Best first, equal scores by row, absent ones last with score -inf."""
    scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
    order = np.lexsort((rows, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _padded(scores: Any, rows: Any, queries: int, k: int) -> tuple[Vectors, Rows]:
    """Widen to k columns: row -1, score -inf."""
    all_scores, all_rows = np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)
    if len(rows):
        all_scores[:, : rows.shape[1]], all_rows[:, : rows.shape[1]] = scores, rows
    return all_scores, all_rows
