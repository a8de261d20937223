"""Scores of a split's rows, and the metrics of them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.dealing import deal
from datasets.prepare.encode import NO_TIER
from harness.evaluation.metrics import binary_metrics, reliability
from harness.machine.timing import Stopwatch
from harness.training.batches import RankBatches
from harness.training.ranks import World
from harness.training.step import autocast


@dataclass(frozen=True)
class Predictions:
    """A split's rows in file order, whatever the number of ranks.

    In a table without users each row is a user of its own, and has the tier -1.

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

    @property
    def users(self) -> np.ndarray | None:
        """The users for metrics; None where rows belong to no user."""
        return None if len(self.tier) and (self.tier == NO_TIER).all() else self.user


@dataclass
class _Scored:
    """This rank's rows: columns user, tier, labels and scores; active rows of each expert by batch."""

    columns: list[np.ndarray]
    active: list[Tensor]
    timed_rows: int  # all but the first batch's, which was the warm-up
    seconds: float


def predict(model: nn.Module, data: RankBatches, split: str) -> Predictions:
    """Score a split."""
    world = data.world
    scored = _score(model, data, data.read(data.reader(split)))
    timed_rows = sum(int(n) for n in world.gather(np.asarray(scored.timed_rows)))
    shard_rows = [shard["rows"] for shard in data.prepared.shards(split)]
    user, tier, labels, probabilities = (in_file_order(world.gather(c), shard_rows) for c in scored.columns)
    rate = timed_rows / scored.seconds if timed_rows else None
    active = _share_of_rows(scored.active, len(user), world)
    return Predictions(user, tier, labels, probabilities, rate, active)


def predict_ahead(model: nn.Module, data: RankBatches, start: int, stop: int) -> Predictions:
    """Score batches ``start`` to ``stop`` of the first epoch, in no order that means anything."""
    with closing(data.read(data.reader("train"), start, stop)) as batches:
        scored = _score(model, data, batches)
    user, tier, labels, scores = (np.concatenate(data.world.gather(c)) for c in scored.columns)
    return Predictions(user, tier, labels, scores, None)


def _score(model: nn.Module, data: RankBatches, batches: Iterable[tuple[Batch, bool]]) -> _Scored:
    world = data.world
    model.eval()
    parts: list[tuple[Tensor, ...]] = []
    active: list[Tensor] = []
    watch: Stopwatch | None = None
    with torch.no_grad(), autocast(data.spec.training, world.device):
        for batch, is_own in batches:
            prediction = model(batch)
            own = slice(len(batch) if is_own else 0)  # a rank without rows of its own has columns, too
            scores = torch.sigmoid(prediction.logits.float())
            parts.append(tuple(c[own] for c in (batch.user_id, batch.tier, batch.labels, scores)))
            if is_own and "active_experts" in prediction.statistics:
                active.append(prediction.statistics["active_experts"] * len(batch))
            watch = watch or Stopwatch(world.device)
    columns = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
    seconds = watch.seconds() if watch else 0.0
    model.train()
    return _Scored(columns, active, len(columns[0]) - len(parts[0][0]), seconds)


def _share_of_rows(active: list[Tensor], rows: int, world: World) -> np.ndarray | None:
    """Active rows of each expert by batch -> its share of all ranks' rows."""
    if not active:
        return None
    return world.sum(torch.stack(active).sum(0)).double().cpu().numpy() / rows


def in_file_order(by_rank: list[np.ndarray], shard_rows: list[int]) -> np.ndarray:
    """Undo the dealing of rows to ranks (`datasets.dealing.deal`)."""
    taken = [0] * len(by_rank)
    parts = []
    for piece in deal(shard_rows, len(by_rank)):
        parts.append(by_rank[piece.rank][taken[piece.rank] : taken[piece.rank] + piece.rows])
        taken[piece.rank] += piece.rows
    return np.concatenate(parts)


def metrics_by_task(predictions: Predictions, tasks: list[str]) -> dict[str, dict]:
    """Exact metrics of every task over all rows where it is defined."""
    return {
        task: asdict(binary_metrics(predictions.labels[:, i], predictions.scores[:, i], predictions.users))
        for i, task in enumerate(tasks)
    }


def final_metrics(predictions: Predictions, tasks: list[str]) -> dict[str, dict]:
    """What a record keeps of the test split: `metrics_by_task`, and how the scores are calibrated."""
    found = metrics_by_task(predictions, tasks)
    for i, task in enumerate(tasks):
        found[task]["reliability"] = reliability(predictions.labels[:, i], predictions.scores[:, i])
    return found
