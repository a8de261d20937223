"""Fitted references against LightGBM and scikit-learn on matrices that pandas makes of the raw rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from datasets.prepare.pipeline import prepare
from datasets.prepared import PreparedDataset
from datasets.schema import Schema
from datasets.source import Source
from files.errors import InputError
from harness.records.folder import RunFolder
from harness.runs import gbdt, logistic, splits
from harness.runs.fitted import FITTED, fit_reference, reference_config, tune_reference
from harness.runs.jobs import Job, carry_out
from harness.runs.references import run_reference
from harness.runs.splits import Splits, UnfitTask
from harness.runs.tree_columns import bucket_ranks, tree_columns, tree_matrix
from harness.training.progress import Silent
from tests.harness.conftest import small_table
from tests.harness.runs.raw_rows import one_hot_frame, raw_rows, tree_frame
from tests.harness.schemas import small_schema
from tests.harness.small_runs import ONE_PROCESS, small_spec

ROWS = 3000
TRAIN, VALID = slice(0, 2400), slice(2400, 2700)
TEST = slice(2700, ROWS)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """Finished where the item's parity and the age agree, more so if dear, and where the item was seen."""
    rng = np.random.default_rng(5)
    table = small_table(ROWS)
    agree = (table["item"].to_numpy() % 2 == 0) == (table["age"].to_numpy() > 40)
    seen = [item in history for item, history in table.select("item", "history").iter_rows()]
    is_dear = table["price"].to_numpy() > 2
    probability = np.where(seen, 0.95, np.where(agree, 0.65, 0.05) + 0.3 * is_dear)
    return table.with_columns(finish=pl.Series((rng.random(ROWS) < probability).astype(int)))


def prepared_from(table: pl.DataFrame, folder: Path, schema: Schema | None = None) -> PreparedDataset:
    source = Source(
        schema=schema or small_schema(), frame=table.lazy(), identity={"folder": folder.name}, notes={}
    )
    return prepare(source, folder / "data", shard_rows=500)


@pytest.fixture(scope="module")
def planted(table, tmp_path_factory) -> PreparedDataset:
    return prepared_from(table, tmp_path_factory.mktemp("planted"))


def record_of(name: str, prepared: PreparedDataset, out: Path, config: dict | None = None):
    spec = small_spec(prepared).model_copy(update={"architecture": name, "config": config or {}})
    return run_reference(name, spec, prepared, RunFolder(out, spec.folder_name))


def run_and_score(name: str, prepared: PreparedDataset, out: Path, config: dict | None = None) -> np.ndarray:
    record_of(name, prepared, out, config)
    [folder] = [path for path in (out / "runs").iterdir() if path.is_dir()]
    return pl.read_parquet(folder / "predictions.parquet").select("^score_.*$").to_numpy()


def test_trees_read_what_pandas_makes_of_the_raw_rows(table, planted):
    columns = tree_columns(planted.schema, planted.table_sizes, "rank")
    expected = tree_frame(raw_rows(table))
    assert [column.name for column in columns] == list(expected.columns)
    assert [column.name for column in columns if column.is_category] == [
        "user.value", "item.value", "history.last", "past_genres.last"
    ]  # fmt: skip
    whole = Splits(planted, ["finish", "skip"])
    for split, rows in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        found = tree_matrix(columns, planted.schema, whole.window(split))
        np.testing.assert_allclose(found, expected.to_numpy()[rows], atol=1e-5)


