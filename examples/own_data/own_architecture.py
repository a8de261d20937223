"""MLP-Mixer on the tokens, as an example of an architecture of your own.

Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", 2021,
https://arxiv.org/abs/2105.01601, equation 1, with tokens in place of image patches.

Shapes
    B batch, T tokens, d token width, M hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from baselines.contract import Knob, Knobs


class MixerLayer(nn.Module):
    """An MLP over the tokens, then an MLP over each token's numbers, each added to its input."""

    def __init__(self, num_tokens: int, token_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.token_norm, self.channel_norm = nn.LayerNorm(token_dim), nn.LayerNorm(token_dim)
        self.over_tokens = two_layers(num_tokens, 2 * num_tokens)
        self.over_channels = two_layers(token_dim, hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_tokens(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.channel_norm(x))


def two_layers(width: int, hidden_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, width))


class MLPMixer(nn.Module):
    """tokens (B, T, d) -> (B, d), the mean over the mixed tokens."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``hidden_dim`` (M) scales the model to a budget."""

        hidden_dim: int
        num_layers: int = 2

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(MixerLayer(num_tokens, token_dim, config.hidden_dim) for _ in range(config.num_layers)),
            nn.LayerNorm(token_dim),
        )
        self.output_dim = token_dim

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(tokens).mean(dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(coarse=Knob("hidden_dim"))
