"""The training step: loss, gradients and one update of all weights."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from baselines.contract import StatisticsUpdate
from datasets.batch import Batch
from harness.model.assembly import Prediction
from harness.records.spec import Training
from harness.training.ranks import World, dense_side


class DivergenceError(ArithmeticError):
    """The loss or a score became NaN or infinite at ``step``."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} became NaN or infinite at step {step}")
        self.step = step


class StepResult(NamedTuple):
    """What a step measured, still on the device.

    ``loss``: this rank's share of the loss. ``rows``: the batch's rows on all ranks. ``statistics``: the
    architecture's, of the rows of all ranks.
    """

    loss: Tensor
    rows: Tensor
    statistics: dict[str, Tensor]


def train_step(
    model: nn.Module,
    batch: Batch,
    optimizer: Optimizer,
    training: Training,
    world: World,
    is_own: bool = True,
) -> StepResult:
    """One update on one batch. ``is_own`` is False where it only fills a step that this rank has no rows for.

    Embedding tables update inside ``backward`` (fused optimizer), dense parameters here. Gradients
    are averaged over ranks, so the loss is multiplied by the number of ranks to make the average a sum. The
    architecture's penalties and statistics are averaged over the rows of all ranks, so that an
    architecture that adjusts itself by them does so in the same way on every rank.
    """
    defined, rows, share = _count_labels(batch, world, is_own)
    optimizer.zero_grad(set_to_none=True)
    with autocast(training, world.device):
        prediction = model(batch)
    loss = prediction_loss(prediction, batch.labels, defined)
    (world.size * (loss + share * sum(prediction.penalties.values()))).backward()
    if training.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(dense_side(model).parameters(), training.clip_norm)
    optimizer.step()
    statistics = {name: world.sum(value * share) for name, value in prediction.statistics.items()}
    backbone: Any = dense_side(model).backbone
    if statistics and isinstance(backbone, StatisticsUpdate):
        backbone.update(statistics)
    return StepResult(loss.detach(), rows, statistics)


def _count_labels(batch: Batch, world: World, is_own: bool) -> tuple[Tensor, Tensor, Tensor]:
    """On all ranks, the defined labels (G,) and the rows; and this batch's share of the rows."""
    counts = count_defined(batch.labels)
    own = counts.new_full((1,), len(batch.labels) * is_own)  # a tensor made of a list would wait for the GPU
    totals = world.sum(torch.cat([counts, own]))
    return totals[:-1], totals[-1], own[0] / totals[-1]


def count_defined(labels: Tensor) -> Tensor:
    """(B, G) labels -> (G,) how many of each task are defined."""
    return (~torch.isnan(labels)).sum(0).float()


def task_loss(logits: Tensor, labels: Tensor, defined: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over each task's defined rows, then over tasks.

    Shapes
        logits, labels: (B, G); a NaN label is undefined and counts for nothing.
        defined: (G,) number of defined labels to average over (of all ranks). Returns a scalar.
    """
    known = ~torch.isnan(labels)
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), torch.where(known, labels, 0.0), reduction="none"
    )
    return ((losses * known).sum(0) / defined.clamp(min=1)).mean()


def prediction_loss(prediction: Prediction, labels: Tensor, defined: Tensor) -> Tensor:
    """The weighted mean of the task losses of an architecture's representation and its further views."""
    views = [(1.0, prediction.logits), *prediction.views]
    losses = torch.stack([weight * task_loss(logits, labels, defined) for weight, logits in views])
    return losses.sum() / sum(weight for weight, _ in views)


def dense_optimizer(model: nn.Module, training: Training) -> Optimizer:
    """The optimizer of the dense side. RMSProp keeps PyTorch's alpha = 0.99 and eps = 1e-8."""
    parameters = list(dense_side(model).parameters())
    rate, decay = training.dense_lr, training.weight_decay
    if training.dense_optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate, weight_decay=decay)
    cls = torch.optim.AdamW if training.dense_optimizer == "adamw" else torch.optim.Adam
    return cls(parameters, lr=rate, weight_decay=decay, fused=True)


def set_learning_rate(optimizer: Optimizer, training: Training, step: int, num_steps: int) -> None:
    """The dense learning rate of step ``step`` of ``num_steps``, by the warm-up and the schedule."""
    for group in optimizer.param_groups:
        group["lr"] = training.dense_lr * _rate(training, step, num_steps)


def _rate(training: Training, step: int, num_steps: int) -> float:
    """As a share of ``dense_lr``: rises linearly over the warm-up, then stays or falls to 0 at the end."""
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    done = (step - training.warmup_steps) / max(1, num_steps - training.warmup_steps)
    if training.schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return 1 - done if training.schedule == "linear" else 1.0


def autocast(training: Training, device: torch.device) -> AbstractContextManager:
    """bf16 matrix products where the recipe asks for them; weights and losses stay fp32."""
    if training.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of the random numbers within a training step."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
