"""The training step, the loop around it, and prediction.

The clock
    ``train_seconds`` is the time of training steps: waiting for the batch, look-ups, forward,
    backward and both optimizers. Not in it: the first stretch of STEPS_PER_LOOK steps of every
    epoch and start (warm-up), a last stretch with a short batch (which torch.compile compiles anew),
    validation, checkpoints and set-up. The device is synchronised before every reading.
    ``train_samples_per_second`` = samples of the timed steps / ``train_seconds``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from datasets.batch import Batch
from datasets.prepared import PreparedDataset
from datasets.reader import ShardReader
from files.errors import InputError
from harness.evaluation.metrics import NonFiniteScores
from harness.machine.peaks import synchronize
from harness.model.assembly import Prediction
from harness.records.spec import RunSpec, Training
from harness.training import checkpoint
from harness.training.prefetch import on_device
from harness.training.progress import Watcher
from harness.training.ranks import World, dense_side

STEPS_PER_LOOK = 20  # how often the loss is read back from the device
EVAL_BATCH_SIZE = 4096


class DivergenceError(ArithmeticError):
    """The loss or a score became NaN or infinite at ``step``."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} became NaN or infinite at step {step}")
        self.step = step


@dataclass
class Progress:
    """Where a run stands; together with the weights it is all that a checkpoint needs."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    step: int = 0
    samples: int = 0
    timed_samples: int = 0
    timed_seconds: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)
    routing: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_weights: tuple[int, str] | None = None  # where they are kept: harness.training.checkpoint.save_best
    stale_validations: int = 0
    stopped: bool = False


# ---------------------------------------------------------------------------------------------
# The step
# ---------------------------------------------------------------------------------------------


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


def train_step(
    model: nn.Module,
    batch: Batch,
    optimizer: Optimizer,
    defined: Tensor,
    clip_norm: float | None,
    precision: AbstractContextManager,
    world: World,
    share: float | Tensor = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """One update on one batch; returns this rank's share of the loss, still on the device, and statistics.

    Embedding tables update inside ``backward`` (fused optimizer), dense parameters here. Gradients
    are averaged over ranks, so the loss is scaled by their number to make the average a sum. The
    architecture's penalties and statistics are averaged over all ranks' rows, of which ``share`` are
    this batch's, so that one that steers itself by them does so alike on every rank.
    """
    optimizer.zero_grad(set_to_none=True)
    with precision:
        prediction = model(batch)
    loss = prediction_loss(prediction, batch.labels, defined)
    (world.size * (loss + share * sum(prediction.penalties.values()))).backward()
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(dense_side(model).parameters(), clip_norm)
    optimizer.step()
    statistics = {name: world.sum(value * share) for name, value in prediction.statistics.items()}
    backbone: Any = dense_side(model).backbone
    if statistics and hasattr(backbone, "update"):
        backbone.update(statistics)
    return loss.detach(), statistics


def dense_optimizer(model: nn.Module, training: Training) -> Optimizer:
    """The optimizer of the dense side. RMSProp keeps PyTorch's alpha = 0.99 and eps = 1e-8."""
    parameters = list(dense_side(model).parameters())
    rate, decay = training.dense_lr, training.weight_decay
    if training.dense_optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate, weight_decay=decay)
    cls = torch.optim.AdamW if training.dense_optimizer == "adamw" else torch.optim.Adam
    return cls(parameters, lr=rate, weight_decay=decay, fused=True)


def set_learning_rate(optimizer: Optimizer, training: Training, step: int) -> None:
    """Linear warm-up over ``warmup_steps``, then constant."""
    scale = min(1.0, (step + 1) / training.warmup_steps) if training.warmup_steps else 1.0
    for group in optimizer.param_groups:
        group["lr"] = training.dense_lr * scale


def autocast(training: Training, device: torch.device) -> AbstractContextManager:
    """bf16 matrix products where the recipe asks for them; weights and losses stay fp32."""
    if training.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


# ---------------------------------------------------------------------------------------------
# The loop
# ---------------------------------------------------------------------------------------------


@dataclass
class Loop:
    """What the loop needs beside the model: the run, its data, its folder, and whom to tell."""

    spec: RunSpec
    prepared: PreparedDataset
    folder: Path
    world: World
    watcher: Watcher
    checkpoint_seconds: float
    last_save: float = field(default_factory=lambda: time.monotonic())

    def reader(self, split: str, epoch: int = 0) -> ShardReader:
        training = split == "train"
        return ShardReader(
            self.prepared,
            split,
            self.spec.training.batch_size // self.world.size if training else EVAL_BATCH_SIZE,
            self.spec.tasks,
            shuffle_seed=self.spec.seed if training else None,
            rank=self.world.rank,
            world_size=self.world.size,
            epoch=epoch,
        )

    def batches(self, reader: ShardReader, start: int = 0) -> Generator[tuple[Batch, bool]]:
        """As many batches as the rank with most has; the others repeat their last, marked False.

        Ranks must step together, since look-ups and gradients cross between them.
        """
        most = max(int(n) for n in self.world.gather(np.asarray(reader.num_batches)))
        last: Batch | None = None
        read = reader.batches(min(start, reader.num_batches))
        with closing(on_device(read, self.world.device)) as own:
            for number in range(start, most):
                if number < reader.num_batches:
                    last = next(own)
                    yield last, True
                else:
                    last = last or self._last_batch(reader)
                    yield last.without_labels(), False

    def _last_batch(self, reader: ShardReader) -> Batch:
        with closing(reader.batches(reader.num_batches - 1)) as batches:
            return next(batches).to(self.world.device)


