"""What a call needs and where its time goes: most memory held, and operators by their share of the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

SHOWN_OPERATORS = 12


def peak_memory(
    call: Callable[[], object], model: nn.Module, optimizer: Optimizer | None, device: torch.device
) -> int:
    """Most bytes that the model needs during a call: weights, optimizer state, gradients, activations."""
    if optimizer is not None:
        optimizer.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return _held(model, optimizer) + torch.cuda.max_memory_allocated(device) - before
    tracker = MemTracker()
    tracker.track_external(model, *([optimizer] if optimizer else []))
    with tracker:
        call()
    return int(tracker.get_tracker_snapshot("peak")[device]["Total"])


def _held(model: nn.Module, optimizer: Optimizer | None) -> int:
    states = optimizer.state.values() if optimizer else []
    moments = [value for state in states for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers(), *moments])


def operators(call: Callable[[], object], device: torch.device, calls: int = 3) -> list[dict[str, Any]]:
    """The operators that take most of a call's time, by their own share of it, the largest first."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
        for _ in range(calls):
            call()
    events = found.key_averages()
    spent = [(e.self_device_time_total if on_gpu else e.self_cpu_time_total, e) for e in events]
    spent.sort(key=lambda pair: -pair[0])
    total = sum(microseconds for microseconds, _ in spent) or 1.0
    return [
        {
            "operator": event.key,
            "calls": event.count / calls,
            "milliseconds": microseconds / calls / 1e3,
            "share": microseconds / total,
        }
        for microseconds, event in spent[:SHOWN_OPERATORS]
    ]
