"""Query time: microseconds of one search on one core, counted from what it compares, scans and refines."""

from index_builder.list_centres import BY_GRAPH, SEARCH_DEPTH, SEARCH_LEAST
from index_builder.lists import MANY_LISTS
from index_builder.rates import Rates
from index_builder.sizes import Codes

NS_PER_US = 1e3


def scan_us(rates: Rates, items: int, dim: int) -> float:
    """Every vector compared."""
    return rates.query_us + items * dim * rates.scan_ns / NS_PER_US


def graph_us(rates: Rates, depth: int, dim: int) -> float:
    """A walk over vectors."""
    return rates.query_us + _walk_us(rates, depth, dim)


def centres_us(rates: Rates, nlist: int, dim: int, nprobe: int) -> float:
    """Finding the lists to probe, as `list_centres.py` does it."""
    if nlist >= MANY_LISTS and nprobe * BY_GRAPH < nlist:
        return _walk_us(rates, max(SEARCH_LEAST, SEARCH_DEPTH * nprobe), dim)
    return nlist * dim * rates.compare_ns / NS_PER_US


def lists_us(
    rates: Rates, nlist: int, dim: int, codes: Codes, nprobe: int, scanned: float, candidates: int, images: bool = True
) -> float:
    """A search of `nprobe` lists with `scanned` codes in all, and its candidates refined from memory.

    `images`: whether the query still has to be moved to the axes of the codes.
    """
    kept = scanned**rates.kept_by_codes * candidates**rates.kept_by_candidates
    moved = dim * (codes.axes + codes.finer_axes) * rates.compare_ns / NS_PER_US if images else 0.0
    return (
        rates.query_us
        + moved
        + centres_us(rates, nlist, dim, nprobe)
        + nprobe * rates.list_us
        + scanned * codes.axes * rates.code_ns / NS_PER_US
        + kept * rates.kept_us
        + candidates * rates.candidate_us
    )


def cold_us(rates: Rates, candidates: int) -> float:
    """What it takes more when no finer code is in memory."""
    return rates.cold_us + candidates * rates.cold_candidate_us


def _walk_us(rates: Rates, depth: int, dim: int) -> float:
    return depth * dim * rates.step_ns / NS_PER_US
