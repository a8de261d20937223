"""Ablations of RankMixer's Sparse-MoE: each class changes one thing of `SparseMoE`.

The suite `dtsi` compares them with the paper's layer. `sparse_moe` builds the layer for a config: it combines
all classes whose ``reading`` matches the config.

Shapes
    B batch, T tokens, D model width, E experts of each token, M hidden width of these experts together.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from baselines.layers import per_token_linear
from rankmixer.routers import top_k_gates
from rankmixer.sparse_moe import Routing, SparseMoE, gated


def sparse_moe(num_tokens: int, model_dim: int, ffn_dim: int, config: SparseMoE.Config) -> SparseMoE:
    """The layer for a config: `SparseMoE`, or a class with the ablations that the config asks for.

    Raises ValueError if a value is out of range or two switches exclude each other.
    """
    _check(config)
    asked = tuple(ablation for ablation in ABLATIONS if _matches(config, ablation))
    return _combine(asked)(num_tokens, model_dim, ffn_dim, config)


def _matches(config: SparseMoE.Config, ablation: type[SparseMoE]) -> bool:
    [(name, value)] = ablation.reading.items()
    chosen = getattr(config, name)
    return chosen is not None if value is ... else chosen == value


@cache
def _combine(ablations: tuple[type[SparseMoE], ...]) -> type[SparseMoE]:
    if len(ablations) > 1:
        return type("And".join(ablation.__name__ for ablation in ablations), ablations, {})
    return ablations[0] if ablations else SparseMoE


# --------------------------------------------------------------------- which routers the task loss trains


class SingleRouter(SparseMoE):
    """A single router, which is sparse in training too. ``s`` has B rows."""

    reading = {"training": "plain"}  # noqa: RUF012 - never changed
    has_training_router = False

    def train_forward(self, s: Tensor) -> tuple[Tensor, Routing]:
        gates, routing = self.route(s)
        return self.dense(s, gates), routing


class SplitRows(SparseMoE):
    """The inference router gates even rows, the training router odd rows. ``s`` has B rows."""

    reading = {"training": "split"}  # noqa: RUF012

    def train_forward(self, s: Tensor) -> tuple[Tensor, Routing]:
        inference, routing = self.route(s[::2])
        even = torch.arange(0, len(s), 2, device=s.device)
        return self.dense(s, torch.index_copy(self.train_gates(s), 0, even, inference)), routing


class Distillation(SparseMoE):
    """The task loss trains the training router, and the inference router learns to give the same output.

    The distance between the two outputs is a penalty, from which the experts get no gradient. ``s`` has B
    rows.
    """

    reading = {"training": "distill"}  # noqa: RUF012

    def train_forward(self, s: Tensor) -> tuple[Tensor, Routing]:
        gates, routing = self.route(s)
        hidden = self.hidden(s)
        v = self.down(gated(hidden, self.train_gates(s)))
        weight, bias = self.down.weight.detach(), self.down.bias.detach()
        student = per_token_linear(gated(hidden.detach(), gates), weight, bias)
        distance = (student - v.detach()).square().sum((1, 2)).mean()
        return v, routing._replace(penalties=routing.penalties | {"distillation": distance})


class AddedGates(SparseMoE):
    """The gates of both routers are added in training. ``s`` has B rows."""

    reading = {"training": "additive"}  # noqa: RUF012

    def train_forward(self, s: Tensor) -> tuple[Tensor, Routing]:
        inference, routing = self.route(s)
        return self.dense(s, self.train_gates(s) + inference), routing


class PenaltyOnly(SparseMoE):
    """Only its penalty trains the inference router. ``s`` has B rows."""

    reading = {"training": "l1_only"}  # noqa: RUF012

    def train_forward(self, s: Tensor) -> tuple[Tensor, Routing]:
        _, routing = self.route(s)
        return self.dense(s, self.train_gates(s)), routing


# -------------------------------------------------------------------------- how logits become gates


class TopKGates(SparseMoE):
    """The k largest gates of a softmax, in training and in evaluation."""

    reading = {"routing": "top_k"}  # noqa: RUF012

    def inference_gates(self, logits: Tensor) -> Tensor:
        experts, ratio = self.config.num_experts, self.config.active_ratio
        scales = {"experts": float(experts), "inverse_ratio": 1 / ratio, "none": 1.0}
        k, scale = round(ratio * experts), scales[self.config.gate_scale]
        return top_k_gates(logits, k, self.config.top_k_order, scale)


class SoftmaxTrainingGates(SparseMoE):
    """The training router's gates are a softmax times E, so that equal gates are 1."""

    reading = {"train_gate": "softmax"}  # noqa: RUF012

    def training_gates(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1) * self.config.num_experts


class Capacity(SparseMoE):
    """Evaluation uses only the largest gates of a row."""

    reading = {"capacity": ...}  # noqa: RUF012

    def evaluation_gates(self, logits: Tensor) -> Tensor:
        gates = self.inference_gates(logits)
        assert self.config.capacity is not None
        share = self.config.capacity * self.config.active_ratio
        most = round(share * self.config.num_experts, 6)  # 15 / 22 * 22 is a little more than 15
        kept = min(self.config.num_experts, math.ceil(most))
        return gates * torch.zeros_like(gates).scatter(-1, gates.topk(kept, dim=-1).indices, 1.0)


# ------------------------------------------------------------------------------------ where gates apply


class GatesOnInput(SparseMoE):
    """A gate multiplies the input of its expert, and a closed expert returns zeros."""

    reading = {"gate_on": "input"}  # noqa: RUF012

    def dense(self, s: Tensor, gates: Tensor) -> Tensor:
        bias = self.up.bias.transpose(0, 1)  # (1, T, M)
        hidden = functional.gelu(gated(self.up(s) - bias, gates) + bias)
        return self.down(gated(hidden, (gates > 0).to(hidden.dtype)))


ABLATIONS: tuple[type[SparseMoE], ...] = (
    SingleRouter,
    SplitRows,
    Distillation,
    AddedGates,
    PenaltyOnly,
    TopKGates,
    SoftmaxTrainingGates,
    Capacity,
    GatesOnInput,
)


def _check(config: SparseMoE.Config) -> None:
    """Raise ValueError if two switches exclude each other."""
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
    if config.capacity is not None and not config.capacity > 0:
        raise ValueError(f"moe.capacity is {config.capacity}; set it above 0 or leave it out")
