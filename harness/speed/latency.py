"""The p99 of one model's calls, in rounds: a moment in which the machine is busy spoils one of them alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from baselines.contract import Experts
from datasets.prepared import PreparedDataset
from files.errors import InputError
from harness.machine.peaks import DTYPES
from harness.machine.timing import seconds_of
from harness.records.spec import RunSpec
from harness.runs.run import build_model
from harness.speed.models import inference_call, read_batches, share_of_open_experts
from harness.training.ranks import World

ROUNDS = 7
CALLS_A_ROUND = 60
WARM_UP_CALLS = 3
CLOSE_SHARE = 0.05  # of open experts, to what is intended


def time_p99(spec: RunSpec, prepared: PreparedDataset, batch_size: int, device: torch.device) -> list[float]:
    """Milliseconds of the p99 of each of `ROUNDS` rounds of calls of the whole model, look-ups included.

    Raises InputError where the training split has less than a batch, or the model, which is untrained, opens
    another share of its experts than it is meant to.
    """
    model: Any = build_model(spec, prepared, World(0, 1, device))
    batches = read_batches(spec, prepared, batch_size, device)
    call, _ = inference_call(model, DTYPES[spec.training.precision], batches, "whole")
    _require_intended_experts(spec, model.dense.backbone, call, len(batches))
    for _ in range(WARM_UP_CALLS):
        call()
    rounds = [[seconds_of(call, device) for _ in range(CALLS_A_ROUND)] for _ in range(ROUNDS)]
    return [1e3 * float(np.quantile(seconds, 0.99)) for seconds in rounds]


def _require_intended_experts(
    spec: RunSpec, backbone: Any, call: Callable[[], Any], num_batches: int
) -> None:
    """ReLU gates open as many experts as they are meant to only once they are trained; top-k always does."""
    if not isinstance(backbone, Experts):
        return
    share = share_of_open_experts(call, num_batches)
    if share is not None and abs(share / backbone.active_ratio - 1) > CLOSE_SHARE:
        raise InputError(
            f"{spec.contestant.label}: cannot be matched on latency, as before training it opens {share:.0%} "
            f"of its experts and not {backbone.active_ratio:.0%}; give the row a budget of flops_per_sample, "
            "or moe.routing top_k"
        )
