"""The clock and the rounds of measurements, with a clock that the test sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from harness.machine import timing
from harness.machine.peaks import Gemm, measured_bandwidth
from harness.machine.rounds import (
    CALLS_FOR_P99,
    FEWEST_ROUNDS,
    Timing,
    error_of_median,
    relative_spread,
    time_rounds,
)

CPU = torch.device("cpu")


class Clock:
    """Stands still except in a call that `taking` makes."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def taking(self, *seconds: float):
        """A call that takes these seconds one after another, and then always the last of them."""
        left = list(seconds)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


class FakeGemm:
    device = CPU

    def __init__(self, *rates: float) -> None:
        self.rates = list(rates)

    def flops_per_second(self) -> float:
        return self.rates.pop(0)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_a_stopwatch_and_a_call_are_read_on_the_same_clock(clock):
    call = clock.taking(0.5, 0.25)
    watch = timing.Stopwatch()
    assert timing.seconds_of(call) == 0.5
    assert timing.seconds_of(call) == 0.25
    assert watch.seconds() == 0.75


def test_a_reading_waits_for_the_gpu(clock, monkeypatch):
    """Work that the GPU has not done yet is in the reading, not in the next one."""
    queued = [2.0, 3.0]
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: clock.taking(queued.pop(0))())
    assert timing.Stopwatch(torch.device("cuda")).seconds() == 3.0


def test_rounds_hold_as_many_calls_as_fit_and_each_its_own_matrix_product(clock):
    found = time_rounds(clock.taking(0.02), FakeGemm(1.0, 2.0, 4.0), rounds=3, round_seconds=0.1)
    assert found.seconds == pytest.approx([0.02] * 3)
    assert len(found.latencies) == 15
    assert found.gemm_flops_per_second == [1.0, 2.0, 4.0]
    # Half as fast a machine has half the peak: the share of it says the same.
    assert found.peak_shares(0.08) == pytest.approx([4.0, 2.0, 1.0])


def test_warm_up_is_not_in_the_figures(clock):
    found = time_rounds(clock.taking(9.0, 9.0, 0.1), FakeGemm(*[1.0] * 4), rounds=4, round_seconds=0.1)
    assert found.median == pytest.approx(0.1)
    assert max(found.latencies) == pytest.approx(0.1)


def test_a_round_s_first_call_finds_other_work_s_caches_and_is_not_in_the_figures(clock):
    """Not even once a round: with few calls a round the p99 would be that of cold calls."""
    is_cold = True

    class ColdAfter(FakeGemm):
        def flops_per_second(self) -> float:
            nonlocal is_cold
            is_cold = True
            return super().flops_per_second()

    def call() -> None:
        nonlocal is_cold
        clock.now += 0.7 if is_cold else 0.1
        is_cold = False

    found = time_rounds(call, ColdAfter(*[1.0] * 5), rounds=5, round_seconds=0.2)
    assert found.latencies == pytest.approx([0.1] * 10)
    assert found.seconds == pytest.approx([0.1] * 5)


def test_long_calls_have_fewer_rounds(clock):
    found = time_rounds(clock.taking(6.0), FakeGemm(*[1.0] * 9), rounds=9, longest_seconds=10.0)
    assert len(found.seconds) == FEWEST_ROUNDS == 3


def test_a_slow_first_round_does_not_let_later_ones_overrun(clock):
    # Rounds after it are planned by the slowest so far.
    found = time_rounds(clock.taking(0.01, 0.01, *[1.0] * 11, 0.01, 0.01), FakeGemm(*[1.0] * 3), rounds=3)
    assert found.seconds[0] == pytest.approx(1.0)
    assert len(found.latencies) == 10 + 1 + 1


def test_percentiles_are_numpys_and_high_ones_need_many_calls():
    values = list(np.random.default_rng(0).random(CALLS_FOR_P99))
    many, few = Timing(values, [1.0], [1.0]), Timing(values[:-1], [1.0], [1.0])
    assert many.percentile(0.99) == pytest.approx(np.percentile(values, 99))
    assert few.percentile(0.99) is None
    assert few.percentile(0.5) == pytest.approx(np.median(values[:-1]))


@pytest.mark.parametrize(("share", "calls"), [(0.5, 25), (0.99, 400), (0.99, 100)])
def test_the_interval_of_a_quantile_holds_it_in_95_of_100_samples(share, calls):
    """Of latencies with a long tail; an end that is not known holds everything beyond it."""
    rng, truth = np.random.default_rng(1), float(np.exp(norm.ppf(share)))
    held = 0
    for _ in range(2000):
        low, high = Timing(list(rng.lognormal(size=calls))).percentile_interval(share)
        held += (low is None or low <= truth) and (high is None or truth <= high)
    assert 0.94 <= held / 2000 <= 1.0


def test_the_upper_end_of_p99_needs_368_calls():
    # 0.99^368 < 0.025: so seldom are all calls below the quantile.
    values = list(np.arange(1.0, 369.0))
    assert Timing(values).percentile_interval(0.99)[1] == 368.0
    assert Timing(values[:-1]).percentile_interval(0.99)[1] is None
    assert Timing(values[:3]).percentile_interval(0.5) == (None, None)


def test_the_error_of_a_median_is_that_of_many_samples():
    medians = np.median(np.random.default_rng(2).normal(10, 1, (4000, 40)), axis=1)
    values = list(norm.ppf((np.arange(40) + 0.5) / 40, loc=10))
    assert error_of_median(values) == pytest.approx(medians.std() / 10, rel=0.1)


def test_the_spread_is_the_distance_of_the_quartiles_over_the_median():
    assert relative_spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2.0 / 3.0)
    assert relative_spread([7.0]) == 0.0


def test_a_matrix_product_counts_two_flops_a_multiply_add(clock, monkeypatch):
    monkeypatch.setattr(torch, "mm", lambda left, right, out: clock.taking(0.5)())
    assert Gemm(CPU, "fp32", size=10).flops_per_second() == pytest.approx(2 * 10**3 / 0.5)


def test_a_copy_reads_and_writes(clock, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, source: clock.taking(0.25)())
    assert measured_bandwidth(CPU, megabytes=1) == pytest.approx(2 * 2**20 / 0.25)
