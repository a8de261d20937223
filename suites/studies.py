"""The study of one row on one dataset: trials that settle its training and its structure.

Trials live in a database that several processes may share. Of what a killed process left, its one running
trial is told from its heartbeat, given up, and made again.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import PercentilePruner
from optuna.samplers import BaseSampler, PartialFixedSampler, TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from harness.architectures import source_hash
from harness.data import InputError
from harness.progress import Watcher
from harness.runs import RunSpec, Training
from harness.train import DivergenceError
from harness.tuning import validation_score
from suites.rows import Match, MatchedRow
from suites.search import Range, structural_choices
from suites.setting import Setting
from suites.suite import Contestant
from suites.tuned import TunedRow, fingerprint_of, identity_of, inputs_of

SEED = 1000  # of initialisation, data order and sampler; runs that are compared start from 0
VALIDATIONS = 3  # an epoch; after each but the last a trial may be given up
KEPT_PERCENT = 75.0  # of finished trials; one that is not among them, at the same validation, is hopeless
UNJUDGED_TRIALS = 3  # of a study, before any is given up
RANDOM_TRIALS = 5  # of a study, before the sampler learns from them
HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 120
POLL_SECONDS = 2.0
REOPEN_SECONDS = 0.3
MOST_OUT_OF_REACH = 5  # structures a wanted trial that miss the budget, before the study is given up


def open_storage(url: str, attempts: int = 5) -> RDBStorage:
    """The database of studies; InputError if it cannot be opened."""
    optuna.logging.set_verbosity(logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
    is_file = url.startswith("sqlite:///")
    if is_file:
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        return RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": 60}} if is_file else None,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
        )
    except Exception as error:
        if isinstance(error, DBAPIError) and attempts > 1:
            time.sleep(REOPEN_SECONDS)  # another process may be making the same tables
            return open_storage(url, attempts - 1)
        raise InputError(
            f"--storage {url}: cannot be opened ({type(error).__name__}); "
            "give a URL such as sqlite:///tune.db or postgresql://user@host/name"
        ) from error


class OutOfReachError(Exception):
    """A structure that does not meet the row's budget."""


