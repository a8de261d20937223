"""What a model costs, counted and not measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """FLOPs are forward, a sample, multiply-add = 2.

    ``flops_per_sample`` counts every expert of a sparse model; ``active_flops_per_sample`` leaves out
    the experts that a sample does not use: the share the model is meant to use, or, in the record of
    a run, the share its test rows did. A dense model uses all. ``train_flops_per_sample`` is three
    times the forward pass that training runs: with every expert, and with each further view.
    """

    dense_params: int
    sparse_params: int
    flops_per_sample: int
    active_flops_per_sample: int
    train_flops_per_sample: int
    expert_flops_per_sample: int = 0

    def at_active_ratio(self, ratio: float) -> Cost:
        """This cost where a sample uses ``ratio`` of the experts."""
        skipped = round((1 - ratio) * self.expert_flops_per_sample)
        return dataclasses.replace(self, active_flops_per_sample=self.flops_per_sample - skipped)

    @property
    def flops_per_batch_512(self) -> int:
        return 512 * self.flops_per_sample

    def as_dict(self) -> dict[str, int]:
        return dataclasses.asdict(self) | {"flops_per_batch_512": self.flops_per_batch_512}
