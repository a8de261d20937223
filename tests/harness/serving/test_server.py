"""One server under random arrivals, with a virtual clock, beside the closed forms of queueing theory."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from files.errors import UnfinishedError
from harness.machine.rounds import Timing
from harness.serving import load
from harness.serving.search import conclude, highest_load, load_point
from harness.serving.server import (
    Answered,
    Arrival,
    answer_all,
    independent,
    percentile_interval,
    sent_by_a_process,
)


class VirtualServer:
    """A clock that moves where the server computes, or waits for the next arrival."""

    def __init__(self, seconds) -> None:
        self.now = 0.0
        self.seconds = seconds  # of the next answer

    def answer(self, kind: int) -> None:
        self.now += self.seconds()

    def offer(self, rate: float, count: int, seed: int = 0) -> Answered:
        return answer_all(self.arriving(rate, count, seed), self.answer, lambda: self.now)

    def arriving(self, rate, count, seed):
        start = self.now
        for kind, at in load.arrivals(rate, count, 8, seed):
            self.now = max(self.now, start + at)
            yield Arrival(kind, start + at, start + at)


def exponential(mean: float, seed: int = 1):
    generator = np.random.default_rng(seed)
    return lambda: generator.exponential(mean)


def wait_below_md1(t: float, rate: float, service: float) -> float:
    """Erlang's formula: P(wait <= t) with Poisson arrivals and one constant service time."""
    rho = rate * service
    terms = [
        (rate * (k * service - t)) ** k / math.factorial(k) * math.exp(-rate * (k * service - t))
        for k in range(int(t / service) + 1)
    ]
    return (1 - rho) * sum(terms)


def p99_md1(rate: float, service: float) -> float:
    """The latency, wait and service, that 99 of 100 requests stay under."""
    low, high = 0.0, 20 * service
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if wait_below_md1(middle, rate, service) < 0.99 else (low, middle)
    return service + low


def p99_mm1(rate: float, service: float) -> float:
    """Latencies of a server with exponential service times are exponential with rate 1/service - rate."""
    return math.log(100) / (1 / service - rate)


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_the_p99_is_that_of_theory(utilisation):
    service = 0.002
    rate = utilisation / service

    def p99(seconds) -> float:
        answered = [VirtualServer(seconds).offer(rate, 20_000, seed) for seed in range(5)]
        return float(np.mean([np.quantile(each.latency, 0.99) for each in answered]))

    assert p99(lambda: service) == pytest.approx(p99_md1(rate, service), rel=0.08)
    assert p99(exponential(service)) == pytest.approx(p99_mm1(rate, service), rel=0.1)


@pytest.mark.parametrize("bound", [0.006, 0.010, 0.020])
def test_the_search_finds_the_load_at_which_theory_meets_the_bound(bound):
    service = 0.002
    server = VirtualServer(lambda: service)
    found = highest_load(server.offer, 1 / service, bound, seconds=1e9)
    assert all(point.requests == 10_000 for point in found.loads)
    assert found.at_least <= found.qps <= found.at_most
    truth = next(rate for rate in np.arange(1, 500, 0.5) if p99_md1(rate, service) > bound)
    assert found.qps == pytest.approx(truth, rel=0.06)
    assert found.at_least <= 1.01 * truth
    assert truth <= 1.01 * found.at_most


def test_a_bound_that_exponential_service_meets_at_a_known_load():
    service, bound = 0.002, 0.020
    found = highest_load(VirtualServer(exponential(service)).offer, 1 / service, bound, seconds=1e9)
    truth = 1 / service - math.log(100) / bound
    assert found.at_least <= truth <= found.at_most
    assert found.qps == pytest.approx(truth, rel=0.12)


def test_no_load_holds_a_bound_below_the_service_time():
    found = highest_load(VirtualServer(lambda: 0.002).offer, 500.0, 0.0019, seconds=1e9)
    assert (found.qps, found.at_least) == (0, 0)
    assert found.at_most == min(point.offered_qps for point in found.loads)


def test_fewer_requests_than_a_p99_needs_are_not_offered():
    found = highest_load(VirtualServer(lambda: 0.002).offer, 500.0, 0.01, seconds=0.5)
    assert found.loads[0].requests == 125
    assert found.at_least == 0  # an upper end of the p99 needs 368 requests
    slow = highest_load(VirtualServer(lambda: 0.02).offer, 50.0, 0.01, seconds=1.0)
    assert [(point.offered_qps, point.requests) for point in slow.loads] == [(12.5, 100), (25, 100)]
    assert (slow.qps, slow.at_least) == (0, 0)
    slower = highest_load(VirtualServer(lambda: 1.0).offer, 1.0, 2.0, seconds=1.0)
    assert (slower.qps, slower.at_least, slower.at_most, slower.loads) == (None, None, None, [])


