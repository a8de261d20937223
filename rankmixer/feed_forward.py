"""Alternatives to `baselines.layers.PerTokenFFN` in the paper: one shared network, or all tokens as input.

Zhu et al. 2025 (https://arxiv.org/abs/2507.15551), equations 6 to 9, table 2 ("shared FFN") and table 3
("All-Concat-MLP", "All-Share"). Each has two layers with an exact GELU in between.

Shapes
    B batch, T tokens, D model width, M = k * D hidden width of a token.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from baselines.layers import PerTokenLinear


class SharedFFN(nn.Module):
    """One network for all tokens, as in a Transformer.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        2*D*M + M + D parameters, 4*T*D*M FLOPs a sample: the FLOPs of `PerTokenFFN`, 1/T of its weights.
    """

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.up = nn.Linear(model_dim, ffn_dim)
        self.down = nn.Linear(ffn_dim, model_dim)

    def forward(self, s: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(s)))


class AllConcatMLP(nn.Module):
    """One MLP on the concatenation of all tokens, T*D -> M -> T*D, whose output is cut into tokens.

    It replaces mixing and `PerTokenFFN` together, with the same number of weights and FLOPs, as in the
    paper's table 3.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        2*T*D*M + M + T*D parameters, 4*T*D*M FLOPs a sample.
    """

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.up = nn.Linear(num_tokens * model_dim, ffn_dim)
        self.down = nn.Linear(ffn_dim, num_tokens * model_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x.flatten(1)))).view_as(x)


class AllShare(nn.Module):
    """T networks, each of which reads the concatenation of all tokens: T*D -> h -> D.

    They replace mixing and `PerTokenFFN` together. With h = 2*M / (T + 1), rounded, they have as many
    weights and FLOPs as `PerTokenFFN`, as in the paper's table 3.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        T*h*(T + 1)*D + T*(h + D) parameters, 2*T*h*(T + 1)*D FLOPs a sample.
    """

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int) -> None:
        super().__init__()
        hidden_dim = max(1, round(2 * ffn_dim / (num_tokens + 1)))
        self.num_tokens = num_tokens
        self.up = nn.Linear(num_tokens * model_dim, num_tokens * hidden_dim)  # all T first layers
        self.down = PerTokenLinear(num_tokens, hidden_dim, model_dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.gelu(self.up(x.flatten(1)))
        return self.down(hidden.unflatten(1, (self.num_tokens, -1)))
