"""What records say of the machine that carried them out, found out once a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from harness.machine.environment import environment
from harness.machine.peaks import Peak, peak


@dataclass(frozen=True)
class Machine:
    """The peak that MFU is measured against, and versions, processor and threads."""

    peak: Peak
    environment: dict[str, str | int | None]


@cache
def machine_of(device: torch.device, precision: str) -> Machine:
    """This machine's, with the peak of one of its devices at a precision."""
    return Machine(peak(device, precision), environment())
