"""HSTU: attention without softmax, whose result is gated by the token itself, and no feed-forward network.

Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
Recommendations", ICML 2024, https://arxiv.org/abs/2402.17152.

What is here: the layer that replaces both parts of a Transformer layer, on the T tokens of one row
instead of a sequence of a user's actions. Attention therefore sees all tokens, earlier and later ones,
and its sums are divided by T, where the paper divides by the maximum length. Scores are divided by the
square root of the head width, as in the authors' code. Departures: a projection for each token replaces
positions, and the mean over tokens replaces the last position. What is not: relative biases by position
and time, since tokens have neither (the authors' code also runs without them); dropout; and the
concatenation of three terms before the output projection in the authors' code.

Shapes
    B batch, T tokens, d token width, D model width, V width of values and gates, H heads, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from baselines.contract import About, Knob, Knobs, require_divisible, require_positive, tunable
from baselines.layers import AddNorm, PerTokenLinear

ABOUT = About(
    papers={"Zhai et al.": "https://arxiv.org/abs/2402.17152"},
    year=2024,
    flops="2TdD + L(10TD² + 4T²D) with `value_dim` = D",
)

NUM_HEADS = 2
# As in the authors' code. The variance of attended values is about 3e-5 at first, close to the usual 1e-5.
EPSILON = 1e-6


def pointwise_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    r"""Weight each value by the SiLU of its own score, independently of the other scores.

    .. math:: y_i = \frac{1}{N} \sum_j \mathrm{SiLU}\big(q_i \cdot k_j / \sqrt{D/H}\big)\, v_j

    with N the number of keys. Weights may be negative and do not sum to one, so a value that belongs to two
    keys counts twice before the division.

    Shapes
        query: (..., T, D/H), key: (..., N, D/H), value: (..., N, V/H). Returns (..., T, V/H).

    Cost
        2*T*N*D + 2*T*N*V FLOPs a sample over all heads, no parameters.

    Example
        >>> import torch
        >>> pointwise_attention(torch.ones(3, 4), torch.ones(5, 4), torch.ones(5, 2)).shape
        torch.Size([3, 2])
    """
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return functional.silu(scores) @ value / key.shape[-2]


class HSTULayer(nn.Module):
    r"""Project, attend, gate, and add.

    .. math:: U, V, Q, K = \mathrm{split}\big(\mathrm{SiLU}(\mathrm{LN}(x) W_1 + b_1)\big), \qquad
        y = x + \big(\mathrm{LN}(A V) \odot U\big) W_2 + b_2

    with A V from `pointwise_attention`, where one norm covers all heads together. Permuting the tokens
    permutes the output. If W_2 = b_2 = 0 the layer is the identity.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        2*D**2 + 3*D*V + 5*D + 4*V parameters, 4*T*D**2 + 6*T*D*V + 2*T**2*(D + V) FLOPs a sample.

    Example
        >>> import torch
        >>> HSTULayer(model_dim=8, value_dim=6, num_heads=2)(torch.ones(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(self, model_dim: int, value_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.widths = [value_dim, value_dim, model_dim, model_dim]  # of U, V, Q, K
        self.norm = AddNorm(model_dim, EPSILON)
        self.project = nn.Linear(model_dim, sum(self.widths))
        self.attended_norm = AddNorm(value_dim, EPSILON)
        self.output = nn.Linear(value_dim, model_dim)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, width/H)

    def forward(self, x: Tensor) -> Tensor:
        gate, value, query, key = functional.silu(self.project(self.norm(x))).split(self.widths, dim=-1)
        attended = pointwise_attention(self._heads(query), self._heads(key), self._heads(value))
        attended = attended.transpose(1, 2).flatten(2)  # (B, T, V)
        return x + self.output(self.attended_norm(attended) * gate)


class HSTU(nn.Module):
    """Per-token projection, HSTU layers, a final norm, mean over tokens.

    Raises ValueError if ``num_heads`` does not divide ``model_dim`` and ``value_dim``.

    Shapes
        tokens: (B, T, d). Returns (B, D).

    Cost
        T*(d*D + D) + L*(2*D**2 + 3*D*V + 5*D + 4*V) + 2*D parameters,
        2*T*d*D + L*(4*T*D**2 + 6*T*D*V + 2*T**2*(D + V)) FLOPs a sample. Normalisations, SiLU, gating
        and sums are not counted.

    Example
        >>> import torch
        >>> config = HSTU.Config(model_dim=8, value_dim=8)
        >>> HSTU(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    rows_at_once = 128

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim``, the width of tokens and of all heads' queries and keys, scales the model to a
        budget; ``value_dim``, the width of all heads' values and gates and customarily the same,
        makes the match exact. ``num_heads`` divides both."""

        model_dim: int
        value_dim: int
        num_layers: int = tunable(2, 1, 3, 4)
        num_heads: int = NUM_HEADS

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        D, V, H = config.model_dim, config.value_dim, config.num_heads
        require_divisible("model_dim", D, H, "attention heads (num_heads)")
        require_divisible("value_dim", V, H, "attention heads (num_heads)")
        self.projection = PerTokenLinear(num_tokens, token_dim, D)
        self.layers = nn.Sequential(*(HSTULayer(D, V, H) for _ in range(config.num_layers)))
        self.final_norm = AddNorm(D, EPSILON)
        self.output_dim = D

    def forward(self, tokens: Tensor) -> Tensor:
        return self.final_norm(self.layers(self.projection(tokens))).mean(dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("model_dim", step=NUM_HEADS, minimum=NUM_HEADS),
            fine=Knob("value_dim", step=NUM_HEADS, minimum=NUM_HEADS),
        )
