"""A counter of costs that asks each architecture's closed form, so that every budget can be tried."""

from __future__ import annotations

from harness.model.cost import BudgetKind, CostCounter
from harness.records.cost import Cost
from tests.baselines.closed_forms import closed_form


class ByFormula(CostCounter):
    """Counts by the closed form, a thousand times faster; of the dense side, only backbone and towers."""

    def budgeted(self, architecture: str, config: dict, kind: BudgetKind) -> int:
        form, shape = closed_form(architecture), (self.inputs.num_tokens, self.inputs.token_dim)
        if kind == "dense_params":
            return form.params(*shape, **config)
        towers = self.num_tasks * 2 * self.inputs.tower_dim * (form.output_dim(*shape, **config) + 1)
        return round(form.flops(*shape, **config)) + towers

    def cost(self, architecture: str, config: dict) -> Cost:
        flops = self.budgeted(architecture, config, "flops_per_sample")
        params = self.budgeted(architecture, config, "dense_params")
        return Cost(params, 0, flops, flops, 3 * flops)
