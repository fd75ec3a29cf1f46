"""Query time: microseconds of one search on one core, counted from what it compares, scans and refines."""

from index_builder.lists import MANY_LISTS
from index_builder.rates import Rates
from index_builder.scanned_centres import ALL_FROM, LEAST_MORE, MORE
from index_builder.sizes import Codes

NS_PER_US = 1e3


def scan_us(rates: Rates, items: int, dim: int) -> float:
    """Every vector compared."""
    return rates.query_us + items * dim * rates.scan_ns / NS_PER_US


def graph_us(rates: Rates, depth: int, dim: int) -> float:
    """A walk over vectors."""
    return rates.query_us + depth * dim * rates.step_ns / NS_PER_US


def centres_us(rates: Rates, nlist: int, dim: int, axes: int, nprobe: int) -> float:
    """Finding the lists to probe, as `scanned_centres.py` does it."""
    if nlist < MANY_LISTS or nprobe * ALL_FROM >= nlist:
        return nlist * dim * rates.compare_ns / NS_PER_US
    compared = max(nprobe * MORE, nprobe + LEAST_MORE)
    return (nlist * axes * rates.code_ns + compared * dim * rates.gather_ns) / NS_PER_US


def lists_us(
    rates: Rates,
    nlist: int,
    dim: int,
    codes: Codes,
    nprobe: int,
    probed: float,
    scanned: float,
    candidates: int,
    images: bool = True,
) -> float:
    """A search of `probed` lists, of the `nprobe` nearest, with `scanned` codes in all, and its candidates refined from
    memory.

    `images`: whether the query still has to be moved to the axes of the codes.
    """
    moved = dim * (codes.axes + codes.finer_axes) * rates.compare_ns / NS_PER_US if images else 0.0
    return (
        rates.query_us
        + moved
        + centres_us(rates, nlist, dim, codes.axes, nprobe)
        + probed * (rates.list_us + codes.axes * rates.gather_ns / NS_PER_US)
        + scanned * codes.axes * rates.code_ns / NS_PER_US
        + candidates * rates.candidate_us
    )


def cold_us(rates: Rates, candidates: int) -> float:
    """What it takes more when no finer code is in memory."""
    return rates.cold_us + candidates * rates.cold_candidate_us
