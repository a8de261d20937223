"""The study of one row on one dataset: trials that settle its training and its structure.

Trials live in a database that several processes may share; `suites.tuning.claims` says which process makes
which. A trial whose process died is detected by its missing heartbeat and repeated with the same parameters.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import PercentilePruner
from optuna.samplers import BaseSampler, PartialFixedSampler, TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from harness.data import InputError
from harness.records.spec import Training
from harness.training.progress import Watcher
from harness.workers.isolation import BrokenCallError
from suites.plan import Caller
from suites.setting import Setting
from suites.suite import SuiteRow
from suites.tuning import storage as database
from suites.tuning.claims import BEGUN, DEFAULTS, POINT, draw_of, is_won, next_claim
from suites.tuning.search import Range
from suites.tuning.trials import RowFacts, Trial, match_row, row_facts, score_in_worker
from suites.tuning.tuned import TunedRow, fingerprint_of, identity_of, inputs_of

SEED = 1000  # of initialisation, data order and sampler; runs that are compared start from 0
VALIDATIONS = 3  # an epoch; after each but the last a trial may be given up
KEPT_PERCENT = 75.0  # of finished trials; one that is not among them, at the same validation, is hopeless
UNJUDGED_TRIALS = 3  # of a study, before any is given up
RANDOM_TRIALS = 5  # of a study, before the sampler learns from them
POLL_SECONDS = 2.0
MOST_OUT_OF_REACH = 5  # structures a wanted trial that miss the budget, before the study is given up
MOST_LETTERS = 500  # of an error's message that is kept with its trial
MOST_BROKEN = 3  # trials that raise, of one command, before the study is given up


class OutOfReachError(Exception):
    """A structure that does not meet the row's budget."""


