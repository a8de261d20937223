"""How fast the whole training step is: beside plain PyTorch in the same run, and where its time goes.

The clock: waiting for the batch, look-ups, forward, backward and all updates, over some tens of steps after a
warm-up, on the same rows and the same dense side. Plain PyTorch (`harness.speed.profiles.plain_torch`) holds
its rows in memory, so that reading files is on our side of the comparison alone. It is timed twice: read row
by row through `DataLoader`, as tutorials do, and with batches cut out by index. Each of the three has a
process of its own, so that the memory that one keeps for itself (`harness.training.memory`) does not help the
others.
"""

from __future__ import annotations

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
from harness.machine.quiet import quiet_libraries
from harness.machine.timing import Stopwatch, seconds_of
from harness.records.spec import RunSpec
from harness.runs.run import build_model
from harness.speed.profiles.figures import figure
from harness.speed.profiles.plain_torch import PlainTraining
from harness.training.ranks import World
from harness.training.step import count_defined, optimizers_of, prediction_loss, train_step

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

    def prefixed(name: str, values: list[float], unit: str) -> dict[str, Any]:
        return figure(f"{prefix}{name}", values, unit, command)

    ratios = [
        [a / b for a, b in zip(rates["ours"], rates[other], strict=True)] for other in ("plain", "indexed")
    ]
    return [
        prefixed("pipeline_speedup_over_plain_torch", ratios[0], "x"),
        prefixed("pipeline_speedup_over_indexed_torch", ratios[1], "x"),
        prefixed("pipeline_samples_per_second", rates["ours"], "samples/s"),
        prefixed("plain_torch_samples_per_second", rates["plain"], "samples/s"),
        prefixed("indexed_torch_samples_per_second", rates["indexed"], "samples/s"),
        *(prefixed(f"pipeline_{s}_share", [share[s] for share in shares], "of a step") for s in STAGES),
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
    watch = Stopwatch()
    for _ in range(steps):
        _timed[0]()
    return watch.seconds()


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
    optimizer, batches = optimizers_of(model, spec.training), _batches(spec, prepared)
    return lambda: train_step(model, next(batches), optimizer, spec.training, world)


def _plain(spec: RunSpec, prepared: PreparedDataset, rows: int, by_row: bool) -> Step:
    training = PlainTraining(spec, prepared, rows, by_row)
    batches = chain.from_iterable(training.batches() for _ in repeat(None))
    return lambda: training.step(next(batches))


def _stage_shares(spec: RunSpec, prepared: PreparedDataset, steps: int) -> dict[str, float]:
    """The step taken apart: each stage's share of the time of ``steps`` steps."""
    model: Any = build_model(spec, prepared, World(0, 1, torch.device("cpu"))).train()
    optimizer, batches = optimizers_of(model, spec.training), _batches(spec, prepared)
    next(batches)
    spent = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, call: Callable[[], Any]) -> Any:
        results: list[Any] = []
        spent[stage] += seconds_of(lambda: results.append(call()))
        return results[0]

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
    return prediction_loss(prediction, batch.labels, count_defined(batch.labels)) + penalties
