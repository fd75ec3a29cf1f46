"""Garbage collection beside searches: what lives long is kept out of the collector's sight.

A full collection walks every object and stops all threads meanwhile: 0.4 s with an overlay of 10,000 items. Frozen
objects are skipped by it and still freed by their reference count; only cycles among them stay, until a sweep.
"""

import gc


def keep() -> None:
    """Freeze what is there now, after a look at the young objects alone: about a millisecond."""
    gc.collect(1)
    gc.freeze()


def sweep() -> None:
    """A full collection that sees frozen objects too: for the moment after a whole release was let go."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
