"""Points that processes share, each made once: played by threads and by processes that died."""

from __future__ import annotations

import threading
import time
from collections import Counter

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from harness.records.spec import Training
from harness.training.progress import Silent
from harness.workers.isolation import BrokenCallError
from suites.tuning import points as module
from suites.tuning import storage
from suites.tuning.decision import Settings
from suites.tuning.points import KEY, Point, PointStudy
from suites.tuning.storage import open_storage
from suites.tuning.trials import Outcome

SETTINGS = Settings(training={}, config={})


def point(seed: int) -> Point:
    return Point(SETTINGS, Training(), seed, f"seed {seed}")


def opened(tmp_path, train) -> PointStudy:
    return PointStudy.join("row/again", open_storage(f"sqlite:///{tmp_path}/tune.db"), Silent(), train)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)


def test_points_that_train_the_same_are_one_and_others_are_not():
    other = [
        point(2),
        Point(Settings(training={}, config={"num_layers": 2}), Training(), 1, ""),
        Point(Settings(training={}, config={}, tokens={"tokens": 8}), Training(), 1, ""),
        Point(SETTINGS, Training(dense_lr=0.01), 1, ""),
    ]
    assert len({point(1).key, *(one.key for one in other)}) == 5
    assert Point(SETTINGS, Training(), 1, "another title").key == point(1).key


def test_four_that_work_at_once_make_each_point_once_and_all_see_the_scores(tmp_path):
    made: Counter[int] = Counter()

    def train(one: Point) -> Outcome:
        made[one.seed] += 1
        time.sleep(0.05)
        return Outcome(diverged="at step 1") if one.seed == 3 else Outcome(score=one.seed / 10)

    points = [point(seed) for seed in range(6)]
    workers = [opened(tmp_path, train) for _ in range(4)]
    threads = [threading.Thread(target=study.make, args=(points, True)) for study in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == dict.fromkeys(range(6), 1)
    for study in workers:
        assert [study.score(one) for one in points] == [0.0, 0.1, 0.2, None, 0.4, 0.5]
        assert study.make(points, patient=False)


def test_what_another_makes_is_waited_for_only_by_the_patient_and_made_again_if_it_died(
    tmp_path, monkeypatch
):
    study = opened(tmp_path, lambda one: Outcome(score=0.5))
    study.study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={KEY: point(1).key}))
    assert not study.make([point(1)], patient=False)
    monkeypatch.setattr(storage, "GRACE_SECONDS", 0)
    assert study.make([point(1)], patient=True)
    assert [trial.state for trial in study.study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_an_interrupted_point_is_free_at_once(tmp_path):
    def interrupted(one: Point) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, interrupted).make([point(1)], patient=True)
    study = opened(tmp_path, lambda one: Outcome(score=0.5))
    assert study.make([point(1)], patient=False)
    assert study.score(point(1)) == 0.5


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (BrokenCallError("it raised"), "it raised"),
        (Outcome(score=float("nan")), "its score on the validation split is nan"),
        (Outcome(out_of_reach="too small"), "too small"),
    ],
)
def test_a_row_whose_trainings_break_is_given_up_by_this_command_alone(tmp_path, outcome, words):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    calls = []

    def train(one: Point) -> Outcome:
        calls.append(one)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    study = opened(tmp_path, train)
    assert not study.make([point(1)], patient=True)
    assert len(calls) == 3
    assert study.given_up() == f"3 of its trainings broke, the last by {words}"
    assert opened(tmp_path, lambda one: Outcome(score=0.5)).make([point(1)], patient=True)
