"""The training loop: stretches of steps, and the checkpoints and validations between them.

The clock
    ``train_seconds`` is the time of training steps: waiting for the batch, look-ups, forward,
    backward and both optimizers. It leaves out the first stretch of STEPS_PER_LOOK steps of every
    epoch and start (warm-up), stretches with a short batch (which torch.compile compiles again),
    validation, checkpoints and set-up. The device is synchronised before every reading.
    ``train_samples_per_second`` = samples of the timed steps / ``train_seconds``.

The peak
    Where it is measured, a matrix product is timed between two stretches every few seconds: what else the
    machine does slows both, and MFU compares the steps with the products of the same minutes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.batch import Batch
from files.errors import InputError
from harness.evaluation.metrics import NonFiniteScores
from harness.evaluation.monitors import monitored
from harness.machine.peaks import Gemm
from harness.machine.timing import Stopwatch
from harness.records.spec import Training
from harness.training import checkpoint, points
from harness.training.batches import RankBatches
from harness.training.prediction import Predictions, metrics_by_task, predict, predict_ahead
from harness.training.progress import Watcher
from harness.training.sharding import forget_cached_rows, placed_tables
from harness.training.step import (
    DivergenceError,
    StepResult,
    optimizers_of,
    set_learning_rates,
    step_seed,
    train_step,
)

STEPS_PER_LOOK = 20  # how often the loss is read back from the device
SHARE_OF_SAVING = 0.1  # of the time after a checkpoint, the most that writing it may have taken
SECONDS_A_PRODUCT = 2.0  # of timed steps between two matrix products, which take some hundredths of one


@dataclass
class Progress:
    """Where a run stands; together with the weights it is all that a checkpoint needs."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    step: int = 0
    samples: int = 0
    timed_samples: int = 0
    timed_seconds: float = 0.0
    products: list[float] = field(default_factory=list)  # FLOP/s of matrix products between the stretches
    curve: list[tuple[int, float]] = field(default_factory=list)
    routing: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    tested: list[dict[str, Any]] = field(default_factory=list)
    ahead: list[dict[str, Any]] = field(default_factory=list)
    rate: float = 1.0  # that plateaus left of the learning rates
    best: float | None = None
    best_weights: checkpoint.Best | None = None
    stale_validations: int = 0
    stopped: bool = False
    places: dict[str, Any] = field(default_factory=dict)  # where tables lie in the timed steps
    runs_at_once: int = 1  # the most that shared the machine with it, itself included


