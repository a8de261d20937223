"""A trial's training against the run that it stands for: the same validation, and nothing read beyond it."""

from __future__ import annotations

import pytest

import harness.training.batches
from files.errors import InputError
from harness.runs.trial import mean_score, train_and_validate
from harness.training.progress import Silent
from harness.training.step import DivergenceError
from tests.harness.small_runs import ONE_PROCESS, carry_out, small_spec


class Recorder(Silent):
    def __init__(self) -> None:
        self.validations: list[dict[str, dict]] = []

    def validated(self, samples: int, metrics: dict[str, dict]) -> None:
        self.validations.append(metrics)


def validations(spec, prepared, folder) -> list[dict[str, dict]]:
    recorder = Recorder()
    train_and_validate(spec, prepared, ONE_PROCESS, folder, recorder)
    return recorder.validations


def test_its_validations_are_those_that_the_run_with_the_same_spec_records(prepared, tmp_path):
    spec = small_spec(prepared, validations_per_epoch=2)
    recorded = [v["metrics"] for v in carry_out(spec, prepared, tmp_path / "run")["validation"]]
    (tmp_path / "trial").mkdir()
    assert validations(spec, prepared, tmp_path / "trial") == recorded
    assert len(recorded) == 4  # of two epochs
    assert list((tmp_path / "trial").iterdir()) == []


@pytest.mark.parametrize("metric", ["auc", "uauc"])
def test_its_score_is_the_mean_over_tasks(metric):
    metrics = {"finish": {"auc": 0.5, "uauc": 0.75}, "skip": {"auc": 0.75, "uauc": 0.25}}
    assert mean_score(metrics, metric, "small") == {"auc": 0.625, "uauc": 0.5}[metric]


def test_a_metric_that_the_validation_split_does_not_define_is_named():
    metrics = {"finish": {"auc": 0.5}, "skip": {"auc": None}}
    with pytest.raises(InputError, match=r"training.select_metric: .*'small' does not define auc"):
        mean_score(metrics, "auc", "small")


def test_it_reads_no_row_of_the_test_split(prepared, tmp_path, monkeypatch):
    splits = []
    original = harness.training.batches.ShardReader

    def reader(prepared, split, *arguments, **keywords):
        splits.append(split)
        return original(prepared, split, *arguments, **keywords)

    monkeypatch.setattr(harness.training.batches, "ShardReader", reader)
    validations(small_spec(prepared), prepared, tmp_path)
    assert set(splits) == {"train", "valid"}


def test_a_trial_that_diverges_says_so(prepared, tmp_path):
    spec = small_spec(prepared, architecture="tests.harness.training.test_loop:Exploding")
    with pytest.raises(DivergenceError):
        validations(spec, prepared, tmp_path)
