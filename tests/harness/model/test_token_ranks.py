"""The effective rank against numpy's singular values, and which layers of an architecture are looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets.reader import ShardReader
from harness.model.token_ranks import effective_rank, token_ranks
from harness.records.folder import RunFolder
from harness.records.record import read_record
from harness.runs.run import build_model
from harness.training.ranks import dense_side, embedding_side
from tests.harness.small_runs import ONE_PROCESS, carry_out, small_spec


def by_numpy(matrix: np.ndarray) -> float:
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def test_it_is_the_exponential_of_the_entropy_of_the_singular_values():
    matrices = torch.randn(20, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = [by_numpy(matrix) for matrix in matrices.double().numpy()]
    assert effective_rank(matrices).tolist() == pytest.approx(expected, rel=1e-5)


def test_like_tokens_have_rank_one_orthogonal_ones_as_many_as_there_are_and_none_zero():
    alike = torch.outer(torch.arange(1.0, 5.0), torch.randn(6))
    matrices = torch.stack([alike, 3 * torch.eye(4, 6), torch.zeros(4, 6)])
    assert effective_rank(matrices).tolist() == pytest.approx([1, 4, 0], abs=1e-4)


class Layered(nn.Module):
    """Two layers of tokens, one that returns a tuple, an MLP, and lists that are no layers."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(token_dim, token_dim), WithMore(token_dim)])
        self.mlp = nn.Sequential(nn.Linear(num_tokens * 2, 4), nn.ReLU())
        self.output_dim = 4

    def forward(self, tokens: Tensor) -> Tensor:
        x, _ = self.layers[1](self.layers[0](tokens))
        return self.mlp(x.flatten(1))


class WithMore(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(width, 2, bias=False)])

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.inner[0](x), None


def test_the_layers_are_those_that_return_tokens_and_a_record_has_them(prepared, out):
    spec = small_spec(prepared).model_copy(update={"architecture": f"{__name__}:Layered", "config": {}})
    model = build_model(spec, prepared, ONE_PROCESS)
    batch = next(iter(ShardReader(prepared, "test", 4096, spec.tasks).batches()))
    ranks = token_ranks(embedding_side(model), dense_side(model), batch)
    assert [(rank.layer, rank.tokens, rank.width) for rank in ranks] == [
        ("input", 3, 16),
        ("layers.0", 3, 16),
        ("layers.1", 3, 2),
    ]
    dense = dense_side(model)
    with torch.no_grad():
        tokens = dense.tokenizer(model.embeddings(batch.sparse), batch.dense)[:256]
        after = dense.backbone.layers[0](tokens)
    assert ranks[1].effective_rank == pytest.approx(np.mean([by_numpy(m) for m in after.numpy()]), rel=1e-4)
    assert ranks[2].effective_rank <= 2
    carry_out(spec, prepared, out)
    record = read_record(RunFolder(out, spec.folder_name).final)
    assert [rank.layer for rank in record.token_ranks] == ["input", "layers.0", "layers.1"]


def test_architectures_without_layers_of_tokens_have_their_input_alone(prepared):
    model = build_model(small_spec(prepared), prepared, ONE_PROCESS)
    batch = next(iter(ShardReader(prepared, "test", 4096, ["finish", "skip"]).batches()))
    [rank] = token_ranks(embedding_side(model), dense_side(model), batch)
    assert rank.layer == "input"
