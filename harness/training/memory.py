"""The host's memory: what a step freed is kept for the next, and a model that does not fit is refused."""

from __future__ import annotations

import contextlib
import ctypes
import sys

import psutil

from files.errors import InputError
from harness.records.cost import Cost

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as malloc.h has them


def keep_freed_memory() -> None:
    """Ask glibc to return no freed memory to the system until the process ends; elsewhere, nothing.

    By default it maps large blocks anew and unmaps them when they are freed, and the first touch of new pages
    is a good part of a training step on the CPU. Pages are all there after a few steps; the process may
    hold more memory than its largest step needs, where sizes do not fit each other's gaps.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(AttributeError):  # a C library that has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def require_room(cost: Cost, world_size: int) -> None:
    """Refuse what this machine cannot hold, before the system ends the process without a word.

    Counted are weights, gradients and two moments of the dense side in 4 bytes each, and the tables'
    weights; activations come on top. Raises InputError.
    """
    needed = 16 * cost.dense_params + 4 * cost.sparse_params // world_size
    available = psutil.virtual_memory().total
    if needed > available:
        raise InputError(
            f"training takes {needed / 1e9:,.0f} GB for weights, gradients and optimizer, and this machine "
            f"has {available / 1e9:,.0f} GB; lower the budget, or see its cost with `run_bench.py cost`"
        )
