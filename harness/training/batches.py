"""The batches of a run's splits, as one rank receives them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from datasets.batch import Batch
from datasets.prepared import PreparedDataset
from datasets.reader import WINDOW_ROWS, ShardReader
from harness.records.spec import RunSpec
from harness.training.prefetch import on_device
from harness.training.ranks import World

EVAL_BATCH_SIZE = 4096


@dataclass(frozen=True)
class RankBatches:
    """This rank's batches of a run: in training shuffled by its seed (``whole``: all rows are in memory, and
    shuffled together) or in time order, else as on disk.

    A training batch is that of as many ranks as the spec has; of fewer, each joins the parts of several.
    """

    spec: RunSpec
    prepared: PreparedDataset
    world: World

    def reader(self, split: str, epoch: int = 0) -> ShardReader:
        """The reader of this rank's shards of a split."""
        training = split == "train"
        order = self.spec.training.order if training else "time"
        shares = self.spec.world_size if training else self.world.size
        return ShardReader(
            self.prepared,
            split,
            self.spec.training.batch_size // shares if training else EVAL_BATCH_SIZE,
            self.spec.tasks,
            shuffle_seed=None if order == "time" else self.spec.random_seed,
            window_rows=WINDOW_ROWS if order != "whole" else max(1, self.prepared.rows[split]),
            rank=self.world.rank,
            world_size=self.world.size,
            shares=shares,
            epoch=epoch,
        )

    def num_steps(self, reader: ShardReader) -> int:
        """Batches of the rank that has most of them."""
        return max(int(n) for n in self.world.gather(np.asarray(reader.num_batches)))

    def read(
        self, reader: ShardReader, start: int = 0, stop: int | None = None
    ) -> Generator[tuple[Batch, bool]]:
        """Batches ``start`` to ``stop`` (`num_steps`); ranks with fewer repeat their last, marked False.

        Ranks must step together, since look-ups and gradients cross between them.
        """
        last: Batch | None = None
        num_steps = self.num_steps(reader) if stop is None else stop
        batches = reader.batches(min(start, reader.num_batches))
        with closing(on_device(batches, self.world.device)) as own:
            for number in range(start, num_steps):
                if number < reader.num_batches:
                    last = next(own)
                    yield last, True
                else:
                    last = last or self._last_batch(reader)
                    yield last.without_labels(), False

    def _last_batch(self, reader: ShardReader) -> Batch:
        with closing(reader.batches(reader.num_batches - 1)) as batches:
            return next(batches).to(self.world.device)
