"""The clock of speed measurements: calls in rounds, each round beside a matrix product of the same moment.

A machine that others use too is slower at one moment than at the next. What a model reaches of the machine's
peak is therefore taken within a round: the model's FLOP/s over those of a large matrix product made just
before it. The median over rounds is reported, and the spread that it had.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from harness.machine.peaks import square_product, synchronize

ROUNDS = 15
FEWEST_ROUNDS = 3
ROUND_SECONDS = 0.1
LONGEST_SECONDS = 15.0  # where a call takes so long that all rounds would last longer, fewer are made
CALLS_FOR_P99 = 100


@dataclass(frozen=True)
class Timing:
    """What one call took, round by round.

    ``latencies`` are those of single calls, each waited for; ``seconds`` a round's seconds a call, without
    waiting in between on a GPU; ``gemm_flops_per_second`` that of the matrix product of the same round.
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
        """Of the seconds a call: half of the rounds lie within this share of the median."""
        return relative_spread(self.seconds)

    def peak_shares(self, flops: float) -> list[float]:
        """Of a call of ``flops``: its FLOP/s over the matrix product's, for each round."""
        return [flops / s / peak for s, peak in zip(self.seconds, self.gemm_flops_per_second, strict=True)]

    def percentile(self, share: float) -> float | None:
        """Of the latencies; None of a high one where there are too few calls to tell."""
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
    first = _seconds_of(call, gemm.device)
    timing = Timing([], [], [])
    start = time.perf_counter()
    for number in range(rounds):
        if number >= FEWEST_ROUNDS and time.perf_counter() - start > longest_seconds:
            break
        timing.gemm_flops_per_second.append(gemm.flops_per_second())
        calls = max(1, round(round_seconds / max(timing.seconds or [first])))
        latencies = [_seconds_of(call, gemm.device) for _ in range(calls)]
        timing.latencies.extend(latencies)
        timing.seconds.append(
            _seconds_together(call, calls) if gemm.device.type == "cuda" else sum(latencies) / calls
        )
    return timing


class Gemm:
    """A square matrix product, large enough to reach the peak of its device and precision."""

    def __init__(self, device: torch.device, precision: str, size: int | None = None) -> None:
        self.device, self.precision = device, precision
        self.size = size or (8192 if device.type == "cuda" else 2048)
        self._product = square_product(device, precision, self.size)
        self.flops_per_second()

    def flops_per_second(self) -> float:
        """Of one product, timed now."""
        return 2 * self.size**3 / _seconds_of(self._product, self.device)


def measured_bandwidth(device: torch.device, megabytes: int = 256, repeats: int = 10) -> float:
    """Bytes a second that the fastest of ``repeats`` copies of a tensor reads and writes together."""
    source = torch.ones(megabytes * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    fastest = min(_seconds_of(lambda: target.copy_(source), device) for _ in range(repeats))
    return 2 * source.nbytes / fastest


def _seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """One call, waited for: by events on a GPU, which has its own clock."""
    if device.type == "cuda":
        return _seconds_together(call, 1)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _seconds_together(call: Callable[[], object], calls: int) -> float:
    """Seconds a call of several in succession on the GPU."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    synchronize(torch.device("cuda"))
    return begin.elapsed_time(end) / 1e3 / calls


def relative_spread(values: list[float]) -> float:
    """Distance between the quartiles over the median."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / statistics.median(values)
