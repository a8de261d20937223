"""The study of one row on one dataset: trials that settle its training, its structure and its tokens.

Trials live in a database that several processes may share; `suites.tuning.claims` says which process makes
which. A trial whose process died is detected by its missing heartbeat and repeated with the same parameters.
The best of them are then scored again (`suites.tuning.confirm`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import PercentilePruner
from optuna.samplers import BaseSampler, PartialFixedSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness.records.spec import Training
from harness.training.progress import Watcher
from harness.workers.isolation import BrokenCallError
from suites.plan import Caller
from suites.setting import Setting
from suites.suite import SuiteRow
from suites.tuning import storage as database
from suites.tuning.claims import BEGUN, DEFAULTS, POINT, draw_of, is_won, next_claim
from suites.tuning.decision import Settings
from suites.tuning.search import Range, Search, check_has_defaults, token_search, training_search
from suites.tuning.trials import Carrier, RowFacts, Trial, in_process, row_facts, score_in_worker
from suites.tuning.tuned import chooses_tokens, fingerprint_of, identity_of, inputs_of

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
    """Trials of one row; ``elsewhere`` carries them out, or else ``call``, each in a process of its own."""

    setting: Setting
    row: SuiteRow
    facts: RowFacts
    call: Caller
    study: optuna.Study
    storage: RDBStorage
    watcher: Watcher
    began: datetime = field(default_factory=datetime.now)
    elsewhere: Carrier | None = None

    @property
    def carry(self) -> Carrier:
        return self.elsewhere or in_process(self.call)

    @classmethod
    def open(
        cls, setting: Setting, row: SuiteRow, call: Caller, storage: RDBStorage, watcher: Watcher
    ) -> RowStudy:
        """The row's study, begun or gone on with: its name holds a fingerprint of all that it depends on.

        Raises InputError where the row misses its budget with its defaults or the search lacks the tokens
        that it has without tuning, BrokenCallError where its code breaks before that is known.
        """
        suite, dataset = setting.suite, setting.prepared.schema.name
        facts = call(row_facts, setting, row)
        matched = facts.matched
        search = row_search(suite.search, row)
        check_has_defaults(search, _default_tokens(search, facts))
        fingerprint = fingerprint_of(
            {
                "identity": identity_of(suite, setting.prepared) | _world_of(setting),
                "source": facts.source,
                "search": suite.model_copy(update={"search": search}).model_dump(
                    mode="json", include={"search"}
                ),
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
            database.fail_dead_trials(self.study)
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

    def out_of_reach(self) -> int:
        """How many trials drew what cannot meet the budget."""
        return sum("out_of_reach" in trial.user_attrs for trial in self._trials(TrialState.FAIL))

    def default_trial(self) -> FrozenTrial | None:
        """The trial of the defaults, if it was judged."""
        return next((trial for trial in self.judged() if trial.user_attrs.get(BEGUN)), None)

    def default_settings(self) -> Settings:
        """What the row has without tuning."""
        return self._settings(self._defaults())

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    @property
    def search(self) -> Search:
        return row_search(self.setting.suite.search, self.row)

    def _defaults(self) -> dict[str, Any]:
        """The parameters of the first trial."""
        training = self.setting.suite.training
        return (
            {name: getattr(training, name) for name in training_search(self.search)}
            | {f"config.{name}": values[0] for name, values in self.facts.choices.items()}
            | _default_tokens(self.search, self.facts)
        )

    def _settings(self, params: dict[str, Any]) -> Settings:
        """What parameters of a trial mean for the row."""
        tokens = {name: params[name] for name in token_search(self.search) if name in params}
        if tokens == {"tokenizer": self.setting.suite.tokenizer}:
            tokens = {}  # named in the row, it would get its own number of tokens in place of the suite's
        return Settings(
            training={name: params[name] for name in training_search(self.search)},
            config={name: params[f"config.{name}"] for name in self.facts.choices},
            tokens=tokens,
        )

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

        outcome = score_in_worker(to_train, self.carry, self.watcher, judge)
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
        drawn = {
            name: _suggest(trial, name, choices) for name, choices in training_search(self.search).items()
        }
        for name, values in self.facts.choices.items():
            drawn[f"config.{name}"] = trial.suggest_categorical(f"config.{name}", values)
        tokenizer = self.facts.matched.inputs.tokenizer
        for name, choices in token_search(self.search).items():
            if name == "tokens" and tokenizer == "fields":
                continue  # it makes one a feature
            drawn[name] = _suggest(trial, name, choices)
            tokenizer = drawn.get("tokenizer", tokenizer)
        settings = self._settings(drawn)
        for name, values in settings.model_dump().items():
            trial.set_user_attr(name, values)
        training = _validated_more_often(suite.training, settings.training)
        row = self.row.model_copy(update=settings.tokens)
        return Trial(self.setting, row, settings.config, training, SEED)


def settings_of(trial: FrozenTrial) -> Settings:
    """What a trial that began had drawn."""
    return Settings.model_validate(
        {name: trial.user_attrs.get(name, {}) for name in ("training", "config", "tokens")}
    )


def row_search(search: Search, row: SuiteRow) -> Search:
    """What is chosen for a row: its tokens only where it leaves them to the suite, the tokenizer first."""
    chosen = training_search(search)
    if chooses_tokens(row):
        chosen |= dict(sorted(token_search(search).items()))
    return chosen


def _default_tokens(search: Search, facts: RowFacts) -> dict[str, Any]:
    inputs = facts.matched.inputs
    defaults = {"tokenizer": inputs.tokenizer, "tokens": inputs.num_tokens}
    if inputs.tokenizer == "fields":
        del defaults["tokens"]
    return {name: defaults[name] for name in token_search(search) if name in defaults}


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
