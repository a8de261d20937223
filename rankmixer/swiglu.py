r"""Per-token SwiGLU networks, dense or cut into experts: the feed-forward networks of TokenMixer-Large.

TokenMixer-Large (https://arxiv.org/abs/2602.06563). README.md lists what the paper leaves open and the
choices made here.

Shapes
    B batch, T tokens, W width of a token, M hidden width, E experts of each token, of which k are active.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.contract import require_positive
from baselines.layers import per_token_linear
from rankmixer.kernels.grouped import grouped_swiglu
from rankmixer.routers import Router, top_k_gates


class PerTokenSwiGLU(nn.Module):
    r"""A gated network with separate weights for every token.

    .. math:: v_t = (\mathrm{SiLU}(s_t W^{gate}_t) \odot s_t W^{up}_t) W^{down}_t

    with biases if ``bias``. Weights are initialised as in `PerTokenLinear`, by the fan-in of one token's
    slice; those of the last layer are then multiplied by ``down_scale``.

    Shapes
        (B, T, W) -> (B, T, W); gate_weight and up_weight (T, W, M), down_weight (T, M, W).

    Cost
        3*T*W*M parameters, T*(2*M + W) more with biases; 6*T*W*M FLOPs a sample.

    Example
        >>> PerTokenSwiGLU(num_tokens=2, dim=4, hidden_dim=6)(torch.ones(3, 2, 4)).shape
        torch.Size([3, 2, 4])
    """

    def __init__(
        self, num_tokens: int, dim: int, hidden_dim: int, bias: bool = False, down_scale: float = 1.0
    ) -> None:
        super().__init__()

        def uniform(rows: int, columns: int, bound: float) -> nn.Parameter:
            return nn.Parameter(torch.empty(num_tokens, rows, columns).uniform_(-bound, bound))

        bound, down_bound = dim**-0.5, down_scale * hidden_dim**-0.5
        self.gate_weight = uniform(dim, hidden_dim, bound)
        self.up_weight = uniform(dim, hidden_dim, bound)
        self.down_weight = uniform(hidden_dim, dim, down_bound)
        self.gate_bias = uniform(1, hidden_dim, bound) if bias else None
        self.up_bias = uniform(1, hidden_dim, bound) if bias else None
        self.down_bias = uniform(1, dim, down_bound) if bias else None

    def forward(self, s: Tensor) -> Tensor:
        return self.down(self.hidden(s))

    def hidden(self, s: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, M)."""
        return _hidden(s, self.gate_weight, self.up_weight, self.gate_bias, self.up_bias)

    def down(self, hidden: Tensor) -> Tensor:
        """(B, T, M) -> (B, T, W)."""
        return per_token_linear(hidden, self.down_weight, self.down_bias)


def _hidden(
    s: Tensor,
    gate_weight: Tensor,
    up_weight: Tensor,
    gate_bias: Tensor | None = None,
    up_bias: Tensor | None = None,
) -> Tensor:
    gate = functional.silu(per_token_linear(s, gate_weight, gate_bias))
    return gate * per_token_linear(s, up_weight, up_bias)


class SparseSwiGLU(nn.Module):
    r"""`PerTokenSwiGLU` cut along its hidden width into E experts, of which each token uses k.

    .. math:: v_t = e_{t0}(s_t) + \alpha \sum_{e=1}^{E-1} G_{te}\, e_{te}(s_t)

    Expert 0 is shared: it is active for all rows. A router opens k - 1 of the other experts, those with the
    largest logits. Their gates G are the softmax of these logits, so they sum to 1; all other gates are 0.
    Training and evaluation use the same gates. Training computes every expert and multiplies most of them
    by zero; evaluation computes only the active experts.

    Raises ValueError if the hidden width is not a multiple of E, or k is not a whole number above 1.

    Shapes
        (B, T, W) -> (B, T, W), and the gates (B, T, E), where that of the shared expert is 1.

    Cost
        3*T*W*M + T*(W + 1)*(E - 1) parameters, 6*T*W*M + 2*T*W*(E - 1) FLOPs a sample. Evaluation computes
        only 6*T*W*M * k/E + 2*T*W*(E - 1) of them.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``active_ratio`` is k/E; both include the shared expert. ``gate_scale`` is alpha, by default E/k.

        With k = 2 only one expert is routed. Its gate is always alpha, so the router learns nothing.
        """

        num_experts: int = 8
        active_ratio: float = 0.5
        gate_scale: float | None = None

    def __init__(
        self, num_tokens: int, dim: int, hidden_dim: int, config: Config, down_scale: float = 1.0
    ) -> None:
        super().__init__()
        _check(config, hidden_dim)
        self.num_experts = config.num_experts
        self.num_routed = round(config.active_ratio * config.num_experts) - 1
        self.gate_scale = 1 / config.active_ratio if config.gate_scale is None else config.gate_scale
        self.expert_flops = 6 * num_tokens * dim * hidden_dim
        self.experts = PerTokenSwiGLU(num_tokens, dim, hidden_dim, down_scale=down_scale)
        self.router = Router(num_tokens, dim, config.num_experts - 1)

    def forward(self, s: Tensor) -> tuple[Tensor, Tensor]:
        routed = top_k_gates(self.router(s), self.num_routed, "top_k_first", self.gate_scale)
        gates = torch.cat([torch.ones_like(routed[..., :1]), routed], dim=-1)
        traced = gates.is_meta or torch.compiler.is_compiling()  # which gates are open is not known then
        is_dense = self.training or traced or torch.is_grad_enabled()
        return (self._dense if is_dense else self._sparse)(s, gates), gates

    def _dense(self, s: Tensor, gates: Tensor) -> Tensor:
        slices = self.experts.hidden(s).unflatten(-1, (self.num_experts, -1))  # (B, T, E, M/E)
        return self.experts.down((slices * gates.unsqueeze(-1)).flatten(-2))

    def _sparse(self, s: Tensor, gates: Tensor) -> Tensor:
        """The shared expert for all rows, every other expert only for the rows that use it."""
        experts = self.experts
        width = experts.gate_weight.shape[2] // self.num_experts
        hidden = _hidden(s, experts.gate_weight[:, :, :width], experts.up_weight[:, :, :width])
        shared = per_token_linear(hidden, experts.down_weight[:, :width])
        routed = (
            experts.gate_weight[:, :, width:],
            experts.up_weight[:, :, width:],
            experts.down_weight[:, width:],
        )
        return shared + grouped_swiglu(s, gates[..., 1:], *routed)


def _check(config: SparseSwiGLU.Config, hidden_dim: int) -> None:
    """Raise ValueError if a value is out of range or does not fit the hidden width."""
    require_positive(config)
    if not 0 < config.active_ratio <= 1:
        raise ValueError(f"moe.active_ratio is {config.active_ratio}; set it above 0 and at most 1")
    active = config.active_ratio * config.num_experts
    if round(active) < 2 or not math.isclose(active, round(active)):
        raise ValueError(
            f"moe.active_ratio {config.active_ratio} of {config.num_experts} experts is {active:g} a token, "
            "but it must be a whole number of 2 or more, the shared expert included; change one of them"
        )
    if config.gate_scale is not None and config.gate_scale <= 0:
        raise ValueError(f"moe.gate_scale is {config.gate_scale}; set it above 0 or leave it out")
    if hidden_dim % config.num_experts:
        raise ValueError(
            f"ffn_dim {hidden_dim} cannot be divided evenly among {config.num_experts} experts "
            "(moe.num_experts); set ffn_dim to a multiple of it"
        )
