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
from harness.model.embeddings import SPARSE_EPS
from harness.records.spec import Training
from harness.training.ranks import World, dense_side, embedding_side


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
    optimizer: Optimizer | Optimizers,
    training: Training,
    world: World,
    is_own: bool = True,
) -> StepResult:
    """One update on one batch. ``is_own`` is False where it only fills a step that this rank has no rows for.

    Embedding tables update inside ``backward`` (fused optimizer) unless the recipe updates them whole, dense
    parameters here. Gradients
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
    if training.table_l2:
        _add_table_gradients(model, training.table_l2)
    if training.clip_norm is not None:
        clipped = model if training.updates_whole_tables else dense_side(model)
        torch.nn.utils.clip_grad_norm_(clipped.parameters(), training.clip_norm)
    optimizer.step()
    statistics = {name: world.sum(value * share) for name, value in prediction.statistics.items()}
    backbone: Any = dense_side(model).backbone
    if statistics and isinstance(backbone, StatisticsUpdate):
        backbone.update(statistics)
    return StepResult(loss.detach(), rows, statistics)


def _add_table_gradients(model: nn.Module, weight: float) -> None:
    """Add the gradient of ``weight`` / 2 times the squared norm of all tables."""
    with torch.no_grad():
        for table in embedding_side(model).parameters():
            assert table.grad is not None
            table.grad.add_(table, alpha=weight)


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


class Optimizers:
    """That of the dense side and, where there are tables that each step changes whole, theirs, used as one.

    Tables of which only looked-up rows change are updated within the backward pass.
    """

    def __init__(self, dense: Optimizer, tables: Optimizer | None = None) -> None:
        self.dense, self.tables = dense, tables
        self._each = [dense] if tables is None else [dense, tables]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self._each:
            optimizer.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        for optimizer in self._each:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The dense side's alone where there is no other, as earlier checkpoints have it."""
        if self.tables is None:
            return self.dense.state_dict()
        return {"dense": self.dense.state_dict(), "tables": self.tables.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.tables is None:
            self.dense.load_state_dict(state)
        else:
            self.dense.load_state_dict(state["dense"])
            self.tables.load_state_dict(state["tables"])


def optimizers_of(model: nn.Module, training: Training) -> Optimizers:
    """The optimizers of a ranking model, as the recipe asks for them."""
    return Optimizers(
        dense_optimizer(model, training),
        _table_optimizer(model, training) if training.updates_whole_tables else None,
    )


def _table_optimizer(model: nn.Module, training: Training) -> Optimizer | None:
    """Of whole tables; None where the data have none.

    What a batch does not look up goes on with Adam's moments, and with ``table_l2``.
    """
    parameters = list(embedding_side(model).parameters())
    if not parameters:
        return None
    if training.sparse_optimizer == "adam":
        return torch.optim.Adam(parameters, lr=training.sparse_lr, fused=True)
    if training.sparse_optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr=training.sparse_lr, eps=SPARSE_EPS)
    return torch.optim.SGD(parameters, lr=training.sparse_lr)


def dense_optimizer(model: nn.Module, training: Training) -> Optimizer:
    """The optimizer of the dense side. RMSProp keeps PyTorch's alpha = 0.99 and eps = 1e-8."""
    parameters = list(dense_side(model).parameters())
    rate, decay = training.dense_lr, training.weight_decay
    if training.dense_optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate, weight_decay=decay)
    cls = torch.optim.AdamW if training.dense_optimizer == "adamw" else torch.optim.Adam
    return cls(parameters, lr=rate, weight_decay=decay, fused=True)


def set_learning_rates(
    model: nn.Module, optimizers: Optimizers, training: Training, step: int, num_steps: int, left: float = 1.0
) -> None:
    """The learning rates of step ``step`` of ``num_steps``, by the warm-up and the schedule.

    ``left`` is what plateaus left of them. The tables' rate follows these alone.
    """
    dense_lr = training.dense_lr * _rate(training, step, num_steps)
    if not training.decays_on_plateau:
        _set_rate(optimizers.dense, dense_lr)
        return
    least = training.least_lr
    _set_rate(optimizers.dense, max(dense_lr * left, min(dense_lr, least)))
    sparse_lr = max(training.sparse_lr * left, min(training.sparse_lr, least))
    fused = [optimizers.tables] if optimizers.tables else embedding_side(model).fused_optimizers()
    for optimizer in fused:
        _set_rate(optimizer, sparse_lr)
        if optimizer is not optimizers.tables:
            optimizer.zero_grad()  # which passes the rate on to the tables, and does nothing else


def _set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


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