@dataclass(frozen=True)
class RowStudy:
    """Trials of one row; ``call`` carries them out, each in a process of its own."""

    setting: Setting
    row: SuiteRow
    facts: RowFacts
    call: Caller
    study: optuna.Study
    storage: RDBStorage
    watcher: Watcher
    began: datetime = field(default_factory=datetime.now)

    @classmethod
    def open(
        cls, setting: Setting, row: SuiteRow, call: Caller, storage: RDBStorage, watcher: Watcher
    ) -> RowStudy:
        """The row's study, begun or gone on with: its name holds a fingerprint of all that it depends on.

        Raises InputError where the row misses its budget with its defaults, BrokenCallError where its code
        breaks before that is known.
        """
        suite, dataset = setting.suite, setting.prepared.schema.name
        facts = call(row_facts, setting, row)
        matched = facts.matched
        fingerprint = fingerprint_of(
            {
                "identity": identity_of(suite, setting.prepared) | _world_of(setting),
                "source": facts.source,
                "search": suite.model_dump(mode="json", include={"search"}),
                "structure": facts.choices,
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
        return cls(setting, row, facts, call, study, storage, watcher)

    def judged(self) -> list[FrozenTrial]:
        """Trials that were trained, to the end or until they were hopeless, in the order they began."""
        return self._trials(TrialState.COMPLETE, TrialState.PRUNED)

    def has_room(self, wanted: int, patient: bool) -> bool:
        """Whether a trial is wanting that no process makes; ``patient`` waits until that is certain."""
        while not self.given_up(wanted):
            fail_stale_trials(self.study)
            self._fail_unbegun_trials()
            judged = len(self.judged())
            if judged + len(self._trials(TrialState.RUNNING)) < wanted:
                return True
            if judged >= wanted or not patient:
                return False
            time.sleep(POLL_SECONDS)
        return False

    def given_up(self, wanted: int) -> str | None:
        """Why the row's missing trials are not made, None while there is no reason."""
        if len(self.judged()) >= wanted:
            return None
        failed = self._trials(TrialState.FAIL)
        if sum("out_of_reach" in trial.user_attrs for trial in failed) > MOST_OUT_OF_REACH * wanted:
            return "hardly any structure that it may choose meets the budget"
        broken = [trial for trial in failed if "error" in trial.user_attrs]
        broken = [t for t in broken if t.datetime_complete and t.datetime_complete >= self.began]
        if len(broken) < MOST_BROKEN:
            return None
        return f"{len(broken)} of its trials broke, the last by {broken[-1].user_attrs['error']}"

    def _fail_unbegun_trials(self) -> None:
        """Give up what a process claimed and did not live to begin: it has no heartbeat to be told from."""
        latest = datetime.now() - timedelta(seconds=database.GRACE_SECONDS)
        for trial in self._trials(TrialState.RUNNING):
            if BEGUN not in trial.user_attrs and (trial.datetime_start or latest) < latest:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def make_one(self, wanted: int) -> str:
        """Make a trial; returns what it found in words, nothing where it does not count.

        A trial whose call breaks is a failed one. Raises what every row's trials would fail by alike:
        InputError, a full disk, a database that is gone.
        """
        trial = self._claim(wanted)
        if trial is None:
            return ""
        with database.heartbeat(self.storage, trial._trial_id):
            try:
                made = self._carry_out(trial)
            except UpdateFinishedTrialError:
                return ""  # this process stood still so long that another gave its trial up
        if made.state == TrialState.FAIL and "error" not in made.user_attrs:
            return ""
        outcome = {
            TrialState.COMPLETE: f"{made.value:.4f}" if made.value is not None else "",
            TrialState.PRUNED: "given up",
            TrialState.FAIL: f"broke: {made.user_attrs.get('error')}",
        }[made.state]
        return f"{self.setting.prepared.schema.name} {self.row.name} trial {made.number}: {outcome}"

    def _claim(self, wanted: int) -> optuna.Trial | None:
        """A new trial that this process alone makes; None where another process was first."""
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        trial_id = self.storage.create_new_trial(study_id, next_claim(self._trials()))
        trials = self._trials()
        trial = optuna.Trial(self.study, trial_id)
        if is_won(trials[trial.number], trials, wanted):
            return trial
        self._tell(trial, state=TrialState.FAIL)
        return None

    def _carry_out(self, trial: optuna.Trial) -> FrozenTrial:
        try:
            value = self._objective(trial)
        except optuna.TrialPruned:
            return self._tell(trial, state=TrialState.PRUNED)
        except (OutOfReachError, UpdateFinishedTrialError):
            return self._tell(trial, state=TrialState.FAIL)
        except database.DatabaseErrors:
            raise
        except BrokenCallError as error:
            trial.set_user_attr("error", str(error)[:MOST_LETTERS])
            return self._tell(trial, state=TrialState.FAIL)
        except BaseException:
            self._tell(trial, state=TrialState.FAIL)  # at once: nobody waits for its heartbeat
            raise
        return self._tell(trial, value)

    def _tell(
        self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None
    ) -> FrozenTrial:
        return self.study.tell(trial, value, state, skip_if_finished=True)

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
        matched = self.call(match_row, self.setting, self.row, best.user_attrs["config"])
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

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _defaults_tried(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials() if trial.user_attrs.get(BEGUN)]

    def _defaults(self) -> dict[str, Any]:
        training = self.setting.suite.training
        settings = {name: getattr(training, name) for name in self.setting.suite.search}
        return settings | {f"config.{name}": values[0] for name, values in self.facts.choices.items()}

    def _objective(self, trial: optuna.Trial) -> float:
        # Its own sampler, so that a process that goes on later does not draw the same numbers again.
        trials = self._trials()
        draw = draw_of(trials[trial.number], trials)
        sampler: BaseSampler = TPESampler(n_startup_trials=RANDOM_TRIALS, seed=SEED + draw)
        takes_defaults = trial.user_attrs[POINT] == DEFAULTS
        trial.set_user_attr(BEGUN, takes_defaults)
        if takes_defaults:
            sampler = PartialFixedSampler(self._defaults(), sampler)
        self.study.sampler = sampler
        to_train = self._suggested(trial)

        def judge(number: int, score: float) -> None:
            trial.report(score, number)
            if number < VALIDATIONS * to_train.training.epochs and trial.should_prune():
                raise optuna.TrialPruned

        outcome = score_in_worker(to_train, self.call, self.watcher, judge)
        if outcome.out_of_reach:
            trial.set_user_attr("out_of_reach", outcome.out_of_reach)
            raise OutOfReachError(outcome.out_of_reach)
        if outcome.diverged:
            trial.set_user_attr("diverged", outcome.diverged)
            raise optuna.TrialPruned
        if outcome.score is None or not math.isfinite(outcome.score):
            raise BrokenCallError(f"its score on the validation split is {outcome.score}")
        return outcome.score

    def _suggested(self, trial: optuna.Trial) -> Trial:
        suite = self.setting.suite
        settings = {name: _suggest(trial, name, choices) for name, choices in suite.search.items()}
        structure = {
            name: trial.suggest_categorical(f"config.{name}", values)
            for name, values in self.facts.choices.items()
        }
        trial.set_user_attr("training", settings)
        trial.set_user_attr("config", structure)
        training = _validated_more_often(suite.training, settings)
        return Trial(self.setting, self.row, structure, training, SEED)


def _validated_more_often(training: Training, settings: dict[str, Any]) -> Training:
    """With a trial's settings and validations, and as much patience in samples as before."""
    changed = training.model_dump() | settings
    if changed["patience"] is not None:
        changed["patience"] = math.ceil(changed["patience"] * VALIDATIONS / changed["validations_per_epoch"])
    return Training.model_validate(changed | {"validations_per_epoch": VALIDATIONS})


def _world_of(setting: Setting) -> dict[str, Any]:
    """The world that trials train in, where its data are not those that no world's number stands for."""
    prepared = setting.prepared
    return {} if prepared.fingerprint == prepared.shared_fingerprint else {"world": prepared.world}


def _suggest(trial: optuna.Trial, name: str, choices: Range | list[Any]) -> Any:
    if isinstance(choices, Range):
        return trial.suggest_float(name, choices.low, choices.high, log=True)
    return trial.suggest_categorical(name, choices)
