"""The pieces of tensors that a rank holds, and how what other ranks saved fills them.

A sharded tensor lies in rectangles on several ranks, a plain one whole on each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor


@dataclass(frozen=True)
class Piece:
    """A rectangle of a tensor of shape ``whole``, in which it begins at ``offsets``."""

    tensor: Tensor
    offsets: tuple[int, ...]
    whole: tuple[int, ...]

    @property
    def place(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.offsets, self.whole


Pieces = dict[str, list[Piece]]


def local_pieces(value: Tensor | ShardedTensor) -> list[Piece]:
    """What of a plain or sharded tensor lies on this rank: nothing, a part, or all of it."""
    whole = tuple(value.size())
    if isinstance(value, ShardedTensor):
        return [Piece(s.tensor, tuple(s.metadata.shard_offsets), whole) for s in value.local_shards()]
    return [Piece(value, (0,) * value.dim(), whole)]


def as_plain(groups: Mapping[str, Pieces]) -> dict[str, Any]:
    """Groups of pieces as `torch.save` can keep them: the tensors, and under ``places`` where they lie."""
    tensors: dict[str, Any] = {
        name: {key: [piece.tensor for piece in pieces] for key, pieces in group.items()}
        for name, group in groups.items()
    }
    places = {
        name: {key: [piece.place for piece in pieces] for key, pieces in group.items()}
        for name, group in groups.items()
    }
    return tensors | {"places": places}


def from_plain(content: Mapping[str, Any], name: str) -> Pieces:
    """A group of what `as_plain` made; empty where an earlier version, which noted no places, made it."""
    places = content.get("places", {}).get(name, {})
    return {
        key: [Piece(tensor, *place) for tensor, place in zip(content[name][key], of_key, strict=True)]
        for key, of_key in places.items()
    }


def copies(live: Pieces, saved: Sequence[Pieces]) -> list[tuple[Tensor, Tensor]] | None:
    """What has to be copied so that the live pieces hold what was saved, as (part of a live tensor, source).

    ``saved`` are the pieces of one rank or of several. None where they do not fill the live ones, or are of
    tensors of other shapes.
    """
    found = []
    for key, pieces in live.items():
        sources = [piece for of_rank in saved for piece in of_rank.get(key, ())]
        for target in pieces:
            parts = _filling(target, sources)
            if parts is None:
                return None
            found += parts
    return found


def _filling(target: Piece, sources: Iterable[Piece]) -> list[tuple[Tensor, Tensor]] | None:
    parts, left = [], target.tensor.numel()
    for source in sources:
        if source.whole != target.whole:
            return None
        overlap = _overlap(target, source)
        if left and overlap is not None:  # a plain tensor is the same on every rank, and taken once
            parts.append(overlap)
            left -= overlap[0].numel()
    return None if left else parts


def _overlap(target: Piece, source: Piece) -> tuple[Tensor, Tensor] | None:
    """The same rectangle of both; None where they have none in common."""
    in_target, in_source = [], []
    for start, size, other_start, other_size in zip(
        target.offsets, target.tensor.shape, source.offsets, source.tensor.shape, strict=True
    ):
        first, last = max(start, other_start), min(start + size, other_start + other_size)
        if first >= last:
            return None
        in_target.append(slice(first - start, last - start))
        in_source.append(slice(first - other_start, last - other_start))
    return target.tensor[tuple(in_target)], source.tensor[tuple(in_source)]
