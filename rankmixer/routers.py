"""Routers of per-token experts: from tokens to gates, and the losses that keep experts in use.

An expert is reachable from its own token alone, so usage is counted over the batch for every token by
itself; a balance over all tokens' experts together would mean nothing.

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

IDLE = 0.1  # of the share that an expert has where all are used alike
TopKOrder = Literal["softmax_first", "top_k_first"]


class Router(nn.Module):
    """A linear map from each token to a logit an expert, of its own for every token or shared by all.

    ``bias`` is where all biases start: at 0 a ReLU opens about half the gates, at 1 nearly all.

    Shapes
        (B, T, D) -> (B, T, E).

    Cost
        T*(D*E + E) parameters (a T-th where shared), 2*T*D*E FLOPs a sample.
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

    "softmax_first" keeps the softmax's values, which then sum to less than 1; "top_k_first" takes the
    softmax of the kept logits, which sum to 1. At k = E they coincide. Exactly k gates stay, ties too.

    Shapes
        (B, T, E) -> (B, T, E).
    """
    kept = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, logits.topk(k, dim=-1).indices, True)
    if order == "top_k_first":
        logits = logits.masked_fill(~kept, -torch.inf)
    return logits.softmax(-1) * kept * scale


def usage(gates: Tensor) -> Tensor:
    """Share of the batch for which each expert is active, without gradient: (B, T, E) -> (T, E).

    In single precision at least, since bfloat16 cannot tell shares that lie a half of a percent apart.
    """
    return (gates.detach() > 0).to(torch.promote_types(gates.dtype, torch.float32)).mean(0)


def balance_loss(gates: Tensor, probabilities: Tensor, k: float) -> Tensor:
    """Switch's loss, E * sum over experts of f * P, averaged over tokens; 1 where all are used alike.

    f is an expert's share of what is dispatched, P its mean probability; the gradient is P's alone.

    Shapes
        gates, probabilities: (B, T, E). Returns a scalar.
    """
    shares = usage(gates) / k
    return gates.shape[-1] * (shares * probabilities.mean(0)).sum(-1).mean()


def mutual_information_loss(probabilities: Tensor) -> Tensor:
    """Minus the mutual information of rows and experts, averaged over tokens.

    Least where every row is sure of its expert and all experts are used alike.

    Shapes
        (B, T, E) -> a scalar, in nats.
    """
    return (_entropy(probabilities).mean(0) - _entropy(probabilities.mean(0))).mean()


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(-1)


def closure_penalty(logits: Tensor) -> Tensor:
    """How far the logits of a row's closed gates lie below zero, summed and averaged over the batch.

    The mirror image of `sparsity_penalty`. Its gradient reaches the gates whose ReLU has none, and is zero
    for open ones: it pulls each up until it opens and no further.

    Shapes
        (B, T, E) -> a scalar.
    """
    return torch.relu(-logits).mean(0).sum()


def revival_penalty(logits: Tensor, ratio: float) -> Tensor:
    """`closure_penalty` of idle experts alone: none from a tenth of ``ratio`` on, whole where nothing opens.

    An expert that is as good as closed has little gradient but this one, while the others have the budget.

    Shapes
        (B, T, E) -> a scalar.
    """
    idleness = (1 - usage(logits) / (IDLE * ratio)).clamp_min(0)  # (T, E)
    return (torch.relu(-logits).mean(0) * idleness).sum()


def sparsity_penalty(gates: Tensor, balanced: bool, k: float) -> Tensor:
    """Sum of a row's gates over tokens and experts, averaged over the batch.

    Balanced, each gate counts times E/k of its expert's usage, so that busy experts are held back most.

    Shapes
        (B, T, E) -> a scalar.
    """
    means = gates.mean(0)
    if balanced:
        means = means * usage(gates) * gates.shape[-1] / k
    return means.sum()
