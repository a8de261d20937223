"""UniMixer: RankMixer's exchange of slices between tokens, but with learned weights.

Ha et al., "UniMixer: A Unified Architecture for Scaling Laws in Recommendation Systems", 2026,
https://arxiv.org/abs/2604.00590; written from descriptions of the paper, not from its text.

If every token is cut into T slices, RankMixer's mixing is a permutation of T*T blocks, which is a matrix G on
the blocks, the same for every position inside a block. UniMixer learns G, and a small matrix for every block.

What is here: both, in RankMixer's block. G is initialised with RankMixer's permutation and the small matrices
with the identity, so the two architectures differ only in these weights. By default output token h still
reads only the h-th slice of every token, and a T*T matrix for each h, by which it mixes them, is learned. An
option learns all of G, which costs more than feed-forward networks of width 2*D unless D exceeds T**2 / 4.
Departures: G is unconstrained. In the paper it is symmetric, doubly stochastic by Sinkhorn's iterations, and
sharpened by a temperature schedule; such a G would have no gradients when initialised with the permutation.
What is not: UniMixing-Lite, the two-stream norm, SwiGLU.

Shapes
    B batch, T tokens, d token width, D model width, b = D / T width of a block,
    M hidden width of the feed-forward networks, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_divisible, require_positive, tunable
from baselines.layers import AddNorm, PerTokenFFN, PerTokenLinear, ffn_add_norm

ABOUT = About(
    papers={"Ha et al.": "https://arxiv.org/abs/2604.00590"},
    year=2026,
    flops="2TdD + L(2D² + 2T²D + 4TDM)",
    partial="learned mixing in RankMixer's block, without its constraints, its second norm and SwiGLU",
)


class LearnedMixing(nn.Module):
    r"""Transform every slice of every token by its own matrix, then mix them.

    .. math:: y_h^{(j)} = \sum_t A_{h,jt}\; x_t^{(h)} W_{th}

    with :math:`x_t^{(h)}` the h-th of the T slices of token t and y_h the h-th output token. All A and W are
    initialised with the identity, for which y_h is the concatenation of the h-th slices of all tokens:
    RankMixer's mixing. With ``global_mixing`` the sum is over all slices of all tokens:

    .. math:: y_h^{(j)} = \sum_{t,s} G_{hj,ts}\; x_t^{(s)} W_{ts}

    Raises ValueError if the number of tokens does not divide ``model_dim``.

    Shapes
        (B, T, D) -> (B, T, D); local (T*T, b, b), mix (T, T, T) or (T*T, T*T).

    Cost
        D**2 + T**3 parameters, 2*D**2 + 2*T**2*D FLOPs a sample; with ``global_mixing``
        D**2 + T**4 and 2*D**2 + 2*T**3*D.

    Example
        >>> x = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]])
        >>> LearnedMixing(num_tokens=2, model_dim=4)(x).detach()
        tensor([[[1., 2., 5., 6.],
                 [3., 4., 7., 8.]]])
    """

    def __init__(self, num_tokens: int, model_dim: int, global_mixing: bool = False) -> None:
        super().__init__()
        require_divisible("model_dim", model_dim, num_tokens, "tokens, whose slices are mixed")
        T, b = num_tokens, model_dim // num_tokens
        if global_mixing:  # the block at (h, j) comes from (j, h)
            start = torch.eye(T * T).view(T, T, T * T).transpose(0, 1).reshape(T * T, T * T)
        else:
            start = torch.eye(T).repeat(T, 1, 1)
        self.mix = nn.Parameter(start)
        self.local = nn.Parameter(torch.eye(b).repeat(T * T, 1, 1))
        self.global_mixing = global_mixing

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        blocks = x.unflatten(2, (T, -1)).flatten(1, 2).transpose(0, 1)  # (T*T, B, b)
        blocks = torch.bmm(blocks, self.local)
        if self.global_mixing:
            mixed = self.mix @ blocks.flatten(1)  # (T*T, B*b)
        else:
            mixed = torch.bmm(self.mix, blocks.reshape(T, T, -1).transpose(0, 1))  # (T, T, B*b)
        return mixed.reshape(T, T, B, -1).permute(2, 0, 1, 3).flatten(2)


class Block(nn.Module):
    r"""Mix the tokens, then transform each: RankMixer's block with learned mixing.

    .. math:: s = \mathrm{LN}(\mathrm{Mix}(x) + x), \qquad
        y_t = \mathrm{LN}\big(s_t + W_t^2\,\mathrm{GELU}(W_t^1 s_t + b_t^1) + b_t^2\big)

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        The mixing, and 2*T*D*M + T*(M + D) + 4*D parameters, 4*T*D*M FLOPs a sample.
    """

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int, global_mixing: bool) -> None:
        super().__init__()
        self.mixing = LearnedMixing(num_tokens, model_dim, global_mixing)
        self.mixing_norm = AddNorm(model_dim)
        self.ffn = PerTokenFFN(num_tokens, model_dim, ffn_dim)
        self.ffn_norm = AddNorm(model_dim)

    def forward(self, x: Tensor) -> Tensor:
        s = self.mixing_norm(x, self.mixing(x))
        return ffn_add_norm(s, self.ffn, self.ffn_norm)


class UniMixer(nn.Module):
    """Per-token projection, blocks with learned mixing, mean over tokens.

    Raises ValueError if the number of tokens does not divide ``model_dim``.

    Shapes
        tokens: (B, T, d). Returns (B, D).

    Cost
        T*(d*D + D) + L*(D**2 + T**3 + 2*T*D*M + T*(M + D) + 4*D) parameters,
        2*T*d*D + L*(2*D**2 + 2*T**2*D + 4*T*D*M) FLOPs a sample; with ``global_mixing`` T**4 in place
        of T**3 and 2*T**3*D in place of 2*T**2*D. Normalisations, GELU and sums are not counted.

    Example
        >>> config = UniMixer.Config(model_dim=8, ffn_dim=16)
        >>> UniMixer(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    rows_at_once = 512

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim`` scales the model to a budget and is divisible by the number of tokens;
        ``ffn_dim``, customarily twice as wide, makes the match exact. ``global_mixing`` learns one matrix
        on all blocks instead of a matrix on the tokens for each slice."""

        model_dim: int
        ffn_dim: int
        num_layers: int = tunable(2, 1, 3, 4)
        global_mixing: bool = False

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        self.projection = PerTokenLinear(num_tokens, token_dim, config.model_dim)
        self.blocks = nn.Sequential(
            *(
                Block(num_tokens, config.model_dim, config.ffn_dim, config.global_mixing)
                for _ in range(config.num_layers)
            )
        )
        self.output_dim = config.model_dim

    def forward(self, tokens: Tensor) -> Tensor:
        return self.blocks(self.projection(tokens)).mean(dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("model_dim", step=num_tokens, minimum=num_tokens),
            fine=Knob("ffn_dim"),
            fine_per_coarse=2.0,
        )
