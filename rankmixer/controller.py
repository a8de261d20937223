"""Two coefficients that keep the share of active experts at its target: one closes gates, one opens them.

Based on Wang et al., "ReMoE", ICLR 2025 (https://arxiv.org/abs/2412.14711), equations 7 and 8, with two
changes. Their rule compares the target with the active share of the last step. The share follows the
coefficient with a delay, since gates close by many small steps, so over a few hundred steps their rule
oscillates around the target. Extrapolating the recent trend of the share damps this. Their rule also cannot
open gates: a gate that a ReLU has closed has no gradient, so a share that has fallen below the target stays
there. The opening coefficient multiplies how far the logits of closed gates lie below zero, and rises while
the closing coefficient falls. With a lead of zero and without the opening coefficient, the rule is theirs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Scope = Literal["global", "per_layer", "fixed"]
TREND_DECAY = 0.9  # of the moving average, which lags by about ten steps; the trend is the share minus it


class PenaltyCoefficient(nn.Module):
    r"""A pair of coefficients for all layers, or a pair for each, in buffers so that checkpoints save them.

    .. math::
        \lambda \leftarrow \mathrm{clamp}\big(\lambda\,\alpha^{\mathrm{sign}(a - a^*)}\big), \qquad
        \mu \leftarrow \mathrm{clamp}\big(\mu\,\alpha^{-\mathrm{sign}(a - a^*)}\big), \qquad
        a = S + \mathrm{lead}\,(S - \bar S)

    with S the active share, :math:`\bar S` its moving average and :math:`a^*` the target. The clamp
    keeps the coefficients from growing without limit if the target cannot be reached.

    Shapes
        ``value``, ``opening``: (L,), the closing coefficient :math:`\lambda` and the opening one
        :math:`\mu` of every layer.
    """

    value: Tensor
    opening: Tensor
    average: Tensor

    def __init__(
        self,
        num_layers: int,
        target: float,
        scope: Scope,
        initial: float,
        growth: float,
        lead: float,
        bounds: tuple[float, float],
    ) -> None:
        super().__init__()
        self.target, self.scope, self.growth, self.lead, self.bounds = target, scope, growth, lead, bounds
        self.register_buffer("value", torch.full((num_layers,), initial))
        self.register_buffer("opening", torch.full((num_layers,), initial))
        self.register_buffer("average", torch.full((num_layers,), torch.nan))  # no step yet

    @torch.no_grad()
    def update(self, active_experts: Tensor) -> None:
        """Adjust both after a step. ``active_experts`` (L, T, E): each expert's share of active rows."""
        if self.scope == "fixed":
            return
        share = active_experts.mean((1, 2))
        if self.scope == "global":
            share = share.mean().expand_as(share)
        average = torch.where(self.average.isnan(), share, self.average)
        is_over = share + self.lead * (share - average) > self.target
        growth = torch.where(is_over, self.growth, 1 / self.growth).to(self.value.dtype)
        self.value.mul_(growth).clamp_(*self.bounds)
        self.opening.div_(growth).clamp_(*self.bounds)
        self.average.copy_(TREND_DECAY * average + (1 - TREND_DECAY) * share)
