r"""TokenMixer-Large: mixing that is undone before the residual, with a per-token SwiGLU before and after.

"TokenMixer-Large: Scaling Up Large Ranking Models in Industrial Recommenders", ByteDance, 2026,
https://arxiv.org/abs/2602.06563. Written from descriptions of the paper, not from its text; README.md lists
what they leave open and the choices made here.

What is here: the model from the tokens to the mean over tokens, with its global token, residuals between
blocks, auxiliary loss and sparse per-token experts. What is not: the division of embeddings into tokens,
which is the same for all architectures, and the paper's optimisations for speed.

Shapes
    B batch, T tokens, d token width, D model width, H heads of the mixing, M = n * D hidden width of a
    token, E experts of each token, of which k are active, L blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, Output, View, require_positive, tunable
from baselines.layers import PerTokenLinear
from rankmixer.mixing import mix_tokens, require_heads_divide, revert_tokens
from rankmixer.routers import usage
from rankmixer.swiglu import PerTokenSwiGLU, SparseSwiGLU

ABOUT = About(
    papers={"ByteDance": "https://arxiv.org/abs/2602.06563"},
    year=2026,
    flops="2(2T - 1)dD + 12LTDM",
    partial="no loss of a lower layer, and at one or two blocks no residual between blocks",
)

EPS = 1e-6  # of RMSNorm, the same at every precision


class GlobalProjection(nn.Module):
    r"""T - 1 tokens, each projected with separate weights, and a global token that reads all T.

    .. math:: x_t = u_t W_t + b_t \quad (t < T), \qquad x_T = [u_1, \ldots, u_T] W_G + b_G

    The global token replaces the projection of the last token, and can represent it: W_G may be zero except
    in the rows of the last token.

    Shapes
        (B, T, d) -> (B, T, D).

    Cost
        (2*T - 1)*d*D + T*D parameters, 2*(2*T - 1)*d*D FLOPs a sample.
    """

    def __init__(self, num_tokens: int, token_dim: int, model_dim: int) -> None:
        super().__init__()
        self.own = PerTokenLinear(num_tokens - 1, token_dim, model_dim)
        self.everything = nn.Linear(num_tokens * token_dim, model_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        global_token = self.everything(tokens.flatten(1)).unsqueeze(1)
        return torch.cat([self.own(tokens[:, :-1]), global_token], dim=1)


class Block(nn.Module):
    r"""Mix the tokens, transform them and undo the mixing; then transform the tokens: two pre-norm steps.

    .. math::
        z = x + \mathrm{Revert}(\mathrm{pSwiGLU}_{mix}(\mathrm{Mix}(\mathrm{RMSNorm}(x)))), \qquad
        y = z + \mathrm{pSwiGLU}_{token}(\mathrm{RMSNorm}(z))

    Mix turns T tokens of width D into H tokens of width T*D/H, and Revert is its inverse, so both sums add
    slices of the same token. If the last layers of both networks are zero, the block is the identity.

    With ``residuals="mixed"``, another interpretation of the paper, the mixed tokens have their own residual:

    .. math::
        h = \mathrm{Mix}(x), \qquad h' = h + \mathrm{pSwiGLU}_{mix}(\mathrm{RMSNorm}(h)), \qquad
        y = x + \mathrm{pSwiGLU}_{token}(\mathrm{RMSNorm}(\mathrm{Revert}(h')))

    Shapes
        (B, T, D) -> (B, T, D), and a list of the gates (B, T, E) of both networks, empty without experts.

    Cost
        3*T*D*M*(T/H + 1) + 2*D parameters and 6*T*D*M*(T/H + 1) FLOPs a sample, if H divides T*M. With
        H = T the two products are 6*n*T*D**2 and 12*n*T*D**2. With mixed residuals one D of 2*D is T*D/H.
    """

    def __init__(self, num_tokens: int, config: TokenMixerLarge.Config) -> None:
        super().__init__()
        self.num_heads = config.num_heads or num_tokens
        mixed_dim = num_tokens * config.model_dim // self.num_heads
        mixed_hidden_dim = -(-num_tokens * config.ffn_dim // self.num_heads)  # n times its width, rounded up
        self.has_mixed_residual = config.residuals == "mixed"
        self.mix_norm = nn.RMSNorm(mixed_dim if self.has_mixed_residual else config.model_dim, eps=EPS)
        self.mix_network = _network(self.num_heads, mixed_dim, mixed_hidden_dim, config)
        self.token_norm = nn.RMSNorm(config.model_dim, eps=EPS)
        self.token_network = _network(num_tokens, config.model_dim, config.ffn_dim, config)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self.has_mixed_residual:
            h = self._mix(x)
            step, mix_gates = _transform(self.mix_network, self.mix_norm(h))
            start, z = x, self._revert(h + step, x)
        else:
            step, mix_gates = _transform(self.mix_network, self._mix(self.mix_norm(x)))
            start = z = x + self._revert(step, x)
        step, token_gates = _transform(self.token_network, self.token_norm(z))
        return start + step, mix_gates + token_gates

    def _mix(self, x: Tensor) -> Tensor:
        return mix_tokens(x, self.num_heads).view(len(x), self.num_heads, -1)

    def _revert(self, mixed: Tensor, like: Tensor) -> Tensor:
        return revert_tokens(mixed.reshape(like.shape), self.num_heads)


def _network(num_tokens: int, dim: int, hidden_dim: int, config: TokenMixerLarge.Config) -> nn.Module:
    if config.moe is not None:
        return SparseSwiGLU(num_tokens, dim, hidden_dim, config.moe, config.down_scale)
    return PerTokenSwiGLU(num_tokens, dim, hidden_dim, config.bias, config.down_scale)


def _transform(network: nn.Module, s: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output of a network for ``s``, and a list of its gates, empty for a dense network."""
    result = network(s)
    return (result[0], [result[1]]) if isinstance(result, tuple) else (result, [])


class TokenMixerLarge(nn.Module):
    """Projection with a global token, TokenMixer-Large blocks, RMSNorm, mean over tokens.

    With ``auxiliary_loss``, training also returns the view "lower_layer", which goes through the same towers:
    the tokens after the middle block, normalised and averaged like the final ones. With experts, the
    statistic ``active_experts`` is (2*L, T, E): for each block its mixing stage, then its token stage.
    Expert 0 is the shared one.

    Raises ValueError if the number of tokens (or heads) does not divide ``model_dim``, or if two switches
    exclude each other.

    Shapes
        tokens: (B, T, d). Returns (B, D); an `Output` with experts, and in training with ``auxiliary_loss``.

    Cost
        (2*T - 1)*d*D + T*D + L*(6*T*D*M + 2*D) + D parameters,
        2*(2*T - 1)*d*D + 12*L*T*D*M FLOPs a sample, if H = T. Without the global token the first terms are
        T*d*D and 2*T*d*D. Normalisations, SiLU, elementwise products, sums and the mixing are not counted.
        For experts see `SparseSwiGLU`.

    Example
        >>> config = TokenMixerLarge.Config(model_dim=8, ffn_dim=16)
        >>> TokenMixerLarge(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    rows_at_once = 512

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim`` scales the model to a budget and is divisible by the number of tokens;
        ``ffn_dim`` is n * ``model_dim`` in the paper's terms and makes the match exact.

        ``num_heads`` is H, by default T, and divides ``model_dim``. The last layer of every SwiGLU starts at
        ``down_scale`` times the usual weights. After every ``inter_residual_every`` blocks, except after the
        last block of the model, the input of the first of these blocks is added to the output; None: never.
        ``auxiliary_loss`` is the weight of the task loss of the middle block; 0: none. ``residuals`` chooses
        between the two variants of `Block`. ``moe`` cuts every SwiGLU into experts; it needs H = T and no
        bias.
        """

        model_dim: int
        ffn_dim: int
        num_layers: int = tunable(2, 1, 3, 4)
        num_heads: int | None = None
        global_token: bool = True
        bias: bool = False
        down_scale: float = 0.01
        inter_residual_every: int | None = 2
        auxiliary_loss: float = 0.0
        residuals: Literal["original", "mixed"] = "original"
        moe: SparseSwiGLU.Config | None = None

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        _check(config, num_tokens)
        projection = GlobalProjection if config.global_token else PerTokenLinear
        self.projection = projection(num_tokens, token_dim, config.model_dim)
        self.blocks = nn.ModuleList(Block(num_tokens, config) for _ in range(config.num_layers))
        self.final_norm = nn.RMSNorm(config.model_dim, eps=EPS)
        self.output_dim = config.model_dim
        self.inter_residual_every = config.inter_residual_every or config.num_layers
        self.auxiliary_loss = config.auxiliary_loss
        if config.moe is not None:
            self.active_ratio = config.moe.active_ratio
            self.expert_flops = sum(m.expert_flops for m in self.modules() if isinstance(m, SparseSwiGLU))

    def forward(self, tokens: Tensor) -> Tensor | Output:
        x = start = self.projection(tokens)
        views, gates = {}, []
        for number, block in enumerate(self.blocks, start=1):
            x, block_gates = block(x)
            gates += block_gates
            if number % self.inter_residual_every == 0 and number < len(self.blocks):
                x = start = x + start
            if number == len(self.blocks) // 2 and self.auxiliary_loss and self.training:
                views["lower_layer"] = View(self.auxiliary_loss, self._pool(x))
        statistics = {"active_experts": torch.stack([usage(g).float() for g in gates])} if gates else {}
        if not views and not statistics:
            return self._pool(x)
        return Output(self._pool(x), views, statistics=statistics)

    def _pool(self, x: Tensor) -> Tensor:
        return self.final_norm(x).mean(dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("model_dim", step=num_tokens, minimum=num_tokens),
            fine=Knob("ffn_dim"),
            fine_per_coarse=2.0,
        )


def _check(config: TokenMixerLarge.Config, num_tokens: int) -> None:
    """Raise ValueError if widths do not divide or two switches exclude each other."""
    require_heads_divide(config.model_dim, num_tokens, config.num_heads)
    if config.down_scale < 0:
        raise ValueError(f"down_scale is {config.down_scale}; set it to 0 or more")
    if config.auxiliary_loss < 0:
        raise ValueError(f"auxiliary_loss is {config.auxiliary_loss}; set it to 0 or more")
    if config.auxiliary_loss and config.num_layers < 2:
        raise ValueError("auxiliary_loss reads a block before the last; set num_layers to 2 or more")
    if config.moe is not None and config.bias:
        raise ValueError("moe has experts without biases; set bias to false, or leave moe out")
    if config.moe is not None and config.num_heads not in (None, num_tokens):
        raise ValueError(
            f"moe needs the same tokens in both stages of a block, but num_heads {config.num_heads} gives "
            f"the first stage other tokens; set num_heads to {num_tokens} or leave it out"
        )
