"""How fast rows are generated and shards are read, on one core."""

from __future__ import annotations

import os

import torch

from datasets.shortvideo.source import ShortVideo
from harness.machine.timing import Stopwatch
from harness.speed.profiles.figures import figure
from harness.speed.profiles.reading import benchmark_reader

COMMAND = "python run_bench.py profile data"


def profile_data(rows: int = 400_000, reader_rows: int = 600_000, repeats: int = 5) -> list[dict]:
    """``generator_rows_per_second`` and ``shard_rows_per_second``, medians over ``repeats``.

    The process is held on one core while it measures.
    """
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(allowed)})
    torch.set_num_threads(1)
    try:
        generated = [_generator_rate(rows) for _ in range(repeats)]
        read = benchmark_reader(rows=reader_rows, repeats=repeats)
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)
    return [
        figure("generator_rows_per_second", generated, "rows/s", COMMAND),
        figure("shard_rows_per_second", read, "rows/s", COMMAND),
    ]


def _generator_rate(rows: int) -> float:
    log = ShortVideo(rows=rows)
    watch = Stopwatch()
    generated = sum(chunk.height for chunk in log.chunks(100_000))
    return generated / watch.seconds()
