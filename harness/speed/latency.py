"""The p99 of one model's calls, in rounds: a moment in which the machine is busy spoils one of them alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from datasets.prepared import PreparedDataset
from harness.machine.peaks import DTYPES
from harness.machine.timing import seconds_of
from harness.records.spec import RunSpec
from harness.runs.run import build_model
from harness.speed.models import inference_call, read_batches
from harness.training.ranks import World

ROUNDS = 7
CALLS_A_ROUND = 60
WARM_UP_CALLS = 3


def time_p99(spec: RunSpec, prepared: PreparedDataset, batch_size: int, device: torch.device) -> list[float]:
    """Milliseconds of the p99 of each of `ROUNDS` rounds of calls of the whole model, look-ups included.

    Raises InputError where the training split has less than a batch.
    """
    model: Any = build_model(spec, prepared, World(0, 1, device))
    batches = read_batches(spec, prepared, batch_size, device)
    call, _ = inference_call(model, DTYPES[spec.training.precision], batches, "whole")
    for _ in range(WARM_UP_CALLS):
        call()
    rounds = [[seconds_of(call, device) for _ in range(CALLS_A_ROUND)] for _ in range(ROUNDS)]
    return [1e3 * float(np.quantile(seconds, 0.99)) for seconds in rounds]
