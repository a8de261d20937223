"""RankMixer's Sparse-MoE: every token's feed-forward network cut into experts that a router opens.

Zhu et al. 2025 (https://arxiv.org/abs/2507.15551), section 3.4, equations 10 and 11. The paper leaves
much of it open; README.md says what, and how it is read here. In short: the experts are slices of the
dense network, whose parameters are all there at any active ratio; two routers are trained, one of which
(of training) is never penalised and opens what it likes, the other (of inference) pays for what it
opens; each is half of the task loss; evaluation computes what the router of inference opens, no more.

Shapes
    B batch, T tokens, D model width, M hidden width of a token's experts together, E experts a token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    top_k_gates,
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

    In training with two branches, ``s`` holds every row twice: first the B rows that the inference
    router routes, then the same B rows for the training router.

    Shapes
        s: (B, T, D), or (2B, T, D). Returns v of the same shape, and a `Routing` of the first B rows.

    Cost
        2*T*D*M + T*(M + D) parameters, and T*(D + 1)*E for each router (one, or two where two train);
        4*T*D*M + 2*T*D*E FLOPs a sample, of which 4*T*D*M times the active ratio are computed.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``active_ratio`` is the target k/E. The README's table says what each switch stands for.

        ``training``: "two_branch" (dense training, sparse inference), "plain" (the same sparse router
        in training), or one of the readings that are kept to compare with: "split", "distill",
        "additive", "l1_only". ``train_gate``: what the training router does with its logits.
        ``gate_scale`` multiplies softmax gates: by E, so that even gates are 1; by E/k; or not at all.
        ``capacity`` keeps a row's largest gates alone in evaluation, that many times ``active_ratio``
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

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int, config: Config) -> None:
        super().__init__()
        _check(config)
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
        self.training_router = None if config.training == "plain" else router()

    def forward(self, s: Tensor) -> tuple[Tensor, Routing]:
        if not self.training:
            logits = self.inference_router(s)
            gates = self._capped(self._inference_gates(logits))
            return self._evaluate(s, gates), self._routing(gates, logits)
        own = s.chunk(2)[0] if self.config.training == "two_branch" else s
        if self.config.training == "split":
            own = s[::2]
        logits = self.inference_router(own)
        gates = self._inference_gates(logits)
        routing = self._routing(gates, logits)
        if self.config.training == "distill":
            return self._distill(s, gates, routing)
        return self._dense(s, self._gates_in_training(s, gates)), routing

    def _gates_in_training(self, s: Tensor, inference: Tensor) -> Tensor:
        """The gates of the experts that the task loss sees, for all rows of ``s``."""
        if self.training_router is None:
            return inference
        if self.config.training == "two_branch":
            return torch.cat([inference, self._training_gates(s.chunk(2)[1])])
        if self.config.training == "split":  # even rows to one router, odd rows to the other
            gates = self._training_gates(s)
            return torch.index_copy(gates, 0, torch.arange(0, len(s), 2, device=s.device), inference)
        gates = self._training_gates(s)
        return gates + inference if self.config.training == "additive" else gates

    def _distill(self, s: Tensor, gates: Tensor, routing: Routing) -> tuple[Tensor, Routing]:
        """The training router's output, and a penalty on how far the other's is from it, for that router."""
        hidden = self._hidden(s)
        v = self.down(_gated(hidden, self._training_gates(s)))
        weight, bias = self.down.weight.detach(), self.down.bias.detach()
        alone = torch.baddbmm(bias, _gated(hidden.detach(), gates).transpose(0, 1), weight).transpose(0, 1)
        distance = (alone - v.detach()).square().sum((1, 2)).mean()
        return v, routing._replace(penalties=routing.penalties | {"distillation": distance})

    def _inference_gates(self, logits: Tensor) -> Tensor:
        if self.config.routing == "relu":
            return functional.relu(logits)
        return top_k_gates(logits, self._active_experts, self.config.top_k_order, self._softmax_scale)

    def _training_gates(self, s: Tensor) -> Tensor:
        assert self.training_router is not None
        logits = self.training_router(s)
        if self.config.train_gate == "relu":
            return functional.relu(logits)
        return logits.softmax(-1) * self.config.num_experts

    @property
    def _active_experts(self) -> int:
        return round(self.config.active_ratio * self.config.num_experts)

    @property
    def _softmax_scale(self) -> float:
        E, ratio = self.config.num_experts, self.config.active_ratio
        return {"experts": float(E), "inverse_ratio": 1 / ratio, "none": 1.0}[self.config.gate_scale]

    def _capped(self, gates: Tensor) -> Tensor:
        if self.config.capacity is None:
            return gates
        share = self.config.capacity * self.config.active_ratio
        most = round(share * self.config.num_experts, 6)  # 15 / 22 * 22 is a little more than 15
        kept = min(self.config.num_experts, math.ceil(most))
        return gates * torch.zeros_like(gates).scatter(-1, gates.topk(kept, dim=-1).indices, 1.0)

    def _routing(self, gates: Tensor, logits: Tensor) -> Routing:
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
            return self._dense(s, gates)
        return grouped_ffn(s, gates, self.up, self.down, self.config.gate_on)

    def _dense(self, s: Tensor, gates: Tensor) -> Tensor:
        """All experts, each times its gate: the reference of the sparse evaluation, and its training."""
        if self.config.gate_on == "output":
            return self.down(_gated(self._hidden(s), gates))
        bias = self.up.bias.transpose(0, 1)  # (1, T, M)
        hidden = functional.gelu(_gated(self.up(s) - bias, gates) + bias)
        return self.down(_gated(hidden, (gates > 0).to(hidden.dtype)))

    def _hidden(self, s: Tensor) -> Tensor:
        return functional.gelu(self.up(s))


def _gated(hidden: Tensor, gates: Tensor) -> Tensor:
    """Each expert's slice of the hidden width times its gate: (B, T, M) and (B, T, E) -> (B, T, M)."""
    slices = hidden.unflatten(-1, (gates.shape[-1], -1))
    return (slices * gates.unsqueeze(-1)).flatten(-2)


def _check(config: SparseMoE.Config) -> None:
    """Raise ValueError where ``config`` is no mixture."""
    if config.num_experts < 1:
        raise ValueError(f"moe.num_experts is {config.num_experts}; set it to 1 or more")
    if not 0 < config.active_ratio <= 1:
        raise ValueError(f"moe.active_ratio is {config.active_ratio}; set it above 0 and at most 1")
    active = config.active_ratio * config.num_experts
    if config.routing == "top_k" and (round(active) < 1 or not math.isclose(active, round(active))):
        raise ValueError(
            f"moe.active_ratio {config.active_ratio} of {config.num_experts} experts is {active:g} a token, "
            "and top-k routing needs a whole number; change one of them"
        )
    if config.training == "l1_only" and config.routing != "relu":
        raise ValueError(
            "moe.training 'l1_only' trains by the penalty of ReLU gates; set moe.routing to 'relu'"
        )
    if config.training == "distill" and config.gate_on == "input":
        raise ValueError("moe.training 'distill' gates outputs; set moe.gate_on to 'output'")
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
    if config.capacity is not None and not config.capacity > 0:
        raise ValueError(f"moe.capacity is {config.capacity}; set it above 0 or leave it out")
