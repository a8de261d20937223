"""Speed measurements in rounds: each round of calls is timed beside a matrix product of the same moment.

A machine that others use too is slower at one moment than at the next. The share of the machine's peak that a
model reaches is therefore taken within a round: the model's FLOP/s over those of a large matrix product made
just before it. The median over rounds is reported, and their spread.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.stats import binom

from harness.machine.peaks import Gemm
from harness.machine.timing import Stopwatch, seconds_a_call, seconds_of

ROUNDS = 15
FEWEST_ROUNDS = 3
ROUND_SECONDS = 0.1
LONGEST_SECONDS = 15.0  # where a call takes so long that all rounds would last longer, fewer are made
CALLS_FOR_P99 = 100


@dataclass
class Timing:
    """What one call took, round by round.

    ``latencies``: seconds of single calls, each waited for. ``seconds``: a round's seconds a call, on a GPU
    without waiting between calls. ``gemm_flops_per_second``: of the matrix product of the same round.
    """

    latencies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    gemm_flops_per_second: list[float] = field(default_factory=list)

    def add_round(
        self, call: Callable[[], object], calls: int, gemm_flops_per_second: float, device: torch.device
    ) -> None:
        """Time ``calls`` calls, beside a matrix product that was timed just before.

        One call before them is not timed: other work has had the caches, and a p99 would say how many calls
        a round has.
        """
        call()
        latencies = [seconds_of(call, device) for _ in range(calls)]
        self.latencies.extend(latencies)
        self.seconds.append(seconds_a_call(call, calls) if device.type == "cuda" else sum(latencies) / calls)
        self.gemm_flops_per_second.append(gemm_flops_per_second)

    @property
    def median(self) -> float:
        """Seconds a call."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """`relative_spread` of the rounds' seconds a call."""
        return relative_spread(self.seconds)

    def peak_shares(self, flops: float) -> list[float]:
        """The FLOP/s of a call of ``flops`` over the matrix product's, for each round."""
        return [flops / s / peak for s, peak in zip(self.seconds, self.gemm_flops_per_second, strict=True)]

    def percentile(self, share: float) -> float | None:
        """A quantile of the latencies; None for a high one where there are too few calls to tell."""
        if share > 0.5 and len(self.latencies) < CALLS_FOR_P99:
            return None
        return self.quantile(share)

    def quantile(self, share: float) -> float:
        """A quantile of the latencies, however few there are; its interval says how well it is known."""
        return float(np.quantile(self.latencies, share))

    def percentile_interval(self, share: float, level: float = 0.95) -> tuple[float | None, float | None]:
        """Two of the latencies that hold the true quantile between them in ``level`` of all samples.

        The number of calls below a quantile is binomial, so no shape of the distribution is assumed (the
        order-statistic interval; David and Nagaraja, Order Statistics, section 7.1). An end is None where
        there are too few calls for it: the upper one of p99 needs 368.
        """
        ordered, calls = sorted(self.latencies), len(self.latencies)
        tail = (1 - level) / 2
        below, above = int(binom.ppf(tail, calls, share)), int(binom.isf(tail, calls, share))
        low = ordered[below - 1] if below >= 1 else None
        return low, ordered[above] if above < calls else None


def time_rounds(
    call: Callable[[], object],
    gemm: Gemm,
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    longest_seconds: float = LONGEST_SECONDS,
) -> Timing:
    """Time ``call`` on the device of ``gemm`` in rounds of ``round_seconds``, after two calls as warm-up.

    Each round begins with one more (`Timing.add_round`).
    """
    call()
    first = seconds_of(call, gemm.device)
    timing = Timing()
    watch = Stopwatch()
    for number in range(rounds):
        if number >= FEWEST_ROUNDS and watch.seconds() > longest_seconds:
            break
        gemm_flops_per_second = gemm.flops_per_second()
        calls = calls_in(round_seconds, max(timing.seconds or [first]))
        timing.add_round(call, calls, gemm_flops_per_second, gemm.device)
    return timing


def calls_in(seconds: float, seconds_a_call: float) -> int:
    """How many calls fit, at least one."""
    return max(1, round(seconds / seconds_a_call))


def error_of_median(values: list[float]) -> float:
    """Standard error of the median over the median, as of normal values that have this `relative_spread`."""
    return 0.93 * relative_spread(values) / math.sqrt(len(values))


def relative_spread(values: list[float]) -> float:
    """Distance between the quartiles over the median."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / statistics.median(values)
