"""The step and the loop: the loss by hand, what the recipe's fields do, and that models learn."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from datasets.prepare.pipeline import prepare
from datasets.prepared import PreparedDataset
from datasets.schema import Feature, FractionSplit, Schema, Task
from datasets.source import Source
from harness.machine.peaks import Peak
from harness.records.cost import Cost
from harness.records.folder import RunFolder
from harness.records.spec import Training
from harness.runs import run as execute
from harness.runs.run import build_model, training_figures
from harness.training.batches import RankBatches
from harness.training.loop import Progress
from harness.training.prediction import Predictions, in_file_order, metrics_by_task, predict
from harness.training.ranks import World
from harness.training.step import dense_optimizer, task_loss, train_step
from tests.harness.small_runs import ONE_PROCESS, carry_out, small_spec


class Exploding(nn.Module):
    """Becomes NaN at its seventh training step."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        self.linear = nn.Linear(num_tokens * token_dim, 4)
        self.output_dim = 4
        self.calls = 0

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += self.training and not tokens.is_meta
        return self.linear(tokens.flatten(1)) * (float("nan") if self.calls >= 7 else 1.0)


@pytest.fixture(scope="module")
def plain(prepared, tmp_path_factory) -> dict:
    """The record of a run of one epoch by the usual recipe."""
    return carry_out(small_spec(prepared, epochs=1), prepared, tmp_path_factory.mktemp("plain"))


def test_the_loss_averages_defined_rows_of_each_task_and_then_tasks():
    logits = torch.tensor([[0.5, -1.0], [2.0, 3.0], [0.0, 1.0]])
    labels = torch.tensor([[1.0, float("nan")], [0.0, 1.0], [1.0, float("nan")]])

    def entropy(logit: float, label: float) -> float:
        probability = 1 / (1 + math.exp(-logit))
        return -math.log(probability if label else 1 - probability)

    finish = (entropy(0.5, 1) + entropy(2.0, 0) + entropy(0.0, 1)) / 3
    skip = entropy(3.0, 1)
    loss = task_loss(logits, labels, torch.tensor([3.0, 1.0]))
    assert float(loss) == pytest.approx((finish + skip) / 2, rel=1e-6)


def test_a_batch_without_labels_changes_no_weight_of_either_side(prepared):
    spec = small_spec(prepared)
    model = build_model(spec, prepared, ONE_PROCESS)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    from datasets.reader import ShardReader

    batch = next(iter(ShardReader(prepared, "train", 64, spec.tasks).batches())).without_labels()
    train_step(model, batch, dense_optimizer(model, spec.training), spec.training, ONE_PROCESS)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_a_run_learns_and_its_metrics_are_those_of_its_predictions(prepared, out):
    spec = small_spec(prepared, epochs=6, dense_lr=5e-3, sparse_lr=0.2)
    record = carry_out(spec, prepared, out)
    rows = pq.read_table(RunFolder(out, spec.folder_name).final / "predictions.parquet").to_pandas()
    for task in spec.tasks:
        known = rows[f"label_{task}"].notna()
        expected = roc_auc_score(rows.loc[known, f"label_{task}"], rows.loc[known, f"score_{task}"])
        assert record["metrics"][task]["auc"] == pytest.approx(expected, abs=1e-9)
        assert record["metrics"][task]["auc"] > 0.6
    assert len(rows) == prepared.rows["test"]
    assert record["training"]["train_samples"] == 6 * prepared.rows["train"]
    losses = [loss for _, loss in record["curve"]]
    assert losses[-1] < losses[0] - 0.02


def test_predictions_are_the_test_rows_in_file_order(prepared, out):
    spec = small_spec(prepared, epochs=1)
    carry_out(spec, prepared, out)
    rows = pq.read_table(RunFolder(out, spec.folder_name).final / "predictions.parquet")
    columns = prepared.columns("test", ["user_index", "label_finish"])
    np.testing.assert_array_equal(rows["user"].to_numpy(), columns["user_index"])
    np.testing.assert_array_equal(rows["label_finish"].to_numpy(), columns["label_finish"])


def test_the_same_spec_gives_the_same_record_and_another_seed_another(prepared, tmp_path):
    first = carry_out(small_spec(prepared), prepared, tmp_path / "a")
    again = carry_out(small_spec(prepared), prepared, tmp_path / "b")
    other = carry_out(small_spec(prepared, seed=1), prepared, tmp_path / "c")
    assert first["metrics"] == again["metrics"]
    assert first["curve"] == again["curve"]
    assert first["metrics"] != other["metrics"]


def test_a_loss_that_becomes_nan_is_a_failed_record_with_its_step(prepared, out):
    spec = small_spec(prepared).model_copy(update={"architecture": f"{__name__}:Exploding", "config": {}})
    record = carry_out(spec, prepared, out)
    assert record["status"] == "failed"
    assert record["failure"] == {"step": 7, "reason": "the loss became NaN or infinite at step 7"}
    assert record["metrics"] == {}
    assert record["training"] is None
    assert RunFolder(out, spec.folder_name).is_finished


