"""Rows in time order without holding the table in memory: an external merge of sorted runs.

Rows are ordered by (time, run, place in the run), which is the stable order by time. The order is
cut into chunks at bounds (time, run) taken from every SAMPLE_EVERY-th row of every run, so a chunk
holds about CHUNK_ROWS rows even where very many rows share one time.

A chunk opens the runs that have rows in it. These are one or two where the files are in time order, and
all runs where they are not. While a chunk would open more than FAN_IN, every FAN_IN neighbours are merged
into one run. So the work for a row grows with the logarithm of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq

CHUNK_ROWS = 131_072
SAMPLE_EVERY = 256
FAN_IN = 32
# A merge of FAN_IN runs reads CHUNK_ROWS / FAN_IN rows of each at once, and always whole row groups.
ROW_GROUP_ROWS = 4_096


class Part(NamedTuple):
    """Rows ``first`` to ``last`` (exclusive) of a run, by its number."""

    run: int
    first: int
    last: int


@dataclass(frozen=True)
class Run:
    """Sorted rows: files, one after the other, and how many rows there are up to the end of each."""

    files: list[Path]
    ends: list[int]

    @classmethod
    def of(cls, files: Sequence[Path]) -> Run:
        return cls(list(files), np.cumsum([pq.read_metadata(file).num_rows for file in files]).tolist())

    def read(self, first: int, last: int) -> list[pl.DataFrame]:
        """The rows ``first`` to ``last``, by file."""
        found, start = [], 0
        for file, end in zip(self.files, self.ends, strict=True):
            if start < last and first < end:
                skipped = max(first - start, 0)
                rows = min(last, end) - start - skipped
                found.append(pl.scan_parquet(file, glob=False).slice(skipped, rows).collect())
            start = end
        return found

    def remove(self, first: int, last: int) -> None:
        """Remove the files that end within the rows ``first`` to ``last``."""
        for file, end in zip(self.files, self.ends, strict=True):
            if first < end <= last:
                file.unlink()


@dataclass(frozen=True)
class Order:
    """The parts of runs that each chunk has, in the order of the runs."""

    runs: list[Run]
    chunks: list[list[Part]]
    timed: bool

    @property
    def files(self) -> list[Path]:
        return [file for run in self.runs for file in run.files]

    def spans(self, least_rows: int = 1) -> list[tuple[int, int]]:
        """The chunks as stretches ``start`` to ``stop`` (exclusive) that have ``least_rows`` rows or more."""
        found, start, rows = [], 0, 0
        for stop, parts in enumerate(self.chunks, start=1):
            rows += sum(part.last - part.first for part in parts)
            if rows >= least_rows or stop == len(self.chunks):
                found.append((start, stop))
                start, rows = stop, 0
        return found

    def read(self, span: tuple[int, int]) -> pl.DataFrame:
        """The staged rows of these chunks, in order."""
        tables = [table for part in self._parts(span) for table in self.runs[part.run].read(*part[1:])]
        return sorted_by_time(pl.concat(tables)) if self.timed else pl.concat(tables)

    def remove(self, span: tuple[int, int]) -> None:
        """Remove the files of which these chunks hold the last row."""
        for part in self._parts(span):
            self.runs[part.run].remove(part.first, part.last)

    def _parts(self, span: tuple[int, int]) -> list[Part]:
        """What several chunks in a row have of each run, which is in one piece."""
        found: dict[int, Part] = {}
        for parts in self.chunks[slice(*span)]:
            for part in parts:
                found[part.run] = found.get(part.run, part)._replace(last=part.last)
        return [found[run] for run in sorted(found)]


def source_order(files: list[Path]) -> Order:
    """A table without time: every run is a chunk, in source order."""
    runs = [Run.of([file]) for file in files]
    return Order(runs, [[Part(number, 0, run.ends[-1])] for number, run in enumerate(runs)], timed=False)


def time_order(files: list[Path]) -> Order:
    """The merge of runs that are each a file sorted by ``@time``; it removes the files that it merges."""
    runs, passes = [Run.of([file]) for file in files], 0
    order = _cut(runs)
    while max(map(len, order.chunks)) > FAN_IN:
        groups = [runs[start : start + FAN_IN] for start in range(0, len(runs), FAN_IN)]
        runs = [
            _merged(group, files[0].parent / f"merged-{passes}-{number}")
            for number, group in enumerate(groups)
        ]
        order, passes = _cut(runs), passes + 1
    return order


def _merged(runs: list[Run], name: Path) -> Run:
    """Neighbouring runs as one, in a file for each chunk."""
    if len(runs) == 1:
        return runs[0]
    order, files = _cut(runs), []
    for span in order.spans():
        file = name.with_name(f"{name.name}-{span[0]:06d}.parquet")
        write_run(order.read(span), file)
        order.remove(span)
        files.append(file)
    return Run.of(files)


def sorted_by_time(rows: pl.DataFrame) -> pl.DataFrame:
    return rows if rows["@time"].is_sorted() else rows.sort("@time", maintain_order=True)


def write_run(rows: pl.DataFrame, file: Path) -> None:
    pq.write_table(
        rows.to_arrow(),
        file,
        compression="lz4",
        use_dictionary=False,
        row_group_size=ROW_GROUP_ROWS,
        write_statistics=False,
    )


def _cut(runs: list[Run]) -> Order:
    times, owners = _bounds([_samples(run) for run in runs])
    chunks: list[list[Part]] = [[] for _ in range(len(times) + 1)]
    for number, run in enumerate(runs):
        # Rows below (t, r): those of earlier runs up to and with time t, those of others before t.
        below = np.zeros(len(times), np.int64)
        for file in run.files:
            found = _times(file)
            after, before = (np.searchsorted(found, times, side) for side in ("right", "left"))
            below += np.where(number < owners, after, before)
        cuts = np.concatenate(([0], below, [run.ends[-1]]))
        for chunk in np.flatnonzero(np.diff(cuts)).tolist():
            chunks[chunk].append(Part(number, int(cuts[chunk]), int(cuts[chunk + 1])))
    return Order(runs, [parts for parts in chunks if parts], timed=True)


def _times(file: Path) -> np.ndarray:
    return pl.read_parquet(file, columns=["@time"], glob=False)["@time"].to_numpy()


def _samples(run: Run) -> np.ndarray:
    return np.concatenate([_times(file)[::SAMPLE_EVERY] for file in run.files])


def _bounds(samples: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Every (CHUNK_ROWS / SAMPLE_EVERY)-th of the sampled (time, run) pairs in order: times and runs."""
    times = np.concatenate(samples)
    runs = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    order = np.lexsort((runs, times))
    step = CHUNK_ROWS // SAMPLE_EVERY
    picked = order[step::step]
    times, runs = times[picked], runs[picked]
    is_new = np.ones(len(picked), np.bool_)
    is_new[1:] = (np.diff(times) != 0) | (np.diff(runs) != 0)
    return times[is_new], runs[is_new]


