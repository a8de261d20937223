"""Batches on the device before they are needed: the next one is copied while the GPU computes on this one.

Reading has a thread of its own (`datasets.reader`). On a GPU a batch that was read is put into pinned memory
and copied on a stream beside the one that computes, one batch ahead. Where it is handed out the computing
stream waits for the copy, and the process does not. On a CPU nothing is copied, and nothing runs ahead.

Not TorchRec's pipelines (`torchrec.distributed.train_pipeline`), whose ``progress`` makes the whole step:
backward and the optimizer's step follow each other there, with no place between for clipping, and the loss
must come out of ``forward``, while ours is scaled by the labels of all ranks, which are counted before it.
``TrainPipelineSparseDist`` needs sharded tables, so a process group even for one GPU, and rewrites the
modules that look up; ours also look up positions that ``forward`` itself makes (target attention).
``TrainPipelineBase``, which is left, is the two streams below. A step's number, which decides its learning
rate, its seed and its checkpoint, stays with the loop this way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import TypeVar

import torch

from datasets.batch import Batch

Item = TypeVar("Item")
Started = TypeVar("Started")


def on_device(batches: Generator[Batch], device: torch.device) -> Generator[Batch]:
    """The same batches on ``device``, in order. Closing it closes ``batches``.

    What ``batches`` raises is raised here, on a GPU in the place of the batch before.
    """
    with closing(batches):
        if device.type != "cuda":
            yield from (batch.to(device) for batch in batches)
            return
        stream = torch.cuda.Stream(device)
        for batch, arrived in one_ahead(batches, lambda batch: _start_copy(batch, device, stream)):
            computing = torch.cuda.current_stream(device)
            computing.wait_event(arrived)
            batch.record_stream(computing)  # or the copying stream would reuse its memory too early
            yield batch


def one_ahead(items: Iterable[Item], start: Callable[[Item], Started]) -> Generator[Started]:
    """``start`` of each item, in order, which is called before what was started before it is handed out."""
    started: deque[Started] = deque()
    for item in items:
        started.append(start(item))
        if len(started) > 1:
            yield started.popleft()
    yield from started


def _start_copy(
    batch: Batch, device: torch.device, stream: torch.cuda.Stream
) -> tuple[Batch, torch.cuda.Event]:
    """The batch on the device, and the event after which its numbers are there."""
    arrived = torch.cuda.Event()
    with torch.cuda.stream(stream):
        copied = batch.pin_memory().to(device)
        arrived.record(stream)
    return copied, arrived
