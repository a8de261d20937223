"""DeepFM: a factorization machine in parallel with an MLP on the same embeddings.

Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017,
https://arxiv.org/abs/1703.04247, section 2.1, equations 1 to 3.

What is here: first-order, second-order and deep terms. Departures: a token holds several features,
so the second-order term crosses tokens rather than single fields. There is no scalar weight for each
category, so the first-order term is a linear map of the flattened tokens. The paper adds the three terms
to one logit; here they are concatenated, so that the tower of each task learns its own weights for them.
Dropout is off by default.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, M hidden width, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import MLPConfig

ABOUT = About(
    papers={"Guo et al.": "https://arxiv.org/abs/1703.04247"},
    year=2017,
    flops="2F + 2(FM + (L-1)M²)",
)


def pairwise_dot_sum(tokens: Tensor) -> Tensor:
    r"""Sum of the dot products of all pairs of different tokens.

    .. math:: \sum_{i<j} v_i \cdot v_j
        = \tfrac{1}{2} \sum_k \Big[\big(\sum_t v_{tk}\big)^2 - \sum_t v_{tk}^2\Big]

    The right-hand side costs O(T*d) where the left costs O(T**2*d) (Rendle, "Factorization
    Machines", ICDM 2010, lemma 3.1).

    Shapes
        (B, T, d) -> (B, 1).

    Example
        >>> pairwise_dot_sum(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]))
        tensor([[67.]])
    """
    square_of_sum = tokens.sum(dim=1).square()  # (B, d)
    sum_of_squares = tokens.square().sum(dim=1)  # (B, d)
    return 0.5 * (square_of_sum - sum_of_squares).sum(dim=1, keepdim=True)


class DeepFM(nn.Module):
    """First-order, second-order and deep terms of the tokens, concatenated.

    Shapes
        tokens: (B, T, d). Returns (B, 2 + M): first order, second order, deep.

    Cost
        F + 1 + F*M + (L-1)*M**2 + L*M parameters, 2*F + 2*(F*M + (L-1)*M**2) FLOPs a sample. The
        second-order term is elementwise, about 3*F, and is not counted.

    Example
        >>> model = DeepFM(num_tokens=4, token_dim=3, config=DeepFM.Config(hidden_dim=8))
        >>> model(torch.ones(2, 4, 3)).shape
        torch.Size([2, 10])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MLPConfig):
        """``hidden_dim``, the width of every deep layer, scales the model to a budget."""

        hidden_dim: int | None
        num_layers: int = tunable(3, 1, 2, 4)

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        self.first_order = nn.Linear(num_tokens * token_dim, 1)
        self.deep = config.mlp(num_tokens * token_dim, config.hidden_dim)
        self.output_dim = 2 + self.deep.output_dim

    def forward(self, tokens: Tensor) -> Tensor:
        flat = tokens.flatten(start_dim=1)  # (B, F)
        return torch.cat([self.first_order(flat), pairwise_dot_sum(tokens), self.deep(flat)], dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(coarse=Knob("hidden_dim", fixed_by="hidden_dims"))
