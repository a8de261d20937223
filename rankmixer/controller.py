"""The coefficient of the sparsity penalty: raised while too many experts are active, else lowered.

Wang et al., "ReMoE", ICLR 2025 (https://arxiv.org/abs/2412.14711), equations 7 and 8. Theirs looks at
the active share of the step that was. The share follows the coefficient late, since gates close by many
small steps, so over a few hundred steps their rule swings around the target; looking ahead along the
share's recent trend damps that. With a lead of zero it is theirs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Scope = Literal["global", "per_layer", "fixed"]
TREND_DECAY = 0.9  # the trend is the share less its moving average, which lags by about ten steps


class PenaltyCoefficient(nn.Module):
    r"""One coefficient for all layers, or one each, held in buffers so that checkpoints keep it.

    .. math::
        \lambda \leftarrow \mathrm{clamp}\big(\lambda\,\alpha^{\mathrm{sign}(a - a^*)}\big), \qquad
        a = S + \mathrm{lead}\,(S - \bar S)

    with S the active share, :math:`\bar S` its moving average and :math:`a^*` the target. The clamp
    keeps the coefficient from winding up where the target is out of reach.

    Shapes
        ``value``: (L,), the coefficient of every layer.
    """

    value: Tensor
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
        self.value.mul_(torch.where(is_over, self.growth, 1 / self.growth)).clamp_(*self.bounds)
        self.average.copy_(TREND_DECAY * average + (1 - TREND_DECAY) * share)
