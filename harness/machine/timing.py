"""The clock of every measurement: wall time, read when the device has done all that it was asked to do."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

CPU = torch.device("cpu")


class Stopwatch:
    """Starts when it is made. Both its start and its readings wait for the device."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = device
        synchronize(device)
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """Seconds since the start."""
        synchronize(self.device)
        return time.perf_counter() - self._start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], object], device: torch.device = CPU) -> float:
    """One call, waited for: by events on a GPU, which has its own clock."""
    if device.type == "cuda":
        return seconds_a_call(call, 1)
    watch = Stopwatch(device)
    call()
    return watch.seconds()


def seconds_a_call(call: Callable[[], object], calls: int) -> float:
    """Seconds a call of several in succession on the GPU, which does not wait between them."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    synchronize(torch.device("cuda"))
    return begin.elapsed_time(end) / 1e3 / calls
