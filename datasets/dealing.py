"""Which rows of a split each of several processes reads."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from datasets.prepared import PreparedDataset
from files.errors import InputError


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``stop`` of a shard, of which ``rank`` reads them."""

    rank: int
    shard: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


def cuts_shards(prepared: PreparedDataset, world_size: int) -> bool:
    """Whether some shard of a split is divided among ranks."""
    return world_size > 2 and any(len(prepared.shards(split)) % world_size for split in prepared.rows)


def deal_split(prepared: PreparedDataset, split: str, world_size: int) -> list[Piece]:
    """All rows of a split in file order, dealt to the ranks; InputError where some rank would have none."""
    shards = prepared.shards(split)
    pieces = deal([shard["rows"] for shard in shards], world_size)
    if len({piece.rank for piece in pieces}) < world_size:
        rows = f"the {prepared.rows[split]} rows of split {split!r} in {len(shards)} shards"
        raise InputError(
            f"{prepared.path}: {rows} are too few for {world_size} processes; start fewer with torchrun, or "
            "give fewer --shares"
        )
    return pieces


def deal(shard_rows: list[int], world_size: int) -> list[Piece]:
    """Shards of so many rows as pieces in file order.

    Rank r reads shards r, r + world_size, ... Of more than two ranks each reads as many whole shards as the
    others, and an equal part of the rows of those that are left. One and two read whole shards only, as their
    runs always did.
    """
    num_whole = len(shard_rows) - (len(shard_rows) % world_size if world_size > 2 else 0)
    pieces = [Piece(number % world_size, number, 0, shard_rows[number]) for number in range(num_whole)]
    return pieces + _cut(shard_rows, num_whole, world_size)


def _cut(shard_rows: list[int], first: int, world_size: int) -> list[Piece]:
    """The shards from number ``first`` on, put together and divided by rows."""
    rows = sum(shard_rows[first:])
    bounds = [rank * rows // world_size for rank in range(world_size + 1)]
    pieces = []
    top = 0
    for number, here in enumerate(shard_rows[first:], start=first):
        for rank, (start, stop) in enumerate(itertools.pairwise(bounds)):
            start, stop = max(start, top), min(stop, top + here)
            if start < stop:
                pieces.append(Piece(rank, number, start - top, stop - top))
        top += here
    return pieces
