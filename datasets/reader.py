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
from datasets.dealing import Piece, deal_split
from datasets.prepared import PreparedDataset
from datasets.window import Window, WindowSource
from files.errors import InputError

PREFETCHED_BATCHES = 8
WINDOW_ROWS = 65_536
T = TypeVar("T")


class ShardReader:
    """Batches of one split in time order, shuffled only within windows of ``window_rows`` rows.

    The order depends only on (shuffle_seed, epoch, window number); ``shuffle_seed`` None
    keeps the file order. The rows are dealt into ``shares`` (`datasets.dealing.deal`), as many as there are
    ranks unless more are asked for; rank r of ``world_size`` reads shares r, r + world_size, ..., each in its
    own order, and its batches are those of its shares put together. A share's batches have ``batch_size``
    rows and straddle windows; only its last may be short.

    ``num_rows`` and ``num_batches`` are those of this rank; its first ``num_whole_batches`` have all their
    rows.
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
        shares: int | None = None,
        epoch: int = 0,
    ) -> None:
        shares = world_size if shares is None else shares
        for name, value in (
            ("batch_size", batch_size),
            ("window_rows", window_rows),
            ("world_size", world_size),
        ):
            if value < 1:
                raise InputError(f"{name} is {value}; give at least 1")
        if not 0 <= rank < world_size:
            raise InputError(f"rank is {rank}; give 0 to {world_size - 1} for world_size {world_size}")
        if shares < 1 or shares % world_size:
            raise InputError(f"shares is {shares}; give a multiple of world_size {world_size}")
        pieces = deal_split(prepared, split, shares)
        chosen = prepared.schema.chosen_tasks(tasks)
        self._shares = [
            _Share(prepared, split, [piece for piece in pieces if piece.rank == share], chosen, batch_size)
            for share in range(rank, shares, world_size)
        ]
        self.num_rows = sum(share.num_rows for share in self._shares)
        self.num_batches = max(share.num_batches for share in self._shares)
        self.num_whole_batches = min(share.num_rows // batch_size for share in self._shares)
        self._window_rows = window_rows
        self._shuffle = None if shuffle_seed is None else (shuffle_seed, epoch)

    def batches(self, start: int = 0) -> Generator[Batch]:
        """The batches from number ``start`` on: exactly the tail of ``batches(0)``.

        Windows before it are not decoded. A separate thread reads ahead; it ends when the
        iterator is exhausted or closed, and its exceptions are raised here.
        """
        if not 0 <= start <= self.num_batches:
            raise InputError(f"batch {start} does not exist; give 0 to {self.num_batches}")
        return _prefetched(lambda: self._assemble(start))

    def _assemble(self, start: int) -> Iterator[Batch]:
        streams = [
            share.batches(min(start, share.num_batches), self._window_rows, self._shuffle)
            for share in self._shares
        ]
        keys = self._shares[0].keys
        for _ in range(start, self.num_batches):
            yield make_batch(keys, [part for stream in streams for part in next(stream, [])])


Part = tuple[Window, int, int]  # the rows from a number up to another of a window


class _Share:
    """The pieces of a split that are read in one order, as the parts that its batches are made of."""

    def __init__(
        self, prepared: PreparedDataset, split: str, pieces: list[Piece], tasks: list[str], batch_size: int
    ) -> None:
        self.num_rows = sum(piece.rows for piece in pieces)
        self.num_batches = math.ceil(self.num_rows / batch_size)
        self._batch_size = batch_size
        shards = prepared.shards(split)
        files = [prepared.path / shards[piece.shard]["file"] for piece in pieces]
        rows = [(piece.start, piece.stop) for piece in pieces]
        self._source = WindowSource(files, prepared.schema, tasks, rows)

    @property
    def keys(self) -> list[str]:
        return self._source.keys

    def batches(self, start: int, window_rows: int, shuffle: tuple[int, int] | None) -> Iterator[list[Part]]:
        """The parts of each batch from number ``start`` on."""
        first_window, skip = divmod(start * self._batch_size, window_rows)
        parts: list[Part] = []
        wanted = self._batch_size
        for number, window in enumerate(self._source.windows(window_rows, first_window), start=first_window):
            if shuffle is not None:
                order = np.random.default_rng([*shuffle, number]).permutation(len(window))
                window = window.permuted(order)
            position, skip = skip, 0
            while position < len(window):
                end = min(position + wanted, len(window))
                parts.append((window, position, end))
                wanted -= end - position
                position = end
                if wanted == 0:
                    yield parts
                    parts, wanted = [], self._batch_size
        if parts:
            yield parts


def make_batch(keys: list[str], parts: list[Part]) -> Batch:
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
