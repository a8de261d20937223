"""Histories and counters from strictly earlier events: what was known before a given time.

An :class:`EventIndex` sorts events by key and time once; binary search then finds the earlier events
of a row as one slice of the sorted array. Events at the row's own time do not count as earlier, so
rows that share a timestamp never see one another. Everything is vectorised over rows and held in
memory (an event costs 16 bytes in each index).

Shapes
    E events, N rows whose past is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Past:
    """For each of N rows, the slice ``[start, stop)`` of the time-ordered events of its key.

    ``order`` (E,) are the events' positions as they were given, in the index's order.
    """

    order: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def counts(self) -> np.ndarray:
        """(N,) int64: how many events of the row's key came before it."""
        return self.stop - self.start

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(N,) the sum over those events of ``values`` (E,), given in the events' own order."""
        total = np.concatenate([[0], np.cumsum(values[self.order])])
        return total[self.stop] - total[self.start]

    def last(self, values: np.ndarray, otherwise: int) -> np.ndarray:
        """(N,) the value of the latest event before the row, ``otherwise`` where there is none."""
        result = np.full(len(self.start), otherwise, dtype=values.dtype)
        some = self.stop > self.start
        result[some] = values[self.order[self.stop[some] - 1]]
        return result

    def latest(self, values: np.ndarray, length: int) -> pl.Series:
        """N lists of the values of the latest ``length`` events before the row, oldest first."""
        events, offsets = self._latest(length)
        return _as_lists(pl.Series(values[events]), offsets)

    def matches(self, values: np.ndarray, wanted: np.ndarray, length: int) -> np.ndarray:
        """(N,) how many of the latest ``length`` events before the row have its ``wanted`` (N,) value."""
        events, offsets = self._latest(length)
        equal = values[events] == np.repeat(wanted, np.diff(offsets))
        total = np.concatenate([[0], np.cumsum(equal)])
        return total[offsets[1:]] - total[offsets[:-1]]

    def _latest(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The latest events of all rows, one row after the other, and where each row's begin (N + 1,)."""
        start = np.maximum(self.start, self.stop - length)
        offsets = np.concatenate([[0], np.cumsum(self.stop - start)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
        return self.order[np.repeat(start, np.diff(offsets)) + within], offsets


class EventIndex:
    """Events by key and time.

    ``keys`` and ``times`` are (E,) integers; of two events with equal key and time the one given
    first counts as the earlier one, which only affects the order within a list.
    """

    def __init__(self, keys: np.ndarray, times: np.ndarray) -> None:
        ordered = np.sort(keys)
        self._keys = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]]
        self._first = int(times.min()) if len(times) else 0
        # One number orders by key, then time; the last tick of a key's range lies after its events.
        self._span = int(times.max()) - self._first + 2 if len(times) else 2
        codes = _places(self._keys, keys) * self._span + (times - self._first)
        self.order = np.argsort(codes, kind="stable")
        self._codes = codes[self.order]
        # Where each key's events begin; one more, for keys that lie above all known ones.
        self._starts = np.searchsorted(self._codes, np.arange(len(self._keys) + 1) * self._span)

    def before(self, keys: np.ndarray, times: np.ndarray) -> Past:
        """The events of each row's key strictly before the row's time; N rows."""
        key = _places(self._keys, keys)
        known = key < len(self._keys)
        known[known] = self._keys[key[known]] == keys[known]
        tick = np.clip(times - self._first, 0, self._span - 1)
        stop = _places(self._codes, key * self._span + tick)
        return Past(self.order, np.where(known, self._starts[key], 0), np.where(known, stop, 0))


def _places(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``np.searchsorted(ordered, values)``, several times as fast: values look up after their neighbours."""
    order = np.argsort(values)
    places = np.empty(len(values), np.intp)
    places[order] = np.searchsorted(ordered, values[order])
    return places


def pair_key(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """One int64 key for each pair of ids in [0, 2**31)."""
    for ids in (left, right):
        if len(ids) and (ids.min() < 0 or ids.max() >= 2**31):
            raise ValueError("ids of a pair must lie in [0, 2**31)")
    return (left.astype(np.int64) << 32) | right.astype(np.int64)


def sum_by_row(rows: np.ndarray, values: np.ndarray, num_rows: int) -> np.ndarray:
    """(num_rows,) sums of ``values`` over equal ``rows``: for rows with several tags."""
    return np.bincount(rows, weights=values, minlength=num_rows)


def smoothed_rate(
    positives: np.ndarray, trials: np.ndarray, prior: np.ndarray, strength: float = 10.0
) -> np.ndarray:
    """(N,) ``(positives + strength * prior) / (trials + strength)``: few trials hardly move the prior."""
    return (positives + strength * prior) / (trials + strength)


def _as_lists(flat: pl.Series, offsets: np.ndarray) -> pl.Series:
    """Cut ``flat`` at ``offsets`` (N + 1,) into a series of N lists."""
    import pyarrow as pa

    return pl.Series(
        pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat.to_arrow()))
    )
