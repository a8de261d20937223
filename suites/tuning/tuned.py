"""What tuning found, as data beside the suite: written by `tune`, read by runs of suites that name it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from files.writing import write_atomically
from harness.data import InputError, PreparedDataset, first_problem, read_yaml, yaml_text
from harness.model.tokens import Inputs
from harness.records.spec import Budget, Strict, Training
from suites.suite import Suite, SuiteRow
from suites.tuning.decision import Rescored


class LearningRate(Strict):
    """A point of a learning-rate curve; ``score`` None: training diverged."""

    factor: float
    dense_lr: float
    score: float | None


class TunedRow(Strict):
    """The settings of a row that tuning chose, and all scores that it chose by.

    ``training``, ``config`` and ``tokens`` (fields of the row) are the chosen settings, ``inputs`` what the
    row is fed with them, ``default_inputs`` what it is fed without (empty: the same). All scores are the
    metric on the validation split, mean over tasks. ``default`` and ``best`` are the search's: those of the
    defaults and of the best trial, which is biased upwards. ``rescored`` are the defaults and the search's
    best on further seeds (`suites.tuning.decision`), from which ``defaults_kept`` follows; ``gain`` is the
    mean paired difference of what was chosen to the defaults and ``standard_error`` that of the mean.

    ``trained`` trials were judged: ``pruned`` of them given up on the way and ``diverged`` lost;
    ``out_of_reach`` others could not meet the budget and do not count. ``lr_curve`` is the chosen settings
    at other learning rates.

    Files of earlier versions lack all but the search's scores: ``pruned`` counts their diverged trials too.
    """

    study: str
    inputs: dict[str, Any]
    budget: Budget | None
    trained: int
    pruned: int
    default: float | None
    best: float
    training: dict[str, Any]
    config: dict[str, Any]
    tokens: dict[str, Any] = Field(default_factory=dict)
    default_inputs: dict[str, Any] = Field(default_factory=dict)
    diverged: int | None = None
    out_of_reach: int | None = None
    defaults_kept: bool | None = None
    gain: float | None = None
    standard_error: float | None = None
    rescored: list[Rescored] = Field(default_factory=list)
    lr_curve: list[LearningRate] = Field(default_factory=list)


class FittedReference(Strict):
    """The settings of a reference that is fitted, such as ``gbdt``, and the search's scores as a row's."""

    settings: dict[str, Any]
    default: float
    best: float


class Tuned(Strict):
    """All rows and references of a suite on one dataset; ``identity`` is what the settings hold for."""

    suite: str
    dataset: str
    fingerprint: str
    command: str
    metric: str
    trials: int
    seed: int
    identity: dict[str, Any]
    rows: dict[str, TunedRow]
    references: dict[str, FittedReference] = Field(default_factory=dict)

    def reference_settings(self, name: str) -> dict[str, Any] | None:
        """Those that were found; None where it was not tuned and has its defaults."""
        return self.references[name].settings if name in self.references else None


def tuned_path(folder: Path, suite: str, dataset: str) -> Path:
    """Where the settings of a suite that lies in ``folder`` are kept."""
    return folder / "tuned" / f"{suite}-{dataset}.yaml"


def identity_of(suite: Suite, prepared: PreparedDataset) -> dict[str, Any]:
    """What tuned settings depend on beside a row's inputs: the data, the tasks, what is not searched."""
    searched = {*suite.search, "validations_per_epoch", "recipe"}
    return {
        "dataset_fingerprint": prepared.shared_fingerprint,
        "tasks": prepared.schema.chosen_tasks(suite.tasks),
        "training": suite.training.model_dump(mode="json", exclude=searched),
    }


def fingerprint_of(value: Any) -> str:
    """Twelve hex digits over canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def chooses_tokens(row: SuiteRow) -> bool:
    """Whether a row leaves its tokens to the suite, and so to tuning."""
    return row.tokenizer is None and row.tokens is None and row.token_dim is None


def inputs_of(inputs: Inputs) -> dict[str, Any]:
    """What a row is fed, as the file has it."""
    return {
        "tokenizer": inputs.tokenizer,
        "num_tokens": inputs.num_tokens,
        "token_dim": inputs.token_dim,
        "target_attention": inputs.target_attention,
        "tower_dim": inputs.tower_dim,
    }


def write_tuned(path: Path, tuned: Tuned) -> None:
    """Write the file whole or not at all."""
    text = yaml_text(tuned.model_dump(mode="json"))
    head = f"# Written by `{tuned.command}`; runs of suites with `tuned: {tuned.suite}` use it.\n"
    write_atomically(path, (head + text).encode())


def read_tuned(suite: Suite, prepared: PreparedDataset) -> Tuned | None:
    """The settings that ``suite.tuned`` names for this dataset; None where it names none.

    Raises InputError where they are absent, damaged, or were found on other data or for other training.
    """
    if suite.tuned is None:
        return None
    path = tuned_path(suite.folder, suite.tuned, prepared.schema.name)
    again = f"`run_bench.py tune {suite.tuned}` finds them, or --set tuned=null runs without"
    if not path.is_file():
        raise InputError(f"{path}: is not there, so {prepared.schema.name!r} has no settings; {again}")
    tuned = read_file(path)
    for name, value in identity_of(suite, prepared).items():
        if tuned.identity.get(name) != value:
            raise InputError(f"{path}: was tuned with another {_WORDS[name]}; {again}")
    for row, settings in tuned.rows.items():
        try:
            Training.model_validate(suite.training.model_dump() | settings.training)
        except ValidationError as error:
            raise InputError(f"{first_problem(error, f'{path}: rows.{row}.training')}; {again}") from None
    return tuned


def read_file(path: Path) -> Tuned:
    """A file of settings, whatever it was found for; InputError where it is damaged."""
    try:
        return Tuned.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(first_problem(error, str(path))) from None


_WORDS = {
    "dataset_fingerprint": "version of the data",
    "tasks": "choice of tasks",
    "training": "training (batch size, epochs, optimizers)",
}


def tuned_training(suite: Suite, row: TunedRow | None) -> Training:
    """The suite's training with a row's tuned settings in it.

    Raises InputError where the suite gives one of these a value of its own, which would have no effect.
    """
    if row is None:
        return suite.training
    unstated = Training(recipe=suite.training.recipe)
    for name in row.training:
        if getattr(suite.training, name) != getattr(unstated, name):
            raise InputError(
                f"training.{name}: tuning settled it for each row ({suite.tuned!r}), so it has no effect; "
                "leave it out, or --set tuned=null runs every row with it"
            )
    return Training.model_validate(suite.training.model_dump() | row.training)
