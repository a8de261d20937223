"""A batch: the rows that a model sees in one step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor


@dataclass(frozen=True)
class Batch:
    """B rows of a prepared table.

    Shapes
        sparse: KeyedJaggedTensor whose keys are the schema's sparse features in order; indices
            int64, 0 = missing, 1 = unseen in training; a categorical feature has length 1 in
            every row, a list may be empty.
        dense: (B, N) float32, the numbers of numeric and vector features in schema order, normalised;
            a numeric feature has one column, a vector as many as it has components.
        labels: (B, G) float32, one column a chosen task; NaN where a task is undefined.
        user_id: (B,) int64, an index over the table's users.
        tier: (B,) int64, user-activity tier 0 (low), 1 (middle), 2 (high).
    """

    sparse: KeyedJaggedTensor
    dense: Tensor
    labels: Tensor
    user_id: Tensor
    tier: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        return Batch(
            sparse=self.sparse.to(device, non_blocking=True),
            dense=self.dense.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            user_id=self.user_id.to(device, non_blocking=True),
            tier=self.tier.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies asynchronously."""
        return Batch(
            sparse=self.sparse.pin_memory(),
            dense=self.dense.pin_memory(),
            labels=self.labels.pin_memory(),
            user_id=self.user_id.pin_memory(),
            tier=self.tier.pin_memory(),
        )

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory from reuse until the work queued on ``stream`` when the batch is freed is done."""
        for part in (self.sparse, self.dense, self.labels, self.user_id, self.tier):
            part.record_stream(stream)

    def without_labels(self) -> Batch:
        """The same inputs with every label undefined, so that no row counts in a loss or a metric."""
        return replace(self, labels=torch.full_like(self.labels, float("nan")))
