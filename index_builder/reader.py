"""Reader: a sealed artifact opened read-only, every file checked against the manifest first.

What a search starts with (lists of short codes, a graph, or plain vectors) is in memory or mapped; finer codes, where
there are some, stay on disk and are read for the candidates only.

A search is planned per call. Where few rows pass the filter, they are compared exactly, at less cost than a graph or
lists would have. Where many pass, the index searches until it has met as many of them as it takes, and what it still
misses is compared exactly, so that k rows come back whenever k rows pass.
"""

import bisect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import pyarrow as pa
from pyarrow import ipc

from index_builder.artifact import AXES_NAME, CENTRES_NAME, INDEX_NAME, ITEMS_NAME, REFINE_NAME, checked_manifest
from index_builder.attribute_sets import SETS_NAME, MappedSets, open_sets
from index_builder.axes import OWN_AXES, ArtifactAxes, Axes
from index_builder.coded_block import CodedBlock
from index_builder.finest_codes import LOOKED_AT, FinestCodes
from index_builder.list_centres import ListCentres
from index_builder.list_search import ListSearch
from index_builder.parts import coarse, finest, inverted_lists
from index_builder.plan import COLD_ROW_WORK, MORE_CANDIDATES, ROW_WORK, STEP_WORK, Plan, plan_search
from index_builder.search_parameters import parameters, selector
from lookalike.contracts.encoder import Vectors
from lookalike.contracts.errors import CorruptArtifact
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.row_set import RowSet
from lookalike.contracts.sealed_index import Rows

SCAN_SHARE = 28
"""Gathering one row costs about as much as skipping this many in a scan with a bitmap (measured: 0.2 µs, 7 ns)."""


