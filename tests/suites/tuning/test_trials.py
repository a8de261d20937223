"""The judge of a trial, against scores given by hand; and the folder that a trial leaves behind: none."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.records.spec import Training
from harness.training.progress import Silent
from suites.tuning.trials import Judge, Outcome, Trial, in_process, score_in_worker

SETTING = SimpleNamespace(prepared=SimpleNamespace(schema=SimpleNamespace(name="small")))
SCORES = [0.6, 0.7, 0.5, 0.4]


def trial(**training: object) -> Trial:
    return Trial(SETTING, None, {}, Training(select_metric="auc", **training), seed=0)


def called(function, trial, folder, watcher: Judge) -> Outcome:
    """As a worker that validates four times."""
    (folder / "best.pt").touch()
    for number, score in enumerate(SCORES):
        watcher.validated(64 * number, {"finish": {"auc": score}})
    return Outcome()


@pytest.mark.parametrize(("patience", "score"), [(None, 0.4), (2, 0.7)])
def test_with_patience_the_best_validation_counts_since_its_weights_are_kept(patience, score):
    seen: list[tuple[int, float]] = []
    outcome = score_in_worker(
        trial(patience=patience), in_process(called), Silent(), lambda *pair: seen.append(pair)
    )
    assert outcome == Outcome(score=score)
    assert seen == list(enumerate(SCORES, start=1))


def test_what_went_wrong_has_no_score():
    outcome = score_in_worker(trial(), lambda *_: Outcome(diverged="at step 3"), Silent(), lambda *_: None)
    assert outcome == Outcome(diverged="at step 3")


def test_a_judge_that_gives_up_ends_the_trial_and_nothing_is_left_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    numbers = []

    def give_up(number: int, score: float) -> None:
        numbers.append(number)
        raise StopIteration

    with pytest.raises(StopIteration):
        score_in_worker(trial(), in_process(called), Silent(), give_up)
    assert numbers == [1]
    assert list(Path(tmp_path).iterdir()) == []
