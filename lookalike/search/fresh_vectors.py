"""Fresh vectors: those of changed items, appended one by one and searched exactly, but not by comparing every one.

All are kept in float32. Each FIRST_BLOCK of them also become a coded block; equal neighbours are joined, as the digits
of a binary counter, so that few blocks stand. A scan of the blocks, half the bytes and by FAISS, gives the few that may
be among the best by their error bounds; those and the vectors not yet in a block are compared in float32. Why not an
index of lists or a graph: with those the overlay would lose items that the sealed release finds exactly, and it never
grows to where they pay.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.contracts.encoder import Vectors
from lookalike.contracts.sealed_index import Rows, VectorBlock

FIRST_BLOCK = 2_048
DEPTH = 2
"""A block is asked for this many times k: nearly always enough to have all that may be among the best k."""
FEW = 1_024
"""So few are compared at once, without a look at the blocks."""
DENSE = 0.5
"""Where more than this share of a stretch of vectors is asked for, all of it is multiplied."""
ROUNDING = 2e-6
"""Scores this near to each other may be one score once they are refined and rounded."""

MakeBlock = Callable[[Vectors], VectorBlock]


@dataclass(frozen=True)
class FreshVectors:
    """Immutable view: `vectors`, shape (slots, dim), float32; `blocks` cover the first of them, in order."""

    vectors: Vectors
    blocks: tuple[VectorBlock, ...] = ()

    @property
    def coded(self) -> int:
        """How many vectors lie in blocks."""
        return sum(map(len, self.blocks))

    def with_blocks(self, make: MakeBlock) -> "FreshVectors":
        """The same, with blocks of all vectors that fill one."""
        blocks, coded = list(self.blocks), self.coded
        while coded + FIRST_BLOCK <= len(self.vectors):
            blocks.append(make(self.vectors[coded : coded + FIRST_BLOCK]))
            coded += FIRST_BLOCK
            while len(blocks) > 1 and len(blocks[-1]) == len(blocks[-2]):
                last = blocks.pop()
                blocks.append(blocks.pop().joined(last))
        return FreshVectors(self.vectors, tuple(blocks))

    def nearest(self, query: Vectors, k: int, allowed: NDArray[np.bool_]) -> Rows:
        """Slots with the k best inner products, and those as good as the last; `allowed` has shape (slots,)."""
        if self.blocks and np.count_nonzero(allowed) > max(FEW, k):
            slots = self._candidates(query, k, allowed)
        else:
            slots = np.flatnonzero(allowed)
        if len(slots) <= k:
            return slots
        dots = self._dots(slots, query)
        # Equal pictures are all kept: which of them comes first is decided by id.
        least = np.partition(dots, -k)[-k] - ROUNDING
        best: Rows = slots[dots >= least]
        return best

    def _candidates(self, query: Vectors, k: int, allowed: NDArray[np.bool_]) -> Rows:
        """Slots, ascending, among which the k best are for certain: whoever may be better than the surely k-th."""
        scores, slots, errors = [], [], []
        whole = []
        start = 0
        for block in self.blocks:
            found, positions = block.nearest(query, DEPTH * k, allowed[start : start + len(block)])
            scores.append(found)
            slots.append(positions + start)
            errors.append(np.full(len(found), block.error, np.float32))
            # What the block did not name is at most as good as its last; when all were named there is nothing left.
            rest = float(found[-1]) + block.error if len(found) == DEPTH * k else -np.inf
            whole.append((rest, start, start + len(block)))
            start += len(block)
        tail = start + np.flatnonzero(allowed[start:])
        scores.append(self._dots(tail, query))
        slots.append(tail)
        errors.append(np.full(len(tail), ROUNDING, np.float32))
        score, slot, error = np.concatenate(scores), np.concatenate(slots), np.concatenate(errors)
        surely = np.partition(score - error, -k)[-k] - ROUNDING if len(score) >= k else -np.inf
        chosen: Rows = slot[score + error >= surely]
        doubtful = [begin + np.flatnonzero(allowed[begin:end]) for rest, begin, end in whole if rest >= surely]
        return np.unique(np.concatenate([chosen, *doubtful]))

    def _dots(self, slots: Rows, query: Vectors) -> Vectors:
        """Inner products of these slots, ascending. Copying most of a stretch costs more than multiplying the rest."""
        if len(slots) == 0 or len(slots) < DENSE * (slots[-1] + 1 - slots[0]):
            return np.asarray(self.vectors[slots] @ query)
        return np.asarray((self.vectors[slots[0] : slots[-1] + 1] @ query)[slots - slots[0]])
