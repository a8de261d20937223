"""What follows a row's search: its best settings and the defaults scored again, and learning-rate curves.

The best settings of the search and the defaults are trained from further seeds, as `run` trains them, and the
one-standard-error rule (`suites.tuning.decision`) chooses. Then the chosen settings are trained at lower and
higher learning rates. All of these are scored on the validation split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from harness.data import InputError
from harness.records.spec import Training
from suites.tuning.decision import Rescored, Settings, choose, compared
from suites.tuning.points import Point, PointStudy
from suites.tuning.studies import SEED, RowStudy, settings_of
from suites.tuning.trials import Outcome, Trial, match_row, score_in_worker
from suites.tuning.tuned import LearningRate, TunedRow, inputs_of

RESCORED_SEEDS = (SEED + 1, SEED + 2, SEED + 3)  # the search's own has chosen the candidates
MOST_CANDIDATES = 3
RATE_FACTORS = (1 / 9, 1 / 3, 1.0, 3.0, 9.0)  # of dense_lr
RATE_SEED = RESCORED_SEEDS[0]


@dataclass(frozen=True)
class Confirmation:
    """The trainings after one row's search."""

    study: RowStudy
    points: PointStudy

    @classmethod
    def join(cls, study: RowStudy) -> Confirmation:
        """Begins the trainings, or continues them, in a study of its own beside the row's."""

        def train(point: Point) -> Outcome:
            row = study.row.model_copy(update=point.settings.tokens)
            trial = Trial(study.setting, row, point.settings.config, point.training, point.seed)
            return score_in_worker(trial, study.carry, study.watcher, lambda *_: None)

        name = f"{study.study.study_name}/again"
        return cls(study, PointStudy.join(name, study.storage, study.watcher, train))

    def make(self, wanted: int, patient: bool) -> None:
        """Do the trainings that no other process does, once the row's ``wanted`` trials are judged."""
        if len(self.study.judged()) < wanted or not self._complete(wanted):
            return
        settings = self._rescored_settings(wanted)
        if not self.points.make(self._rescoring_points(settings), patient):
            return
        chosen = self._chosen(wanted)
        if chosen is not None:
            self.points.make(self._rate_points(chosen), patient)

    def given_up(self, wanted: int) -> str | None:
        """Why something is missing, None while there is no reason."""
        return self.study.given_up(wanted) or self.points.given_up()

    def found(self, wanted: int) -> TunedRow:
        """The row's settings, from its first ``wanted`` trials, so that every row's are from as many.

        Raises InputError where none of them reached its end, or all diverged when they were scored again.
        """
        study, judged = self.study, self.study.judged()[:wanted]
        complete = self._complete(wanted)
        if not complete:
            raise InputError(f"{study.row.name}: every trial diverged; narrow the learning rates in search")
        rescored = self._rescored(wanted)
        try:
            chosen = choose(rescored)
        except InputError as error:
            raise InputError(f"{study.row.name}: {error}") from None
        default = study.default_trial()
        diverged = sum("diverged" in trial.user_attrs for trial in judged)
        row = study.row.model_copy(update=chosen.tokens)
        matched = study.call(match_row, study.setting, row, chosen.config)
        return TunedRow(
            study=study.study.study_name,
            inputs=inputs_of(matched.inputs),
            budget=matched.budget,
            trained=len(judged),
            pruned=len(judged) - len(complete) - diverged,
            default=default.value if default else None,
            best=_score(complete[0]),
            training=chosen.training,
            config=chosen.config,
            tokens=chosen.tokens,
            default_inputs=inputs_of(study.facts.matched.inputs),
            diverged=diverged,
            out_of_reach=study.out_of_reach(),
            defaults_kept=chosen.is_default,
            gain=chosen.difference,
            standard_error=chosen.standard_error,
            rescored=rescored,
            lr_curve=self._curve(chosen),
        )

    def _complete(self, wanted: int) -> list[FrozenTrial]:
        """Trials that reached their end, the best first."""
        judged = self.study.judged()[:wanted]
        return sorted((t for t in judged if t.state == TrialState.COMPLETE), key=_score, reverse=True)

    def _rescored_settings(self, wanted: int) -> list[tuple[FrozenTrial | None, Settings]]:
        """The defaults, and the best other settings of the search, no two alike; each with its trial."""
        default = self.study.default_settings()
        chosen: list[tuple[FrozenTrial | None, Settings]] = [(self.study.default_trial(), default)]
        for trial in self._complete(wanted):
            settings = settings_of(trial)
            if len(chosen) <= MOST_CANDIDATES and settings not in [other for _, other in chosen]:
                chosen.append((trial, settings))
        return chosen

    def _rescoring_points(self, settings: list[tuple[FrozenTrial | None, Settings]]) -> list[Point]:
        if len(settings) == 1:
            return []  # nothing that the defaults could be compared with
        return [
            self._point(one, seed, _title(trial, is_default=number == 0))
            for seed in RESCORED_SEEDS
            for number, (trial, one) in enumerate(settings)
        ]

    def _rescored(self, wanted: int) -> list[Rescored]:
        settings = self._rescored_settings(wanted)
        seeds = RESCORED_SEEDS if len(settings) > 1 else ()
        return compared(
            [
                Rescored(
                    **one.model_dump(),
                    trial=trial.number if trial else 0,
                    is_default=number == 0,
                    search_score=trial.value if trial else None,
                    scores={seed: self.points.score(self._point(one, seed)) for seed in seeds},
                )
                for number, (trial, one) in enumerate(settings)
            ]
        )

    def _chosen(self, wanted: int) -> Settings | None:
        try:
            return choose(self._rescored(wanted))
        except InputError:
            return None  # `found` says so

    def _rate_points(self, chosen: Settings) -> list[Point]:
        rates = self._rates(chosen)
        return [self._point_at(chosen, rate) for rate in rates]

    def _curve(self, chosen: Settings) -> list[LearningRate]:
        return [
            LearningRate(factor=factor, dense_lr=rate, score=self.points.score(self._point_at(chosen, rate)))
            for factor, rate in zip(RATE_FACTORS, self._rates(chosen), strict=True)
        ]

    def _rates(self, chosen: Settings) -> list[float]:
        rate = self._training(chosen).dense_lr
        return [rate * factor for factor in RATE_FACTORS]

    def _point_at(self, chosen: Settings, rate: float) -> Point:
        return self._point(chosen, RATE_SEED, f"dense_lr {rate:.2g}", dense_lr=rate)

    def _point(self, settings: Settings, seed: int, title: str = "", **changes: Any) -> Point:
        name = f"{self.study.setting.prepared.schema.name} {self.study.row.name} {title}, seed {seed}"
        settings = Settings(training=settings.training, config=settings.config, tokens=settings.tokens)
        return Point(settings, self._training(settings, **changes), seed, name)

    def _training(self, settings: Settings, **changes: Any) -> Training:
        """The training that `run` does, with at least one validation for a score."""
        training = self.study.setting.suite.training
        changed = training.model_dump() | settings.training | changes
        return Training.model_validate(
            changed | {"validations_per_epoch": max(1, training.validations_per_epoch)}
        )


def _score(trial: FrozenTrial) -> float:
    return trial.value or 0.0


def _title(trial: FrozenTrial | None, is_default: bool) -> str:
    return "the defaults" if is_default else f"trial {trial.number if trial else 0} again"
