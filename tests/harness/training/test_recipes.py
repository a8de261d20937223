"""Recipes of published runs: whole tables, plateaus, monitors, starts, shuffles; and what rules them out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from baselines.layers import PerTokenLinear
from datasets.reader import ShardReader
from files.errors import InputError
from harness.evaluation.metrics import binary_metrics
from harness.evaluation.monitors import monitored
from harness.model.embeddings import LookedUp
from harness.model.initial import initialise_xavier
from harness.records.folder import RunFolder
from harness.records.spec import LATER_FIELDS, Training
from harness.runs.run import build_model
from harness.training import loop, step
from harness.training.batches import RankBatches
from harness.training.prediction import metrics_by_task, predict
from harness.training.ranks import table_weights
from harness.training.recipe import check_recipe
from harness.training.step import optimizers_of, train_step
from harness.training.weights import read_weights
from tests.harness.small_runs import ONE_PROCESS, carry_out, small_spec

PUBLISHED = {"sparse_optimizer": "adam", "sparse_lr": 1e-3, "table_l2": 0.5, "dense_lr": 1e-3}


def batches_of(prepared, spec, number=4):
    batches = ShardReader(prepared, "train", 64, spec.tasks).batches()
    return [next(batches) for _ in range(number)]


@pytest.mark.parametrize(
    ("training", "theirs"),
    [
        (PUBLISHED, lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.5)),
        (PUBLISHED | {"table_l2": 0.0}, lambda p: torch.optim.Adam(p, lr=1e-3)),
        ({"table_l2": 0.5}, lambda p: torch.optim.Adagrad(p, lr=0.05, eps=1e-8, weight_decay=0.5)),
        ({"table_l2": 0.5, "sparse_optimizer": "sgd"}, lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.5)),
        ({"sparse_optimizer": "sgd"}, lambda p: torch.optim.SGD(p, 0.05)),
    ],
)
def test_tables_move_as_plain_pytorch_tables_with_that_optimizer(prepared, training, theirs):
    """The oracle: nn.Embedding with dense gradients, and PyTorch's weight decay as the whole tables' L2.

    Rows that no batch looks up decay too.
    """
    spec = small_spec(prepared, **training)
    model = build_model(spec, prepared, ONE_PROCESS)
    tables = {key.split(".")[-2]: value.clone() for key, value in table_weights(model).items()}
    plain = {name: nn.Parameter(value) for name, value in tables.items()}
    reference = build_model(spec, prepared, ONE_PROCESS).dense
    dense_optimizer = torch.optim.Adam(reference.parameters(), lr=1e-3)
    optimizer, ours = theirs(list(plain.values())), optimizers_of(model, spec.training)
    for batch in batches_of(prepared, spec):
        train_step(model, batch, ours, spec.training, ONE_PROCESS)
        pooled = {}
        for feature in prepared.schema.sparse_features:
            jagged = batch.sparse[feature.name]
            bags = nn.functional.embedding_bag(
                jagged.values(), plain[feature.table], jagged.offsets()[:-1], mode="mean"
            )
            pooled[feature.name] = bags
        logits = reference(LookedUp(pooled, {}), batch.dense).logits
        loss = step.task_loss(logits, batch.labels, step.count_defined(batch.labels))
        for each in (optimizer, dense_optimizer):
            each.zero_grad()
        loss.backward()
        for each in (optimizer, dense_optimizer):
            each.step()
    for key, value in table_weights(model).items():
        torch.testing.assert_close(value, plain[key.split(".")[-2]].detach(), rtol=1e-4, atol=2e-6)


def test_the_gradient_of_whole_tables_is_clipped_with_the_dense_one(prepared):
    spec = small_spec(prepared, **(PUBLISHED | {"clip_norm": 1e-3}))
    model = build_model(spec, prepared, ONE_PROCESS)
    train_step(
        model, batches_of(prepared, spec)[0], optimizers_of(model, spec.training), spec.training, ONE_PROCESS
    )
    norms = [float(p.grad.norm()) for p in model.parameters()]
    assert math.hypot(*norms) == pytest.approx(1e-3, rel=1e-3)


def scores_of(record, metric="auc"):
    return [np.mean([task[metric] for task in point["metrics"].values()]) for point in record["validation"]]


@pytest.fixture(scope="module")
def plateaus(prepared, tmp_path_factory):
    """A run that overfits: its record, and the dense and sparse rates of each step."""
    rates, original = [], loop.set_learning_rates

    def watch(model, optimizers, *arguments):
        original(model, optimizers, *arguments)
        [fused] = model.embeddings.fused_optimizers()
        rates.append((optimizers.dense.param_groups[0]["lr"], fused.param_groups[0]["lr"]))

    training = {
        **{"epochs": 6, "dense_lr": 0.02, "sparse_lr": 0.5},
        **{"schedule": "plateau", "least_lr": 1e-3},
    }
    spec = small_spec(prepared, batch_size=160, validations_per_epoch=2, **training)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "set_learning_rates", watch)
        record = carry_out(spec, prepared, tmp_path_factory.mktemp("plateaus"))
    return record, rates


def test_the_rates_fall_tenfold_after_each_validation_that_is_not_the_best_down_to_the_least(plateaus):
    record, rates = plateaus
    scores, best, left = scores_of(record), -1.0, 1.0
    assert len(rates) == 180
    for number, score in enumerate(scores):
        expected = (max(0.02 * left, 1e-3), max(0.5 * left, 1e-3))
        for pair in rates[15 * number : 15 * (number + 1)]:
            assert pair == pytest.approx(expected)
        best, left = (score, left) if score > best else (best, left / 10)
    assert rates[-1] == pytest.approx((1e-3, 1e-3))  # so that the floor was reached


def test_the_test_split_is_scored_by_the_best_validation_s_weights_without_early_stopping(prepared, tmp_path):
    """The kept weights, which scored the test split, give the best validation's metrics again."""
    overfits = {"epochs": 4, "dense_lr": 0.02, "sparse_lr": 1.0, "select_metric": "auc-logloss"}
    spec = small_spec(prepared, restore_best=True, **overfits)
    record = carry_out(spec, prepared, tmp_path, keeps_weights=True)
    scores = [a - b for a, b in zip(scores_of(record), scores_of(record, "logloss"), strict=True)]
    assert len(scores) == 4  # it was not stopped
    assert int(np.argmax(scores)) < 3
    model = build_model(spec, prepared, ONE_PROCESS)
    model.load_state_dict(read_weights(RunFolder(tmp_path, spec.folder_name).final, spec.hash))
    valid = predict(model, RankBatches(spec, prepared, ONE_PROCESS), "valid")
    found = metrics_by_task(valid, spec.tasks)
    assert found == record["validation"][int(np.argmax(scores))]["metrics"]