def test_gbdt_is_lightgbm_on_that_matrix_with_as_many_trees_as_validation_asks_for(table, planted, out):
    frame, categories = tree_frame(raw_rows(table)), [0, 2, 15, 18]
    labels = table["finish"].to_numpy()
    assert [frame.columns[place] for place in categories] == [
        "user.value", "item.value", "history.last", "past_genres.last"
    ]  # fmt: skip
    whole = Splits(planted, ["finish", "skip"])
    columns = tree_columns(planted.schema, planted.table_sizes, "rank")
    matrix = {split: tree_matrix(columns, planted.schema, whole.window(split)) for split in ("train", "test")}
    own = lightgbm.LGBMClassifier(
        n_estimators=1000, random_state=0, deterministic=True, force_row_wise=True, n_jobs=1, verbosity=-1,
        min_child_samples=20, subsample_for_bin=200_000, min_child_weight=1e-3,
    )  # fmt: skip
    own.fit(
        matrix["train"],
        labels[TRAIN],
        eval_set=[(frame.to_numpy()[VALID], labels[VALID])],
        eval_metric="binary_logloss",
        categorical_feature=categories,
        callbacks=[lightgbm.early_stopping(gbdt.PATIENCE, verbose=False)],
    )
    assert 5 < own.best_iteration_ < 900
    expected = own.predict_proba(matrix["test"])[:, 1]
    np.testing.assert_allclose(run_and_score("gbdt", planted, out)[:, 0], expected, atol=1e-6)


def test_logistic_is_scikit_learn_on_one_hot_columns_of_the_raw_rows(table, planted, out):
    dense = one_hot_frame(raw_rows(table), min_count=30).to_numpy()
    known = ~np.isnan(table["skip"].cast(float).fill_null(np.nan).to_numpy()[TRAIN])
    labels = table["skip"].to_numpy()[TRAIN][known].astype(int)
    own = LogisticRegression(C=1 / (1e-3 * known.sum()), tol=1e-8, max_iter=5000)
    expected = own.fit(dense[TRAIN][known], labels).predict_proba(dense[TEST])[:, 1]
    found = run_and_score("logistic", planted, out, {"l2": 1e-3, "min_count": 30})[:, 1]
    np.testing.assert_allclose(found, expected, atol=3e-3)


def test_trees_find_an_interaction_that_the_linear_model_cannot(planted, out):
    auc = {name: record_of(name, planted, out).metrics["finish"].auc for name in FITTED}
    assert auc["gbdt"] > 0.75
    assert 0.55 < auc["logistic"] < auc["gbdt"] - 0.1


@pytest.mark.parametrize("name", FITTED)
def test_the_test_split_has_no_say(name, table, planted, tmp_path):
    rng = np.random.default_rng(0)
    shuffled = table.with_columns(
        pl.concat([table[column][: TEST.start], table[column][TEST.start :].shuffle(seed=1)])
        for column in ("finish", "skip")
    )
    assert not shuffled["finish"].equals(table["finish"])
    again = prepared_from(shuffled, tmp_path)
    first, second = (
        fit_reference(name, {}, Splits(data, ["finish", "skip"]), 0) for data in (planted, again)
    )
    assert np.array_equal(first.scores("test"), second.scores("test"))
    changed = table.with_columns(
        pl.concat([pl.Series(rng.integers(0, 2, TRAIN.stop)), table["finish"][TRAIN.stop :]]).alias("finish")
    )
    other = fit_reference(
        name, {}, Splits(prepared_from(changed, tmp_path / "changed"), ["finish", "skip"]), 0
    )
    assert not np.array_equal(first.scores("test"), other.scores("test"))


@pytest.mark.parametrize(("name", "is_same"), [("gbdt", False), ("gbdt_unordered", True)])
def test_the_order_of_histories_changes_the_trees_that_read_it_alone(table, tmp_path, name, is_same):
    kept = table.with_columns(pl.col("history", "past_genres").list.tail(5))  # as many as the schema keeps
    turned = kept.with_columns(pl.col("history", "past_genres").list.reverse())
    data = [prepared_from(each, tmp_path / str(place)) for place, each in enumerate((kept, turned))]
    before, after = (fit_reference(name, {}, Splits(each, ["finish"]), 0) for each in data)
    assert np.array_equal(before.scores("test"), after.scores("test")) == is_same


