"""The coefficient of the sparsity penalty: raised while too many experts are active, else lowered.

Wang et al., "ReMoE", ICLR 2025 (https://arxiv.org/abs/2412.14711), equations 7 and 8.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Scope = Literal["global", "per_layer", "fixed"]


class PenaltyCoefficient(nn.Module):
    r"""One coefficient for all layers, or one each, held in a buffer so that checkpoints keep it.

    .. math:: \lambda \leftarrow \mathrm{clamp}\big(\lambda\,\alpha^{\pm 1}\big)

    up while the active share of experts is above ``target``, else down. The rule integrates without
    looking at the size of the error; the clamp keeps it from winding up where the target is out of
    reach.

    Shapes
        ``value``: (L,), the coefficient of every layer.
    """

    value: Tensor

    def __init__(
        self,
        num_layers: int,
        target: float,
        scope: Scope,
        initial: float,
        growth: float,
        bounds: tuple[float, float],
    ) -> None:
        super().__init__()
        self.target, self.scope, self.growth, self.bounds = target, scope, growth, bounds
        self.register_buffer("value", torch.full((num_layers,), initial))

    @torch.no_grad()
    def update(self, active_experts: Tensor) -> None:
        """After a step whose experts were active for these shares (L, T, E) of the whole batch."""
        if self.scope == "fixed":
            return
        ratio = active_experts.mean((1, 2))
        if self.scope == "global":
            ratio = ratio.mean().expand_as(ratio)
        factor = torch.where(ratio > self.target, self.growth, 1 / self.growth)
        self.value.mul_(factor).clamp_(*self.bounds)
