"""How many inverted lists an index of N vectors gets, and how few vectors are too few."""

import math

MIN_LISTS = 16
LISTS_PER_ROOT = 16
"""faiss's guideline is 4 to 16 times the square root of N. Scanning is what a search spends its time on, and centres
are found quickly however many there are."""
MANY_LISTS = 8_192
"""From so many on the nearest centres are found among the codes of all, and a vector's own list through groups."""


def derive_nlist(items: int, points_per_list: int) -> int:
    """Largest power of two that is at most LISTS_PER_ROOT·√N and leaves `points_per_list` vectors to train each on."""
    bound = min(LISTS_PER_ROOT * math.sqrt(items), items / max(points_per_list, 1))
    return max(MIN_LISTS, 1 << int(math.log2(max(bound, 1.0))))


def fewest_items(points_per_list: int) -> int:
    """Fewest vectors that the smallest number of lists can be trained on."""
    return MIN_LISTS * max(points_per_list, 1)