class FaissIndex:
    """The SealedIndex port over one artifact directory. Thread-safe: nothing changes after opening."""

    def __init__(
        self,
        manifest: Manifest,
        index: Any,
        columns: pa.Table,
        lists: ListSearch | None = None,
        refine: FinestCodes | None = None,
        sets: MappedSets | None = None,
    ) -> None:
        """`lists`: where `index` has some. `refine`: finer codes that it does not hold itself. `sets`: None in older
        artifacts."""
        # `index` owns the memory: a downcast of it alone would be left dangling.
        self._manifest, self._index, self._columns, self._sets = manifest, index, columns, sets
        self._recipe = manifest.recipe.model_copy(update={"search": manifest.search or manifest.recipe.search})
        self._ids = columns["item_id"]
        self._coarse, self._lists = coarse(index), lists
        self._finest = refine or FinestCodes(finest(index), manifest.items)

    @property
    def manifest(self) -> Manifest:
        """What this artifact is and from what it was built."""
        return self._manifest

    @property
    def columns(self) -> pa.Table:
        """Item columns, mapped from disk; row i describes vector i."""
        return self._columns

    @property
    def sets(self) -> MappedSets | None:
        """Sets of rows by value; see the port."""
        return self._sets

    def search(
        self, queries: Vectors, k: int, allowed: RowSet | None = None, exact: bool = False
    ) -> tuple[Vectors, Rows]:
        """Best k rows per query; see the port. `exact` compares every allowed row."""
        scores, rows, _ = self.planned_search(queries, k, allowed, exact)
        return scores, rows

    def planned_search(
        self, queries: Vectors, k: int, allowed: RowSet | None = None, exact: bool = False
    ) -> tuple[Vectors, Rows, Literal["index", "exact"]]:
        """`search`, and how it was answered: "exact" when every allowed row was compared for every query."""
        queries = self._checked(queries, allowed)
        matching = self._manifest.items if allowed is None else allowed.count
        wanted = min(k, matching)
        if wanted == 0 or len(queries) == 0:
            return (*_padded([], [], len(queries), k), "exact")
        plan = self._plan(allowed, matching, wanted, exact)
        if plan.exact:
            return (*self._exact(queries, k, allowed, matching), "exact")
        scores, rows = self._by_index(
            plan.search, queries, wanted, None if matching == self._manifest.items else allowed
        )
        short = np.flatnonzero((rows[:, :wanted] < 0).any(axis=1))
        if len(short):
            scores[short], rows[short] = self._exact(queries[short], wanted, allowed, matching)
        return (*_padded(scores, rows, len(queries), k), "exact" if len(short) == len(queries) else "index")

    def search_with(self, search: dict[str, int], queries: Vectors, k: int) -> tuple[Vectors, Rows]:
        """Search with these parameters and no plan: for measuring operating points."""
        return self._by_index(search, self._checked(queries, None), k, None)

    def search_depths(
        self, search: dict[str, int], queries: Vectors, k: int, factors: Sequence[int]
    ) -> dict[int, Rows]:
        """Best k rows when `factor` times k candidates are refined, for each of `factors`, from one search of the
        lists and one reading of the finer codes."""
        assert self._lists is not None, "depths are those of an index with lists"
        queries = self._checked(queries, None)
        candidates = self._lists.candidates(queries, k, k * max(factors), search)
        found = self._finest.best_of_first(queries, candidates, k, [k * factor for factor in factors])
        return {factor: rows for factor, (_, rows) in zip(factors, found, strict=True)}

    def lists_probed(self, search: dict[str, int], queries: Vectors, k: int) -> Rows:
        """How many lists a search with these parameters probes for each query, shape (q,)."""
        assert self._lists is not None, "only an index with lists probes some"
        probed = self._lists.probed(self._checked(queries, None), k, search)
        return np.count_nonzero(probed >= 0, axis=1)

    def let_go(self) -> None:
        """Take pages of the finer codes out of this process's memory; the system's cache keeps them."""
        self._finest.let_go()

    def vectors(self, rows: Rows) -> Vectors:
        """Decode rows from the finest codes; see the port. Raises IndexError for a row that is not there."""
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if len(rows) == 0:
            return np.empty((0, self._manifest.space.dim), np.float32)
        if rows.min() < 0 or rows.max() >= self._manifest.items:
            raise IndexError(f"rows must be within 0..{self._manifest.items - 1}; got {rows.min()}..{rows.max()}")
        return self._finest.vectors(rows)

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
        return None if self._lists is None else self._lists.centres.vectors.copy()

    def block(self, vectors: Vectors) -> CodedBlock:
        """A block of other vectors; see the port."""
        return CodedBlock.of(vectors)

    def _checked(self, queries: Vectors, allowed: RowSet | None) -> Vectors:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self._manifest.space.dim:
            raise ValueError(f"queries must have shape (n, {self._manifest.space.dim}); got {queries.shape}")
        if allowed is not None and allowed.items != self._manifest.items:
            raise ValueError(f"allowed must be of {self._manifest.items} rows; got {allowed.items}")
        return queries

    def _plan(self, allowed: RowSet | None, matching: int, wanted: int, exact: bool) -> Plan:
        """Comparing rows costs what it costs in memory, unless a look at some shows that they would come from disk."""
        plan = plan_search(self._recipe, self._manifest.items, matching, wanted, exact)
        if exact or not plan.exact or allowed is None or self._finest.in_memory(allowed.some(LOOKED_AT)):
            return plan
        return plan_search(self._recipe, self._manifest.items, matching, wanted, exact, COLD_ROW_WORK)

    def _by_index(
        self, search: dict[str, int], queries: Vectors, k: int, allowed: RowSet | None
    ) -> tuple[Vectors, Rows]:
        """Best k rows as the index finds them with these parameters, with a filter as deep as it takes."""
        if self._lists is not None:
            wanted = k * search["k_factor"]
            if allowed is not None:
                wanted = min(MORE_CANDIDATES * wanted, allowed.count)
            return self._finest.best_of(queries, self._lists.candidates(queries, k, wanted, search, allowed), k)
        if allowed is None:
            return _sorted(*self._coarse.search(queries, k, params=parameters(self._coarse, search, None)))
        return _sorted(*self._by_graph(search["efSearch"], queries, k, allowed))

    def _by_graph(self, depth: int, queries: Vectors, k: int, allowed: RowSet) -> tuple[Vectors, Rows]:
        """A walk that meets as many allowed rows as one without a filter meets rows, by their share near each query.

        Nothing is found for a query for which comparing all allowed rows costs less.
        """
        near = self._coarse.search(queries, depth, params=parameters(self._coarse, {"efSearch": depth}, None))[1]
        shares = allowed.has(np.maximum(near, 0)).mean(axis=1)
        scores, rows = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
        for at, share in enumerate(shares.tolist()):
            if share * allowed.count * ROW_WORK > depth * STEP_WORK:
                deeper = {"efSearch": min(self._manifest.items, math.ceil(depth / share))}
                given = parameters(self._coarse, deeper, selector(allowed))
                scores[at], rows[at] = self._coarse.search(queries[at][None], k, params=given)
        return scores, rows

    def _exact(self, queries: Vectors, k: int, allowed: RowSet | None, matching: int) -> tuple[Vectors, Rows]:
        """Compare every allowed row, as the finest codes hold it: a scan, or row by row when they are few."""
        wanted = min(k, matching)
        if allowed is None or matching * SCAN_SHARE > self._manifest.items:
            scores, rows = _sorted(*self._finest.scan(queries, wanted, selector(allowed)))
        else:
            survivors = allowed.rows()
            dots = self._finest.scores(queries, survivors)
            order = np.argsort(-dots, axis=1, kind="stable")[:, :wanted]
            scores, rows = np.take_along_axis(dots, order, axis=1), survivors[order]
        return _padded(scores, rows, len(queries), k)


