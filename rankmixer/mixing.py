"""How the tokens of a RankMixer block exchange information: multi-head mixing, and self-attention instead.

Zhu et al. 2025 (https://arxiv.org/abs/2507.15551), equations 3 to 5. Table 3 of the paper compares ways of
routing tokens to feed-forward networks; in one of them self-attention replaces the mixing.

Shapes
    B batch, T tokens, D model width, H heads.
"""

from __future__ import annotations

from torch import Tensor, nn

from baselines.contract import require_divisible
from baselines.layers import MultiHeadSelfAttention


def mix_tokens(x: Tensor, num_heads: int | None = None) -> Tensor:
    r"""Give each output token slices of every input token.

    .. math:: y_h = [\,x_1^{(h)}, x_2^{(h)}, \ldots, x_T^{(h)}\,]

    with :math:`x_t^{(h)}` the h-th of the H slices of token t (equations 3 to 5). It is a permutation
    of the T*D numbers without parameters; with H = T, which ``None`` means and the paper uses, it is
    its own inverse. With H != T the H heads, each T*D/H wide, are cut again into T tokens of width D, so
    that the residual can be added. If H divides T, a token then holds slices of only H input tokens; if T
    divides H, it holds H/T slices of each input token.

    Shapes
        (B, T, D) -> (B, T, D); H divides D.

    Example
        >>> import torch
        >>> mix_tokens(torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8]]]))
        tensor([[[1, 2, 5, 6],
                 [3, 4, 7, 8]]])
        >>> mix_tokens(torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8]]]), num_heads=4)
        tensor([[[1, 5, 2, 6],
                 [3, 7, 4, 8]]])
    """
    slices = x.unflatten(2, (num_heads or x.shape[1], -1))  # (B, T, H, D/H)
    return slices.transpose(1, 2).reshape(x.shape)


def revert_tokens(x: Tensor, num_heads: int | None = None) -> Tensor:
    """The inverse of `mix_tokens` with the same number of heads (TokenMixer-Large's revert).

    Shapes
        (B, T, D) -> (B, T, D); H divides D.
    """
    B, T, D = x.shape
    H = num_heads or T
    return x.reshape(B, H, T, D // H).transpose(1, 2).reshape(x.shape)


def require_heads_divide(model_dim: int, num_tokens: int, num_heads: int | None) -> None:
    """Raise ValueError unless the mixing can cut a token of ``model_dim`` numbers into equal slices.

    ``num_heads`` None means as many heads as tokens.
    """
    heads = "tokens, its mixing's heads" if num_heads is None else "heads (num_heads)"
    require_divisible("model_dim", model_dim, num_heads or num_tokens, heads)


class MultiHeadMixing(nn.Module):
    """`mix_tokens` as a layer.

    Raises ValueError if the number of heads does not divide ``model_dim``.

    Shapes
        (B, T, D) -> (B, T, D).
    """

    def __init__(self, num_tokens: int, model_dim: int, num_heads: int | None = None) -> None:
        super().__init__()
        require_heads_divide(model_dim, num_tokens, num_heads)
        self.num_heads = num_heads

    def forward(self, x: Tensor) -> Tensor:
        return mix_tokens(x, self.num_heads)


class SelfAttention(nn.Module):
    """Multi-head self-attention with an output projection. All tokens share the weights.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        4*D**2 + 4*D parameters, 8*T*D**2 + 4*T**2*D FLOPs a sample.
    """

    def __init__(self, num_tokens: int, model_dim: int, num_heads: int | None = None) -> None:
        super().__init__()
        self.attention = MultiHeadSelfAttention(model_dim, model_dim, num_heads or num_tokens, bias=True)
        self.output = nn.Linear(model_dim, model_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.attention(x))
