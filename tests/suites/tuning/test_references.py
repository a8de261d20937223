"""Tuning of fitted references: what is searched, what the file holds already, what keeps its defaults."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.runs.fitted import TunedReference
from harness.workers.isolation import BrokenCallError
from suites.suite import Suite
from suites.tuning.references import tuned_references
from suites.tuning.tuned import FittedReference, Tuned, identity_of, write_tuned

MINIMAL = {"name": "s", "description": "d", "datasets": ["shortvideo"], "architectures": ["dlrm_mlp"]}
PREPARED: Any = SimpleNamespace(
    schema=SimpleNamespace(name="small", chosen_tasks=lambda tasks: ["click"]), shared_fingerprint="0"
)


class Notes:
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


def tune(path, trials=3, broken=(), **suite):
    """The settings, and which references were searched."""
    setting: Any = SimpleNamespace(
        suite=Suite.model_validate(MINIMAL | suite), prepared=PREPARED, tasks=["click"]
    )
    searched, notes = [], Notes()

    def call(function, name, *arguments):
        if name in broken:
            raise BrokenCallError("no memory")
        searched.append((name, arguments[2]))
        return TunedReference("auc", {"searched": trials}, 0.7, 0.6)

    found = tuned_references(setting, trials, path, call, notes)  # type: ignore[arg-type]
    content = {"suite": "s", "dataset": "small", "fingerprint": "", "command": "", "metric": "auc"}
    content |= {"trials": trials, "seed": 0, "identity": identity_of(setting.suite, PREPARED), "rows": {}}
    write_tuned(path, Tuned(**content, references=found))
    return found, searched, notes.texts


def test_both_are_searched_once_and_then_taken_from_the_file(tmp_path):
    path = tmp_path / "s-small.yaml"
    found, searched, _ = tune(path)
    assert searched == [("gbdt", 3), ("logistic", 3)]
    assert found["gbdt"] == FittedReference(settings={"searched": 3}, default=0.6, best=0.7)
    assert tune(path)[:2] == (found, [])


def test_one_that_a_suite_names_is_searched_too(tmp_path):
    _, searched, _ = tune(tmp_path / "s-small.yaml", references=["oracle", "gbdt_unordered"])
    assert searched == [("gbdt_unordered", 3)]


@pytest.mark.parametrize("change", [{"trials": 4}, {"training": {"batch_size": 7}}])
def test_other_trials_or_another_training_search_again(tmp_path, change):
    path = tmp_path / "s-small.yaml"
    tune(path)
    assert len(tune(path, **change)[1]) == 2


def test_only_references_that_the_suite_wants_are_searched(tmp_path):
    assert tune(tmp_path / "a.yaml", references=False)[:2] == ({}, [])
    assert tune(tmp_path / "b.yaml", references=["constant", "logistic"])[1] == [("logistic", 3)]


def test_one_that_cannot_be_fitted_keeps_its_defaults_and_is_named(tmp_path):
    found, _, notes = tune(tmp_path / "s-small.yaml", broken=["gbdt"])
    assert set(found) == {"logistic"}
    assert "small gbdt: no memory; it keeps its defaults" in notes
