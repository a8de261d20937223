"""One model in one engine under MLPerf's two scenarios.

*Offline*: requests one after another, in rounds; candidates a second. *Server*: requests arrive at random
(Poisson) from another process, and wait for one server that answers one at a time; the highest rate whose p99
stays under a bound. A batch never holds two requests.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.prepare.folder import is_full_disk
from files.errors import InputError, RefusedError
from files.plain_text import one_line
from harness.export.served import Input, WholeModel
from harness.machine.rounds import relative_spread
from harness.machine.timing import CPU
from harness.records.serving_profile import ProfiledEngine
from harness.serving.engines import Conditions, engine, score_difference
from harness.serving.requests import Request
from harness.serving.search import highest_load
from harness.serving.server import Answered, answer_all, sent_by_a_process

SEED = 0
ROUNDS = 5
WARM_UP_CALLS = 5
CHECKED_REQUESTS = 4


@dataclass(frozen=True)
class Scenario:
    """The p99's bound, and for how long each load, and the offline scenario as a whole, lasts."""

    bound_seconds: float
    seconds: float


def profile_engine(
    who: ProfiledEngine,
    model: WholeModel,
    inputs: list[Input],
    requests: list[Request],
    conditions: Conditions,
    scenario: Scenario,
) -> ProfiledEngine:
    """``who`` with what was measured, or with why nothing was.

    The model is in fp32 on the CPU. PyTorch's threads are the caller's to set.
    """
    checked = requests[:CHECKED_REQUESTS]
    eager = engine("eager", model, inputs, Conditions(CPU), requests[0], Path())
    exact = [eager(request) for request in checked]
    with tempfile.TemporaryDirectory() as folder:
        try:
            answer = engine(who.engine, model, inputs, conditions, requests[0], Path(folder))
            found = [answer(request) for request in checked]
            difference = score_difference(found, exact, conditions.precision)
        except (InputError, RefusedError) as error:
            return who.model_copy(update={"refused": str(error)})
        except Exception as error:  # an engine's own, of a model that it cannot express
            if is_full_disk(error, Path(folder)):
                raise
            return who.model_copy(update={"refused": f"the engine cannot compute it ({one_line(error)})"})
        measured = measure(lambda kind: answer(requests[kind]), len(requests), who.candidates, scenario)
    return who.model_copy(update={"score_difference": difference, **measured})


def measure(answer: Callable[[int], object], kinds: int, candidates: int, scenario: Scenario) -> dict:
    """Both scenarios of a server that takes the numbers of ``kinds`` requests: `ProfiledEngine`'s fields."""
    rounds = offline(answer, kinds, scenario.seconds)
    alone = np.concatenate(rounds)
    own_rate = 1 / float(np.median(alone))

    def offer(rate: float, count: int) -> Answered:
        with sent_by_a_process(rate, count, kinds, SEED) as arriving:
            return answer_all(arriving, answer, time.monotonic)

    found = highest_load(offer, own_rate, scenario.bound_seconds, scenario.seconds)
    return {
        "alone_ms_p50": 1e3 * float(np.median(alone)),
        "alone_ms_p99": 1e3 * float(np.quantile(alone, 0.99)),
        "spread": relative_spread([float(each.mean()) for each in rounds]),
        "qps": found.qps,
        "qps_low": found.at_least,
        "qps_high": found.at_most,
        "loads": found.loads,
        "candidates_per_second": statistics.median(candidates / float(each.mean()) for each in rounds),
    }


def offline(answer: Callable[[int], object], kinds: int, seconds: float) -> list[np.ndarray]:
    """Seconds of each request of `ROUNDS` rounds, one after another without a pause."""
    for number in range(WARM_UP_CALLS):
        answer(number % kinds)
    rounds = []
    for _ in range(ROUNDS):
        taken: list[float] = []
        end = time.monotonic() + seconds / ROUNDS
        while not taken or time.monotonic() < end:
            start = time.monotonic()
            answer(len(taken) % kinds)
            taken.append(time.monotonic() - start)
        rounds.append(np.array(taken))
    return rounds