def test_early_stopping_stops_and_tests_the_weights_of_the_best_validation(prepared, out, monkeypatch):
    tested: list[nn.Module] = []
    score = execute.predict
    monkeypatch.setattr(
        execute,
        "predict",
        lambda model, data, split: (
            (tested.append(model) if split == "test" else None) or score(model, data, split)
        ),
    )
    spec = small_spec(prepared, epochs=30, dense_lr=0.03, sparse_lr=0.5, validations_per_epoch=2, patience=2)
    record = carry_out(spec, prepared, out)
    scores = [
        np.mean([metrics["auc"] for metrics in point["metrics"].values()]) for point in record["validation"]
    ]
    assert record["training"]["stopped_early"]
    assert len(scores) == int(np.argmax(scores)) + 1 + 2
    best = record["validation"][int(np.argmax(scores))]["metrics"]
    data = RankBatches(spec, prepared, ONE_PROCESS)
    assert metrics_by_task(predict(tested[0], data, "valid"), spec.tasks) == best


def test_the_papers_recipe_is_rmsprop_at_a_hundredth_and_fields_beside_it_win():
    assert (Training(recipe="paper").dense_optimizer, Training(recipe="paper").dense_lr) == ("rmsprop", 0.01)
    assert Training(recipe="paper", dense_lr=0.001).dense_lr == 0.001
    assert Training().dense_optimizer == "adam"


@pytest.mark.parametrize(
    "training",
    [
        {"recipe": "paper", "dense_lr": 1e-3},
        {"dense_optimizer": "adamw", "weight_decay": 0.01, "warmup_steps": 10},
        {"clip_norm": 0.1},
        {"precision": "bf16"},
        {"sparse_optimizer": "rowwise_adagrad"},
    ],
)
def test_every_option_of_the_recipe_trains_and_changes_the_run(training, prepared, plain, tmp_path):
    record = carry_out(small_spec(prepared, epochs=1, **training), prepared, tmp_path)
    assert record["status"] == "finished"
    assert record["metrics"] != plain["metrics"]
    assert record["curve"][-1][1] < 0.72


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on the CPU needs a C++ compiler")
def test_a_compiled_run_ends_where_an_eager_one_does(prepared, plain, tmp_path):
    compiled = carry_out(small_spec(prepared, epochs=1, compile=True), prepared, tmp_path)
    losses = [[loss for _, loss in record["curve"]] for record in (plain, compiled)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_target_attention_trains_and_changes_the_run(prepared, plain, tmp_path):
    attended = small_spec(prepared, epochs=1).model_copy(update={"target_attention": True})
    record = carry_out(attended, prepared, tmp_path)
    assert record["status"] == "finished"
    assert record["metrics"] != plain["metrics"]
    assert record["cost"]["flops_per_sample"] > plain["cost"]["flops_per_sample"]


@pytest.mark.parametrize(
    "dealt",
    [
        [range(15)],
        [[0, 1, 2, 8, 13, 14], [3, 4, 5, 6, 7, 9, 10, 11, 12]],
        [[0, 1, 2, 9, 10], [3, 4, 5, 6, 7, 11, 12], [8, 13, 14]],  # the last six rows in equal parts
    ],
)
def test_rows_dealt_to_ranks_come_back_in_file_order(dealt):
    shard_rows, rows = [3, 5, 1, 4, 2], np.arange(15)
    dealt = [np.asarray(own) for own in dealt]
    np.testing.assert_array_equal(in_file_order(dealt, shard_rows), rows)


@pytest.mark.parametrize("size", [1, 3])
def test_mfu_holds_the_rate_of_all_processes_against_the_peak_of_all(prepared, size):
    """Each trains 500 samples of 1.6e8 FLOPs a second, which is 0.8 of what its own threads could."""
    progress = Progress(timed_samples=2 * size * 500, timed_seconds=2.0)
    nothing = np.zeros((0, 2))
    scored = Predictions(nothing[:, 0], nothing[:, 0], nothing, nothing, None)
    world = World(0, size, torch.device("cpu"))
    figures = training_figures(
        small_spec(prepared), Cost(1, 1, 1, 1, 16 * 10**7), progress, scored, Peak(1e11, "made up"), world
    )
    assert figures["mfu_train"] == pytest.approx(0.8)
    assert figures["peak_flops"] == 1e11


@pytest.fixture(scope="module")
def numbers_alone(tmp_path_factory) -> PreparedDataset:
    """A table without tables: three numbers a row."""
    schema = Schema(
        name="numbers",
        features=[Feature(name=name, kind="numeric", group="g", embedding_dim=16) for name in "abc"],
        tasks=[Task(name="finish"), Task(name="skip")],
        time="time",
        user_id=None,
        split=FractionSplit(by="fraction"),
    )
    random, rows = np.random.default_rng(0), 1000
    labels = {name: random.integers(0, 2, rows) for name in ("finish", "skip")}
    numbers = {name: random.normal(size=rows) for name in "abc"}
    frame = pl.DataFrame(numbers | labels | {"time": np.arange(rows)})
    return prepare(Source(schema, frame.lazy(), {"rows": rows}), tmp_path_factory.mktemp("numbers") / "p")


@pytest.mark.parametrize(
    "training", [{"embedding_l2": 1e-3}, {"sparse_optimizer": "adam"}, {"table_l2": 1e-3}]
)
def test_what_is_asked_of_tables_has_no_effect_where_there_are_none(numbers_alone, tmp_path, training):
    plain, asked = (
        carry_out(small_spec(numbers_alone, epochs=1, **given), numbers_alone, tmp_path)
        for given in ({}, training)
    )
    assert asked["metrics"] == plain["metrics"]
    assert asked["curve"] == plain["curve"]
