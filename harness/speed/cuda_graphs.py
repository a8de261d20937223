"""A call as a CUDA graph: its kernels are launched together, so a short one no longer waits for Python.

A graph reads and writes the memory that it was captured with. What may be captured therefore keeps its inputs
where they are, and neither waits for the GPU nor decides anything by what is on it; an architecture that
runs only the experts that a gate opens cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from files.errors import InputError

T = TypeVar("T")
WARM_UP_CALLS = 3  # libraries choose kernels and allocate workspaces in the first


def require_cuda_graphs(device: torch.device) -> None:
    """Raise InputError on a device that has no CUDA graphs."""
    if device.type != "cuda":
        raise InputError(
            f"--cuda-graphs: the {device.type} has none; leave the flag out, or use --device cuda where "
            "there is an NVIDIA GPU"
        )


def captured(call: Callable[[], T], name: str) -> Callable[[], T]:
    """``call`` as replays of a CUDA graph, which return the tensors that every replay writes anew.

    Raises InputError, with the ``name`` of what was to be captured, where it cannot be.
    """
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    try:
        with torch.cuda.graph(graph):
            output = call()
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"--cuda-graphs: {name} cannot be captured ({reason}); leave it out of the suite, or the flag"
        ) from error

    def replay() -> T:
        graph.replay()
        return output

    return replay