def test_a_fused_table_moves_by_the_rate_that_the_plateau_left(prepared):
    spec = small_spec(prepared, sparse_optimizer="sgd", sparse_lr=0.5, schedule="plateau")
    moves = []
    for left in (1.0, 0.1):
        model = build_model(spec, prepared, ONE_PROCESS)
        before = {key: value.clone() for key, value in table_weights(model).items()}
        optimizers = optimizers_of(model, spec.training)
        step.set_learning_rates(model, optimizers, spec.training, 0, 10, left)
        train_step(model, batches_of(prepared, spec)[0], optimizers, spec.training, ONE_PROCESS)
        moves.append({key: value - before[key] for key, value in table_weights(model).items()})
    for key, move in moves[0].items():
        torch.testing.assert_close(moves[1][key], move / 10, rtol=1e-3, atol=1e-7)


def test_monitors_are_sums_of_scikit_learn_s_metrics():
    rng = np.random.default_rng(0)
    labels, scores, users = rng.integers(0, 2, 400), rng.random(400), rng.integers(0, 9, 400)
    metrics = {"click": vars(binary_metrics(labels, scores, users))}
    auc = roc_auc_score(labels, scores)
    of_users = [(labels[users == u], scores[users == u]) for u in range(9)]
    gauc = sum(len(y) * roc_auc_score(y, s) for y, s in of_users) / 400
    assert monitored(metrics, "auc") == pytest.approx(auc)
    assert monitored(metrics, "gauc") == pytest.approx(gauc)
    assert monitored(metrics, "auc+gauc") == pytest.approx(auc + gauc)
    assert monitored(metrics, "auc-logloss") == pytest.approx(auc - log_loss(labels, scores))
    nobody = {"click": vars(binary_metrics(labels, scores, None))}
    assert monitored(nobody, "auc+gauc") is None


def test_tables_start_with_the_spread_that_is_asked_for_and_linear_maps_as_xavier_has_them(prepared):
    spec = small_spec(prepared, embedding_std=1e-4, dense_init="xavier_normal")
    model = build_model(spec, prepared, ONE_PROCESS)
    items = next(value for key, value in table_weights(model).items() if ".item." in key)
    assert float(items[2:].std()) == pytest.approx(1e-4, rel=0.15)
    wide = nn.ModuleList([nn.Linear(300, 100), PerTokenLinear(3, 300, 100)])
    initialise_xavier(wide)
    for layer in wide:
        assert float(layer.weight.detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.02)
        assert not layer.bias.any()
    first = model.dense.backbone.mlp[0]
    torch.manual_seed(spec.seed)
    assert not first.bias.any()


