"""DLRM-MLP: a plain MLP on the concatenated tokens, with which the others are compared.

The base row of Zhu et al., "RankMixer: Scaling Up Ranking Models in Industrial Recommenders",
2025, https://arxiv.org/abs/2507.15551, section 4.1.3: features interact only in a vanilla MLP. It is
DLRM with the interaction "cat" (Naumov et al. 2019, https://arxiv.org/abs/1906.00091).

What is here: concatenation and the MLP. What is not: DLRM's dot-product interaction, and its bottom MLP
for numeric features, which here are part of the tokens like all other features.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, M hidden width, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import MLPConfig

ABOUT = About(
    papers={
        "RankMixer's base row": "https://arxiv.org/abs/2507.15551",
        "DLRM": "https://arxiv.org/abs/1906.00091",
    },
    year=2019,
    flops="2(FM + (L-1)M²)",
)


class DLRMMLP(nn.Module):
    """An MLP on the flattened tokens.

    Shapes
        tokens: (B, T, d). Returns (B, M).

    Cost
        F*M + (L-1)*M**2 + L*M parameters, 2*(F*M + (L-1)*M**2) FLOPs a sample; with other
        fields of the Config those of `baselines.layers.MLP`. ReLU is not counted.

    Example
        >>> import torch
        >>> model = DLRMMLP(num_tokens=4, token_dim=3, config=DLRMMLP.Config(hidden_dim=8))
        >>> model(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MLPConfig):
        """``hidden_dim``, the width of every layer, scales the model to a budget."""

        hidden_dim: int | None
        num_layers: int = tunable(3, 1, 2, 4)

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        self.mlp = config.mlp(num_tokens * token_dim, config.hidden_dim)
        self.output_dim = self.mlp.output_dim

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mlp(tokens.flatten(start_dim=1))

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(coarse=Knob("hidden_dim", fixed_by="hidden_dims"))
