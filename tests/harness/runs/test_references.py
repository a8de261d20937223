"""Reference rows against definitions written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from datasets.prepare.pipeline import prepare
from datasets.prepared import PreparedDataset
from datasets.schema import SingleFeatureBaseline, Task
from datasets.source import Source
from files.errors import InputError
from harness.records.folder import RunFolder
from harness.runs.references import PRIOR_ROWS, available_references, binned_rates, run_reference
from tests.harness.conftest import small_table
from tests.harness.schemas import small_schema
from tests.harness.small_runs import small_spec


@pytest.fixture(scope="module")
def with_truth(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Labels drawn from known probabilities that depend on the price alone."""
    rng = np.random.default_rng(3)
    table = small_table(8000)
    probability = 1 / (1 + np.exp(-(table["price"].to_numpy() - 3)))
    table = table.with_columns(
        pl.Series("finish", (rng.random(8000) < probability).astype(int)),
        pl.Series("p_finish", probability),
    )
    schema = small_schema().model_copy(
        update={
            "tasks": [Task(name="finish", probability="p_finish"), Task(name="skip")],
            "baseline": SingleFeatureBaseline(name="price_only", column="price"),
        }
    )
    source = Source(schema=schema, frame=table.lazy(), identity={"rows": 8000}, notes={})
    return prepare(source, tmp_path_factory.mktemp("truth") / "data")


def reference(name: str, prepared: PreparedDataset, out: Path, tasks: list[str]) -> dict:
    spec = small_spec(prepared).model_copy(update={"architecture": name, "tasks": tasks})
    return run_reference(name, spec, prepared, RunFolder(out, spec.folder_name)).as_json()


def test_the_oracle_scores_with_the_true_probabilities(with_truth, out):
    found = reference("oracle", with_truth, out, ["finish"])["metrics"]["finish"]
    columns = with_truth.columns("test", ["label_finish", "probability_finish"])
    assert found["auc"] == pytest.approx(
        roc_auc_score(columns["label_finish"], columns["probability_finish"])
    )
    assert found["logloss"] == pytest.approx(log_loss(columns["label_finish"], columns["probability_finish"]))


def test_an_oracle_is_offered_only_where_every_task_has_true_probabilities(with_truth, prepared):
    fitted = ["gbdt", "logistic"]
    assert available_references(with_truth, ["finish"]) == ["oracle", "constant", *fitted, "price_only"]
    assert available_references(with_truth, ["finish", "skip"]) == ["constant", *fitted, "price_only"]
    assert available_references(prepared, ["finish"]) == ["constant", *fitted]


def test_those_asked_for_are_offered_and_a_misspelt_one_is_refused(with_truth):
    asked = ["price_only", "gbdt", "oracle"]
    assert available_references(with_truth, ["finish"], asked) == ["oracle", "gbdt", "price_only"]
    assert available_references(with_truth, ["finish", "skip"], asked) == ["gbdt", "price_only"]
    assert available_references(with_truth, ["finish"], ["gbdt_unordered"]) == ["gbdt_unordered"]
    assert available_references(with_truth, ["finish"], False) == []
    assert available_references(with_truth, ["finish"], []) == []
    with pytest.raises(
        InputError,
        match=r"references: dataset .small. has no .gdbt.: choose from oracle, constant, gbdt, gbdt_uno",
    ):
        available_references(with_truth, ["finish"], ["gdbt"])


@pytest.mark.parametrize("name", ["oracle", "constant", "gbdt", "dlrm_mlp"])
def test_a_baseline_with_the_name_of_another_row_is_refused(with_truth, name):
    schema = with_truth.schema.model_copy(
        update={"baseline": SingleFeatureBaseline(name=name, column="price")}
    )
    with pytest.raises(InputError, match=rf"baseline\.name: '{name}' is another row's name; rename"):
        available_references(replace(with_truth, schema=schema), ["finish"])


def test_the_constant_is_the_training_base_rate_and_ties_give_it_one_half(with_truth, out):
    found = reference("constant", with_truth, out, ["finish"])["metrics"]["finish"]
    train, test = (with_truth.columns(split, ["label_finish"])["label_finish"] for split in ("train", "test"))
    assert found["auc"] == 0.5
    assert found["logloss"] == pytest.approx(log_loss(test, np.full(len(test), train.mean())))


def test_one_feature_that_decides_the_label_comes_near_the_oracle(with_truth, out):
    oracle = reference("oracle", with_truth, out, ["finish"])["metrics"]["finish"]["auc"]
    alone = reference("price_only", with_truth, out, ["finish"])["metrics"]["finish"]["auc"]
    assert oracle - 0.01 < alone <= oracle + 0.002


def test_rates_of_bins_are_shrunk_to_the_base_rate_and_missing_values_have_a_bin():
    values = np.array([1.0] * 30 + [2.0] * 10 + [np.nan] * 5)
    labels = np.array([1.0] * 15 + [0.0] * 15 + [1.0] * 10 + [0.0] * 5)
    base = labels.mean()
    low, high, missing = binned_rates(values, labels, base, np.array([1.0, 2.0, np.nan]))
    assert low == pytest.approx((15 + PRIOR_ROWS * base) / (30 + PRIOR_ROWS))
    assert high == pytest.approx((10 + PRIOR_ROWS * base) / (10 + PRIOR_ROWS))
    assert missing == pytest.approx((0 + PRIOR_ROWS * base) / (5 + PRIOR_ROWS))
