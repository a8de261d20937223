"""RankMixer's Sparse-MoE: every token's feed-forward network cut into experts that a router opens.

Zhu et al. 2025 (https://arxiv.org/abs/2507.15551), section 3.4, equations 10 and 11. The paper leaves
much of it open; README.md says what, and how it is read here. In short: the experts are slices of the
dense network, which has all its parameters at any active ratio. Two routers are trained. The training
router has no penalty and opens what it wants; the inference router pays for what it opens. Each is half of
the task loss. Evaluation computes only what the inference router opens. Other readings, which the suite
`dtsi` compares with this one, are in `rankmixer.moe_ablations`.

Shapes
    B batch, T tokens, D model width, M hidden width of a token's experts together, E experts a token.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.layers import PerTokenLinear
from rankmixer.controller import Scope
from rankmixer.kernels.grouped import grouped_ffn
from rankmixer.routers import (
    Router,
    TopKOrder,
    balance_loss,
    closure_penalty,
    mutual_information_loss,
    revival_penalty,
    sparsity_penalty,
)


class Routing(NamedTuple):
    """What a layer's routers did with a batch: the inference router's gates (B, T, E), and its penalties.

    All but ``penalties`` are still to be multiplied by the coefficients that hold the active ratio.
    """

    gates: Tensor
    sparsity: Tensor
    closure: Tensor
    revival: Tensor
    penalties: dict[str, Tensor]


class SparseMoE(nn.Module):
    r"""E experts a token, gated by its router.

    .. math:: v_t = \sum_{e=1}^{E} G_{te}\, e_{te}(s_t) + b_t, \qquad G_t = \mathrm{ReLU}(h(s_t))

    (equation 10) with :math:`e_{te}` the e-th slice of the hidden width of a `PerTokenFFN`, whose output
    bias :math:`b_t` is not gated: with all gates at 1 it is that network exactly. Weights start as that
    network's do.

    In training ``s`` holds every row twice: first the B rows that the inference router routes, then the
    same B rows for the training router.

    This class is the paper's reading. ``reading`` holds the values of the switches that it implements; a
    config with others raises ValueError, since it belongs to a class of `rankmixer.moe_ablations`.

    Shapes
        s: (B, T, D), in training (2B, T, D). Returns v of the same shape, and a `Routing` of the first B
        rows.

    Cost
        2*T*D*M + T*(M + D) parameters, and T*(D + 1)*E for each router (one, or two where two train);
        4*T*D*M + 2*T*D*E FLOPs a sample, of which 4*T*D*M times the active ratio are computed.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``active_ratio`` is the target k/E. The README's table says what each switch means.

        ``training``: "two_branch" (dense training, sparse inference), "plain" (the same sparse router
        in training), or another reading to compare with: "split", "distill",
        "additive", "l1_only". ``train_gate``: what the training router does with its logits.
        ``gate_scale`` multiplies softmax gates: by E, so that even gates are 1; by E/k; or not at all.
        ``capacity`` keeps only a row's largest gates in evaluation: that many times ``active_ratio``
        * E of them, rounded up. ``ffn_dim`` is the width of all experts together ("fixed_total") or of
        the active ones ("fixed_active").
        """

        num_experts: int = 8
        active_ratio: float = 0.25
        routing: Literal["relu", "top_k"] = "relu"
        training: Literal["two_branch", "plain", "split", "distill", "additive", "l1_only"] = "two_branch"
        train_gate: Literal["relu", "softmax"] = "relu"
        top_k_order: TopKOrder = "softmax_first"
        gate_scale: Literal["experts", "inverse_ratio", "none"] = "experts"
        gate_on: Literal["output", "input"] = "output"
        shared_router: bool = False
        router_bias: float = 0.0
        balance_loss: float = 0.0
        mutual_information_loss: float = 0.0
        penalty: Literal["plain", "load_balanced"] = "plain"
        reopening: bool = True
        coefficient: Scope = "global"
        initial_coefficient: float = 1e-5
        coefficient_growth: float = 1.05
        coefficient_lead: float = 5.0
        coefficient_bounds: tuple[float, float] = (1e-8, 10.0)
        capacity: float | None = None
        budget: Literal["fixed_total", "fixed_active"] = "fixed_total"

    reading: ClassVar[dict[str, Any]] = {
        "routing": "relu",
        "training": "two_branch",
        "train_gate": "relu",
        "gate_on": "output",
        "capacity": None,
    }
    has_training_router: ClassVar[bool] = True

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int, config: Config) -> None:
        super().__init__()
        _check(config)
        self._require_own_reading(config)
        hidden_dim = ffn_dim if config.budget == "fixed_total" else round(ffn_dim / config.active_ratio)
        if hidden_dim % config.num_experts:
            raise ValueError(
                f"ffn_dim {ffn_dim} gives {hidden_dim} hidden units, which {config.num_experts} experts "
                "(moe.num_experts) do not share evenly; set ffn_dim to a multiple of it in the row's config"
            )
        self.config = config
        self.expert_flops = 4 * num_tokens * model_dim * hidden_dim
        self.up = PerTokenLinear(num_tokens, model_dim, hidden_dim)
        self.down = PerTokenLinear(num_tokens, hidden_dim, model_dim)

        def router() -> Router:
            return Router(num_tokens, model_dim, config.num_experts, config.shared_router, config.router_bias)

        self.inference_router = router()
        self.training_router = router() if self.has_training_router else None

    def _require_own_reading(self, config: Config) -> None:
        """Raise ValueError where ``config`` asks for what another class is."""
        implemented = ChainMap(*(vars(cls).get("reading", {}) for cls in type(self).__mro__))
        for name, value in implemented.items():
            if value is not ... and getattr(config, name) != value:
                raise ValueError(
                    f"moe.{name} {getattr(config, name)!r} is an ablation; build it with "
                    "rankmixer.moe_ablations.sparse_moe"
                )

    def forward(self, s: Tensor) -> tuple[Tensor, Routing]:
        if self.training:
            return self.train_forward(s)
        logits = self.inference_router(s)
        gates = self.evaluation_gates(logits)
        return self._evaluate(s, gates), self.routing(gates, logits)

    def train_forward(self, s: Tensor) -> tuple[Tensor, Routing]:
        """Training: the first half of the rows by one router, the second half by the other."""
        own, other = s.chunk(2)
        gates, routing = self.route(own)
        return self.dense(s, torch.cat([gates, self.train_gates(other)])), routing

    def route(self, s: Tensor) -> tuple[Tensor, Routing]:
        """The inference router's gates in training, and what they cost."""
        logits = self.inference_router(s)
        gates = self.inference_gates(logits)
        return gates, self.routing(gates, logits)

    def train_gates(self, s: Tensor) -> Tensor:
        """The training router's gates."""
        assert self.training_router is not None
        return self.training_gates(self.training_router(s))

    def inference_gates(self, logits: Tensor) -> Tensor:
        """Logits (B, T, E) of the inference router -> gates."""
        return functional.relu(logits)

    def training_gates(self, logits: Tensor) -> Tensor:
        """Logits (B, T, E) of the training router -> gates."""
        return functional.relu(logits)

    def evaluation_gates(self, logits: Tensor) -> Tensor:
        """Logits (B, T, E) of the inference router -> the gates that evaluation opens."""
        return self.inference_gates(logits)

    def routing(self, gates: Tensor, logits: Tensor) -> Routing:
        """The gates, and in training what they cost."""
        if not self.training:
            none = gates.new_zeros(())
            return Routing(gates, none, none, none, {})
        k = self.config.active_ratio * self.config.num_experts
        penalties: dict[str, Tensor] = {}
        if self.config.balance_loss:
            loss = balance_loss(gates, logits.softmax(-1), k)
            penalties["balance"] = self.config.balance_loss * loss
        if self.config.mutual_information_loss:
            loss = mutual_information_loss(logits.softmax(-1))
            penalties["mutual_information"] = self.config.mutual_information_loss * loss
        sparsity = sparsity_penalty(gates, self.config.penalty == "load_balanced", k)
        revival = revival_penalty(logits, self.config.active_ratio)
        return Routing(gates, sparsity, closure_penalty(logits), revival, penalties)

    def _evaluate(self, s: Tensor, gates: Tensor) -> Tensor:
        """Only the experts that are open; all of them where gradients or a trace are wanted."""
        traced = gates.is_meta or torch.compiler.is_compiling()  # neither knows how many gates are open
        if traced or torch.is_grad_enabled():
            return self.dense(s, gates)
        return grouped_ffn(s, gates, self.up, self.down, self.config.gate_on)

    def dense(self, s: Tensor, gates: Tensor) -> Tensor:
        """All experts, each times its gate: the reference of the sparse evaluation, and its training."""
        return self.down(gated(self.hidden(s), gates))

    def hidden(self, s: Tensor) -> Tensor:
        """The experts' hidden numbers before their gates: (B, T, D) -> (B, T, M)."""
        return functional.gelu(self.up(s))


