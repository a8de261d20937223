"""Trainings that are wanted one by one, each made exactly once by the processes that share a database.

A search draws its trials; here it is known beforehand what is trained: settings from a seed. Each is a trial
of a study beside the search's. Its key is written when it is claimed, so that every process sees who was
first: the smallest living trial of a key makes it, as in `suites.tuning.claims`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.records.spec import Training
from harness.training.progress import Watcher
from harness.workers.isolation import BrokenCallError
from suites.tuning import storage as database
from suites.tuning.claims import BEGUN, is_alive
from suites.tuning.decision import Settings
from suites.tuning.trials import Outcome
from suites.tuning.tuned import fingerprint_of

POLL_SECONDS = 2.0
MOST_BROKEN = 3  # trainings of one command that raise, before the rest are given up
MOST_LETTERS = 500  # of an error's message that is kept
KEY = "key"


@dataclass(frozen=True)
class Point:
    """Settings to be trained from a seed; ``training`` is all of it."""

    settings: Settings
    training: Training
    seed: int
    title: str

    @property
    def key(self) -> str:
        """Equal for points that train the same."""
        training = self.training.model_dump(mode="json")
        return fingerprint_of([training, self.settings.config, self.settings.tokens, self.seed])


@dataclass(frozen=True)
class PointStudy:
    """The points of one row; ``train`` carries one out in a process of its own."""

    study: optuna.Study
    storage: RDBStorage
    watcher: Watcher
    train: Callable[[Point], Outcome]
    began: datetime = field(default_factory=datetime.now)

    @classmethod
    def join(
        cls, name: str, storage: RDBStorage, watcher: Watcher, train: Callable[[Point], Outcome]
    ) -> PointStudy:
        """The study of that name, begun or gone on with."""
        study = optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True
        )
        return cls(study, storage, watcher, train)

    def make(self, points: Sequence[Point], patient: bool) -> bool:
        """Make the points that no process makes; returns whether all are made.

        ``patient`` waits for those of other processes, and makes them where these die. Raises what every
        point would fail by alike: InputError, a full disk, a database that is gone.
        """
        while not self.given_up():
            database.fail_dead_trials(self.study)
            alive = {trial.user_attrs[KEY]: trial for trial in self._trials() if is_alive(trial)}
            due = [point for point in points if point.key not in alive]
            if due:
                self._make_one(due[0])
                continue
            if all(alive[point.key].state.is_finished() for point in points):
                return True
            if not patient:
                return False
            time.sleep(POLL_SECONDS)
        return False

    def score(self, point: Point) -> float | None:
        """The validation score of a point that is made; None where its training diverged."""
        [made] = [t for t in self._trials() if t.user_attrs[KEY] == point.key and _is_made(t)]
        return made.value if made.state == TrialState.COMPLETE else None

    def given_up(self) -> str | None:
        """Why points are not made any more by this command, None while there is no reason."""
        broken = [
            trial
            for trial in self._trials()
            if "error" in trial.user_attrs and (trial.datetime_complete or self.began) > self.began
        ]
        if len(broken) < MOST_BROKEN:
            return None
        return f"{len(broken)} of its trainings broke, the last by {broken[-1].user_attrs['error']}"

    def _make_one(self, point: Point) -> None:
        trial = self._claim(point)
        if trial is None:
            return
        with database.heartbeat(self.storage, trial._trial_id):
            try:
                told = self._carry_out(trial, point)
            except UpdateFinishedTrialError:
                return  # this process stood still so long that another gave its trial up
        self.watcher.note(f"{point.title}: {told}")

    def _claim(self, point: Point) -> optuna.Trial | None:
        """A trial for the point that this process alone makes; None where another process was first."""
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        claim = create_trial(state=TrialState.RUNNING, user_attrs={KEY: point.key, "seed": point.seed})
        trial = optuna.Trial(self.study, self.storage.create_new_trial(study_id, claim))
        trials = self._trials()
        if not any(is_alive(t) and t.user_attrs[KEY] == point.key for t in trials[: trial.number]):
            return trial
        self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        return None

    def _carry_out(self, trial: optuna.Trial, point: Point) -> str:
        """Train, tell the study, and return what was found in words."""
        trial.set_user_attr(BEGUN, False)
        try:
            outcome = self.train(point)
            problem = _problem(outcome)
        except database.DatabaseErrors:
            raise
        except BrokenCallError as error:
            problem = str(error)
        except BaseException:
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise
        if problem:
            trial.set_user_attr("error", problem[:MOST_LETTERS])
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            return f"broke: {problem}"
        if outcome.diverged:
            trial.set_user_attr("diverged", outcome.diverged)
            self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            return "diverged"
        self.study.tell(trial, outcome.score, skip_if_finished=True)
        return f"{outcome.score:.4f}"

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)


def _is_made(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def _problem(outcome: Outcome) -> str:
    """What keeps an outcome from being a score, empty where nothing does."""
    if outcome.out_of_reach:
        return outcome.out_of_reach
    if not outcome.diverged and (outcome.score is None or not math.isfinite(outcome.score)):
        return f"its score on the validation split is {outcome.score}"
    return ""