Validate = Callable[[nn.Module], dict[str, dict]]


def train(model: nn.Module, loop: Loop, validate: Validate) -> Progress:
    """Train to the end of the last epoch or until early stopping; go on from a checkpoint if any.

    ``validate`` gives the metrics of each task on the validation split. With early stopping the
    weights of the best validation are restored at the end. Raises DivergenceError when a loss does, and
    InputError where the weights of the best validation were damaged on disk.
    """
    optimizer = dense_optimizer(model, loop.spec.training)
    saved = checkpoint.load(loop.folder, loop.world, model, optimizer, loop.watcher.note)
    progress = Progress(**saved) if saved else Progress()
    total = loop.spec.training.epochs * loop.prepared.rows["train"]
    loop.watcher.start(loop.spec, progress.samples, total)
    try:
        while progress.epoch < loop.spec.training.epochs and not progress.stopped:
            _train_epoch(model, optimizer, loop, progress, validate)
            progress.epoch, progress.batch = progress.epoch + 1, 0
            _save_if_due(model, optimizer, loop, progress)
    finally:
        loop.watcher.finish()
    if loop.spec.training.patience is not None:
        checkpoint.load_best(loop.folder, loop.world, model, progress.best_weights)
    return progress


def _train_epoch(
    model: nn.Module, optimizer: Optimizer, loop: Loop, progress: Progress, validate: Validate
) -> None:
    """Stretches of a few steps, each followed by a look at the loss; then what is due after it."""
    training, world = loop.spec.training, loop.world
    reader = loop.reader("train", progress.epoch)
    num_batches = max(int(n) for n in world.gather(np.asarray(reader.num_batches)))
    validate_after = validation_points(num_batches, training.validations_per_epoch)
    ends = sorted({*range(STEPS_PER_LOOK, num_batches, STEPS_PER_LOOK), *validate_after, num_batches})
    has_short_batch = reader.num_rows % reader.batch_size > 0
    warm = False
    with closing(loop.batches(reader, progress.batch)) as batches:
        for end in (end for end in ends if end > progress.batch):
            timed = warm and not (end == num_batches and has_short_batch)
            _stretch(model, optimizer, loop, progress, batches, end, timed)
            warm = True
            if end in validate_after:
                _validate(model, loop, progress, validate)
            if progress.stopped:
                return
            if end < num_batches:  # after the last, the epoch is counted first
                _save_if_due(model, optimizer, loop, progress)


def _save_if_due(model: nn.Module, optimizer: Optimizer, loop: Loop, progress: Progress) -> None:
    due = time.monotonic() - loop.last_save > loop.checkpoint_seconds
    if loop.world.from_first(due):
        checkpoint.save(loop.folder, progress.step, loop.world, model, optimizer, asdict(progress))
        loop.last_save = time.monotonic()


def _stretch(
    model: nn.Module,
    optimizer: Optimizer,
    loop: Loop,
    progress: Progress,
    batches: Iterator[tuple[Batch, bool]],
    end: int,
    timed: bool,
) -> None:
    """Steps up to batch ``end`` of the epoch, on one clock reading."""
    training, world = loop.spec.training, loop.world
    losses: list[Tensor] = []
    rows: list[Tensor] = []
    statistics: list[dict[str, Tensor]] = []
    synchronize(world.device)
    start = time.perf_counter()
    for _ in range(end - progress.batch):
        batch, is_own = next(batches)
        counts = (~torch.isnan(batch.labels)).sum(0).float()
        own = counts.new_full((1,), len(batch) * is_own)  # a tensor made of a list would wait for the GPU
        totals = world.sum(torch.cat([counts, own]))
        set_learning_rate(optimizer, training, progress.step + len(losses))
        # Dropout is then the same whether or not the run was interrupted.
        torch.manual_seed(step_seed(loop.spec.seed, progress.step + len(losses), world.rank))
        loss, of_step = train_step(
            model,
            batch,
            optimizer,
            totals[:-1],
            training.clip_norm,
            autocast(training, world.device),
            world,
            share=own[0] / totals[-1],
        )
        losses.append(loss)
        statistics.append(of_step)
        rows.append(totals[-1])
    synchronize(world.device)
    seconds = time.perf_counter() - start
    samples = int(torch.stack(rows).sum())
    if timed:
        progress.timed_samples += samples
        progress.timed_seconds += seconds
    _look(torch.stack(losses), samples, seconds, loop, progress)
    if "active_experts" in statistics[0]:
        progress.routing.append({"samples": progress.samples} | routing_point(statistics))
    progress.batch = end


