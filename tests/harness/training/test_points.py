"""What is scored on the way: when, on which weights and rows, and that it alters nothing of the run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR

from datasets.reader import ShardReader
from files.errors import InputError
from harness.records.spec import Training
from harness.runs import trial
from harness.runs.run import build_model
from harness.training import loop, points
from harness.training.batches import RankBatches
from harness.training.progress import Silent
from harness.training.step import Optimizers, dense_optimizer, set_learning_rates, train_step
from tests.harness.small_runs import ONE_PROCESS, carry_out, small_spec


def test_validations_are_evenly_spread_and_the_last_one_ends_the_epoch():
    spread = {4: {25, 50, 75, 100}, 0: set()}
    for per_epoch, batches in spread.items():
        assert points.validations(Training(validations_per_epoch=per_epoch), 100) == batches
    assert points.validations(Training(validations_per_epoch=1), 3) == {3}


def test_a_point_is_the_first_batch_that_reaches_it_in_its_epoch_and_never_the_run_s_last():
    training = Training(batch_size=10, epochs=2, progress=[1, 10, 11, 95, 100, 101, 195, 200])
    assert points.tests(training, 0, 10) == {1, 2, 10}  # samples 10, 20, 100
    assert points.tests(training, 1, 10) == {1}  # samples 110; 195 and 200 are reached by the last batch


def test_windows_follow_each_other_to_the_end_of_the_first_epoch():
    training = Training(score_ahead=4, epochs=2)
    assert points.windows(training, 0, 10) == {2: 5, 5: 8, 8: 10}
    assert points.windows(training, 1, 10) == {}
    assert points.windows(training, 0, 2) == {1: 2}  # windows without a batch are none


@pytest.mark.parametrize("progress", [[20, 10], [10, 10], [0]])
def test_points_that_do_not_rise_are_refused(progress):
    with pytest.raises(ValueError, match=r"progress"):
        Training(progress=progress)


def test_a_point_beyond_the_last_sample_is_refused():
    points.check_progress(Training(epochs=2, progress=[200]), 100)
    with pytest.raises(InputError, match=r"training\.progress: 201 is more than the 200 samples"):
        points.check_progress(Training(epochs=2, progress=[50, 201]), 100)


def test_what_is_scored_after_the_first_epoch_is_what_a_run_of_one_epoch_ends_with(prepared, tmp_path):
    rows = prepared.rows["train"]
    watched = carry_out(small_spec(prepared, epochs=2, progress=[rows]), prepared, tmp_path)
    short = carry_out(small_spec(prepared, epochs=1), prepared, tmp_path)
    [point] = watched["tested"]
    assert point["samples"] == rows
    for task, metrics in short["metrics"].items():
        metrics.pop("reliability")
        assert point["metrics"][task] == metrics


def test_scoring_on_the_way_changes_no_number_of_the_run(prepared, tmp_path):
    plain = carry_out(small_spec(prepared), prepared, tmp_path)
    watched = carry_out(small_spec(prepared, progress=[500, 1500], score_ahead=5), prepared, tmp_path)
    assert "tested" not in plain
    assert "ahead" not in plain
    assert len(watched["tested"]) == 2
    assert len(watched["ahead"]) == 4
    assert watched["metrics"] == plain["metrics"]
    assert watched["validation"] == plain["validation"]


def test_a_window_is_scored_by_what_was_trained_before_it(prepared, tmp_path):
    spec = small_spec(prepared, epochs=1, score_ahead=3)
    record = carry_out(spec, prepared, tmp_path)
    model = build_model(spec, prepared, ONE_PROCESS)
    optimizer = dense_optimizer(model, spec.training)
    batches = list(ShardReader(prepared, "train", 64, spec.tasks, shuffle_seed=spec.seed).batches())
    done = 0
    for point in record["ahead"]:
        while done * 64 < point["samples"]:
            train_step(model, batches[done], optimizer, spec.training, ONE_PROCESS)
            done += 1
        rows = point["metrics"]["finish"]["rows"]
        model.eval()
        with torch.no_grad():
            window = batches[done : done + -(-rows // 64)]
            scores = torch.cat([model(batch).logits[:, 0].sigmoid() for batch in window]).numpy()
        model.train()
        labels = torch.cat([batch.labels[:, 0] for batch in window]).numpy()
        known = ~np.isnan(labels)
        assert known.sum() == rows
        auc = roc_auc_score(labels[known], scores[known])
        assert point["metrics"]["finish"]["auc"] == pytest.approx(auc, abs=1e-6)
    assert len(record["ahead"]) == 2


def test_in_time_order_rows_come_as_the_log_has_them_whatever_the_seed(prepared):
    def users(**training) -> list[int]:
        spec = small_spec(prepared, seed=training.pop("seed", 0), **training)
        data = RankBatches(spec, prepared, ONE_PROCESS)
        return list(
            itertools.chain.from_iterable(b.user_id.tolist() for b, _ in data.read(data.reader("train")))
        )

    plain = ShardReader(prepared, "train", 64, ["finish", "skip"])
    logged = list(itertools.chain.from_iterable(batch.user_id.tolist() for batch in plain.batches()))
    assert users(order="time") == users(order="time", seed=1) == logged
    assert users() != logged
    assert sorted(users()) == sorted(logged)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_a_schedule_is_pytorch_s_own(schedule, warmup):
    steps, training = 20, Training(dense_lr=0.1, warmup_steps=warmup, schedule=schedule)
    ours, theirs = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1) for _ in range(2))
    falling = {
        "constant": LambdaLR(theirs, lambda step: 1.0),
        "linear": LinearLR(theirs, 1.0, 0.0, steps - warmup),
        "cosine": CosineAnnealingLR(theirs, steps - warmup),
    }[schedule]
    rising = LinearLR(theirs, 1 / warmup, 1.0, warmup - 1) if warmup else None
    scheduler = SequentialLR(theirs, [rising, falling], [warmup]) if rising else falling
    rates = []
    for step in range(steps):
        set_learning_rates(nn.Module(), Optimizers(ours), training, step, steps)
        rates.append((ours.param_groups[0]["lr"], theirs.param_groups[0]["lr"]))
        theirs.step()
        scheduler.step()
    ours_rates, theirs_rates = zip(*rates, strict=True)
    assert ours_rates == pytest.approx(theirs_rates)


def test_a_trial_of_tuning_never_scores_the_test_split(prepared, tmp_path, monkeypatch):
    scored: list[str] = []
    score = loop.predict
    monkeypatch.setattr(
        loop, "predict", lambda model, data, split: scored.append(split) or score(model, data, split)
    )
    spec = small_spec(prepared, progress=[500], epochs=1)
    trial.train_and_validate(spec, prepared, ONE_PROCESS, tmp_path, Silent())
    assert scored == ["valid"]


def test_unused_later_fields_are_in_no_spec_and_no_hash():
    assert not {"schedule", "order", "progress", "score_ahead"} & set(Training().model_dump(mode="json"))
    dumped = Training(order="time", progress=[5]).model_dump(mode="json")
    assert (dumped["order"], dumped["progress"]) == ("time", [5])
    assert Training.model_validate(dumped) == Training(order="time", progress=[5])