@pytest.mark.parametrize("name", FITTED)
def test_scores_are_the_same_whatever_the_threads(name, planted, monkeypatch):
    monkeypatch.setattr(gbdt, "MOST_TREES", 5)
    config = {} if name == "logistic" else {"feature_fraction": 0.5}
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(fit_reference(name, config, Splits(planted, ["finish", "skip"]), 0).scores("test"))
    torch.set_num_threads(before)
    assert np.array_equal(*found)


def test_validation_chooses_the_strength_of_l2(planted, monkeypatch):
    whole = Splits(planted, ["finish", "skip"])
    path = (1.0, 1e-1, 1e-2, 1e-3, 1e-5)
    monkeypatch.setattr(logistic, "L2_PATH", path)
    alone = {
        l2: whole.validation_metrics(fit_reference("logistic", {"l2": l2}, whole, 0).scores("valid"))
        for l2 in path
    }
    chosen = fit_reference("logistic", {}, whole, 0)
    for place, task in enumerate(whole.tasks):
        rows, _ = whole.labels("train", place)
        best = min(path, key=lambda l2: alone[l2][task]["logloss"])
        assert path[0] != best != path[-1]
        assert 1 / (chosen.models[place].C * len(rows)) == pytest.approx(best)


@pytest.mark.parametrize(
    ("ids", "kept", "is_category"), [("rank", True, False), ("category", True, True), ("none", False, None)]
)
def test_categories_of_many_values_are_read_as_asked(planted, monkeypatch, ids, kept, is_category):
    monkeypatch.setattr("harness.runs.tree_columns.MANY", 30)  # there are 40 users and 30 items
    columns = {c.name: c for c in tree_columns(planted.schema, planted.table_sizes, ids)}
    assert ("user.value" in columns) == kept
    assert columns["item.value"].is_category
    if kept:
        assert columns["user.value"].is_category == is_category
    if ids == "rank":
        matrix = tree_matrix([columns["user.value"]], planted.schema, Splits(planted, []).window("test"))
        assert np.array_equal(matrix[:, 0], planted.columns("test", ["user"])["user"])


def test_an_unseen_id_has_no_rank(table, monkeypatch, tmp_path):
    monkeypatch.setattr("harness.runs.tree_columns.MANY", 30)
    users = np.where(np.arange(ROWS) == ROWS - 1, 99, table["user"].to_numpy())
    data = prepared_from(table.with_columns(user=pl.Series(users)), tmp_path)
    columns = [c for c in tree_columns(data.schema, data.table_sizes, "rank") if c.feature.name == "user"]
    found = tree_matrix(columns, data.schema, Splits(data, []).window("test"))[:, 0]
    assert np.isnan(found[-1])
    assert np.isfinite(found[:-1]).all()


def hashed_schema(buckets: int) -> Schema:
    features = [
        feature.model_copy(update={"hash_buckets": buckets if feature.is_sparse else None})
        for feature in small_schema().features
    ]
    return small_schema().model_copy(update={"features": features})


def test_buckets_of_hashed_ids_are_ranked_by_their_training_rows(table, monkeypatch, tmp_path):
    monkeypatch.setattr("harness.runs.tree_columns.MANY", 30)
    data = prepared_from(table, tmp_path, hashed_schema(50))
    columns = [c for c in tree_columns(data.schema, data.table_sizes, "rank") if c.name == "user.value"]
    whole = Splits(data, [])
    ranks = bucket_ranks(columns, data.schema, data.table_sizes, whole.window("train"))
    train, test = (data.columns(split, ["user"])["user"] for split in ("train", "test"))
    order = [bucket for bucket, _ in sorted(Counter(train).items(), key=lambda found: (-found[1], found[0]))]
    assert order != sorted(order)
    found = tree_matrix(columns, data.schema, whole.window("test"), ranks)[:, 0]
    assert found.tolist() == [2 + order.index(bucket) for bucket in test]
    assert np.isnan(ranks["user"][[bucket for bucket in range(52) if bucket not in order]]).all()


