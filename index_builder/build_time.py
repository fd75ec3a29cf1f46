"""Build time: seconds by step, counted from what each step of `build.py` compares, codes and writes."""

import math

from index_builder.clustering import GROUP_SAMPLE, LAST_ROUNDS
from index_builder.grouped_centres import COMPARED, DIRECTIONS, groups_of
from index_builder.k_means import ROUNDS
from index_builder.list_codes import numbers_of_axes
from index_builder.lists import MANY_LISTS
from index_builder.query_time import lists_us
from index_builder.rates import Rates
from index_builder.sizes import Codes, Sizes
from index_builder.tune import DEPTH, FACTORS, PROBES, QUESTIONS

KINDS = 2
"""Of questions: pictures and words."""
ASKED = KINDS * QUESTIONS
MEASURED_PER_LIST = 16
TRIAL_ROWS, TRIAL_LISTS, TRIAL_CANDIDATES = 65_536, 4_096, 20
"""As `quantiser.py` and `trial.py` have them, which need a recipe that is chosen (a test compares)."""
LEARNED = 1.2
"""Learning codes takes so many times the coding of what they are learned from."""
TIMED_QUESTIONS, TIMED_POINTS = 64, 3
"""Questions that each point of the curve is timed with, and such points for each number of lists."""
INSERTED_AMONG = 1e6
"""Rows of the graph that the rate of insertion was measured in."""
US_PER_S, NS_PER_S = 1e6, 1e9


class BuildTime:
    """For `items` vectors of `dim` dimensions on all cores of the rates; `source_us`: of reading one of them."""

    def __init__(self, rates: Rates, items: int, dim: int, source_us: float | None, shards: int) -> None:
        self._rates, self._items, self._dim = rates, items, dim
        self._source = (rates.source_us if source_us is None else source_us) / US_PER_S
        self._at_a_time = min(shards, rates.cores)

    def of_vectors(self, sizes: Sizes, graph: bool) -> dict[str, float]:
        """Seconds by step of a recipe that holds the vectors; one thread makes its graph."""
        inserted = self._inserted(self._items) if graph else 0.0
        truth = self._compared(self._items, ASKED)
        return {
            "train": 0.0,
            "encode": self._items * self._source / self._at_a_time + self._written(sizes.index),
            "merge": inserted + truth + self._written(sizes.disk) + self._rows(),
        }

    def of_lists(self, sizes: Sizes, nlist: int, codes: Codes, points_per_list: int, deepest: int) -> dict[str, float]:
        """Seconds by step of a recipe with lists; `deepest`: lists that tuning probes at most."""
        sample = min(nlist * points_per_list, self._items)
        merge = self._written(sizes.disk) + self._rows() + self._tuned(nlist, codes, deepest)
        return {
            "train": sample * self._source + self._clustered(sample, nlist) + self._tried(sample, nlist, codes.axes),
            "encode": self._items * self._encoded(nlist, codes) / self._at_a_time,
            "merge": merge,
        }

    def _clustered(self, sample: int, nlist: int) -> float:
        """As `clustering.py` does it, and once more for the figures."""
        measured = self._assigned(min(sample, MEASURED_PER_LIST * nlist), nlist)
        if nlist < MANY_LISTS:
            return ROUNDS * self._compared(sample, nlist) + measured
        groups = math.isqrt(nlist)
        first = ROUNDS * self._compared(min(sample, GROUP_SAMPLE * groups), groups) + self._compared(sample, groups)
        second = ROUNDS * self._compared(sample, nlist / groups)
        return first + second + LAST_ROUNDS * self._assigned(sample, nlist) + measured

    def _tried(self, sample: int, nlist: int, most_axes: int) -> float:
        """Axes made, and codes tried on some rows of the sample; then they are learned once more."""
        rows, rates = min(sample, TRIAL_ROWS), self._rates
        probed = min(nlist, TRIAL_LISTS)
        seconds = 2 * self._compared(sample, self._dim) + self._assigned(rows, nlist) + self._compared(rows, ASKED)
        for axes in numbers_of_axes(most_axes):
            asked = lists_us(rates, 0, self._dim, Codes(axes, 0), probed, probed, rows, TRIAL_CANDIDATES, images=False)
            seconds += ((1 + LEARNED) * rows * axes * rates.code_us + ASKED * asked) / US_PER_S / rates.cores
        return seconds + LEARNED * rows * most_axes * rates.code_us / US_PER_S / rates.cores

    def _encoded(self, nlist: int, codes: Codes) -> float:
        """One item, by one process."""
        products = self._dim * (codes.axes + codes.finer_axes + ASKED)
        coded = codes.axes * self._rates.code_us / US_PER_S + codes.finer_axes * self._rates.finer_ns / NS_PER_S
        assigned = self._assigned(1, nlist) * self._rates.cores
        return self._source + coded + assigned + products * self._rates.product_ns / NS_PER_S

    def _tuned(self, nlist: int, codes: Codes, deepest: int) -> float:
        """Every question with every number of lists, without a margin and within it; then some of them with each point
        of the curve."""
        rates, total = self._rates, 0.0
        probes = [nprobe for nprobe in PROBES if nprobe <= min(nlist, deepest)]
        for nprobe in probes:
            scanned = nprobe * self._items / nlist
            first = lists_us(rates, nlist, self._dim, codes, nprobe, nprobe, scanned, 0)
            # Pages are let go of after some questions.
            refined = DEPTH * max(FACTORS) * (rates.candidate_us + rates.mapped_us)
            one = lists_us(rates, nlist, self._dim, codes, nprobe, nprobe, scanned, DEPTH * FACTORS[len(FACTORS) // 2])
            total += 2 * ASKED * (first / rates.cores + refined) + TIMED_QUESTIONS * TIMED_POINTS * one
        return total / US_PER_S

    def _assigned(self, rows: float, nlist: int) -> float:
        """Rows to their lists, on all cores."""
        if nlist < MANY_LISTS:
            return self._compared(rows, nlist)
        groups, looked_into = groups_of(nlist)
        seen = looked_into * nlist / groups
        products = self._dim * (groups + DIRECTIONS) + DIRECTIONS * seen
        each = (
            products * self._rates.product_ns
            + seen * self._rates.look_ns
            + COMPARED * self._dim * self._rates.gather_ns
        )
        return rows * each / NS_PER_S / self._rates.cores

    def _inserted(self, rows: int) -> float:
        """Into a graph, one after the other."""
        return rows * self._dim * self._rates.insert_ns / NS_PER_S * math.log(max(rows, 2)) / math.log(INSERTED_AMONG)

    def _compared(self, rows: float, others: float) -> float:
        """All of one with all of the others, in large products, on all cores."""
        return rows * others * self._dim * self._rates.product_ns / NS_PER_S / self._rates.cores

    def _written(self, size: int) -> float:
        return size * self._rates.byte_ns / NS_PER_S

    def _rows(self) -> float:
        return self._items * self._rates.row_us / US_PER_S
