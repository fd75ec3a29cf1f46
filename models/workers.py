"""Python threads with one torch thread each: halves of a batch side by side, meeting once a step.

Torch's own threads meet at every operation, and on a machine that others use too each meeting waits for the slower
one; with eleven busy processes on two cores that cost a factor of ten.
"""

from concurrent.futures import ThreadPoolExecutor

import torch


def workers(count: int) -> ThreadPoolExecutor:
    """A pool of `count` threads, each with a single torch thread (the setting is per thread)."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
