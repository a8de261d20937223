"""A vanilla Transformer encoder on the tokens.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762,
sections 3.1 to 3.3.

What is here: post-norm encoder layers with ReLU feed-forward networks. Departures: a projection for each
token to the model width replaces the embedding and the positional encoding, and the output is the mean
over tokens. RankMixer does both in the same way, so the two differ only in the layers between: attention
and weights that all tokens share here, mixing without weights and a feed-forward network for each token
there. What is not: dropout.

Shapes
    B batch, T tokens, d token width, D model width, M hidden width of the feed-forward network,
    H heads, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import EncoderLayer, PerTokenLinear

ABOUT = About(
    papers={"Vaswani et al.": "https://arxiv.org/abs/1706.03762"},
    year=2017,
    flops="2TdD + L(8TD² + 4T²D + 4TDM)",
)

NUM_HEADS = 4


class Transformer(nn.Module):
    """Per-token projection, encoder layers, mean over tokens.

    Shapes
        tokens: (B, T, d). Returns (B, D).

    Cost
        T*(d*D + D) parameters and 2*T*d*D FLOPs a sample for the projection, and L encoder layers.
        Normalisations, activations, softmax and sums are not counted as FLOPs.

    Example
        >>> import torch
        >>> config = Transformer.Config(model_dim=8, ffn_dim=32)
        >>> Transformer(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    rows_at_once = 128

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim`` scales the model to a budget and is divisible by ``num_heads``;
        ``ffn_dim``, customarily four times as wide, makes the match exact."""

        model_dim: int
        ffn_dim: int
        num_layers: int = tunable(2, 1, 3, 4)
        num_heads: int = NUM_HEADS

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        self.projection = PerTokenLinear(num_tokens, token_dim, config.model_dim)
        self.layers = nn.Sequential(
            *(
                EncoderLayer(config.model_dim, config.ffn_dim, config.num_heads)
                for _ in range(config.num_layers)
            )
        )
        self.output_dim = config.model_dim

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(self.projection(tokens)).mean(dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("model_dim", step=NUM_HEADS, minimum=NUM_HEADS),
            fine=Knob("ffn_dim"),
            fine_per_coarse=4.0,
        )
