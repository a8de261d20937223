"""Rows in time order without holding the table in memory: an external merge of sorted runs.

Rows are ordered by (time, run, place in the run), which is the stable order by time. The order is
cut into chunks at bounds (time, run) taken from every SAMPLE_EVERY-th row of every run, so a chunk
holds about CHUNK_ROWS rows even where very many rows share one time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

CHUNK_ROWS = 131_072
SAMPLE_EVERY = 256


@dataclass(frozen=True)
class TimeOrder:
    """The part of each run that belongs to each chunk: chunk c is rows cuts[r, c] to cuts[r, c + 1] of run r.

    Shapes
        cuts: (runs, chunks + 1) int64.
    """

    runs: list[Path]
    cuts: np.ndarray
    timed: bool

    @property
    def num_rows(self) -> int:
        return int(self.cuts[:, -1].sum())

    def chunks(self, least_rows: int = 1) -> Iterator[pl.DataFrame]:
        """The staged table in time order; as many chunks at once as have ``least_rows`` rows together."""
        ends = self._ends()
        start = rows = 0
        for stop, end in enumerate(ends, start=1):
            if end - rows >= least_rows or stop == len(ends):
                yield self._rows(start, stop)
                start, rows = stop, end

    def _ends(self) -> list[int]:
        """How many rows there are up to the end of each chunk."""
        return np.cumsum(np.diff(self.cuts, axis=1).sum(axis=0)).tolist()

    def _rows(self, start: int, stop: int, columns: list[str] | None = None) -> pl.DataFrame:
        """The rows of chunks ``start`` to ``stop``."""
        parts = []
        for run, first, last in zip(self.runs, self.cuts[:, start], self.cuts[:, stop], strict=True):
            if last > first:
                part = pl.scan_parquet(run, glob=False).slice(int(first), int(last - first))
                parts.append((part.select(columns) if columns else part).collect())
        table = pl.concat(parts)
        return table.sort("@time", maintain_order=True) if self.timed else table

    def time_at(self, position: int) -> int | float:
        """The time, as a number, of the row at ``position`` of the order."""
        ends = self._ends()
        chunk = int(np.searchsorted(ends, position, side="right"))
        start = ends[chunk - 1] if chunk else 0
        return self._rows(chunk, chunk + 1, ["@time"])["@time"][position - start]


def source_order(runs: list[Path]) -> TimeOrder:
    """A table without time: every run is a chunk, in source order."""
    cuts = np.zeros((len(runs), len(runs) + 1), dtype=np.int64)
    for run, path in enumerate(runs):
        cuts[run, run + 1 :] = pq.read_metadata(path).num_rows
    return TimeOrder(runs, cuts, timed=False)


def time_order(runs: list[Path]) -> TimeOrder:
    """The merge of runs that are each sorted by ``@time``."""
    samples = [_times(run)[::SAMPLE_EVERY] for run in runs]
    bounds = _bounds(samples)
    cuts = np.zeros((len(runs), len(bounds) + 2), dtype=np.int64)
    for run, path in enumerate(runs):
        times = _times(path)
        # Rows below (t, r): those of earlier runs up to and with time t, those of others before t.
        cuts[run, 1:-1] = [
            np.searchsorted(times, time, side="right" if run < bound_run else "left")
            for time, bound_run in bounds
        ]
        cuts[run, -1] = len(times)
    filled = np.diff(cuts, axis=1).sum(axis=0) > 0
    return TimeOrder(runs, cuts[:, np.append(True, filled)], timed=True)


def _times(run: Path) -> np.ndarray:
    return pl.read_parquet(run, columns=["@time"], glob=False)["@time"].to_numpy()


def _bounds(samples: list[np.ndarray]) -> list[tuple]:
    """Every (CHUNK_ROWS / SAMPLE_EVERY)-th of the sampled (time, run) pairs in order."""
    times = np.concatenate(samples)
    runs = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    order = np.lexsort((runs, times))
    step = CHUNK_ROWS // SAMPLE_EVERY
    picked = order[step::step]
    return list(dict.fromkeys(zip(times[picked].tolist(), runs[picked].tolist(), strict=True)))
