"""One server that answers requests first come, first served, and how long each of them took.

A latency counts from the moment at which the request was to arrive, so the wait behind earlier requests is in
it whatever the server was doing then.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from files.errors import UnfinishedError
from harness.serving import load

BATCHES = 20  # from whose means the correlation of successive latencies is estimated


class Arrival(NamedTuple):
    """Which request, and in seconds of one clock when it was to be sent and when it was."""

    kind: int
    at: float
    sent: float


@dataclass(frozen=True)
class Answered:
    """Requests in the order of their answers.

    Shapes
        arrival, sent, start, end: (N,) seconds of one clock.
    """

    arrival: NDArray[np.float64]
    sent: NDArray[np.float64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]

    @cached_property
    def latency(self) -> NDArray[np.float64]:
        """(N,) seconds from arrival to answer."""
        return self.end - self.arrival

    @property
    def queue(self) -> NDArray[np.float64]:
        """(N,) seconds from arrival until the server turned to the request."""
        return self.start - self.arrival

    @property
    def compute(self) -> NDArray[np.float64]:
        """(N,) seconds that the server computed."""
        return self.end - self.start

    @property
    def late(self) -> NDArray[np.float64]:
        """(N,) seconds by which the sender was late, which the latencies hold, too."""
        return self.sent - self.arrival


def answer_all(
    requests: Iterable[Arrival], answer: Callable[[int], object], clock: Callable[[], float]
) -> Answered:
    """Answer each request as it comes, one at a time."""
    times = []
    for kind, at, sent in requests:
        start = clock()
        answer(kind)
        times.append((at, sent, start, clock()))
    return Answered(*np.array(times, dtype=np.float64).reshape(-1, 4).T)


@contextmanager
def sent_by_a_process(rate: float, count: int, kinds: int, seed: int) -> Iterator[Iterator[Arrival]]:
    """The requests that a process of its own sends at ``rate`` a second (`harness.serving.load`).

    Raises UnfinishedError where that process ends early.
    """
    command = [sys.executable, "-I", "-S", load.__file__, *map(str, (rate, count, kinds, seed))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield _received(process, count)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _received(process: subprocess.Popen[bytes], count: int) -> Iterator[Arrival]:
    assert process.stdout is not None
    for number in range(count):
        message = process.stdout.read(load.MESSAGE.size)
        if len(message) < load.MESSAGE.size:
            raise UnfinishedError(f"the process that sends requests ended after {number} of {count}")
        yield Arrival(*load.MESSAGE.unpack(message))


def percentile_interval(
    values: NDArray[np.float64], share: float, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Two of the values that hold the true quantile between them in ``level`` of all samples.

    Order statistics, as in `harness.machine.rounds`, for as many independent values as these successive ones
    are worth: requests wait behind one another, so long latencies come together. In simulations of 10,000
    requests at 30% to 93% of a server's rate it held the true p99 in 86% to 97% of them. An end is None where
    there are too few values for it.
    """
    ordered, worth = np.sort(values), int(independent(values, share))
    tail = (1 - level) / 2
    below, above = int(binom.ppf(tail, worth, share)), int(binom.isf(tail, worth, share))
    scale = len(values) / worth
    low = float(ordered[max(0, int(below * scale) - 1)]) if below >= 1 else None
    high = float(ordered[min(len(values), int(np.ceil((above + 1) * scale))) - 1]) if above < worth else None
    return low, high


def independent(values: NDArray[np.float64], share: float) -> float:
    """How many independent values say as much of a quantile as these successive ones, at least one.

    The variance of the share above the quantile, from the means of `BATCHES` stretches, over that of
    independent values (the method of batch means).
    """
    size = len(values) // BATCHES
    if size == 0:
        return float(max(1, len(values)))
    above = values > np.quantile(values, share)
    means = above[: size * BATCHES].reshape(BATCHES, size).mean(axis=1)
    inflation = float(means.var(ddof=1)) * size / (share * (1 - share))
    return max(1.0, len(values) / max(1.0, inflation))