def test_a_latency_is_queue_and_compute_from_the_scheduled_arrival():
    arrivals = [Arrival(0, 0.0, 0.0), Arrival(1, 0.1, 0.4), Arrival(2, 5.0, 5.0)]
    server = VirtualServer(lambda: 1.0)

    def arriving():
        for arrival in arrivals:
            server.now = max(server.now, arrival.sent)
            yield arrival

    answered = answer_all(arriving(), server.answer, lambda: server.now)
    np.testing.assert_allclose(answered.latency, [1.0, 1.9, 1.0])
    np.testing.assert_allclose(answered.queue, [0.0, 0.9, 0.0])
    np.testing.assert_allclose(answered.compute, 1.0)
    np.testing.assert_allclose(answered.late, [0.0, 0.3, 0.0])
    point = load_point(2.0, answered)
    assert point.latency_ms_p50 == pytest.approx(1000)
    assert (point.latency_ms_p99_low, point.latency_ms_p99_high) == (None, None) or point.requests == 3


# --- the interval ------------------------------------------------------------------------------------------


def latencies_mm1(rho: float, count: int, generator: np.random.Generator) -> np.ndarray:
    """Lindley's recursion, all at once, begun in the steady state: mean service 1."""
    service, gaps = generator.exponential(1, count), generator.exponential(1 / rho, count)
    first = 0.0 if generator.random() > rho else generator.exponential(1 / (1 - rho))
    steps = np.concatenate([[first], service[:-1] - gaps[1:]])
    walk = np.cumsum(steps)
    return walk - np.minimum(np.minimum.accumulate(walk), 0) + service


@pytest.mark.parametrize("rho", [0.3, 0.7, 0.85])
def test_the_interval_holds_the_true_p99_though_latencies_come_together(rho):
    generator = np.random.default_rng(0)
    truth = math.log(100) / (1 - rho)
    held = naive = 0
    for _ in range(200):
        values = latencies_mm1(rho, 10_000, generator)
        low, high = percentile_interval(values, 0.99)
        held += low is not None and low <= truth and (high is None or truth <= high)
        low, high = Timing(latencies=list(values)).percentile_interval(0.99)
        naive += low <= truth <= high
    assert held >= 0.85 * 200
    assert held > naive


def test_independent_values_have_the_interval_of_order_statistics():
    values = np.random.default_rng(3).exponential(1, 2000)
    assert independent(values, 0.99) > 1000
    alike = np.sort(values)
    assert independent(alike, 0.99) < 200  # all the long ones together say little
    wide = percentile_interval(alike, 0.9)
    narrow = percentile_interval(values, 0.9)
    assert (wide[0] or 0) < narrow[0]
    low, high = Timing(latencies=[float(v) for v in range(1, 20)]).percentile_interval(0.5)
    assert percentile_interval(np.arange(1.0, 20.0), 0.5) == (low, high)


# --- the process that sends --------------------------------------------------------------------------------


def test_gaps_are_exponential_and_the_seed_decides_them():
    drawn = list(load.arrivals(200.0, 20_000, 5, seed=3))
    assert drawn == list(load.arrivals(200.0, 20_000, 5, seed=3))
    assert drawn != list(load.arrivals(200.0, 20_000, 5, seed=4))
    gaps = np.diff([at for _, at in drawn])
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 200, rel=0.03)
    assert {kind for kind, _ in drawn} == set(range(5))


def test_another_process_sends_what_was_drawn_and_no_sooner():
    with sent_by_a_process(400.0, 60, 4, seed=7) as arriving:
        received = [(arrival, time.monotonic()) for arrival in arriving]
    drawn = list(load.arrivals(400.0, 60, 4, seed=7))
    assert [arrival.kind for arrival, _ in received] == [kind for kind, _ in drawn]
    at = np.array([arrival.at for arrival, _ in received])
    np.testing.assert_allclose(np.diff(at), np.diff([at for _, at in drawn]), atol=1e-9)
    assert all(arrival.at <= arrival.sent <= now for arrival, now in received)


def test_a_sender_that_ends_early_is_told():
    with (
        pytest.raises(UnfinishedError, match="ended after 0 of 5"),
        sent_by_a_process(0.0, 5, 4, seed=0) as arriving,  # no gap can be drawn
    ):
        list(arriving)


def test_contradicting_loads_leave_an_interval_in_order():
    def point(qps, low, p99, high):
        found = load_point(qps, VirtualServer(lambda: 1.0).offer(1.0, 3))
        ends = {"latency_ms_p99_low": low, "latency_ms_p99": p99, "latency_ms_p99_high": high}
        return found.model_copy(update=ends)

    loads = [point(50, 5, 6, 7), point(75, 9, 12, None), point(62, 8, 9, 14)]
    found = conclude(loads, 100.0, 0.010)
    assert (found.at_least, found.qps, found.at_most) == (50, 62, 100)
