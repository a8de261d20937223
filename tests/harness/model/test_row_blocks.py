"""A batch in blocks of rows is the batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from baselines.contract import Output, View
from harness.model.row_blocks import in_row_blocks
from tests.threads import threads_at_work

ROWS = 200  # at once
SIZES = (1, 2 * ROWS, 2 * ROWS + 1, 4 * ROWS + 7)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads_at_work(1):
        yield


class Watched(nn.Module):
    """A map of each row, which notes how many rows it was given."""

    rows_at_once = ROWS

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(6, 4).double()
        self.calls: list[int] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls.append(len(tokens))
        return self.map(tokens.flatten(1)).tanh()


class WithMore(Watched):
    """One that returns a view, a penalty and a statistic, means over its rows."""

    def forward(self, tokens: Tensor) -> Output:
        y = super().forward(tokens)
        statistics = {"mean": y.detach().mean(0)}
        return Output(y, {"twice": View(0.5, 2 * y)}, {"size": y.square().mean()}, statistics)


class Unasked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls.append(len(tokens))
        return tokens.flatten(1)


class Sparse(Watched):
    expert_flops, active_ratio = 1, 0.5


def tokens_of(rows: int) -> Tensor:
    return torch.randn(rows, 3, 2, dtype=torch.float64)


@pytest.mark.parametrize("rows", SIZES)
def test_blocks_give_the_values_and_the_gradients_of_the_whole_batch(rows):
    backbone, tokens = Watched(), tokens_of(rows).requires_grad_()
    weights = torch.randn(rows, 4, dtype=torch.float64)
    results = []
    for way in (lambda: backbone(tokens), lambda: in_row_blocks(backbone, tokens)):
        output = way()
        gradients = torch.autograd.grad((output * weights).sum(), [tokens, *backbone.parameters()])
        results.append([output, *gradients])
    for whole, cut in zip(*results, strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("grad", [False, True])
def test_no_block_is_longer_than_it_may_be_and_none_is_empty(grad):
    backbone = Watched()
    with torch.set_grad_enabled(grad):
        in_row_blocks(backbone, tokens_of(8 * ROWS + 1))
        in_row_blocks(backbone, tokens_of(2 * ROWS))
    assert backbone.calls == [ROWS] * 8 + [1, 2 * ROWS]


@pytest.mark.parametrize("rows", SIZES)
def test_views_are_put_together_and_penalties_and_statistics_averaged_over_rows(rows):
    backbone, tokens = WithMore(), tokens_of(rows)
    whole, cut = backbone(tokens), in_row_blocks(backbone, tokens)
    torch.testing.assert_close(cut.representation, whole.representation)
    assert cut.views.keys() == whole.views.keys() == {"twice"}
    assert cut.views["twice"].weight == 0.5
    torch.testing.assert_close(cut.views["twice"].representation, whole.views["twice"].representation)
    torch.testing.assert_close(cut.penalties, whole.penalties)
    torch.testing.assert_close(cut.statistics, whole.statistics)


def test_an_architecture_that_does_not_ask_has_its_whole_batch():
    backbone, tokens = Unasked(), tokens_of(4 * ROWS)
    in_row_blocks(backbone, tokens)
    assert backbone.calls == [4 * ROWS]


def test_a_sparse_model_has_its_whole_batch():
    backbone, tokens = Sparse(), tokens_of(4 * ROWS)
    in_row_blocks(backbone, tokens)
    assert backbone.calls == [4 * ROWS]


def test_several_threads_have_the_whole_batch():
    backbone, tokens = Watched(), tokens_of(4 * ROWS)
    torch.set_num_threads(2)
    in_row_blocks(backbone, tokens)
    assert backbone.calls == [4 * ROWS]


def test_a_compiled_model_has_its_whole_batch_in_one_graph():
    """``fullgraph`` raises where tracing breaks off, which would make several graphs of a model."""
    backbone, tokens = Watched(), tokens_of(4 * ROWS)
    compiled = torch.compile(lambda x: in_row_blocks(backbone, x), backend="eager", fullgraph=True)
    output = compiled(tokens)
    assert backbone.calls == [4 * ROWS]
    torch.testing.assert_close(output, backbone(tokens))
