"""The trial step before training: rows that could be real, and an architecture's own errors."""

from __future__ import annotations

import pytest
import torch

from harness.architectures import ARCHITECTURES
from harness.cost import Cost
from harness.row_check import MOST_CATEGORIES, ROWS, _with_small_tables, check_row, made_up_batch
from tests.harness.runs import ONE_PROCESS, small_spec

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
    assert batch.dense.shape == (ROWS, len(prepared.schema.numeric_features))
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
