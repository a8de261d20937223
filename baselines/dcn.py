"""DCN (version 1): feature crosses weighted by vectors, in parallel with an MLP.

Wang et al., "Deep & Cross Network for Ad Click Predictions", ADKDD 2017,
https://arxiv.org/abs/1708.05123, sections 2.2 to 2.4.

What is here: the cross network with one weight vector for each layer, and the parallel deep network.
Departures: the input is the flattened tokens. The deep network has batch
normalisation only with ``batch_norm``. What is not: the cross layer with a matrix of DCN V2.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, M hidden width, L deep layers,
    C cross layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import MLPConfig

ABOUT = About(
    papers={"Wang et al.": "https://arxiv.org/abs/1708.05123"},
    year=2017,
    flops="2CF + 2(FM + (L-1)M²)",
)


class CrossLayer(nn.Module):
    r"""Scale the input features by one linear score of the current ones.

    .. math:: x_{l+1} = x_0 (x_l^\top w_l) + b_l + x_l

    (equation 3). The bias is outside the product. If every b is 0, a stack of these layers returns a
    scalar multiple of ``x0``; if w = b = 0, a layer is the identity.

    Shapes
        x0, x: (B, F). Returns (B, F).

    Cost
        2*F parameters; 2*F FLOPs a sample (the elementwise product and sums are not counted).

    Example
        >>> layer = CrossLayer(dim=4)
        >>> x = torch.ones(2, 4)
        >>> layer(x, x).shape
        torch.Size([2, 4])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        return x0 * self.score(x) + self.bias + x


class DCN(nn.Module):
    """Cross network and MLP in parallel on the flattened tokens.

    Shapes
        tokens: (B, T, d). Returns (B, F + M): cross, deep.

    Cost
        2*C*F + F*M + (L-1)*M**2 + L*M parameters, 2*C*F + 2*(F*M + (L-1)*M**2) FLOPs a sample.

    Example
        >>> model = DCN(num_tokens=4, token_dim=3, config=DCN.Config(hidden_dim=8))
        >>> model(torch.ones(2, 4, 3)).shape
        torch.Size([2, 20])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MLPConfig):
        """``hidden_dim``, the width of every deep layer, scales the model to a budget."""

        hidden_dim: int | None
        num_layers: int = tunable(3, 2)
        num_cross_layers: int = tunable(3, 6)

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        dim = num_tokens * token_dim
        self.cross = nn.ModuleList(CrossLayer(dim) for _ in range(config.num_cross_layers))
        self.deep = config.mlp(dim, config.hidden_dim)
        self.output_dim = dim + self.deep.output_dim

    def forward(self, tokens: Tensor) -> Tensor:
        x0 = x = tokens.flatten(start_dim=1)  # (B, F)
        for layer in self.cross:
            x = layer(x0, x)
        return torch.cat([x, self.deep(x0)], dim=1)  # (B, F + M)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(coarse=Knob("hidden_dim", fixed_by="hidden_dims"))