@dataclass(frozen=True)
class RowStudy:
    """Trials of one row; ``match`` resolves it with a trial's structure."""

    setting: Setting
    row: Contestant
    match: Match
    study: optuna.Study
    watcher: Watcher

    @classmethod
    def open(
        cls, setting: Setting, row: Contestant, match: Match, storage: RDBStorage, watcher: Watcher
    ) -> RowStudy:
        """The row's study, begun or gone on with: its name holds a fingerprint of all that it depends on.

        Raises InputError where the row misses its budget with its defaults.
        """
        suite, dataset = setting.suite, setting.prepared.schema.name
        matched = match(row)
        fingerprint = fingerprint_of(
            {
                "identity": identity_of(suite, setting.prepared),
                "source": source_hash(row.architecture),
                "search": suite.model_dump(mode="json", include={"search"}),
                "structure": structural_choices(row.architecture, row.config),
                "inputs": inputs_of(matched.inputs),
                "budget": [matched.budget.kind, matched.budget.target] if matched.budget else None,
                "config": row.config,
                "select_metric": suite.training.select_metric,
                "rules": [SEED, VALIDATIONS, KEPT_PERCENT, UNJUDGED_TRIALS, RANDOM_TRIALS],
            }
        )
        study = optuna.create_study(
            study_name=f"{suite.name}/{dataset}/{row.name}/{fingerprint}",
            storage=storage,
            direction="maximize",
            pruner=PercentilePruner(KEPT_PERCENT, n_startup_trials=UNJUDGED_TRIALS),
            load_if_exists=True,
        )
        return cls(setting, row, match, study, watcher)

    def judged(self) -> list[FrozenTrial]:
        """Trials that were trained, to the end or until they were hopeless, in the order they began."""
        return self._trials(TrialState.COMPLETE, TrialState.PRUNED)

    def has_room(self, wanted: int, patient: bool) -> bool:
        """Whether a trial is wanting that no process makes; ``patient`` waits until that is certain."""
        while True:
            fail_stale_trials(self.study)
            self._fail_unbegun_trials()
            judged = len(self.judged())
            if judged + len(self._trials(TrialState.RUNNING)) < wanted:
                return True
            if judged >= wanted or not patient:
                return False
            time.sleep(POLL_SECONDS)

    def _fail_unbegun_trials(self) -> None:
        """Give up what a process asked for and did not live to begin: it has no heartbeat to be told from."""
        latest = datetime.now() - timedelta(seconds=GRACE_SECONDS)
        for trial in self._trials(TrialState.RUNNING):
            if "default" not in trial.user_attrs and (trial.datetime_start or latest) < latest:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def make_one(self, wanted: int) -> str:
        """Make a trial; returns what it found in words, nothing where it does not count.

        Raises InputError where hardly any structure meets the budget.
        """
        made: list[FrozenTrial] = []
        try:
            self.study.optimize(
                self._objective,
                n_trials=1,
                catch=(OutOfReachError,),
                callbacks=[lambda _, trial: made.append(trial)],
            )
        except ValueError as error:
            if "Cannot tell a FAIL trial" not in str(error):
                raise
            return ""  # this process stood still so long that another gave its trial up
        if made[0].state == TrialState.FAIL:
            out_of_reach = [t for t in self._trials(TrialState.FAIL) if "out_of_reach" in t.user_attrs]
            if len(out_of_reach) > MOST_OUT_OF_REACH * wanted:
                raise InputError(f"{self.row.name}: hardly any structure that it may choose meets the budget")
            return ""
        outcome = f"{made[0].value:.4f}" if made[0].state == TrialState.COMPLETE else "given up"
        return f"{self.setting.prepared.schema.name} {self.row.name} trial {made[0].number}: {outcome}"

    def found(self, wanted: int) -> TunedRow:
        """The best of the first ``wanted`` trials, so that every row's best is of as many.

        Raises InputError where none of them reached its end.
        """
        judged = self.judged()[:wanted]
        complete = [trial for trial in judged if trial.state == TrialState.COMPLETE]
        if not complete:
            raise InputError(f"{self.row.name}: every trial diverged; narrow the learning rates in search")
        best = max(complete, key=lambda trial: trial.value or 0.0)
        default = [trial for trial in self._defaults_tried() if trial.state == TrialState.COMPLETE]
        matched = self._matched(best.user_attrs["config"])
        return TunedRow(
            study=self.study.study_name,
            inputs=inputs_of(matched.inputs),
            budget=matched.budget,
            trained=len(judged),
            pruned=len(judged) - len(complete),
            default=default[0].value if default else None,
            best=best.value or 0.0,
            training=best.user_attrs["training"],
            config=best.user_attrs["config"],
        )

    def _matched(self, structure: dict[str, Any]) -> MatchedRow:
        return self.match(self.row.model_copy(update={"config": self.row.config | structure}))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _defaults_tried(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials() if trial.user_attrs.get("default")]

    def _takes_defaults(self, trial: optuna.Trial) -> bool:
        """Whether no earlier trial lives that takes them, or that has yet to find out whether it does.

        Not Optuna's queue of trials: two processes may take the same one from it in SQLite, which ignores
        ``SELECT ... FOR UPDATE``.
        """
        earlier = [other for other in self._trials() if other.number < trial.number]
        return not any(
            other.user_attrs.get("default", other.state == TrialState.RUNNING)
            for other in earlier
            if other.state != TrialState.FAIL
        )

    def _defaults(self) -> dict[str, Any]:
        training = self.setting.suite.training
        settings = {name: getattr(training, name) for name in self.setting.suite.search}
        structure = structural_choices(self.row.architecture, self.row.config)
        return settings | {f"config.{name}": values[0] for name, values in structure.items()}

    def _objective(self, trial: optuna.Trial) -> float:
        # Its own sampler, so that a process that goes on later does not draw the same numbers again.
        sampler: BaseSampler = TPESampler(n_startup_trials=RANDOM_TRIALS, seed=SEED + trial.number)
        takes_defaults = self._takes_defaults(trial)
        trial.set_user_attr("default", takes_defaults)
        if takes_defaults:
            sampler = PartialFixedSampler(self._defaults(), sampler)
        self.study.sampler = sampler
        spec = self._spec(trial)

        def judge(number: int, score: float) -> None:
            trial.report(score, number)
            if number < VALIDATIONS * spec.training.epochs and trial.should_prune():
                raise optuna.TrialPruned

        try:
            return validation_score(spec, self.setting.prepared, self.setting.world, self.watcher, judge)
        except DivergenceError as error:
            trial.set_user_attr("diverged", str(error))
            raise optuna.TrialPruned from None

    def _spec(self, trial: optuna.Trial) -> RunSpec:
        suite = self.setting.suite
        settings = {name: _suggest(trial, name, choices) for name, choices in suite.search.items()}
        choices = structural_choices(self.row.architecture, self.row.config)
        structure = {
            name: trial.suggest_categorical(f"config.{name}", values) for name, values in choices.items()
        }
        trial.set_user_attr("training", settings)
        trial.set_user_attr("config", structure)
        try:
            matched = self._matched(structure)
        except InputError as error:
            trial.set_user_attr("out_of_reach", str(error))
            raise OutOfReachError(str(error)) from None
        spec = self.setting.spec(matched, SEED)
        return spec.model_copy(update={"training": _validated_more_often(suite.training, settings)})


def _validated_more_often(training: Training, settings: dict[str, Any]) -> Training:
    """With a trial's settings and validations, and as much patience in samples as before."""
    changed = training.model_dump() | settings
    if changed["patience"] is not None:
        changed["patience"] = math.ceil(changed["patience"] * VALIDATIONS / changed["validations_per_epoch"])
    return Training.model_validate(changed | {"validations_per_epoch": VALIDATIONS})


def _suggest(trial: optuna.Trial, name: str, choices: Range | list[Any]) -> Any:
    if isinstance(choices, Range):
        return trial.suggest_float(name, choices.low, choices.high, log=True)
    return trial.suggest_categorical(name, choices)
