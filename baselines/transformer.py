"""A vanilla Transformer encoder on the tokens.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762,
sections 3.1 to 3.3.

What is here: post-norm encoder layers with ReLU feed-forward networks. Departures: each token's
own projection to the model width takes the place of the embedding and of the positional encoding,
and the read-out is the mean over tokens. Both are RankMixer's, so that the two differ by what
stands between: attention and weights shared by the tokens here, mixing without weights and a
feed-forward network for each token there. What is not: dropout.

Shapes
    B batch, T tokens, d token width, D model width, M hidden width of the feed-forward network,
    H heads, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from baselines.layers import Knob, Knobs, MultiHeadSelfAttention, PerTokenLinear, require_positive

NUM_HEADS = 4


class EncoderLayer(nn.Module):
    r"""Self-attention, then a feed-forward network shared by the tokens, each normalised after.

    .. math:: s = \mathrm{LN}(x + \mathrm{MHA}(x)), \qquad
        y = \mathrm{LN}(s + W_2\,\mathrm{ReLU}(W_1 s + b_1) + b_2)

    Permuting the tokens permutes the output.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        4*D**2 + 2*D*M + M + 9*D parameters, 8*T*D**2 + 4*T**2*D + 4*T*D*M FLOPs a sample.

    Example
        >>> import torch
        >>> EncoderLayer(model_dim=8, ffn_dim=16, num_heads=2)(torch.ones(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(self, model_dim: int, ffn_dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            MultiHeadSelfAttention(model_dim, model_dim, num_heads, bias=True),
            nn.Linear(model_dim, model_dim),
        )
        self.attention_norm = nn.LayerNorm(model_dim)
        self.ffn = nn.Sequential(nn.Linear(model_dim, ffn_dim), nn.ReLU(), nn.Linear(ffn_dim, model_dim))
        self.ffn_norm = nn.LayerNorm(model_dim)

    def forward(self, x: Tensor) -> Tensor:
        s = self.attention_norm(x + self.attention(x))
        return self.ffn_norm(s + self.ffn(s))


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

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim`` scales the model to a budget and is divisible by ``num_heads``;
        ``ffn_dim``, customarily four times as wide, finishes the match."""

        model_dim: int
        ffn_dim: int
        num_layers: int = 2
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
