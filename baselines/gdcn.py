"""GDCN: cross layers of DCN V2, each with its own gate, in parallel with an MLP.

Wang et al., "Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction", CIKM 2023,
https://arxiv.org/abs/2311.04635.

What is here: the gated cross layer, and the deep network in parallel with it (GDCN-P) or on top of it
(GDCN-S).
Departures: the input is the flattened tokens. Both matrices of a layer are products of two thin matrices,
as in DCN V2, unless ``rank`` is None, which gives those of the paper. Biases are initialised like those
of other linear maps; the authors' code draws them between 0 and 1. What is not: reducing the embedding
widths of single features by the values of the gates. Dropout is off by default.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, R rank, C cross layers, M hidden
    width, L deep layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import MLPConfig, cross_map

ABOUT = About(
    papers={"Wang et al.": "https://arxiv.org/abs/2311.04635"},
    year=2023,
    flops="8CFR + 2(FM + (L-1)M²)",
)


class GatedCrossLayer(nn.Module):
    r"""A cross layer that multiplies each new feature by a gate between 0 and 1 before adding it.

    .. math:: c_{l+1} = c_0 \odot (W_l^{(c)} c_l + b_l) \odot \sigma(W_l^{(g)} c_l) + c_l

    The gate has no bias. If the gate matrix is zero, this is the cross layer of DCN V2 with half its matrix
    and bias; if the cross matrix and bias are zero, it is the identity.

    Shapes
        x0, x: (B, F). Returns (B, F).

    Cost
        2*F**2 + F parameters and 4*F**2 FLOPs a sample; of rank R, 4*F*R + F and 8*F*R.

    Example
        >>> x = torch.ones(2, 4)
        >>> GatedCrossLayer(dim=4, rank=2)(x, x).shape
        torch.Size([2, 4])
    """

    def __init__(self, dim: int, rank: int | None) -> None:
        super().__init__()
        self.cross = cross_map(dim, rank)
        self.gate = cross_map(dim, rank, bias=False)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        return x0 * self.cross(x) * torch.sigmoid(self.gate(x)) + x


class GDCN(nn.Module):
    """Gated cross layers and an MLP on the flattened tokens, in parallel or, if ``stacked``, in sequence.

    Shapes
        tokens: (B, T, d). Returns (B, F + M): cross, deep; stacked, (B, M).

    Cost
        C gated cross layers, and an MLP of F*M + (L-1)*M**2 + L*M parameters and
        2*(F*M + (L-1)*M**2) FLOPs a sample. The elementwise products, sums and gates' sigmoids are not
        counted.

    Example
        >>> model = GDCN(num_tokens=4, token_dim=3, config=GDCN.Config(rank=2, hidden_dim=8))
        >>> model(torch.ones(2, 4, 3)).shape
        torch.Size([2, 20])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MLPConfig):
        """``rank``, of the cross layers' matrices, scales the model to a budget; ``hidden_dim``, the
        width of every deep layer, makes the match exact. It is customarily twelve times the rank, so that
        three gated cross layers cost as much as the first deep one. ``rank`` None gives full matrices;
        then ``hidden_dim`` alone meets the budget."""

        rank: int | None
        hidden_dim: int | None
        num_layers: int = 3
        num_cross_layers: int = tunable(3, 2)
        stacked: bool = tunable(False, True)

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        dim = num_tokens * token_dim
        self.cross = nn.ModuleList(GatedCrossLayer(dim, config.rank) for _ in range(config.num_cross_layers))
        self.deep = config.mlp(dim, config.hidden_dim)
        self.stacked = config.stacked
        self.output_dim = self.deep.output_dim if config.stacked else dim + self.deep.output_dim

    def forward(self, tokens: Tensor) -> Tensor:
        x0 = x = tokens.flatten(start_dim=1)  # (B, F)
        for layer in self.cross:
            x = layer(x0, x)
        if self.stacked:
            return self.deep(x)  # (B, M)
        return torch.cat([x, self.deep(x0)], dim=1)  # (B, F + M)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("rank"), fine=Knob("hidden_dim", fixed_by="hidden_dims"), fine_per_coarse=12.0
        )