def step_seed(seed: int, step: int, rank: int) -> int:
    """What random numbers within a training step start from."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def routing_point(statistics: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Means over a stretch's steps: each layer's and token's share of active experts, the coefficient."""
    experts = torch.stack([of_step["active_experts"] for of_step in statistics]).mean((0, -1))  # (L, T)
    coefficients = [
        of_step["penalty_coefficient"] for of_step in statistics if "penalty_coefficient" in of_step
    ]
    return {
        "active": [[round(share, 5) for share in layer] for layer in experts.tolist()],
        "penalty_coefficient": torch.stack(coefficients).mean().item() if coefficients else None,
    }


def _look(losses: Tensor, samples: int, seconds: float, loop: Loop, progress: Progress) -> None:
    """Read the stretch's losses back, refuse NaN, extend the curve, show progress."""
    losses = loop.world.sum(losses)
    bad = torch.nonzero(~torch.isfinite(losses))
    if len(bad):
        raise DivergenceError(progress.step + int(bad[0]) + 1, "the loss")
    progress.step += len(losses)
    progress.samples += samples
    progress.curve.append((progress.samples, float(losses.mean())))
    loop.watcher.advance(progress.samples, float(losses.mean()), samples / seconds)


def _validate(model: nn.Module, loop: Loop, progress: Progress, validate: Validate) -> None:
    """Add a validation to the record, and decide on early stopping."""
    training = loop.spec.training
    try:
        metrics = validate(model)
    except NonFiniteScores:
        raise DivergenceError(progress.step, "a score") from None
    progress.validation.append({"step": progress.step, "samples": progress.samples, "metrics": metrics})
    loop.watcher.validated(progress.samples, metrics)
    if training.patience is None:
        return
    values = [metrics[task][training.select_metric] for task in metrics]
    if None in values:
        raise InputError(
            f"training.patience: the validation split of {loop.spec.dataset!r} does not define "
            f"{training.select_metric} for every task; select by another metric or leave patience out"
        )
    score = float(np.mean(values))
    if progress.best is None or score > progress.best:
        progress.best, progress.stale_validations = score, 0
        progress.best_weights = checkpoint.save_best(loop.folder, progress.step, loop.world, model)
    else:
        progress.stale_validations += 1
        progress.stopped = progress.stale_validations >= training.patience


def validation_points(num_batches: int, per_epoch: int) -> set[int]:
    """After which batches of an epoch to validate: evenly spread, the last one included."""
    return {round(num_batches * (number + 1) / per_epoch) for number in range(per_epoch)} - {0}


# ---------------------------------------------------------------------------------------------
# Prediction
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predictions:
    """A split's rows in file order, whatever the number of ranks.

    Shapes
        user, tier: (N,). labels: (N, G), NaN where undefined. scores: (N, G) probabilities.

    ``samples_per_second`` is of reading, look-ups and forward passes together, all batches but the first
    (warm-up); None if there was no other.
    """

    user: np.ndarray
    tier: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    samples_per_second: float | None
    active_experts: np.ndarray | None = None


def predict(model: nn.Module, loop: Loop, split: str) -> Predictions:
    """Score a split."""
    model.eval()
    parts: list[tuple[Tensor, ...]] = []
    active: list[Tensor] = []
    start = 0.0
    with torch.no_grad(), autocast(loop.spec.training, loop.world.device):
        for batch, is_own in loop.batches(loop.reader(split)):
            prediction = model(batch)
            if is_own:
                scores = torch.sigmoid(prediction.logits.float())
                parts.append((batch.user_id, batch.tier, batch.labels, scores))
                if "active_experts" in prediction.statistics:
                    active.append(prediction.statistics["active_experts"] * len(batch))
            if not start:  # the first batch was the warm-up
                synchronize(loop.world.device)
                start = time.perf_counter()
    columns = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
    seconds = time.perf_counter() - start
    model.train()
    timed_rows = sum(int(n) for n in loop.world.gather(np.asarray(len(columns[0]) - len(parts[0][0]))))
    shard_rows = [shard["rows"] for shard in loop.prepared.shards(split)]
    user, tier, labels, probabilities = (in_file_order(loop.world.gather(c), shard_rows) for c in columns)
    rate = timed_rows / seconds if timed_rows else None
    return Predictions(user, tier, labels, probabilities, rate, _share_of_rows(active, len(user), loop.world))


def _share_of_rows(active: list[Tensor], rows: int, world: World) -> np.ndarray | None:
    """Active rows of each expert by batch -> its share of all ranks' rows."""
    if not active:
        return None
    return world.sum(torch.stack(active).sum(0)).double().cpu().numpy() / rows


def in_file_order(by_rank: list[np.ndarray], shard_rows: list[int]) -> np.ndarray:
    """Undo the dealing of shards to ranks (rank r reads shards r, r + ranks, ...)."""
    taken = [0] * len(by_rank)
    pieces = []
    for number, rows in enumerate(shard_rows):
        rank = number % len(by_rank)
        pieces.append(by_rank[rank][taken[rank] : taken[rank] + rows])
        taken[rank] += rows
    return np.concatenate(pieces)
