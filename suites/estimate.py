"""How long a suite may take: an estimate printed before it starts.

    seconds of a run = FLOPs / (peak * EFFICIENCY) + rows * features * SECONDS_PER_FEATURE + SECONDS_PER_RUN

FLOPs are those of training and of scoring the validation and test rows; the peak is that against which
MFU is measured (`harness.machine.peaks.peak`).

The constants were set by hand to the times (``finished_at - started_at``) of 72 records of `quick` on
three datasets, made on 2 idle CPU cores, which others under reports/measured have since replaced. There
the sum over each dataset is met within 2%, and every run within a factor of 2 (0.51 for a Transformer to
1.76 for a DeepFM: these two reach unequal shares of the peak, and one constant serves all architectures).
What is no FLOP is not in the formula: a RankMixer of 64 or 72 narrow tokens, whose norms, sums and
permutations outweigh its products, takes about three times the estimate.
quick-kuairand-pure-recipe-paper, made while the machine did other work, took twice the estimate. No GPU
was measured: there, small models wait for their launches and take longer than this says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.data import PreparedDataset
from harness.records.cost import Cost
from harness.records.spec import Training

EFFICIENCY = 0.4
SECONDS_PER_FEATURE = 0.25e-6
SECONDS_PER_RUN = 1.0


@dataclass(frozen=True)
class Workload:
    """What one run computes: FLOPs, rows read (each time that they are), and looked-up features a row."""

    flops: float
    rows: int
    num_features: int

    @classmethod
    def of(cls, training: Training, cost: Cost, prepared: PreparedDataset) -> Workload:
        """The whole of a run, without early stopping."""
        trained = training.epochs * prepared.rows["train"]
        validations = training.epochs * training.validations_per_epoch
        scored = validations * prepared.rows["valid"] + prepared.rows["test"]
        return cls(
            flops=trained * cost.train_flops_per_sample + scored * cost.active_flops_per_sample,
            rows=trained + scored,
            num_features=len(prepared.schema.features),
        )

    def seconds(self, peak_flops: float) -> float:
        """Time on a machine whose fastest matrix products reach ``peak_flops`` a second."""
        computing = self.flops / (peak_flops * EFFICIENCY)
        return computing + self.rows * self.num_features * SECONDS_PER_FEATURE + SECONDS_PER_RUN


def announcement(
    workloads: Sequence[Workload], architectures: Sequence[str], peak_flops: float, at_once: int = 1
) -> str:
    """One sentence: how many runs are to train and about how long they take, or that there are none.

    ``at_once`` of them train at a time, each at ``peak_flops``.
    """
    if not workloads:
        return "nothing to train: every run has its record"
    names = list(dict.fromkeys(architectures))
    of = ", ".join(names) if len(names) <= 3 else f"{len(names)} architectures"
    runs = "1 run" if len(workloads) == 1 else f"{len(workloads)} runs"
    seconds = [workload.seconds(peak_flops) for workload in workloads]
    time = _words(max(sum(seconds) / at_once, max(seconds)))
    at_a_time = f", {at_once} at a time" if at_once > 1 else ""
    return (
        f"{runs} of {of} to train{at_a_time}: about {time} on this machine "
        "(estimated from FLOPs; the pace of the first runs corrects it)"
    )


def _words(seconds: float) -> str:
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
