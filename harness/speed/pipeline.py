"""How fast the whole training step is: beside plain PyTorch in the same run, and where its time goes.

The clock: waiting for the batch, look-ups, forward, backward and all updates, over some tens of steps after a
warm-up, on the same rows and the same dense side. Plain PyTorch (`harness.speed.plain_torch`) holds its rows
in memory, so that reading files is on our side of the comparison alone. It is timed twice: read row by row
through `DataLoader`, as tutorials do, and with batches cut out by index. Each of the three has a process of
its own, so that what one asks of its process (`harness.training.memory`) is not lent to the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import chain, repeat
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.prepared import PreparedDataset
from datasets.reader import ShardReader
from harness.machine.peaks import synchronize
from harness.machine.quiet import quiet_libraries
from harness.records.spec import RunSpec
from harness.speed.figures import figure
from harness.speed.plain_torch import PlainTraining
from harness.training.loop import autocast, dense_optimizer, prediction_loss, train_step
from harness.training.ranks import World
from harness.training.run import build_model

STAGES = ("read", "look_up", "forward", "backward", "update")
WARM_UP = 3  # steps
Step = Callable[[], object]


def profile_pipeline(
    spec: RunSpec,
    prepared: PreparedDataset,
    prefix: str,
    command: str,
    steps: int = 24,
    repeats: int = 5,
    rows: int = 65_536,
) -> list[dict[str, Any]]:
    """Samples a second of ours and of plain PyTorch, their ratios, and our stages' shares of a step.

    ``steps`` a repeat; the three are interleaved, so that a busy machine slows all. ``prefix`` starts the
    figures' names. On the CPU.
    """
    makers = {
        "ours": partial(_ours, spec, prepared),
        "plain": partial(_plain, spec, prepared, rows, by_row=True),
        "indexed": partial(_plain, spec, prepared, rows, by_row=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in makers}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(_process()) for name in makers}
        for name, process in processes.items():
            process.submit(_begin, makers[name], torch.get_num_threads()).result()
        for _ in range(repeats):
            for name, process in processes.items():
                seconds = process.submit(_seconds, steps).result()
                rates[name].append(spec.training.batch_size * steps / seconds)
    shares = [_stage_shares(spec, prepared, steps) for _ in range(repeats)]

    def told(name: str, values: list[float], unit: str) -> dict[str, Any]:
        return figure(f"{prefix}{name}", values, unit, command)

    ratios = [
        [a / b for a, b in zip(rates["ours"], rates[other], strict=True)] for other in ("plain", "indexed")
    ]
    return [
        told("pipeline_speedup_over_plain_torch", ratios[0], "x"),
        told("pipeline_speedup_over_indexed_torch", ratios[1], "x"),
        told("pipeline_samples_per_second", rates["ours"], "samples/s"),
        told("plain_torch_samples_per_second", rates["plain"], "samples/s"),
        told("indexed_torch_samples_per_second", rates["indexed"], "samples/s"),
        *(told(f"pipeline_{s}_share", [of[s] for of in shares], "of a step") for s in STAGES),
    ]


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=quiet_libraries)


_timed: list[Step] = []  # the one step of this process


def _begin(make: Callable[[], Step], threads: int) -> None:
    """Make this process's step, and warm it up."""
    torch.set_num_threads(threads)
    _timed.append(make())
    _seconds(WARM_UP)


def _seconds(steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        _timed[0]()
    return time.perf_counter() - start


def _batches(spec: RunSpec, prepared: PreparedDataset) -> Iterator[Batch]:
    """Whole batches of the training split, epoch after epoch."""
    size = spec.training.batch_size
    readers = (
        ShardReader(prepared, "train", size, spec.tasks, shuffle_seed=spec.seed, epoch=epoch)
        for epoch, _ in enumerate(repeat(None))
    )
    return (
        batch for batch in chain.from_iterable(reader.batches() for reader in readers) if len(batch) == size
    )


def _ours(spec: RunSpec, prepared: PreparedDataset) -> Step:
    world = World(0, 1, torch.device("cpu"))
    model = build_model(spec, prepared, world).train()
    optimizer, batches = dense_optimizer(model, spec.training), _batches(spec, prepared)

    def step() -> object:
        batch = next(batches)
        precision = autocast(spec.training, world.device)
        return train_step(
            model, batch, optimizer, _defined(batch.labels), spec.training.clip_norm, precision, world
        )

    return step


def _plain(spec: RunSpec, prepared: PreparedDataset, rows: int, by_row: bool) -> Step:
    training = PlainTraining(spec, prepared, rows, by_row)
    batches = chain.from_iterable(training.batches() for _ in repeat(None))
    return lambda: training.step(next(batches))


def _defined(labels: Tensor) -> Tensor:
    return (~torch.isnan(labels)).sum(0).float()


def _stage_shares(spec: RunSpec, prepared: PreparedDataset, steps: int) -> dict[str, float]:
    """The step taken apart: each stage's share of the time of ``steps`` steps."""
    device = torch.device("cpu")
    model: Any = build_model(spec, prepared, World(0, 1, device)).train()
    optimizer, batches = dense_optimizer(model, spec.training), _batches(spec, prepared)
    next(batches)
    spent = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        synchronize(device)
        spent[stage] += time.perf_counter() - start
        return result

    for _ in range(steps):
        batch = timed("read", partial(next, batches))
        looked_up = timed("look_up", partial(model.embeddings, batch.sparse))
        loss = timed("forward", partial(_loss, model.dense, looked_up, batch))
        timed("backward", loss.backward)
        timed("update", optimizer.step)
        optimizer.zero_grad(set_to_none=True)
    total = sum(spent.values())
    return {stage: seconds / total for stage, seconds in spent.items()}


def _loss(dense: nn.Module, looked_up: Any, batch: Batch) -> Tensor:
    prediction = dense(looked_up, batch.dense)
    penalties = sum(prediction.penalties.values())
    return prediction_loss(prediction, batch.labels, _defined(batch.labels)) + penalties
