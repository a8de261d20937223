"""What tuning found, as data beside the suite: written by `tune`, read by runs of suites that name it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from files.writing import write_atomically
from harness.data import InputError, PreparedDataset, first_problem, read_yaml, yaml_text
from harness.model.tokens import Inputs
from harness.records.spec import Budget, Strict, Training
from suites.suite import Suite


class TunedRow(Strict):
    """The best settings of a row's study, beside what the defaults reached in it.

    ``default`` and ``best`` are the metric on the validation split, mean over tasks; the best of many
    trials is biased upwards, so that only the test split tells what tuning is worth. ``trained`` trials
    were judged, ``pruned`` of them given up on the way.
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


class Tuned(Strict):
    """All rows of a suite on one dataset; ``identity`` is what the settings hold for."""

    suite: str
    dataset: str
    fingerprint: str
    command: str
    metric: str
    trials: int
    seed: int
    identity: dict[str, Any]
    rows: dict[str, TunedRow]


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
    try:
        tuned = Tuned.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(first_problem(error, str(path))) from None
    for name, value in identity_of(suite, prepared).items():
        if tuned.identity.get(name) != value:
            raise InputError(f"{path}: was tuned with another {_WORDS[name]}; {again}")
    for row, settings in tuned.rows.items():
        try:
            Training.model_validate(suite.training.model_dump() | settings.training)
        except ValidationError as error:
            raise InputError(f"{first_problem(error, f'{path}: rows.{row}.training')}; {again}") from None
    return tuned


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
