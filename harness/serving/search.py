"""The highest load whose p99 stays under a bound, found by bisection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.records.serving_profile import LoadPoint
from harness.serving.server import Answered, percentile_interval

STEPS = 7  # the last two rates are a 128th of the server's own apart
MOST_REQUESTS = 10_000
FEWEST_REQUESTS = 100  # of a load, which takes longer for them
LONGEST = 10  # times as long as asked for; loads that would take longer are not offered


@dataclass(frozen=True)
class Found:
    """Requests a second at the bound, in ``qps``; 0 where no load that was offered holds it.

    ``at_least`` is the highest load whose p99 lies under the bound with its whole interval, ``at_most`` the
    lowest whose p99 lies over it so; where there is none, 0 and the server's own rate. All are None where no
    load could be offered.
    """

    qps: float | None
    at_least: float | None
    at_most: float | None
    loads: list[LoadPoint]


def highest_load(
    offer: Callable[[float, int], Answered], own_rate: float, bound_seconds: float, seconds: float
) -> Found:
    """Offer loads between 0 and ``own_rate``, each for ``seconds`` or `MOST_REQUESTS`.

    ``offer`` takes requests a second and how many. A load with fewer than `FEWEST_REQUESTS` in that time,
    which say nothing of a p99, is offered for longer; the search ends early where that would be too long.
    """
    low, high = 0.0, own_rate
    loads: list[LoadPoint] = []
    for _ in range(STEPS):
        rate = (low + high) / 2
        if rate * seconds * LONGEST < FEWEST_REQUESTS:
            break
        count = max(FEWEST_REQUESTS, min(MOST_REQUESTS, int(rate * seconds)))
        loads.append(load_point(rate, offer(rate, count)))
        if loads[-1].latency_ms_p99 <= 1e3 * bound_seconds:
            low = rate
        else:
            high = rate
    return conclude(loads, own_rate, bound_seconds)


def conclude(loads: list[LoadPoint], own_rate: float, bound_seconds: float) -> Found:
    """What the loads that were offered say of the bound."""
    if not loads:
        return Found(None, None, None, [])
    bound = 1e3 * bound_seconds
    holds = [load.offered_qps for load in loads if load.latency_ms_p99 <= bound]
    surely = [
        load.offered_qps
        for load in loads
        if load.latency_ms_p99_high is not None and load.latency_ms_p99_high <= bound
    ]
    surely_not = [
        load.offered_qps
        for load in loads
        if load.latency_ms_p99_low is not None and load.latency_ms_p99_low > bound
    ]
    ordered = sorted(loads, key=lambda load: load.offered_qps)
    return Found(
        max(holds, default=0.0), max(surely, default=0.0), min(surely_not, default=own_rate), ordered
    )


def load_point(rate: float, answered: Answered) -> LoadPoint:
    """A load and the quantiles of what its requests took, in milliseconds."""
    low, high = percentile_interval(answered.latency, 0.99)
    quantiles = {
        f"{name}_ms_p{percent}": 1e3 * float(np.quantile(values, percent / 100))
        for name, values in (
            ("latency", answered.latency),
            ("queue", answered.queue),
            ("compute", answered.compute),
        )
        for percent in (50, 99)
    }
    return LoadPoint(
        offered_qps=rate,
        requests=len(answered.latency),
        latency_ms_p99_low=None if low is None else 1e3 * low,
        latency_ms_p99_high=None if high is None else 1e3 * high,
        sent_late_ms_p99=1e3 * float(np.quantile(answered.late, 0.99)),
        **quantiles,
    )
