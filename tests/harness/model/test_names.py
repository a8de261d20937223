"""Users may call their features, vocabularies, groups and tasks as they like, `type` and `items` included."""

from __future__ import annotations

import keyword
import re

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from datasets.prepare.pipeline import prepare
from datasets.schema import Feature, FractionSplit, Schema, Task
from datasets.source import Source
from harness.model.embeddings import Embeddings, fill_initial_rows, module_key, name_of_module_key
from harness.records.cost import Cost
from harness.records.folder import RunFolder
from harness.runs.run import run_model
from harness.training.progress import Silent
from harness.training.ranks import initialise_tables, table_weights
from tests.harness.small_runs import ONE_PROCESS, small_spec

MEMBERS = {*dir(nn.Module()), *dir(nn.ModuleDict()), *dir(nn.ParameterDict()), *dir({}), *dir(object())}
NAMES = sorted(
    name
    for name in {*MEMBERS, *keyword.kwlist, *keyword.softkwlist}
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
)
ROWS, TASKS = 100, 20
UNCOUNTED = Cost(1, 1, 1, 1, 3)


def schema_of(names: list[str]) -> Schema:
    """Every name is a feature and a group, every other one a vocabulary that the next attends, some tasks."""
    features = [
        Feature(
            name=name,
            kind="sequence" if number % 2 else "categorical",
            group=name,
            vocabulary=names[number - 1] if number % 2 else None,
            embedding_dim=4,
            column=f"column {number}",
            max_length=2 if number % 2 else 50,
        )
        for number, name in enumerate(names)
    ]
    tasks = [Task(name=name, column=f"label {number}") for number, name in enumerate(names[:TASKS])]
    return Schema(
        name="names",
        features=features,
        tasks=tasks,
        user_id="user",
        time="at",
        split=FractionSplit(valid=0.2, test=0.2),
    )


def table(names: list[str]) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {"user": rng.integers(0, 9, ROWS), "at": np.arange(ROWS)}
    for number in range(len(names)):
        drawn = rng.integers(0, 4, (ROWS, 2) if number % 2 else ROWS)
        columns[f"column {number}"] = drawn.tolist()
    for number in range(TASKS):
        columns[f"label {number}"] = rng.integers(0, 2, ROWS)
    return pl.DataFrame(columns)


def test_the_names_are_those_that_pytorch_itself_refuses():
    modules = nn.ModuleDict()
    assert {"type", "items", "keys", "values", "half", "float", "train", "forward"} <= set(NAMES)
    for name in NAMES:
        assert (module_key(name) == name) == (not hasattr(modules, name))
        modules[module_key(name)] = nn.Identity()
    assert [name_of_module_key(key) for key in modules] == NAMES


class Killed(BaseException):
    pass


class KillsAtOnce(Silent):
    def advance(self, samples: int, loss: float, samples_per_second: float) -> None:
        if samples > 64:  # the checkpoint after the first stretch is written
            raise Killed


def test_every_name_can_be_a_table_of_its_own():
    features = [Feature(name=name, kind="categorical", group="g", embedding_dim=4) for name in NAMES]
    schema = schema_of(NAMES).model_copy(update={"features": features})
    sizes = dict.fromkeys(NAMES, 3)
    embeddings = Embeddings(schema, sizes, optimizer="adagrad", learning_rate=0.1)
    initialise_tables(embeddings, seed=1)
    for name, weight in zip(NAMES, table_weights(embeddings).values(), strict=True):
        expected = torch.empty(3, 4)
        fill_initial_rows(expected, 1, name, 4)
        assert weight.equal(expected)


@pytest.mark.parametrize("shift", [0, 1])
def test_every_name_trains_and_goes_on_from_its_checkpoint(tmp_path, shift):
    names = NAMES[shift:] + NAMES[:shift]
    source = Source(schema=schema_of(names), frame=table(names).lazy(), identity={}, notes={})
    prepared = prepare(source, tmp_path / "names")
    inputs = {"target_attention": True, "num_tokens": len(names), "token_dim": 8, "tokenizer": "groups"}
    spec = small_spec(prepared, epochs=2, validations_per_epoch=0).model_copy(
        update={"tasks": prepared.schema.task_names, **inputs}
    )
    folder = RunFolder(tmp_path, "run")
    with pytest.raises(Killed):
        run_model(spec, UNCOUNTED, prepared, folder, ONE_PROCESS, KillsAtOnce(), checkpoint_seconds=0.0)
    record = run_model(spec, UNCOUNTED, prepared, folder, ONE_PROCESS, Silent(), 1e9).as_json()
    assert list(record["metrics"]) == spec.tasks
    assert record["training"]["train_samples"] == 2 * prepared.rows["train"]
