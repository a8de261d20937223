"""References that are fitted to the training split: by their names, with their settings, and tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from pydantic import ValidationError

from datasets.prepared import PreparedDataset
from datasets.schema import first_problem
from files.errors import InputError
from harness.records.spec import Strict
from harness.runs.gbdt import Gbdt, GbdtSettings, suggest_gbdt
from harness.runs.logistic import Logistic, LogisticSettings, suggest_logistic
from harness.runs.splits import Splits
from harness.runs.trial import mean_score


class Kind(NamedTuple):
    """A kind of fitted reference: ``fit(settings, splits, seed)`` has ``scores(split)``, (R, G)."""

    settings: type[Strict]
    fit: Callable[[Any, Splits, int], Gbdt | Logistic]
    suggest: Callable[[Any], dict[str, Any]]


FITTED = {
    "gbdt": Kind(GbdtSettings, Gbdt, suggest_gbdt),
    "gbdt_unordered": Kind(GbdtSettings, partial(Gbdt, order=False), suggest_gbdt),
    "logistic": Kind(LogisticSettings, Logistic, suggest_logistic),
}


def reference_config(name: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """All settings of a reference, the defaults where ``settings`` has none; empty if it knows no settings.

    Raises InputError on an unknown or impossible setting.
    """
    if name not in FITTED:
        if settings:
            raise InputError(f"reference {name!r} has no settings; remove {', '.join(settings)}")
        return {}
    try:
        return FITTED[name].settings.model_validate(settings or {}).model_dump(mode="json")
    except ValidationError as error:
        raise InputError(first_problem(error, f"reference {name!r}")) from None


def fit_reference(name: str, config: dict[str, Any], splits: Splits, seed: int) -> Gbdt | Logistic:
    """Fit by the settings in ``config``. Raises as `reference_config` and as the kind's own constructor."""
    kind = FITTED[name]
    return kind.fit(kind.settings.model_validate(reference_config(name, config)), splits, seed)


@dataclass(frozen=True)
class TunedReference:
    """What a search found: the best settings, and ``metric`` on validation, mean over tasks.

    ``trials`` are (settings, score) in their order; the first are the defaults, whose score is ``default``.
    """

    metric: str
    settings: dict[str, Any]
    best: float
    default: float
    trials: list[tuple[dict[str, Any], float]] = field(default_factory=list)


def tune_reference(
    name: str, prepared: PreparedDataset, tasks: list[str], trials: int, seed: int, metric: str
) -> TunedReference:
    """``trials`` settings, the defaults first and then Optuna's (TPE), judged on the validation split.

    The same arguments find the same settings. The test split is not read. Raises UnfitTask, and InputError
    where the validation split does not define ``metric`` or memory is lacking.
    """
    import optuna

    if trials < 1:
        raise InputError(f"trials is {trials}; give at least 1")
    splits = Splits(prepared, tasks)
    tried: list[tuple[dict[str, Any], float]] = []

    def judge(settings: dict[str, Any]) -> float:
        config = reference_config(name, settings)
        scores = fit_reference(name, config, splits, seed).scores("valid")
        score = mean_score(splits.validation_metrics(scores), metric, prepared.schema.name)
        tried.append((config, score))
        return score

    default = judge({})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(lambda trial: judge(FITTED[name].suggest(trial)), n_trials=trials - 1)
    settings, best = max(tried, key=lambda found: found[1])
    return TunedReference(metric, settings, best, default, tried)