def test_logistic_is_the_same_where_no_two_hashed_ids_share_a_bucket(table, planted, tmp_path):
    data = prepared_from(table, tmp_path, hashed_schema(100_000))
    assert all(found["ids_sharing"] == 0 for found in data.hashing.values())
    scores = [
        fit_reference("logistic", {"l2": 1e-2}, Splits(each, ["finish", "skip"]), 0).scores("test")
        for each in (data, planted)
    ]
    np.testing.assert_allclose(*scores, atol=3e-3)


@pytest.mark.parametrize("name", FITTED)
def test_a_task_that_validation_does_not_define_is_a_failed_record_with_one_sentence(
    name, table, tmp_path, out
):
    hidden = pl.when(pl.int_range(pl.len()).is_between(VALID.start, VALID.stop - 1)).then(None)
    data = prepared_from(table.with_columns(skip=hidden.otherwise(pl.col("skip"))), tmp_path)
    record = record_of(name, data, out)
    assert (record.status, record.metrics) == ("failed", {})
    assert record.failure.reason == "task 'skip' is defined in no row of the valid split"


@pytest.mark.parametrize("name", FITTED)
def test_rows_that_do_not_fit_into_memory_are_refused_before_they_are_read(name, planted, monkeypatch):
    monkeypatch.setattr(splits, "free_memory", lambda: 1000)
    monkeypatch.setattr(Splits, "window", None)
    with pytest.raises(
        InputError, match=rf"{name} needs about 0 GB of memory .* leave it out with `references`"
    ):
        fit_reference(name, {}, Splits(planted, ["finish"]), 0)


def test_a_training_split_of_one_class_cannot_be_fitted(planted):
    whole = Splits(planted, ["finish"])
    whole.window("train").labels[:] = 1.0
    with pytest.raises(UnfitTask, match="task 'finish' has one class in the train split"):
        fit_reference("gbdt", {}, whole, 0)


@pytest.mark.parametrize("name", ["gbdt", "logistic"])
def test_tuning_begins_with_the_defaults_and_finds_the_same_again(name, planted, monkeypatch, out):
    monkeypatch.setattr(gbdt, "MOST_TREES", 20)
    found = tune_reference(name, planted, ["finish", "skip"], trials=3, seed=1, metric="auc")
    assert found == tune_reference(name, planted, ["finish", "skip"], trials=3, seed=1, metric="auc")
    assert found.trials[0] == (reference_config(name), found.default)
    assert (found.settings, found.best) == max(found.trials, key=lambda trial: trial[1])
    assert len({str(settings) for settings, _ in found.trials}) == 3
    whole = Splits(planted, ["finish", "skip"])
    again = whole.validation_metrics(fit_reference(name, found.settings, whole, 1).scores("valid"))
    assert found.best == pytest.approx((again["finish"]["auc"] + again["skip"]["auc"]) / 2)
    assert record_of(name, planted, out, found.settings).spec["config"] == found.settings


def test_settings_are_whole_in_the_spec_and_unknown_ones_refused():
    assert reference_config("gbdt", {"num_leaves": 7}) == gbdt.GbdtSettings(num_leaves=7).model_dump()
    assert reference_config("oracle") == {}
    with pytest.raises(InputError, match=r"reference 'gbdt': leaves: is not a known field"):
        reference_config("gbdt", {"leaves": 7})
    with pytest.raises(InputError, match=r"reference 'logistic': l2: .* greater than 0"):
        reference_config("logistic", {"l2": 0})
    with pytest.raises(InputError, match="reference 'oracle' has no settings; remove l2"):
        reference_config("oracle", {"l2": 1})


def test_a_record_that_is_there_is_a_reference_without_cost(planted, out):
    spec = small_spec(planted).model_copy(update={"architecture": "gbdt", "config": reference_config("gbdt")})
    job = Job(spec, None, planted, out, 60.0)
    record = carry_out(job, None, ONE_PROCESS, Silent())
    assert (record.kind, record.status, record.cost, record.training) == ("reference", "finished", None, None)
    assert job.folder.is_finished