def gated(hidden: Tensor, gates: Tensor) -> Tensor:
    """Each expert's slice of the hidden width times its gate: (B, T, M) and (B, T, E) -> (B, T, M)."""
    slices = hidden.unflatten(-1, (gates.shape[-1], -1))
    return (slices * gates.unsqueeze(-1)).flatten(-2)


def _check(config: SparseMoE.Config) -> None:
    """Raise ValueError where ``config`` is no mixture."""
    if config.num_experts < 1:
        raise ValueError(f"moe.num_experts is {config.num_experts}; set it to 1 or more")
    if not 0 < config.active_ratio <= 1:
        raise ValueError(f"moe.active_ratio is {config.active_ratio}; set it above 0 and at most 1")
    low, high = config.coefficient_bounds
    if not 0 < low <= config.initial_coefficient <= high:
        raise ValueError(
            f"moe.initial_coefficient is {config.initial_coefficient}; set it within "
            f"moe.coefficient_bounds, {low} to {high}, both above 0"
        )
    if config.coefficient_growth <= 1:
        raise ValueError(f"moe.coefficient_growth is {config.coefficient_growth}; set it above 1")
    if config.coefficient_lead < 0:
        raise ValueError(f"moe.coefficient_lead is {config.coefficient_lead}; set it to 0 or more")
    for name in ("balance_loss", "mutual_information_loss"):
        if not getattr(config, name) >= 0:
            raise ValueError(f"moe.{name} is {getattr(config, name)}; set it to 0 or more")
