"""The same work for many items on all cores, in order.

Threads, not processes: polars and pyarrow compute without Python's lock, and the vocabularies, the largest
thing in memory, are there once. What holds the lock (Python's hash of each id with `hash_buckets`) is done
by one thread at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow.parquet as pq

from files.cores import usable_cores
from files.memory import free_memory

MEMORY_A_BYTE = 6  # of a run, uncompressed, while its rows are sorted or encoded: copies in every form

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers_for(runs: Sequence[Path], rows_at_once: int = 0) -> int:
    """How many runs, or stretches of so many rows, are worked on at once.

    One a core, as far as half of the free memory goes.
    """
    largest = max((pq.read_metadata(run) for run in runs), key=lambda found: found.num_rows)
    size = sum(largest.row_group(number).total_byte_size for number in range(largest.num_row_groups))
    each = MEMORY_A_BYTE * size * max(1, rows_at_once // max(largest.num_rows, 1))
    return max(1, min(usable_cores(), free_memory() // 2 // max(each, 1)))


def in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``work`` of each item, in the order of the items, ``workers`` of them at a time; one more may be ready.

    Raises what the first item, in order, raised; later ones that were begun are waited for.

    Example
        >>> list(in_order(abs, [-3, 1, -2], workers=2))
        [3, 1, 2]
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
