"""Histories and rates of a log that arrives block by block, in the order of time.

Memory does not grow with the log: a history keeps the latest events of each key, totals keep one number for
each key and outcome. Blocks must come in the order of time, and a block ends where the time changes, so that
rows of one time are in one block; those do not see one another.

Shapes
    K keys, L the length of a history, N rows of a block, E events that a block's rows can see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from datasets.causal import EventIndex, Past, smoothed_rate

NO_KEY = -1  # of a row without a value; nothing is counted for it


class RecentEvents:
    """The latest L events of each of K keys; an event holds one number. Memory: 4 K (L + 2) bytes."""

    def __init__(self, num_keys: int, length: int) -> None:
        self.length = length
        self._ring = np.zeros((num_keys, length), np.int32)
        self._count = np.zeros(num_keys, np.int64)

    def step(
        self, keys: np.ndarray, times: np.ndarray, numbers: np.ndarray, counts: np.ndarray
    ) -> RecentPast:
        """What each row of a block sees; then the rows of ``counts`` (N,) bool become events themselves.

        keys: (N,) in [0, K). times: (N,) in ascending order. numbers: (N,) in [0, 2**31).
        """
        users, place = np.unique(keys, return_inverse=True)
        before = self._count[users]
        kept = np.minimum(before, self.length)
        owner = np.repeat(np.arange(len(users)), kept)
        age = np.arange(len(owner)) - np.repeat(np.cumsum(kept) - kept, kept)  # 0: a key's oldest kept one
        carried = self._ring[users[owner], (before[owner] - kept[owner] + age) % self.length]
        index = EventIndex(
            np.concatenate([owner, place[counts]]),
            np.concatenate([np.full(len(owner), times[0] - 1), times[counts]]),
        )
        past = index.before(place, times)
        self._keep(keys[counts], numbers[counts])
        return RecentPast(
            past, np.concatenate([carried, numbers[counts]]), (before - kept)[place], self.length
        )

    def _keep(self, keys: np.ndarray, numbers: np.ndarray) -> None:
        order = np.argsort(keys, kind="stable")
        users, first, new = np.unique(keys[order], return_index=True, return_counts=True)
        rank = np.arange(len(order)) - np.repeat(first, new)
        latest = rank >= np.repeat(new - self.length, new)  # the others would be overwritten at once
        slot = (np.repeat(self._count[users], new) + rank) % self.length
        self._ring[keys[order][latest], slot[latest]] = numbers[order][latest]
        self._count[users] += new


class RecentPast:
    """The events that each of N rows sees: ``numbers`` (E,) of all of them, and for each row its own ones."""

    def __init__(self, past: Past, numbers: np.ndarray, older: np.ndarray, length: int) -> None:
        self.numbers = numbers
        self._past, self._older, self._length = past, older, length

    def counts(self) -> np.ndarray:
        """(N,) how many events the row's key had before, those that are no longer kept included."""
        return self._past.counts() + self._older

    def latest(self, values: np.ndarray) -> pl.Series:
        """N lists of the latest L ``values`` (E,), oldest first; NO_KEY stands for a missing one."""
        return self._past.latest(values, self._length)

    def matches(self, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """(N,) how many of the latest L ``values`` (E,) are the row's ``wanted`` (N,) value."""
        return np.where(wanted == NO_KEY, 0, self._past.matches(values, wanted, self._length))


class SettledRates:
    """Trials and smoothed rates of outcomes by several kinds of keys, as they were when last settled.

    A rate that moves with each event ranks a user's own rows backwards, and an outcome is known only some
    time after its row (``datasets.kuairand.past``): what is added counts after `settle`. An event counts
    where all outcomes are defined. Memory: 8 bytes for each key, and for each key and outcome.
    """

    def __init__(self, num_keys: Mapping[str, int], outcomes: Sequence[str]) -> None:
        names = ("trials", *outcomes)
        self.outcomes = tuple(outcomes)
        self._settled = {kind: _zeros(names, number) for kind, number in num_keys.items()}
        self._open = {kind: _zeros(names, number) for kind, number in num_keys.items()}
        self._everyone = dict.fromkeys(names, 0)
        self._everyone_open = dict.fromkeys(names, 0)

    def columns(self, keys: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """``<kind>_trials`` and ``<kind>_<outcome>_rate`` of the rows' keys, each (N,).

        Few trials leave a rate near everyone's, and everyone's near one half.
        """
        trials = np.array([self._everyone["trials"]])
        found: dict[str, np.ndarray] = {}
        for kind, row_keys in keys.items():
            own = {name: totals[row_keys] for name, totals in self._settled[kind].items()}
            found[f"{kind}_trials"] = own["trials"]
            for outcome in self.outcomes:
                positives = np.array([self._everyone[outcome]])
                everyone = smoothed_rate(positives, trials, np.array([0.5]), strength=1)
                found[f"{kind}_{outcome}_rate"] = smoothed_rate(own[outcome], own["trials"], everyone)
        return found

    def add(self, keys: Mapping[str, np.ndarray], outcomes: Mapping[str, np.ndarray]) -> None:
        """Events with their outcomes, each (N,): 0, 1, or NaN where it is undefined."""
        values = {name: outcomes[name] for name in self.outcomes}
        defined = ~np.any([np.isnan(value) for value in values.values()], axis=0)
        counted = {"trials": np.ones(int(defined.sum()), np.int32)}
        counted |= {name: value[defined].astype(np.int32) for name, value in values.items()}
        for name, numbers in counted.items():
            self._everyone_open[name] += int(numbers.sum())
            for kind, row_keys in keys.items():
                np.add.at(self._open[kind][name], row_keys[defined], numbers)

    def settle(self) -> None:
        """From now on, rows see everything that was added."""
        for kind, totals in self._open.items():
            for name, numbers in totals.items():
                numbers[NO_KEY] = 0  # the last place, which no key has
                self._settled[kind][name] += numbers
                numbers[:] = 0
        for name, number in self._everyone_open.items():
            self._everyone[name] += number
            self._everyone_open[name] = 0


def _zeros(names: Sequence[str], num_keys: int) -> dict[str, np.ndarray]:
    return {name: np.zeros(num_keys + 1, np.int32) for name in names}
