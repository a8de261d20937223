"""RDCN: a low-rank cross network of DCN V2 in parallel with one that has attention between its two maps.

"Residual DCN" of Borisyuk et al., "LiRank: Industrial Large Scale Ranking Models at LinkedIn",
KDD 2024, https://arxiv.org/abs/2402.06859, section 3.3 and figure 3, after DCN V2 (Wang et al.
2021, https://arxiv.org/abs/2008.13535).

What is here: two cross networks in parallel, one plain and one with attention, and an MLP on both. The
paper gives no equation. It says that the low-rank map is duplicated twice, so that there are a query and
a key in addition to the value; that their scaled dot products are computed between the two maps, with a
skip connection and a temperature; and that two parallel cross networks brought the improvement. The
choices made here: a score for each pair of low-rank features, softmax over rows, a skip connection around
the scores, and a learned temperature. The scores could also be products of sub-tokens
(``sub_token_dim``). Departures: the input is the flattened tokens. The MLP reads the outputs of the cross
networks, which together are twice as wide as the tokens: too wide for towers to read at a small budget.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, R rank, S width of a sub-token,
    C cross layers, M hidden width, L deep layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.contract import About, Knob, Knobs, require_divisible, require_positive, tunable
from baselines.layers import CrossNetwork, CrossStack, MLPConfig

ABOUT = About(
    papers={"Borisyuk et al.": "https://arxiv.org/abs/2402.06859"},
    year=2024,
    flops="C(12FR + 4R²) + 2(2FM + (L-1)M²)",
)


class AttentionCrossLayer(nn.Module):
    r"""A low-rank cross layer whose low-rank features attend to each other.

    .. math:: x_{l+1} = x_0 \odot (U z + b) + x_l, \qquad z = A v + v, \qquad
        A = \mathrm{softmax}(q k^\top / \tau)

    with q = Q x_l, k = K x_l and v = V x_l of R features each, seen as R/S sub-tokens of width S, and
    a learned temperature :math:`\tau > 0`, initially :math:`\sqrt{R}`. If A = I this is the cross layer of
    DCN V2 with 2U in place of U; if U = b = 0 it is the identity.

    Raises ValueError if ``sub_token_dim`` does not divide ``rank``.

    Shapes
        x0, x: (B, F). Returns (B, F).

    Cost
        4*F*R + F + 1 parameters, 8*F*R + 4*R**2/S FLOPs a sample.

    Example
        >>> x = torch.ones(2, 6)
        >>> AttentionCrossLayer(dim=6, rank=4)(x, x).shape
        torch.Size([2, 6])
    """

    def __init__(self, dim: int, rank: int, sub_token_dim: int = 1) -> None:
        super().__init__()
        require_divisible("rank", rank, sub_token_dim, "features of a sub-token (sub_token_dim)")
        self.sub_token_dim = sub_token_dim
        self.query_key_value = nn.Linear(dim, 3 * rank, bias=False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(rank) / 2))
        self.up = nn.Linear(rank, dim)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        projected = self.query_key_value(x).unflatten(1, (3, 1, -1, self.sub_token_dim))
        query, key, value = projected.unbind(1)  # each (B, 1, R/S, S)
        query = query / self.log_temperature.exp()
        z = functional.scaled_dot_product_attention(query, key, value, scale=1.0) + value
        return x0 * self.up(z.flatten(start_dim=1)) + x


class AttentionCrossNetwork(CrossStack):
    """A stack of `AttentionCrossLayer`.

    Shapes
        (B, F) -> (B, F).

    Cost
        C times that of an `AttentionCrossLayer`.

    Example
        >>> AttentionCrossNetwork(dim=6, rank=4, num_layers=2)(torch.ones(2, 6)).shape
        torch.Size([2, 6])
    """

    def __init__(self, dim: int, rank: int, num_layers: int, sub_token_dim: int = 1) -> None:
        super().__init__(AttentionCrossLayer(dim, rank, sub_token_dim) for _ in range(num_layers))


class RDCN(nn.Module):
    """Both cross networks on the flattened tokens, concatenated, and an MLP on them.

    Shapes
        tokens: (B, T, d). Returns (B, M).

    Cost
        C*(6*F*R + 2*F + 1) + 2*F*M + (L-1)*M**2 + L*M parameters and
        C*(12*F*R + 4*R**2/S) + 2*(2*F*M + (L-1)*M**2) FLOPs a sample; without the plain branch
        C*(4*F*R + F + 1) and C*(8*F*R + 4*R**2/S) for the crosses, and F in place of 2*F for the MLP.
        The elementwise products, sums and softmax are not counted.

    Example
        >>> model = RDCN(num_tokens=4, token_dim=3, config=RDCN.Config(rank=2, hidden_dim=8))
        >>> model(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MLPConfig):
        """``rank``, of both cross networks, scales the model to a budget; ``hidden_dim``, the width of
        every deep layer, makes the match exact. It is customarily six times the rank, so that the cross
        networks cost about as much as the first deep layer. ``sub_token_dim`` divides the rank; above 1
        the attention is between sub-tokens of that width. Without ``plain_branch`` there is only the
        cross network with attention."""

        rank: int
        hidden_dim: int | None
        num_layers: int = tunable(3, 2)
        num_cross_layers: int = tunable(2, 3)
        sub_token_dim: int = 1
        plain_branch: bool = True

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        dim, rank, num_layers = num_tokens * token_dim, config.rank, config.num_cross_layers
        self.branches = nn.ModuleList([AttentionCrossNetwork(dim, rank, num_layers, config.sub_token_dim)])
        if config.plain_branch:
            self.branches.append(CrossNetwork(dim, rank, num_layers))
        self.deep = config.mlp(len(self.branches) * dim, config.hidden_dim)
        self.output_dim = self.deep.output_dim

    def forward(self, tokens: Tensor) -> Tensor:
        x0 = tokens.flatten(start_dim=1)  # (B, F)
        return self.deep(torch.cat([branch(x0) for branch in self.branches], dim=1))  # (B, M)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("rank"), fine=Knob("hidden_dim", fixed_by="hidden_dims"), fine_per_coarse=6.0
        )
