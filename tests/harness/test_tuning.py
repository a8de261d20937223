"""A trial against the run that it stands for: the same validation, and nothing seen or left beyond it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

import harness.train
from datasets.errors import InputError
from harness.progress import Silent
from harness.train import DivergenceError
from harness.tuning import validation_score
from tests.harness.runs import ONE_PROCESS, carry_out, small_spec


def trial(spec, prepared, judge=lambda number, score: None) -> float:
    return validation_score(spec, prepared, ONE_PROCESS, Silent(), judge)


@pytest.mark.parametrize("metric", ["auc", "uauc"])
def test_it_scores_what_the_run_with_the_same_spec_records_of_its_last_validation(metric, prepared, tmp_path):
    spec = small_spec(prepared, validations_per_epoch=2, select_metric=metric)
    seen: list[tuple[int, float]] = []
    score = trial(spec, prepared, lambda number, value: seen.append((number, value)))
    recorded = [
        sum(of_task[metric] for of_task in validation["metrics"].values()) / 2
        for validation in carry_out(spec, prepared, tmp_path)["validation"]
    ]
    assert score == pytest.approx(recorded[-1], abs=1e-12)
    assert seen == [(i + 1, pytest.approx(value, abs=1e-12)) for i, value in enumerate(recorded)]


def test_with_patience_it_scores_the_best_validation_whose_weights_are_kept(prepared, monkeypatch):
    scores = iter([0.6, 0.7, 0.5, 0.4])
    monkeypatch.setattr("harness.tuning.metrics_by_task", lambda *_: {"finish": {"auc": next(scores)}})
    spec = small_spec(prepared, validations_per_epoch=2, epochs=9, patience=2, select_metric="auc")
    assert trial(spec, prepared) == 0.7
    assert list(scores) == []


def test_it_reads_no_row_of_the_test_split(prepared, monkeypatch):
    splits = []
    original = harness.train.ShardReader

    def reader(prepared, split, *arguments, **keywords):
        splits.append(split)
        return original(prepared, split, *arguments, **keywords)

    monkeypatch.setattr(harness.train, "ShardReader", reader)
    trial(small_spec(prepared), prepared)
    assert set(splits) == {"train", "valid"}


def test_a_judge_that_gives_up_ends_it_and_nothing_is_left_on_disk(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    numbers = []

    def give_up(number: int, score: float) -> None:
        numbers.append(number)
        raise StopIteration

    with pytest.raises(StopIteration):
        trial(small_spec(prepared, validations_per_epoch=3), prepared, give_up)
    assert numbers == [1]
    assert list(Path(tmp_path).iterdir()) == []


def test_a_trial_that_diverges_says_so(prepared):
    with pytest.raises(DivergenceError):
        trial(small_spec(prepared, architecture="tests.harness.test_train:Exploding"), prepared)


def test_a_metric_that_the_validation_split_does_not_define_is_named(prepared, monkeypatch):
    monkeypatch.setattr(
        "harness.tuning.metrics_by_task", lambda *_: {"finish": {"auc": 0.5}, "skip": {"auc": None}}
    )
    with pytest.raises(InputError, match=r"training.select_metric: .*'small' does not define auc"):
        trial(small_spec(prepared), prepared)
