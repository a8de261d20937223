"""The trial step before training: rows that could be real, and an architecture's own errors."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
import torch

from datasets.prepare.pipeline import prepare
from datasets.schema import Feature
from datasets.source import Source
from files.errors import InputError
from harness.model.architectures import ARCHITECTURES
from harness.records.cost import Cost
from harness.runs.row_check import MOST_CATEGORIES, ROWS, _with_small_tables, check_row, made_up_batch
from tests.harness.conftest import small_table
from tests.harness.schemas import small_schema
from tests.harness.small_runs import ONE_PROCESS, carry_out, small_spec

SMALL = Cost(1, 1, 1, 1, 1)


def test_made_up_rows_could_be_rows_of_the_table(prepared):
    small = _with_small_tables(prepared)
    batch = made_up_batch(small, num_tasks=2)
    assert len(batch) == ROWS
    assert batch.sparse.keys() == [feature.name for feature in prepared.schema.sparse_features]
    for feature in prepared.schema.sparse_features:
        indices, lengths = batch.sparse[feature.name].values(), batch.sparse[feature.name].lengths()
        assert 0 <= int(indices.min()) <= int(indices.max()) < small.table_sizes[feature.table]
        assert small.table_sizes[feature.table] <= prepared.table_sizes[feature.table]
        assert int(lengths.max()) <= (feature.max_length if feature.is_list else 1)
        assert len(lengths) == ROWS
    assert max(small.table_sizes.values()) <= MOST_CATEGORIES + 2
    assert batch.dense.shape == (ROWS, sum(not feature.is_sparse for feature in prepared.schema.features))
    for task in range(2):
        assert set(batch.labels[:, task].tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    "changes", [{}, {"precision": "bf16"}, {"compile": True, "dropout": 0.5, "clip_norm": 1.0}]
)
@pytest.mark.parametrize("attention", [False, True])
def test_a_sound_row_passes(prepared, changes, attention):
    spec = small_spec(prepared, **changes).model_copy(update={"target_attention": attention})
    check_row(spec, SMALL, prepared, ONE_PROCESS)


def test_what_an_architecture_raises_is_raised(prepared, monkeypatch):
    from baselines.dlrm_mlp import DLRMMLP

    def forward(self, tokens):
        if not torch.is_grad_enabled():
            raise KeyError("in prediction alone")
        return tokens.flatten(1)[:, : self.output_dim]

    monkeypatch.setattr(DLRMMLP, "forward", forward)
    assert "dlrm_mlp" in ARCHITECTURES
    with pytest.raises(KeyError, match="in prediction alone"):
        check_row(small_spec(prepared), SMALL, prepared, ONE_PROCESS)


@pytest.mark.parametrize(
    ("users", "cost", "steps"),
    [
        (10**8, SMALL, 1),
        (100, replace(SMALL, dense_params=10**9), 0),  # the step itself would take it
    ],
)
def test_what_only_another_machine_can_hold_is_refused_unless_it_is_carried_out_there(
    prepared, monkeypatch, users, cost, steps
):
    sizes = prepared.manifest["vocabulary_sizes"] | {"user": users}
    prepared = replace(prepared, manifest=prepared.manifest | {"vocabulary_sizes": sizes})
    made: list[object] = []
    monkeypatch.setattr("harness.training.memory.free_memory", lambda: 10**9)
    monkeypatch.setattr("harness.runs.row_check.train_step", lambda *given: made.append(given))
    with pytest.raises(InputError, match=r"1\.0 GB are free"):
        check_row(small_spec(prepared), cost, prepared, ONE_PROCESS)
    check_row(small_spec(prepared), cost, prepared, ONE_PROCESS, elsewhere=True)
    assert len(made) == steps


def test_a_row_with_a_vector_is_tried_out_and_trains(tmp_path):
    schema = small_schema()
    vector = Feature(name="picture", kind="vector", group="item", length=5, embedding_dim=8)
    schema = schema.model_copy(update={"features": [schema.features[0], vector, *schema.features[1:]]})
    table = small_table(2000).with_columns(
        pl.concat_list([(pl.col("age") * power).sin() for power in range(1, 6)]).alias("picture")
    )
    prepared = prepare(Source(schema, table.lazy(), {"rows": 2000}), tmp_path / "prepared")
    spec = small_spec(prepared, epochs=1).model_copy(update={"token_dim": 24})
    check_row(spec, SMALL, prepared, ONE_PROCESS)
    assert carry_out(spec, prepared, tmp_path / "out")["status"] == "finished"
