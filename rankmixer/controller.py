"""The coefficients that hold the share of active experts: one closes gates, the other opens them.

Wang et al., "ReMoE", ICLR 2025 (https://arxiv.org/abs/2412.14711), equations 7 and 8. Theirs looks at
the active share of the step that was. The share follows the coefficient late, since gates close by many
small steps, so over a few hundred steps their rule swings around the target; looking ahead along the
share's recent trend damps that. And theirs has no way up: a gate that a ReLU closed has no gradient, so
that a share which has sunk below the target stays there. The opening coefficient, which multiplies how far
the logits of closed gates lie below zero, rises while the closing one falls. With a lead of zero, and the
opening coefficient unused, it is theirs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Scope = Literal["global", "per_layer", "fixed"]
TREND_DECAY = 0.9  # the trend is the share less its moving average, which lags by about ten steps


class PenaltyCoefficient(nn.Module):
    r"""One pair of coefficients for all layers, or one each, held in buffers so that checkpoints keep them.

    .. math::
        \lambda \leftarrow \mathrm{clamp}\big(\lambda\,\alpha^{\mathrm{sign}(a - a^*)}\big), \qquad
        \mu \leftarrow \mathrm{clamp}\big(\mu\,\alpha^{-\mathrm{sign}(a - a^*)}\big), \qquad
        a = S + \mathrm{lead}\,(S - \bar S)

    with S the active share, :math:`\bar S` its moving average and :math:`a^*` the target. The clamp
    keeps the coefficients from winding up where the target is out of reach.

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
        """After a step whose experts were active for these shares (L, T, E) of the whole batch."""
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
