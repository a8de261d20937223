"""RankMixer (dense): token mixing without weights, and a feed-forward network for every token.

Zhu et al., "RankMixer: Scaling Up Ranking Models in Industrial Recommenders", CIKM 2025,
https://arxiv.org/abs/2507.15551, section 3, equations 1 to 9.

What is here: the dense model from the tokens to the mean over tokens. What is not: the cutting of
embeddings into tokens, which is the same for all architectures and done before them, and the sparse
mixture of experts of section 3.4. What the paper leaves open, and the choices made: README.md.

Shapes
    B batch, T tokens (and heads of the mixing, H = T), d token width, D model width,
    M = k * D hidden width of the feed-forward networks, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from baselines.layers import Knob, Knobs, PerTokenLinear, require_divisible, require_positive


def mix_tokens(x: Tensor) -> Tensor:
    r"""Give each output token one slice of every input token.

    .. math:: y_h = [\,x_1^{(h)}, x_2^{(h)}, \ldots, x_T^{(h)}\,]

    with :math:`x_t^{(h)}` the h-th of the T slices of token t (equations 3 to 5 with H = T). It is
    a permutation of the T*D numbers, its own inverse, and has no parameters.

    Shapes
        (B, T, D) -> (B, T, D); T divides D.

    Example
        >>> import torch
        >>> mix_tokens(torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8]]]))
        tensor([[[1, 2, 5, 6],
                 [3, 4, 7, 8]]])
    """
    slices = x.unflatten(2, (x.shape[1], -1))  # (B, T, H, D/H)
    return slices.transpose(1, 2).flatten(2)  # (B, H, T * D/H)


class PerTokenFFN(nn.Module):
    r"""Two layers with a GELU between, with weights of their own for every token.

    .. math:: v_t = W_t^2\,\mathrm{GELU}(W_t^1 s_t + b_t^1) + b_t^2

    (equations 6 to 9). No token's output depends on another token or its weights.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        2*T*D*M + T*(M + D) parameters, 4*T*D*M FLOPs a sample: two for a weight.

    Example
        >>> import torch
        >>> PerTokenFFN(num_tokens=2, model_dim=4, ffn_dim=8)(torch.ones(3, 2, 4)).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.up = PerTokenLinear(num_tokens, model_dim, ffn_dim)
        self.down = PerTokenLinear(num_tokens, ffn_dim, model_dim)

    def forward(self, s: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(s)))


class Block(nn.Module):
    r"""Mix the tokens, then transform each: two residual steps, each normalised after.

    .. math:: s = \mathrm{LN}(\mathrm{Mix}(x) + x), \qquad y = \mathrm{LN}(\mathrm{PFFN}(s) + s)

    (equation 1). The first sum adds slices of different tokens; that is the paper's.

    Shapes
        (B, T, D) -> (B, T, D); T divides D.

    Cost
        2*T*D*M + T*(M + D) + 4*D parameters, 4*T*D*M FLOPs a sample; the mixing has none.

    Example
        >>> import torch
        >>> Block(num_tokens=2, model_dim=4, ffn_dim=8)(torch.ones(3, 2, 4)).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.mixing_norm = nn.LayerNorm(model_dim)
        self.ffn = PerTokenFFN(num_tokens, model_dim, ffn_dim)
        self.ffn_norm = nn.LayerNorm(model_dim)

    def forward(self, x: Tensor) -> Tensor:
        s = self.mixing_norm(mix_tokens(x) + x)
        return self.ffn_norm(self.ffn(s) + s)


class RankMixer(nn.Module):
    """Per-token projection, RankMixer blocks, mean over tokens.

    Raises ValueError where the number of tokens does not divide ``model_dim``.

    Shapes
        tokens: (B, T, d). Returns (B, D).

    Cost
        T*(d*D + D) + L*(2*T*D*M + T*(M + D) + 4*D) parameters,
        2*T*d*D + 4*L*T*D*M FLOPs a sample. Normalisations, GELU, sums and the mixing are not counted.

    Example
        >>> import torch
        >>> config = RankMixer.Config(model_dim=8, ffn_dim=16)
        >>> RankMixer(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim`` scales the model to a budget and is divisible by the number of tokens;
        ``ffn_dim`` is k * ``model_dim`` in the paper's terms and finishes the match."""

        model_dim: int
        ffn_dim: int
        num_layers: int = 2

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        require_divisible("model_dim", config.model_dim, num_tokens, "tokens, its mixing's heads")
        self.projection = PerTokenLinear(num_tokens, token_dim, config.model_dim)
        self.blocks = nn.Sequential(
            *(Block(num_tokens, config.model_dim, config.ffn_dim) for _ in range(config.num_layers))
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
