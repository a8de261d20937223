"""Really sparse evaluation of per-token experts: what no gate opens is not computed.

Two calls, both of which take gates (B, T, E) with zero for an inactive expert and return (B, T, D):

    grouped_ffn(s, gates, up, down, gate_on="output")        a dense per-token FFN sliced into experts
    grouped_swiglu(s, gates, gate_weight, up_weight, down_weight)       SwiGLU experts, no biases

Neither has a gradient: evaluate with them, train densely.

The rows of each pair (token, expert) are gathered, run as one matrix product, and added back to where
they came from. `Dispatch` holds the bookkeeping; another kind of expert is a function of a `Dispatch`,
the tokens and its weights, handed to `by_token`.

Shapes
    B batch, T tokens, D token width, E experts a token, M hidden width of a token's experts together,
    N active triples (row, token, expert), sorted by token, then expert, then row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from baselines.layers import PerTokenLinear


class Dispatch:
    """Which rows go to which expert of which token.

    Raises ValueError unless ``gates`` is (B, T, E).
    """

    def __init__(self, gates: Tensor) -> None:
        if gates.dim() != 3:
            raise ValueError(f"gates has shape {tuple(gates.shape)}; give one gate a row, token and expert")
        self.batch, self.tokens, self.experts = gates.shape
        by_expert = gates.permute(1, 2, 0)  # (T, E, B)
        active = by_expert != 0
        token, _, row = active.nonzero(as_tuple=True)  # N triples
        self.sources = row * self.tokens + token
        self.sizes = active.sum(2).flatten().tolist()  # rows of each (token, expert)
        self.gates = by_expert[active].unsqueeze(1)  # (N, 1)
        # For every (token, row): where its results lie among the N.
        place = active.flatten().cumsum(0).sub_(1).view_as(active).transpose(1, 2)
        by_row = active.transpose(1, 2)  # (T, B, E)
        self.places = place[by_row]
        ends = by_row.sum(2).flatten().cumsum(0)
        self.starts = ends - by_row.sum(2).flatten()
        self.row_gates = by_expert.transpose(1, 2)[by_row]

    def gather(self, s: Tensor) -> Tensor:
        """(B, T, D) -> (N, D): the input of every active triple."""
        return s.reshape(-1, s.shape[-1]).index_select(0, self.sources)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Each group through its own matrix: (N, in), (T, E, in, out), (T, E, out) -> (N, out)."""
        result = x.new_empty(len(x), weight.shape[-1])
        start = 0
        for group, size in enumerate(self.sizes):
            if size == 0:
                continue
            token, expert = divmod(group, self.experts)
            rows = slice(start, start + size)
            if bias is None:
                torch.mm(x[rows], weight[token, expert], out=result[rows])
            else:
                torch.addmm(bias[token, expert], x[rows], weight[token, expert], out=result[rows])
            start += size
        return result

    def combine(self, y: Tensor, gated: bool = True) -> Tensor:
        """(N, D) -> (B, T, D): each row's sum over its active experts, gated or plain."""
        summed = functional.embedding_bag(
            self.places, y, self.starts, mode="sum", per_sample_weights=self.row_gates if gated else None
        )
        return summed.view(self.tokens, self.batch, -1).transpose(0, 1)


def by_token(experts: Callable[..., Tensor], s: Tensor, gates: Tensor, *weights: Tensor) -> Tensor:
    """``experts(Dispatch, s, *weights)`` for one token at a time, so that its buffers stay in the cache.

    Shapes
        s (B, T, D), gates (B, T, E), each weight (T, ...). Returns (B, T, D), tokens first in memory.
    """
    result = s.new_empty(s.shape[1], s.shape[0], s.shape[2])
    for token in range(s.shape[1]):
        part = slice(token, token + 1)
        own = [weight[part] for weight in weights]
        result[part] = experts(Dispatch(gates[:, part]), s[:, part], *own).transpose(0, 1)
    return result.transpose(0, 1)


@torch.no_grad()
def grouped_ffn(
    s: Tensor,
    gates: Tensor,
    up: PerTokenLinear,
    down: PerTokenLinear,
    gate_on: Literal["output", "input"] = "output",
) -> Tensor:
    r"""A per-token FFN, its hidden width sliced into E experts, of which the gates choose.

    .. math:: v_t = \sum_{e: g_{te} > 0} g_{te} \, \mathrm{GELU}(s_t W^{up}_{te} + b^{up}_{te}) W^{down}_{te} + b^{down}_t

    With ``gate_on="input"`` the gate multiplies :math:`s_t W^{up}_{te}` instead. No gradient.

    Shapes
        s (B, T, D), gates (B, T, E), not negative; up (T, D, M), down (T, M, D). Returns (B, T, D).
    """
    num_experts = gates.shape[2]
    on_input = gate_on == "input"

    def experts(
        dispatch: Dispatch, s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, bias: Tensor
    ) -> Tensor:
        x = dispatch.gather(s)
        if on_input:
            x *= dispatch.gates
        hidden = functional.gelu(dispatch.linear(x, up, up_bias))
        return dispatch.combine(dispatch.linear(hidden, down), gated=not on_input) + bias.transpose(0, 1)

    return by_token(
        experts,
        s,
        gates,
        _slices(up.weight, num_experts),
        up.bias.view(up.bias.shape[0], num_experts, -1),
        down.weight.unflatten(1, (num_experts, -1)),
        down.bias,
    )


@torch.no_grad()
def grouped_swiglu(
    s: Tensor, gates: Tensor, gate_weight: Tensor, up_weight: Tensor, down_weight: Tensor
) -> Tensor:
    r"""SwiGLU experts without biases, each token's hidden width sliced into E of them.

    .. math:: v_t = \sum_{e: g_{te} > 0} g_{te} \,
        (\mathrm{SiLU}(s_t W^{gate}_{te}) \odot s_t W^{up}_{te}) W^{down}_{te}

    No gradient.

    Shapes
        s (B, T, D), gates (B, T, E); gate_weight and up_weight (T, D, M), down_weight (T, M, D).
        Returns (B, T, D).
    """
    num_experts = gates.shape[2]

    def experts(dispatch: Dispatch, s: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        x = dispatch.gather(s)
        hidden = functional.silu(dispatch.linear(x, gate)) * dispatch.linear(x, up)
        return dispatch.combine(dispatch.linear(hidden, down))

    return by_token(
        experts,
        s,
        gates,
        _slices(gate_weight, num_experts),
        _slices(up_weight, num_experts),
        down_weight.unflatten(1, (num_experts, -1)),
    )


def _slices(weight: Tensor, num_experts: int) -> Tensor:
    """(T, in, M) -> (T, E, in, M/E), a view."""
    return weight.unflatten(2, (num_experts, -1)).transpose(1, 2)
