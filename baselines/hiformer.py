"""HiFormer: a Transformer in which every query, key and value is a function of all tokens.

Gui et al., "Hiformer: Heterogeneous Feature Interactions Learning with Transformers for Recommender
Systems", 2023, https://arxiv.org/abs/2311.05884; written from descriptions of the paper, not from its text.

What is here: the composite layer with low-rank projections and, as an option, the heterogeneous layer on
which it is based, in which every token has its own projections; an output projection and a feed-forward
network for each token. Choices where the descriptions are incomplete: all three projections are low-rank,
the heads share their first factor, and layers are normalised after each step. Departures: a token holds
several features, and every token has its own projection to the model width; the mean over tokens replaces
the task token. What is not: pruning the last layer to the task token, and dropout.

Shapes
    B batch, T tokens, d token width, D model width, H heads, r rank of the projections,
    M hidden width of the feed-forward networks, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from baselines.contract import About, Knob, Knobs, require_divisible, require_positive, tunable
from baselines.layers import AddNorm, PerTokenFFN, PerTokenLinear, ffn_add_norm

ABOUT = About(
    papers={"Gui et al.": "https://arxiv.org/abs/2311.05884"},
    year=2023,
    flops="2TdD + L(8TD² + 4T²D + 4TDM)",
)

NUM_HEADS = 4


class HeterogeneousProjection(nn.Module):
    r"""Queries, keys and values, those of each token from that token only, with its own weights.

    .. math:: q_i = x_i Q_i, \qquad k_i = x_i K_i, \qquad v_i = x_i V_i

    with biases, and with the heads concatenated.

    Shapes
        (B, T, D) -> (B, 3, T, D): query, key, value.

    Cost
        3*T*D**2 + 3*T*D parameters, 6*T*D**2 FLOPs a sample.

    Example
        >>> import torch
        >>> HeterogeneousProjection(num_tokens=3, model_dim=4)(torch.ones(2, 3, 4)).shape
        torch.Size([2, 3, 3, 4])
    """

    def __init__(self, num_tokens: int, model_dim: int) -> None:
        super().__init__()
        self.linear = PerTokenLinear(num_tokens, model_dim, 3 * model_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, (3, -1)).transpose(1, 2)


class CompositeProjection(nn.Module):
    r"""Queries, keys and values, those of each token from all tokens, by products of two thin matrices.

    .. math:: [q_1, \ldots, q_T] = [x_1, \ldots, x_T]\, L_q R_q

    with L (T*D, r) and R (r, T*D). Keys and values have their own matrices. With r = T*D, L = I and a
    block-diagonal R it is `HeterogeneousProjection`.

    Shapes
        (B, T, D) -> (B, 3, T, D): query, key, value.

    Cost
        6*T*D*r + 3*T*D parameters, 12*T*D*r FLOPs a sample: two for each weight.

    Example
        >>> import torch
        >>> CompositeProjection(num_tokens=3, model_dim=4, rank=2)(torch.ones(2, 3, 4)).shape
        torch.Size([2, 3, 3, 4])
    """

    def __init__(self, num_tokens: int, model_dim: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(num_tokens * model_dim, 3 * rank, bias=False)
        self.up = PerTokenLinear(3, rank, num_tokens * model_dim)  # one for query, key and value

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.down(x.flatten(1)).unflatten(1, (3, -1))  # (B, 3, r)
        return self.up(reduced).unflatten(2, x.shape[1:])


class HiFormerLayer(nn.Module):
    r"""Attention, then a feed-forward network for each token.

    .. math:: s_i = \mathrm{LN}\big(x_i + \mathrm{MHA}(x)_i W_i^o\big), \qquad
        y_i = \mathrm{LN}\big(s_i + \mathrm{GELU}(s_i W_i^1) W_i^2\big)

    with biases. ``pre_norm`` normalises the input of each step instead of its output. With heterogeneous
    projections and the same weights for all tokens it is a vanilla encoder layer.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        The projections, and T*D**2 + 2*T*D*M + T*(2*D + M) + 4*D parameters;
        2*T*D**2 + 4*T**2*D + 4*T*D*M FLOPs a sample.
    """

    def __init__(self, num_tokens: int, config: HiFormer.Config) -> None:
        super().__init__()
        D, M = config.model_dim, config.ffn_dim
        self.num_heads, self.pre_norm = config.num_heads, config.pre_norm
        self.project = (
            CompositeProjection(num_tokens, D, config.rank or max(1, D // 2))
            if config.composite
            else HeterogeneousProjection(num_tokens, D)
        )
        self.output = PerTokenLinear(num_tokens, D, D)
        self.attention_norm = AddNorm(D)
        self.ffn = PerTokenFFN(num_tokens, D, M)
        self.ffn_norm = AddNorm(D)

    def attend(self, x: Tensor) -> Tensor:
        heads = self.project(x).unflatten(-1, (self.num_heads, -1))  # (B, 3, T, H, D/H)
        query, key, value = heads.permute(1, 0, 3, 2, 4).unbind(0)  # each (B, H, T, D/H)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.output(attended.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        if self.pre_norm:
            s = x + self.attend(self.attention_norm(x))
            return s + self.ffn(self.ffn_norm(s))
        s = self.attention_norm(x, self.attend(x))
        return ffn_add_norm(s, self.ffn, self.ffn_norm)


class HiFormer(nn.Module):
    """Per-token projection, HiFormer layers, mean over tokens.

    Raises ValueError if ``num_heads`` does not divide ``model_dim``, or if a rank is given although
    projections are heterogeneous and have none.

    Shapes
        tokens: (B, T, d). Returns (B, D).

    Cost
        T*(d*D + D) + L*(6*T*D*r + T*D**2 + 2*T*D*M + T*(5*D + M) + 4*D) parameters,
        2*T*d*D + L*(12*T*D*r + 2*T*D**2 + 4*T**2*D + 4*T*D*M) FLOPs a sample. With r = D/2 composite
        projections cost as much as heterogeneous ones. ``pre_norm`` adds 2*D parameters. Normalisations,
        activations, softmax and sums are not counted as FLOPs.

    Example
        >>> import torch
        >>> config = HiFormer.Config(model_dim=8, ffn_dim=32)
        >>> HiFormer(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    rows_at_once = 256

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim`` scales the model to a budget and is divisible by ``num_heads``; ``ffn_dim``,
        customarily four times as wide, makes the match exact.

        ``rank`` is r of the composite projections, by default half the model width. Without ``composite``
        the projections are heterogeneous. ``pre_norm`` normalises before each step, and once more before
        the mean.
        """

        model_dim: int
        ffn_dim: int
        num_layers: int = tunable(2, 1, 3, 4)
        num_heads: int = NUM_HEADS
        composite: bool = True
        rank: int | None = None
        pre_norm: bool = False

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        require_divisible("model_dim", config.model_dim, config.num_heads, "attention heads (num_heads)")
        if config.rank is not None and not config.composite:
            raise ValueError(
                f"HiFormer.Config: rank is {config.rank}, but heterogeneous projections have none; "
                "leave it out, or set composite to true"
            )
        self.projection = PerTokenLinear(num_tokens, token_dim, config.model_dim)
        self.layers = nn.Sequential(*(HiFormerLayer(num_tokens, config) for _ in range(config.num_layers)))
        self.final_norm = AddNorm(config.model_dim) if config.pre_norm else nn.Identity()
        self.output_dim = config.model_dim

    def forward(self, tokens: Tensor) -> Tensor:
        return self.final_norm(self.layers(self.projection(tokens))).mean(dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("model_dim", step=NUM_HEADS, minimum=NUM_HEADS),
            fine=Knob("ffn_dim"),
            fine_per_coarse=4.0,
        )
