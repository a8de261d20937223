"""DCNv2: feature crosses weighted by matrices, in parallel with an MLP.

Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to
Rank Systems", WWW 2021, https://arxiv.org/abs/2008.13535, equations 1 to 4.

What is here: the cross layer with a full matrix (equation 1), with a product of two thin matrices
(equation 2) and with a gated mixture of such products (equations 3 and 4); the deep network, in parallel
with the cross network or on top of it. The paper does not specify the activation inside the mixture, nor
whether layers share gates: here it is tanh, and all layers share the weights of softmax gates. Departures:
the input is the flattened tokens. What is not: an activation after a cross layer, and a multiple of the
identity added to its matrix.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, R rank, K experts, C cross layers,
    M hidden width, L deep layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import CrossNetwork, MLPConfig

ABOUT = About(
    papers={"Wang et al.": "https://arxiv.org/abs/2008.13535"},
    year=2020,
    flops="4CFR + 2(FM + (L-1)M²)",
)


class MixtureCrossLayer(nn.Module):
    r"""A cross layer whose matrix is a mixture of low-rank experts, with other weights for each sample.

    .. math:: x_{l+1} = \sum_{i=1}^K G_i(x_l)\, E_i(x_l) + x_l, \qquad
        E_i(x_l) = x_0 \odot \big(U_l^i\, g(C_l^i\, g(V_l^{i\top} x_l)) + b_l\big)

    (equations 3 and 4) with g = tanh and one bias for all experts of a layer. The gates sum to one, so
    they do not change the bias. Gating the input of U is the same as gating its output, so the matrices U
    of all experts are one GEMM.

    Shapes
        x0, x: (B, F); gates: (B, K), rows that sum to one. Returns (B, F).

    Cost
        K*(2*F*R + R**2) + F parameters, K*(4*F*R + 2*R**2) FLOPs a sample.

    Example
        >>> x, gates = torch.ones(2, 4), torch.full((2, 3), 1 / 3)
        >>> MixtureCrossLayer(dim=4, rank=2, num_experts=3)(x, x, gates).shape
        torch.Size([2, 4])
    """

    def __init__(self, dim: int, rank: int, num_experts: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, num_experts * rank, bias=False)
        self.inner = nn.Parameter(torch.empty(num_experts, rank, rank))
        self.up = nn.Linear(num_experts * rank, dim)
        for parameter in (self.inner, self.up.weight, self.up.bias):  # an expert's fan-in is its own rank
            nn.init.uniform_(parameter, -(rank**-0.5), rank**-0.5)

    def forward(self, x0: Tensor, x: Tensor, gates: Tensor) -> Tensor:
        low = torch.tanh(self.down(x).unflatten(1, self.inner.shape[:2]))  # (B, K, R)
        low = torch.tanh(torch.einsum("bkr,krs->bks", low, self.inner))
        return x0 * self.up((gates.unsqueeze(2) * low).flatten(start_dim=1)) + x


class MixtureCrossNetwork(nn.Module):
    """A stack of mixture cross layers that share the weights of their softmax gates.

    Shapes
        (B, F) -> (B, F).

    Cost
        C times that of a `MixtureCrossLayer`, K*F parameters for the gates and 2*C*K*F FLOPs a sample.

    Example
        >>> MixtureCrossNetwork(dim=4, rank=2, num_experts=3, num_layers=2)(torch.ones(2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, dim: int, rank: int, num_experts: int, num_layers: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, num_experts, bias=False)
        self.layers = nn.ModuleList(MixtureCrossLayer(dim, rank, num_experts) for _ in range(num_layers))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for layer in self.layers:
            x = layer(x0, x, self.gate(x).softmax(dim=1))
        return x


class DCNv2(nn.Module):
    """Cross network and MLP on the flattened tokens, in parallel or, if ``stacked``, in sequence.

    Shapes
        tokens: (B, T, d). Returns (B, F + M): cross, deep; stacked, (B, M).

    Cost
        C cross layers, and an MLP of F*M + (L-1)*M**2 + L*M parameters and 2*(F*M + (L-1)*M**2) FLOPs
        a sample. The elementwise products, sums, tanh and softmax are not counted.

    Example
        >>> model = DCNv2(num_tokens=4, token_dim=3, config=DCNv2.Config(rank=2, hidden_dim=8))
        >>> model(torch.ones(2, 4, 3)).shape
        torch.Size([2, 20])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MLPConfig):
        """``rank``, of the cross layers' matrices, scales the model to a budget; ``hidden_dim``, the width
        of every deep layer, makes the match exact. It is customarily four times the rank, so that two
        cross layers cost as much as the first deep one. ``rank`` None gives full matrices, which cost
        as much as a rank of half their width; then ``hidden_dim`` alone meets the budget.
        ``num_experts`` above 1 makes every cross layer a mixture of that many experts of this rank."""

        rank: int | None
        hidden_dim: int | None
        num_layers: int = 3
        num_cross_layers: int = tunable(2, 3)
        num_experts: int = 1
        stacked: bool = tunable(False, True)

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        dim, rank = num_tokens * token_dim, config.rank
        self.cross: nn.Module
        if config.num_experts == 1:
            self.cross = CrossNetwork(dim, rank, config.num_cross_layers)
        elif rank is not None:
            self.cross = MixtureCrossNetwork(dim, rank, config.num_experts, config.num_cross_layers)
        else:
            raise ValueError("DCNv2.Config: num_experts above 1 are low-rank experts; set rank to a number")
        self.deep = config.mlp(dim, config.hidden_dim)
        self.stacked = config.stacked
        self.output_dim = self.deep.output_dim if config.stacked else dim + self.deep.output_dim

    def forward(self, tokens: Tensor) -> Tensor:
        x0 = tokens.flatten(start_dim=1)  # (B, F)
        crossed = self.cross(x0)
        if self.stacked:
            return self.deep(crossed)  # (B, M)
        return torch.cat([crossed, self.deep(x0)], dim=1)  # (B, F + M)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("rank"), fine=Knob("hidden_dim", fixed_by="hidden_dims"), fine_per_coarse=4.0
        )
