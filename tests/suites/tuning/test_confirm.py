"""What is made of a search: which settings are scored again, what is counted, and the learning rates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from files.errors import InputError
from harness.model.tokens import Inputs
from harness.training.progress import Silent
from suites.suite import Suite, SuiteRow
from suites.tuning.claims import BEGUN
from suites.tuning.confirm import Confirmation
from suites.tuning.points import Point, PointStudy
from suites.tuning.storage import open_storage
from suites.tuning.studies import RowStudy
from suites.tuning.trials import Outcome, RowFacts

INPUTS = Inputs(num_tokens=16, token_dim=8, target_attention=False, tower_dim=32)
SEARCH = {"dense_lr": {"low": 1e-4, "high": 1e-1}, "tokenizer": ["chunks", "groups"]}
SUITE = Suite.model_validate(
    {"name": "s", "description": "d", "datasets": ["shortvideo"], "architectures": ["dlrm_mlp"]}
    | {"tokens": 16, "search": SEARCH}
)
SETTING: Any = SimpleNamespace(
    suite=SUITE, prepared=SimpleNamespace(schema=SimpleNamespace(name="small"), fingerprint="0")
)


def trial(rate: float, score: float | None = None, tokenizer: str = "chunks", **attributes: Any):
    """One that ended: with a score; pruned; or, with ``out_of_reach``, failed."""
    params = {"dense_lr": rate, "config.num_layers": 2, "tokenizer": tokenizer}
    state = TrialState.COMPLETE if score is not None else TrialState.PRUNED
    tokens = {} if tokenizer == "chunks" else {"tokenizer": tokenizer}
    drawn = {"training": {"dense_lr": rate}, "config": {"num_layers": 2}, "tokens": tokens}
    return create_trial(
        state=TrialState.FAIL if "out_of_reach" in attributes else state,
        value=score,
        params=params,
        distributions={
            "dense_lr": FloatDistribution(1e-4, 1e-1),
            "config.num_layers": CategoricalDistribution([2, 3]),
            "tokenizer": CategoricalDistribution(["chunks", "groups"]),
        },
        user_attrs={BEGUN: False} | drawn | attributes,
    )


def confirmation(tmp_path, trials: list, gains: dict[float, float | None]) -> Confirmation:
    """Of a search with these trials; a training scores .7 and what its learning rate gains, None diverges."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(f"sqlite:///{tmp_path}/tune.db")
    search = optuna.create_study(storage=storage, study_name="row", direction="maximize")
    for one in trials:
        search.add_trial(one)
    matched: Any = SimpleNamespace(inputs=INPUTS, budget=None)

    def call(function: Any, setting: Any, row: SuiteRow, config: dict) -> Any:
        tokenizer = row.tokenizer or "chunks"
        return SimpleNamespace(budget=None, inputs=Inputs(**_fields(INPUTS) | {"tokenizer": tokenizer}))

    facts = RowFacts(matched, "", {"num_layers": (2, 3)})
    row: Any = SUITE.architectures[0]
    study = RowStudy(SETTING, row, facts, call, search, storage, Silent())  # type: ignore[arg-type]

    def train(point: Point) -> Outcome:
        gain = gains.get(round(point.training.dense_lr, 7), 0.0)
        if gain is None:
            return Outcome(diverged="at step 2")
        return Outcome(score=0.7 + gain + 0.01 * (point.seed % 3))

    return Confirmation(study, PointStudy.join("row/again", storage, Silent(), train))


def _fields(inputs: Inputs) -> dict:
    return {name: getattr(inputs, name) for name in inputs.__dataclass_fields__}


DEFAULTS = trial(1e-3, 0.70, **{BEGUN: True})
SEARCHED = [
    DEFAULTS,
    trial(2e-3, 0.71),
    trial(3e-3),  # given up
    trial(9e-2, diverged="at step 9"),
    trial(4e-3, out_of_reach="too small", tokenizer="groups"),
    trial(5e-3, 0.74, tokenizer="groups"),
    trial(5e-3, 0.74, tokenizer="groups"),  # drawn twice
    trial(6e-3, 0.73),
    trial(7e-3, 0.72),
    trial(8e-3, 0.99),  # one more than is wanted
]


def test_the_best_three_and_the_defaults_are_compared_and_all_trials_are_counted(tmp_path):
    made = confirmation(tmp_path, SEARCHED, {6e-3: 0.02, 5e-3: 0.03})
    made.make(wanted=8, patient=True)
    row = made.found(wanted=8)
    assert (row.trained, row.pruned, row.diverged, row.out_of_reach) == (8, 1, 1, 1)
    assert (row.default, row.best) == (0.70, 0.74)
    assert [one.training["dense_lr"] for one in row.rescored] == [1e-3, 5e-3, 6e-3, 7e-3]
    assert [one.search_score for one in row.rescored] == [0.70, 0.74, 0.73, 0.72]
    assert row.rescored[1].scores == pytest.approx({1001: 0.75, 1002: 0.73, 1003: 0.74})
    assert (row.defaults_kept, row.training, row.tokens) == (
        False,
        {"dense_lr": 5e-3},
        {"tokenizer": "groups"},
    )
    assert (row.inputs["tokenizer"], row.default_inputs["tokenizer"]) == ("groups", "chunks")
    assert row.gain == pytest.approx(0.03)
    assert len(made.points.study.trials) == 3 * 4 + 4  # the chosen rate of the curve is known already


def test_learning_rates_are_around_what_was_chosen_and_one_that_diverges_has_no_score(tmp_path):
    made = confirmation(tmp_path, SEARCHED[:2], {3e-3: None, 9e-3: None, round(1e-3 / 9, 7): -0.2})
    made.make(wanted=2, patient=True)
    row = made.found(wanted=2)
    assert row.defaults_kept
    assert (row.gain, row.standard_error) == (None, None)
    rates = {round(point.factor, 3): (round(point.dense_lr, 7), point.score) for point in row.lr_curve}
    assert rates == {
        0.111: (0.0001111, pytest.approx(0.52)),
        0.333: (0.0003333, pytest.approx(0.72)),
        1.0: (0.001, pytest.approx(0.72)),
        3.0: (0.003, None),
        9.0: (0.009, None),
    }


def test_nothing_is_made_before_the_search_is_whole(tmp_path):
    made = confirmation(tmp_path, SEARCHED[:2], {})
    made.make(wanted=3, patient=False)
    assert made.points.study.trials == []


def test_a_row_whose_settings_all_diverge_is_refused(tmp_path):
    made = confirmation(tmp_path, SEARCHED[:2], {1e-3: None, 2e-3: None})
    made.make(wanted=2, patient=True)
    with pytest.raises(InputError, match="dlrm_mlp: its defaults and its best trials diverge"):
        made.found(wanted=2)
