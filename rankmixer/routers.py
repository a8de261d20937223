"""Routers of per-token experts: from tokens to gates, and the losses that keep experts in use.

Only its own token can use an expert, so usage is counted over the batch for every token separately. A
balance over the experts of all tokens together would be meaningless.

Sources: ReLU gates, Zhu et al. 2025 (https://arxiv.org/abs/2507.15551), equation 10; top-k softmax gates
and the load-balanced penalty, Wang et al., "ReMoE", ICLR 2025 (https://arxiv.org/abs/2412.14711),
equations 2, 10 and 11; balance loss, Fedus et al., "Switch Transformers", JMLR 2022
(https://arxiv.org/abs/2101.03961), equation 4; mutual information, Pan et al., "Dense Training, Sparse
Inference", 2024 (https://arxiv.org/abs/2404.05567).

Shapes
    B batch, T tokens, D model width, E experts a token, k active ones.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from baselines.layers import PerTokenLinear

IDLE = 0.1  # an expert is idle below this fraction of the usage that it has when all are used equally
TopKOrder = Literal["softmax_first", "top_k_first"]


class Router(nn.Module):
    """A linear map from each token to one logit for each expert, separate for every token or shared by all.

    ``bias`` is the initial value of all biases: at 0 a ReLU opens about half the gates, at 1 nearly all.

    Shapes
        (B, T, D) -> (B, T, E).

    Cost
        T*(D*E + E) parameters (1/T of that if shared), 2*T*D*E FLOPs a sample.
    """

    def __init__(
        self, num_tokens: int, model_dim: int, num_experts: int, shared: bool = False, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.linear = (
            nn.Linear(model_dim, num_experts)
            if shared
            else PerTokenLinear(num_tokens, model_dim, num_experts)
        )
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, s: Tensor) -> Tensor:
        return self.linear(s)


def top_k_gates(logits: Tensor, k: int, order: TopKOrder, scale: float) -> Tensor:
    """The k largest gates of each token, times ``scale``; zeros elsewhere.

    "softmax_first" takes the softmax of all logits, so the k gates sum to less than 1. "top_k_first" takes
    the softmax of the k largest logits, so the gates sum to 1. With k = E both are the same. Exactly k gates
    are open, even with ties.

    Shapes
        (B, T, E) -> (B, T, E).
    """
    kept = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, logits.topk(k, dim=-1).indices, True)
    if order == "top_k_first":
        logits = logits.masked_fill(~kept, -torch.inf)
    return logits.softmax(-1) * kept * scale


def usage(gates: Tensor) -> Tensor:
    """Share of the batch for which each expert is active, without gradient: (B, T, E) -> (T, E).

    In float32 or better, since bfloat16 cannot distinguish shares that differ by half a percent.
    """
    return (gates.detach() > 0).to(torch.promote_types(gates.dtype, torch.float32)).mean(0)


def balance_loss(gates: Tensor, probabilities: Tensor, k: float) -> Tensor:
    """Switch's loss, E * sum over experts of f * P, averaged over tokens; 1 if all are used equally.

    f is the share of the dispatched rows that an expert receives, P its mean probability. Only P has a
    gradient.

    Shapes
        gates, probabilities: (B, T, E). Returns a scalar.
    """
    shares = usage(gates) / k
    return gates.shape[-1] * (shares * probabilities.mean(0)).sum(-1).mean()


def mutual_information_loss(probabilities: Tensor) -> Tensor:
    """Minus the mutual information of rows and experts, averaged over tokens.

    It is smallest if every row chooses its expert with certainty and all experts are used equally.

    Shapes
        (B, T, E) -> a scalar, in nats.
    """
    return (_entropy(probabilities).mean(0) - _entropy(probabilities.mean(0))).mean()


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(-1)


def closure_penalty(logits: Tensor) -> Tensor:
    """How far the logits of closed gates lie below zero, summed over a row and averaged over the batch.

    The mirror image of `sparsity_penalty`. It has a gradient for closed gates, for which ReLU has none, and
    none for open ones: it raises a logit until its gate opens, and no further.

    Shapes
        (B, T, E) -> a scalar.
    """
    return torch.relu(-logits).mean(0).sum()


def revival_penalty(logits: Tensor, ratio: float) -> Tensor:
    """`closure_penalty` of idle experts only.

    It is zero for an expert that is active in a tenth of ``ratio`` or more of the rows, and full for one that
    never opens. An expert that is almost always closed gets hardly any other gradient, while the others use
    up the budget.

    Shapes
        (B, T, E) -> a scalar.
    """
    idleness = (1 - usage(logits) / (IDLE * ratio)).clamp_min(0)  # (T, E)
    return (torch.relu(-logits).mean(0) * idleness).sum()


def sparsity_penalty(gates: Tensor, balanced: bool, k: float) -> Tensor:
    """Sum of a row's gates over tokens and experts, averaged over the batch.

    If ``balanced``, each gate is multiplied by E/k times the usage of its expert, so that the busiest experts
    are penalised most.

    Shapes
        (B, T, E) -> a scalar.
    """
    means = gates.mean(0)
    if balanced:
        means = means * usage(gates) * gates.shape[-1] / k
    return means.sum()
