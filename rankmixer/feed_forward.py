"""What the paper sets against `baselines.layers.PerTokenFFN`: networks shared, and on all tokens at once.

Zhu et al. 2025 (https://arxiv.org/abs/2507.15551), equations 6 to 9, table 2 ("shared FFN") and table 3
("All-Concat-MLP", "All-Share"). All have two layers with an exact GELU between.

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
        2*D*M + M + D parameters, 4*T*D*M FLOPs a sample: the FLOPs of `PerTokenFFN`, a T-th of its weights.
    """

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.up = nn.Linear(model_dim, ffn_dim)
        self.down = nn.Linear(ffn_dim, model_dim)

    def forward(self, s: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(s)))


class AllConcatMLP(nn.Module):
    """One MLP on the concatenation of all tokens, T*D -> M -> T*D, cut into tokens again.

    Stands in for mixing and `PerTokenFFN` together, at the same weights and FLOPs, as the paper's table 3
    prints it.

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

    Stands in for mixing and `PerTokenFFN` together. h = 2*M / (T + 1), rounded, makes their weights and
    FLOPs those of `PerTokenFFN`, as the paper's table 3 prints it.

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
