"""Keeps memory that tensors gave back, so that the next step finds its pages there."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as malloc.h has them


def keep_freed_memory() -> None:
    """Ask glibc to return no freed memory to the system until the process ends; elsewhere, nothing.

    By default it maps large blocks anew and unmaps them when they are freed, and the first touch of new pages
    is a good part of a training step on the CPU. Pages are all there after a few steps; the process may
    hold more memory than its largest step needs, where sizes do not fit each other's gaps.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
