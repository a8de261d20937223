"""A trial of tuning as a worker carries it out, and the judge in the command's process that may end it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data import InputError
from harness.model.architectures import source_hash
from harness.records.spec import RunSpec, Training
from harness.runs.trial import mean_score, train_and_validate
from harness.training.progress import Silent, Watcher
from harness.training.step import DivergenceError
from suites.plan import Caller
from suites.rows import MatchedRow, matcher
from suites.setting import Setting
from suites.suite import SuiteRow
from suites.tuning.search import structural_choices


@dataclass(frozen=True)
class RowFacts:
    """What a study has to know of its row's own code, so that this code runs in workers alone."""

    matched: MatchedRow
    source: str
    choices: dict[str, tuple[Any, ...]]


def row_facts(setting: Setting, row: SuiteRow) -> RowFacts:
    """The row at its budget; InputError where it misses that."""
    choices = structural_choices(row.architecture, row.config)
    return RowFacts(match_row(setting, row, {}), source_hash(row.architecture), choices)


def match_row(setting: Setting, row: SuiteRow, structure: dict[str, Any]) -> MatchedRow:
    """The row with a trial's structure at its budget; InputError where it misses that."""
    chosen = row.model_copy(update={"config": row.config | structure})
    return matcher(setting.suite, setting.prepared)(chosen)


@dataclass(frozen=True)
class Trial:
    """What a trial trains: a row with its tokens and a structure, by a training, from a seed."""

    setting: Setting
    row: SuiteRow
    structure: dict[str, Any]
    training: Training
    seed: int


@dataclass(frozen=True)
class Outcome:
    """A trial's score, or why it has none: its structure misses the budget, or its training diverged."""

    score: float | None = None
    out_of_reach: str | None = None
    diverged: str | None = None


Carrier = Callable[[Trial, Watcher], Outcome]  # carries a trial out in another process, watched


def carry_out_trial(trial: Trial, folder: Path, watcher: Watcher) -> Outcome:
    """Match and train in this process, and say what went wrong.

    ``watcher`` receives every validation; ``folder`` is for scratch.
    """
    try:
        matched = match_row(trial.setting, trial.row, trial.structure)
    except InputError as error:
        return Outcome(out_of_reach=str(error))
    spec = trial.setting.spec(matched, trial.seed).model_copy(update={"training": trial.training})
    try:
        train_and_validate(spec, trial.setting.prepared, trial.setting.world, folder, watcher)
    except DivergenceError as error:
        return Outcome(diverged=str(error))
    return Outcome()


class Judge(Silent):
    """Passes a trial's events on to ``watcher``, and each validation's score to ``judge(number, score)``.

    What ``judge`` raises ends the trial.
    """

    def __init__(self, trial: Trial, watcher: Watcher, judge: Callable[[int, float], None]) -> None:
        self._trial, self._watcher, self._judge = trial, watcher, judge
        self._scores: list[float] = []

    def start(self, spec: RunSpec, samples: int, total_samples: int) -> None:
        self._scores.clear()  # those of a try whose process was lost, which this one repeats
        self._watcher.start(spec, samples, total_samples)

    def advance(self, samples: int, loss: float, samples_per_second: float) -> None:
        self._watcher.advance(samples, loss, samples_per_second)

    def validated(self, samples: int, metrics: dict[str, dict]) -> None:
        dataset = self._trial.setting.prepared.schema.name
        self._scores.append(mean_score(metrics, self._trial.training.select_metric, dataset))
        self._judge(len(self._scores), self._scores[-1])

    def finish(self) -> None:
        self._watcher.finish()

    def note(self, text: str) -> None:
        self._watcher.note(text)

    @property
    def score(self) -> float:
        """The last validation's; with ``patience`` the best one's, whose weights training ends with."""
        return self._scores[-1] if self._trial.training.patience is None else max(self._scores)


def in_process(call: Caller) -> Carrier:
    """Carries a trial out in a process of its own on this machine. Nothing is kept on disk."""

    def carry(trial: Trial, watcher: Watcher) -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            return call(carry_out_trial, trial, Path(folder), watcher=watcher)

    return carry


def score_in_worker(
    trial: Trial, carry: Carrier, watcher: Watcher, judge: Callable[[int, float], None]
) -> Outcome:
    """Carry the trial out in another process.

    Raises as `harness.workers.isolation.in_worker`, and what ``judge`` raises.
    """
    events = Judge(trial, watcher, judge)
    outcome = carry(trial, events)
    return Outcome(score=events.score) if outcome == Outcome() else outcome