def open_index(directory: Path, verify: bool = True) -> FaissIndex:
    """Open an artifact directory. Raises CorruptArtifact that names the file and what was expected of it.

    `verify` reads every file once to compare its sha256; without it only presence and size are checked.
    """
    manifest = checked_manifest(directory, verify)
    try:
        index = faiss.read_index(str(directory / INDEX_NAME), faiss.IO_FLAG_MMAP_IFC)
        axes = ArtifactAxes.load(directory / AXES_NAME) if AXES_NAME in manifest.files else OWN_AXES
        centres = _open_centres(directory, manifest, index)
        refine = _open_refine(directory, manifest, axes.finer)
        columns = ipc.open_file(pa.memory_map(str(directory / ITEMS_NAME), "r")).read_all()
    except (RuntimeError, KeyError, ValueError, pa.ArrowException) as error:
        raise CorruptArtifact(f"{directory}: a file cannot be read: {error}. Build the index again.") from error
    seen = {"vectors": index.ntotal, "item rows": columns.num_rows}
    if refine is not None:
        seen["refine codes"] = refine.index.ntotal
    dim = index.d if centres is None else centres.vectors.shape[1]
    if set(seen.values()) != {manifest.items} or dim != manifest.space.dim:
        raise CorruptArtifact(
            f"{directory}: the manifest says {manifest.items:,} items of {manifest.space.dim} dimensions, the files "
            f"hold {seen} of {dim}. Build the index again."
        )
    sets = open_sets(directory / SETS_NAME, manifest.items) if SETS_NAME in manifest.files else None
    lists = None if centres is None else ListSearch(inverted_lists(index), centres, axes.codes, manifest.items)
    return FaissIndex(manifest, index, columns, lists, refine, sets)


def _open_centres(directory: Path, manifest: Manifest, index: Any) -> ListCentres | None:
    """Those of the lists, which older artifacts hold within the index; None where it has no lists."""
    inner = inverted_lists(index)
    if inner is None:
        return None
    apart = CENTRES_NAME in manifest.files
    return ListCentres.read(directory / CENTRES_NAME) if apart else ListCentres(inner.quantizer)


def _open_refine(directory: Path, manifest: Manifest, axes: Axes) -> FinestCodes | None:
    """The finer codes where they have a file of their own."""
    if REFINE_NAME not in manifest.files:
        return None
    path = directory / REFINE_NAME
    return FinestCodes(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), manifest.items, path, axes)


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