class Trainer:
    """Trains one model by the spec of ``data``.

    Args
        folder: where checkpoints and the weights of the best validation lie.
        checkpoint_seconds: the least time between two checkpoints, longer where one takes more than
            a tenth of it (`SHARE_OF_SAVING`); 0 saves after every stretch.
        gemm: the matrix product that is timed between stretches; None where the peak is known.
        runs_at_once: how many runs share the machine now.
    """

    def __init__(
        self,
        model: nn.Module,
        data: RankBatches,
        folder: Path,
        watcher: Watcher,
        checkpoint_seconds: float,
        gemm: Gemm | None = None,
        runs_at_once: int = 1,
    ) -> None:
        self.gemm, self.runs_at_once = gemm, runs_at_once
        self.model, self.data, self.folder, self.watcher = model, data, folder, watcher
        self.spec, self.training, self.world = data.spec, data.spec.training, data.world
        self.checkpoint_seconds = checkpoint_seconds
        self.optimizer = optimizers_of(model, self.training)
        self.num_steps = self.training.epochs * data.num_steps(data.reader("train"))
        self.progress = Progress()
        self._last_save, self._seconds_between_saves = time.monotonic(), checkpoint_seconds

    def train(self) -> Progress:
        """Train to the last epoch or until early stopping, from the checkpoint if there is one.

        With early stopping or ``restore_best`` the best validation's weights are restored at the end. Raises
        DivergenceError when a loss or a score becomes NaN or infinite, and InputError where the weights of
        the best validation were damaged on disk.
        """
        saved = checkpoint.load(self.folder, self.world, self.model, self.optimizer, self.watcher.note)
        if saved:
            self.progress = Progress(**saved)
        progress = self.progress
        if progress.places != (places := placed_tables(self.model)):
            progress.timed_samples, progress.timed_seconds, progress.products = 0, 0.0, []
            progress.places = places
        progress.runs_at_once = max(progress.runs_at_once, self.runs_at_once)
        total = self.training.epochs * self.data.prepared.rows["train"]
        self.watcher.start(self.spec, progress.samples, total)
        try:
            while progress.epoch < self.training.epochs and not progress.stopped:
                self._train_epoch()
                progress.epoch, progress.batch = progress.epoch + 1, 0
                self._save_if_due()
        finally:
            self.watcher.finish()
        if self.training.keeps_best and progress.best_weights is not None:
            checkpoint.load_best(self.folder, self.world, self.model, progress.best_weights)
            forget_cached_rows(self.model)
        return progress

    def _train_epoch(self) -> None:
        """Stretches of a few steps, each followed by a look at the loss; then what is due after it."""
        progress = self.progress
        reader = self.data.reader("train", progress.epoch)
        num_batches = self.data.num_steps(reader)
        validate_after = points.validations(self.training, num_batches)
        test_after = points.tests(self.training, progress.epoch, num_batches)
        windows = points.windows(self.training, progress.epoch, num_batches)
        looks = range(STEPS_PER_LOOK, num_batches, STEPS_PER_LOOK)
        ends = sorted({*looks, *validate_after, *test_after, *windows, num_batches})
        warm = False
        with closing(self.data.read(reader, progress.batch)) as batches:
            for end in (end for end in ends if end > progress.batch):
                timed = warm and end <= reader.num_whole_batches
                self._stretch(batches, end, timed)
                warm = True
                if end in validate_after:
                    self._validate()
                if end in test_after:
                    self._test()
                if end in windows:
                    self._score_ahead(end, windows[end])
                if progress.stopped:
                    return
                if end < num_batches:  # after the last, the epoch is counted first
                    self._save_if_due()

    def _stretch(self, batches: Iterator[tuple[Batch, bool]], end: int, timed: bool) -> None:
        """Steps up to batch ``end`` of the epoch, on one reading of the clock."""
        progress = self.progress
        watch = Stopwatch(self.world.device)
        steps = [self._step(*next(batches), progress.step + i) for i in range(end - progress.batch)]
        seconds = watch.seconds()
        samples = int(torch.stack([step.rows for step in steps]).sum())
        if timed:
            progress.timed_samples += samples
            progress.timed_seconds += seconds
            self._time_a_product()
        self._look(torch.stack([step.loss for step in steps]), samples, seconds)
        statistics = [step.statistics for step in steps]
        if "active_experts" in statistics[0]:
            progress.routing.append({"samples": progress.samples} | routing_point(statistics))
        progress.batch = end

    def _time_a_product(self) -> None:
        due = len(self.progress.products) * SECONDS_A_PRODUCT <= self.progress.timed_seconds
        if self.gemm is not None and due:
            self.progress.products.append(self.gemm.flops_per_second())

    def _step(self, batch: Batch, is_own: bool, number: int) -> StepResult:
        set_learning_rates(
            self.model, self.optimizer, self.training, number, self.num_steps, self.progress.rate
        )
        # Dropout is then the same whether or not the run was interrupted.
        torch.manual_seed(step_seed(self.spec.random_seed, number, self.world.rank))
        return train_step(self.model, batch, self.optimizer, self.training, self.world, is_own)

    def _look(self, losses: Tensor, samples: int, seconds: float) -> None:
        """Read the stretch's losses back, refuse NaN, extend the curve, show progress."""
        progress = self.progress
        losses = self.world.sum(losses)
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            raise DivergenceError(progress.step + int(bad[0]) + 1, "the loss")
        progress.step += len(losses)
        progress.samples += samples
        progress.curve.append((progress.samples, float(losses.mean())))
        self.watcher.advance(progress.samples, float(losses.mean()), samples / seconds)

    def _metrics(self, predictions: Predictions) -> dict[str, dict]:
        try:
            return metrics_by_task(predictions, self.spec.tasks)
        except NonFiniteScores:
            raise DivergenceError(self.progress.step, "a score") from None

    def _test(self) -> None:
        """Score the test split on the way; nothing is chosen by it."""
        progress = self.progress
        metrics = self._metrics(predict(self.model, self.data, "test"))
        progress.tested.append({"step": progress.step, "samples": progress.samples, "metrics": metrics})

    def _score_ahead(self, start: int, stop: int) -> None:
        """Score the next window before it is trained on."""
        progress = self.progress
        metrics = self._metrics(predict_ahead(self.model, self.data, start, stop))
        progress.ahead.append({"step": progress.step, "samples": progress.samples, "metrics": metrics})

    def _validate(self) -> None:
        """Add a validation to the record, and decide what follows from it."""
        progress = self.progress
        metrics = self._metrics(predict(self.model, self.data, "valid"))
        progress.validation.append({"step": progress.step, "samples": progress.samples, "metrics": metrics})
        self.watcher.validated(progress.samples, metrics)
        if self.training.chooses:
            self._select(metrics)

    def _select(self, metrics: dict[str, dict]) -> None:
        """Keep the best weights so far; after a validation that is not the best, stop or slow down if due."""
        progress = self.progress
        training = self.training
        score = monitored(metrics, training.select_metric)
        if score is None:
            by = next(name for name in ("patience", "restore_best", "schedule") if _is_set(training, name))
            raise InputError(
                f"training.{by}: the validation split of {self.spec.dataset!r} does not define "
                f"{training.select_metric} for every task; select by another metric or leave {by} out"
            )
        if progress.best is None or score > progress.best:
            progress.best, progress.stale_validations = score, 0
            if training.keeps_best:
                best = checkpoint.save_best(self.folder, progress.step, self.world, self.model)
                progress.best_weights = best
            return
        progress.stale_validations += 1
        progress.stopped = training.patience is not None and progress.stale_validations >= training.patience
        if training.decays_on_plateau:
            progress.rate *= training.plateau_factor

    def _save_if_due(self) -> None:
        start = time.monotonic()
        if self.world.from_first(start - self._last_save > self._seconds_between_saves):
            state = asdict(self.progress)
            step, shares = self.progress.step, self.spec.world_size
            checkpoint.save(self.folder, step, self.world, shares, self.model, self.optimizer, state)
            self._last_save = time.monotonic()
            if self.checkpoint_seconds:
                for_this_one = (self._last_save - start) / SHARE_OF_SAVING
                self._seconds_between_saves = max(self.checkpoint_seconds, for_this_one)


def _is_set(training: Training, name: str) -> bool:
    return getattr(training, name) != Training.model_fields[name].default


def routing_point(statistics: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Means over a stretch's steps: each layer's and token's share of active experts, the coefficient."""
    experts = torch.stack([step["active_experts"] for step in statistics]).mean((0, -1))  # (L, T)
    coefficients = [step["penalty_coefficient"] for step in statistics if "penalty_coefficient" in step]
    return {
        "active": [[round(share, 5) for share in layer] for layer in experts.tolist()],
        "penalty_coefficient": torch.stack(coefficients).mean().item() if coefficients else None,
    }