def time_at(files: list[Path], position: int) -> int | float:
    """The time, as a number, of the row at ``position`` of the time order of all rows.

    ``files`` are each sorted by ``@time``. Memory: eight bytes for every SAMPLE_EVERY-th row, and a little
    more for each file.
    """
    lowest, highest = _limits(files, position)
    below, values, counts = 0, [], []
    for times in map(_times, files):
        first, last = np.searchsorted(times, lowest, "left"), np.searchsorted(times, highest, "right")
        below += int(first)
        value, count = np.unique(times[first:last], return_counts=True)
        values.append(value)
        counts.append(count)
    between = np.concatenate(values)
    order = np.argsort(between)
    up_to = below + np.cumsum(np.concatenate(counts)[order])  # rows with this time or an earlier one
    return between[order][np.searchsorted(up_to, position, "right")].item()


def _limits(files: list[Path], position: int) -> tuple:
    """Two times between which that of the row at ``position`` lies, by each file's SAMPLE_EVERY-th times."""
    samples = np.sort(np.concatenate([times[::SAMPLE_EVERY] for times in map(_times, files)]))
    # Before the sample in place j there are at most j * SAMPLE_EVERY rows; up to its time, at least
    # (j + 1) * SAMPLE_EVERY, less SAMPLE_EVERY - 1 for each file.
    first = position // SAMPLE_EVERY
    last = (position + len(files) * (SAMPLE_EVERY - 1)) // SAMPLE_EVERY
    highest = samples[last] if last < len(samples) else max(times[-1] for times in map(_times, files))
    return samples[min(first, len(samples) - 1)], highest