def test_whole_shuffles_all_rows_together_and_anew_in_each_epoch(prepared):
    """Shuffled within windows, the first window's rows come first; together they come anywhere."""
    spec = small_spec(prepared, order="whole")
    data = RankBatches(spec, prepared, ONE_PROCESS)

    def ages(epoch):
        return torch.cat([b.dense[:, 0] for b, _ in data.read(data.reader("train", epoch))]).numpy()

    logged = torch.cat(
        [b.dense[:, 0] for b in ShardReader(prepared, "train", 64, spec.tasks).batches()]
    ).numpy()
    first, second = ages(0), ages(1)
    assert sorted(first) == sorted(second) == sorted(logged)
    assert not (first == second).all()
    place = {age: number for number, age in enumerate(logged)}
    places = np.array([place[age] for age in first])
    assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.05
    data = RankBatches(spec, prepared, ONE_PROCESS)
    reader = data.reader("train")
    tail = torch.cat([b.dense[:, 0] for b, _ in data.read(reader, 3)]).numpy()
    assert (tail == first[3 * 64 :]).all()


def test_fields_that_came_later_are_not_in_a_spec_that_does_not_use_them(prepared):
    """So a spec of an earlier version has the hash that it had."""
    written = small_spec(prepared).as_json()["training"]
    assert not set(LATER_FIELDS) & set(written)
    used = small_spec(prepared, schedule="plateau", least_lr=1e-6, table_l2=0.1, restore_best=True)
    assert {"schedule", "least_lr", "table_l2", "restore_best"} <= set(used.as_json()["training"])
    assert type(used).model_validate(used.as_json()) == used


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"table_l2": 0.1, "sparse_optimizer": "rowwise_adagrad"}, "table_l2 changes every row in each step"),
        ({"schedule": "plateau", "validations_per_epoch": 0}, "schedule plateau needs validations_per_epoch"),
        ({"restore_best": True, "validations_per_epoch": 0}, "restore_best needs validations_per_epoch"),
        ({"least_lr": 1e-6}, "least_lr has no effect without schedule plateau"),
        ({"plateau_factor": 0.5, "schedule": "cosine"}, "plateau_factor has no effect without"),
    ],
)
def test_fields_that_rule_each_other_out_are_refused(training, words):
    with pytest.raises(ValidationError, match=words):
        Training(**training)


@pytest.mark.parametrize(
    ("training", "config", "words"),
    [
        ({"sparse_optimizer": "adam"}, {}, "sparse_optimizer adam: every step updates whole tables"),
        ({"table_l2": 0.1}, {}, "table_l2: every step updates whole tables"),
        ({"order": "whole"}, {}, "order: whole shuffles all rows together"),
        ({}, {"batch_norm": True}, "batch normalisation takes the statistics of one process's rows"),
    ],
)
def test_what_cannot_be_the_same_in_several_processes_is_refused_there_alone(
    prepared, training, config, words
):
    spec = small_spec(prepared, **training)
    spec = spec.model_copy(update={"config": spec.config | config})
    check_recipe(spec, prepared.schema)
    with pytest.raises(InputError, match=words + ".*run it in one process"):
        check_recipe(spec.model_copy(update={"world_size": 2}), prepared.schema)


def test_row_wise_adagrad_is_refused_where_rows_are_padded(prepared):
    spec = small_spec(prepared, sparse_optimizer="rowwise_adagrad")
    check_recipe(spec, prepared.schema)
    features = [f.model_copy(update={"embedding_dim": 10}) for f in prepared.schema.features]
    schema = prepared.schema.model_copy(update={"features": features})
    with pytest.raises(InputError, match="those of 'user' are padded from 10 to 12 numbers; choose another"):
        check_recipe(spec, schema)


def test_a_monitor_that_the_rows_do_not_define_names_the_field_that_needs_it(prepared, tmp_path, monkeypatch):
    spec = small_spec(prepared, schedule="plateau", select_metric="gauc", epochs=1)
    metrics = {task: {"gauc": None} for task in spec.tasks}
    monkeypatch.setattr(loop, "metrics_by_task", lambda *_: metrics)
    with pytest.raises(InputError, match=r"training\.schedule: .*does not define gauc for every task"):
        carry_out(spec, prepared, tmp_path)
