"""Reads prepared shards as batches: shuffled within a window, prefetched, resumable at any batch."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import numpy as np
import torch
from torchrec import KeyedJaggedTensor

from datasets.batch import Batch
from datasets.dealing import deal_split
from datasets.prepared import PreparedDataset
from datasets.window import Window, WindowSource
from files.errors import InputError

PREFETCHED_BATCHES = 8
WINDOW_ROWS = 65_536
T = TypeVar("T")


class ShardReader:
    """Batches of one split in time order, shuffled only within windows of ``window_rows`` rows.

    The order depends only on (shuffle_seed, epoch, window number); ``shuffle_seed`` None
    keeps the file order. Rank r of ``world_size`` reads what `datasets.dealing.deal` gives it. Batches have
    ``batch_size`` rows and straddle windows; only the last may be short.

    ``num_rows`` and ``num_batches`` are those of this rank.
    """

    def __init__(
        self,
        prepared: PreparedDataset,
        split: str,
        batch_size: int,
        tasks: list[str],
        *,
        shuffle_seed: int | None = None,
        window_rows: int = WINDOW_ROWS,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
    ) -> None:
        for name, value in (
            ("batch_size", batch_size),
            ("window_rows", window_rows),
            ("world_size", world_size),
        ):
            if value < 1:
                raise InputError(f"{name} is {value}; give at least 1")
        if not 0 <= rank < world_size:
            raise InputError(f"rank is {rank}; give 0 to {world_size - 1} for world_size {world_size}")
        shards = prepared.shards(split)
        own = [piece for piece in deal_split(prepared, split, world_size) if piece.rank == rank]
        self.num_rows = sum(piece.rows for piece in own)
        self.num_batches = math.ceil(self.num_rows / batch_size)
        self.batch_size = batch_size
        self._window_rows = window_rows
        self._shuffle = None if shuffle_seed is None else (shuffle_seed, epoch)
        files = [prepared.path / shards[piece.shard]["file"] for piece in own]
        rows = [(piece.start, piece.stop) for piece in own]
        self._source = WindowSource(files, prepared.schema, prepared.schema.chosen_tasks(tasks), rows)

    def batches(self, start: int = 0) -> Generator[Batch]:
        """The batches from number ``start`` on: exactly the tail of ``batches(0)``.

        Windows before it are not decoded. A separate thread reads ahead; it ends when the
        iterator is exhausted or closed, and its exceptions are raised here.
        """
        if not 0 <= start <= self.num_batches:
            raise InputError(f"batch {start} does not exist; give 0 to {self.num_batches}")
        return _prefetched(lambda: self._assemble(start))

    def _assemble(self, start: int) -> Iterator[Batch]:
        first_row = start * self.batch_size
        first_window, skip = divmod(first_row, self._window_rows)
        parts: list[tuple[Window, int, int]] = []
        wanted = self.batch_size
        windows = self._source.windows(self._window_rows, first_window)
        for number, window in enumerate(windows, start=first_window):
            if self._shuffle is not None:
                seed, epoch = self._shuffle
                order = np.random.default_rng([seed, epoch, number]).permutation(len(window))
                window = window.permuted(order)
            position, skip = skip, 0
            while position < len(window):
                end = min(position + wanted, len(window))
                parts.append((window, position, end))
                wanted -= end - position
                position = end
                if wanted == 0:
                    yield make_batch(self._source.keys, parts)
                    parts, wanted = [], self.batch_size
        if parts:
            yield make_batch(self._source.keys, parts)


def make_batch(keys: list[str], parts: list[tuple[Window, int, int]]) -> Batch:
    """One batch of the rows [start, end) of each window, in order."""
    rows = sum(end - start for _, start, end in parts)
    lengths = np.empty((len(keys), rows), dtype=np.int64)
    pieces: list[list[np.ndarray]] = [[] for _ in keys]
    row = 0
    for window, start, end in parts:
        for key in range(len(keys)):
            values, value_lengths = window.sparse(key, start, end)
            pieces[key].append(values)
            lengths[key, row : row + end - start] = value_lengths
        row += end - start
    per_key = [sum(len(piece) for piece in key_pieces) for key_pieces in pieces]
    starts = np.cumsum([0, *per_key])
    values = np.empty(starts[-1], dtype=np.int64)
    position = 0
    for key_pieces in pieces:
        for piece in key_pieces:
            values[position : position + len(piece)] = piece
            position += len(piece)
    offsets = np.zeros(lengths.size + 1, dtype=np.int64)
    np.cumsum(lengths.ravel(), out=offsets[1:])
    sparse = KeyedJaggedTensor(
        keys=keys,
        values=torch.from_numpy(values),
        lengths=torch.from_numpy(lengths.ravel()),
        offsets=torch.from_numpy(offsets),
        stride=rows,
        length_per_key=per_key,
        offset_per_key=starts.tolist(),
    )

    def joined(name: str) -> torch.Tensor:
        slices = [getattr(window, name)[start:end] for window, start, end in parts]
        return torch.from_numpy(np.concatenate(slices))

    return Batch(sparse, joined("dense"), joined("labels"), joined("user_id"), joined("tier"))


def _prefetched(produce: Callable[[], Iterator[T]]) -> Generator[T]:
    """The items of ``produce()``, which a daemon thread makes ahead of time."""
    ready: queue.Queue = queue.Queue(maxsize=PREFETCHED_BATCHES)
    stopped = threading.Event()

    def put(item: tuple) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in produce():
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    thread = threading.Thread(target=work, name="shard-reader", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
