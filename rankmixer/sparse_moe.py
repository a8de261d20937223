"""RankMixer's Sparse-MoE: the feed-forward network of every token is cut into experts with a router.

Zhu et al. 2025 (https://arxiv.org/abs/2507.15551), section 3.4, equations 10 and 11. The paper leaves many
details open; README.md lists them and the choices made here. In short: the experts are slices of the dense
network, so the number of parameters is the same at any active ratio. Two routers are trained, and each
contributes half of the task loss. The training router has no penalty; the inference router has a penalty on
the gates that it opens. Evaluation computes only the experts that the inference router opens. Ablations,
which the suite `dtsi` compares with this layer, are in `rankmixer.moe_ablations`.

Shapes
    B batch, T tokens, D model width, E experts of each token, M hidden width of these experts together.
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
    """The gates (B, T, E) that the inference router of a layer chose for a batch, and its penalty terms.

    ``sparsity``, ``closure`` and ``revival`` still have to be multiplied by the coefficients that hold the
    active ratio; ``penalties`` are final.
    """

    gates: Tensor
    sparsity: Tensor
    closure: Tensor
    revival: Tensor
    penalties: dict[str, Tensor]


class SparseMoE(nn.Module):
    r"""E experts for each token, gated by a router.

    .. math:: v_t = \sum_{e=1}^{E} G_{te}\, e_{te}(s_t) + b_t, \qquad G_t = \mathrm{ReLU}(h(s_t))

    (equation 10) with :math:`e_{te}` the e-th slice of the hidden width of a `PerTokenFFN`, whose output
    bias :math:`b_t` is not gated. With all gates at 1 it is exactly that network. Weights are initialised
    like those of that network.

    In training ``s`` holds every row twice: first the B rows for the inference router, then the same B rows
    for the training router.

    This class follows the paper. ``reading`` holds the values of the switches that it implements. A config
    with other values raises ValueError, since it needs a class of `rankmixer.moe_ablations`.

    Shapes
        s: (B, T, D), in training (2B, T, D). Returns v of the same shape, and the `Routing` of the first B
        rows.

    Cost
        2*T*D*M + T*(M + D) parameters, and T*(D + 1)*E for each of the one or two routers;
        4*T*D*M + 2*T*D*E FLOPs a sample. Evaluation computes only 4*T*D*M times the active ratio of the
        first term.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``active_ratio`` is the target k/E. A table in README.md explains each switch.

        ``training``: "two_branch" (dense training, sparse inference), "plain" (the same sparse router in
        training), or another ablation: "split", "distill", "additive", "l1_only". ``train_gate``: the
        function that turns the training router's logits into gates. ``gate_scale`` multiplies softmax gates
        by E, so that equal gates are 1, by E/k, or by 1. ``capacity`` limits evaluation to the largest gates
        of a row: ``capacity`` * ``active_ratio`` * E of them, rounded up. ``budget``: ``ffn_dim`` is the
        width of all experts together ("fixed_total") or of the active ones ("fixed_active").
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
                "(moe.num_experts) cannot divide evenly; set ffn_dim to a multiple of it in the row's config"
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
        """Raise ValueError if ``config`` asks for something that another class implements."""
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
        """Training: the inference router gates the first half of the rows, the training router the second."""
        own, other = s.chunk(2)
        gates, routing = self.route(own)
        return self.dense(s, torch.cat([gates, self.train_gates(other)])), routing

    def route(self, s: Tensor) -> tuple[Tensor, Routing]:
        """The inference router's gates in training, and their penalty terms."""
        logits = self.inference_router(s)
        gates = self.inference_gates(logits)
        return gates, self.routing(gates, logits)

    def train_gates(self, s: Tensor) -> Tensor:
        """The training router's gates for rows ``s``."""
        assert self.training_router is not None
        return self.training_gates(self.training_router(s))

    def inference_gates(self, logits: Tensor) -> Tensor:
        """Logits (B, T, E) of the inference router -> gates."""
        return functional.relu(logits)

    def training_gates(self, logits: Tensor) -> Tensor:
        """Logits (B, T, E) of the training router -> gates."""
        return functional.relu(logits)

    def evaluation_gates(self, logits: Tensor) -> Tensor:
        """Logits (B, T, E) of the inference router -> the gates used in evaluation."""
        return self.inference_gates(logits)

    def routing(self, gates: Tensor, logits: Tensor) -> Routing:
        """The gates, and in training their penalty terms."""
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
        """Compute only the active experts, or all of them if the code is traced or gradients are needed."""
        traced = gates.is_meta or torch.compiler.is_compiling()  # the number of open gates is not known then
        if traced or torch.is_grad_enabled():
            return self.dense(s, gates)
        return grouped_ffn(s, gates, self.up, self.down, self.config.gate_on)

    def dense(self, s: Tensor, gates: Tensor) -> Tensor:
        """All experts, each times its gate: for training, and as the reference for sparse evaluation."""
        return self.down(gated(self.hidden(s), gates))

    def hidden(self, s: Tensor) -> Tensor:
        """The experts' hidden numbers, not yet gated: (B, T, D) -> (B, T, M)."""
        return functional.gelu(self.up(s))


def gated(hidden: Tensor, gates: Tensor) -> Tensor:
    """Multiply each expert's slice of the hidden width by its gate: (B, T, M), (B, T, E) -> (B, T, M)."""
    slices = hidden.unflatten(-1, (gates.shape[-1], -1))
    return (slices * gates.unsqueeze(-1)).flatten(-2)


def _check(config: SparseMoE.Config) -> None:
    """Raise ValueError if a value of ``config`` is out of range."""
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
