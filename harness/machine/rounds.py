"""Speed measurements in rounds: each round of calls is timed beside a matrix product of the same moment.

A machine that others use too is slower at one moment than at the next. The share of the machine's peak that a
model reaches is therefore taken within a round: the model's FLOP/s over those of a large matrix product made
just before it. The median over rounds is reported, and their spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.machine.peaks import Gemm
from harness.machine.timing import Stopwatch, seconds_a_call, seconds_of

ROUNDS = 15
FEWEST_ROUNDS = 3
ROUND_SECONDS = 0.1
LONGEST_SECONDS = 15.0  # where a call takes so long that all rounds would last longer, fewer are made
CALLS_FOR_P99 = 100


@dataclass(frozen=True)
class Timing:
    """What one call took, round by round.

    ``latencies``: seconds of single calls, each waited for. ``seconds``: a round's seconds a call, on a GPU
    without waiting between calls. ``gemm_flops_per_second``: of the matrix product of the same round.
    """

    latencies: list[float]
    seconds: list[float]
    gemm_flops_per_second: list[float]

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
        return float(np.quantile(self.latencies, share))


def time_rounds(
    call: Callable[[], object],
    gemm: Gemm,
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    longest_seconds: float = LONGEST_SECONDS,
) -> Timing:
    """Time ``call`` on the device of ``gemm`` in rounds of ``round_seconds``, after two calls as warm-up."""
    call()
    first = seconds_of(call, gemm.device)
    timing = Timing([], [], [])
    watch = Stopwatch()
    for number in range(rounds):
        if number >= FEWEST_ROUNDS and watch.seconds() > longest_seconds:
            break
        timing.gemm_flops_per_second.append(gemm.flops_per_second())
        calls = max(1, round(round_seconds / max(timing.seconds or [first])))
        latencies = [seconds_of(call, gemm.device) for _ in range(calls)]
        timing.latencies.extend(latencies)
        timing.seconds.append(
            seconds_a_call(call, calls) if gemm.device.type == "cuda" else sum(latencies) / calls
        )
    return timing


def relative_spread(values: list[float]) -> float:
    """Distance between the quartiles over the median."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / statistics.median(values)
