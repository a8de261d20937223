"""The weights that a finished run keeps: ``weights.pt`` beside its record.

They are those that scored the test split: the last ones or, with early stopping, the best validation's. The
file is written with `torch.save` and holds the spec's hash and the model's state dict as one process has it,
whatever the number of ranks.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor

from files.errors import InputError
from files.writing import flush, replacing
from harness.records.cost import Cost
from harness.training.pieces import local_pieces
from harness.training.ranks import World

WEIGHTS_FILE = "weights.pt"
SMALL_MEGABYTES = 64  # up to which weights are kept unless it is said otherwise
SENT_ROWS = 2**16  # of a table, from one rank to another at a time
BYTES_PER_WEIGHT = 4  # fp32, at every precision of the training

Keep = Literal["auto", "weights", "none"]


def megabytes_of_weights(cost: Cost) -> float:
    """The size of a run's ``weights.pt``, in 10^6 bytes."""
    return (cost.dense_params + cost.sparse_params) * BYTES_PER_WEIGHT / 1e6


def keeps_weights(keep: Keep, cost: Cost) -> bool:
    """Whether a run of this cost keeps its weights: ``auto`` keeps those of up to 64 MB."""
    return keep == "weights" or (keep == "auto" and megabytes_of_weights(cost) <= SMALL_MEGABYTES)


def write_weights(folder: Path, spec_hash: str, model: nn.Module, world: World) -> None:
    """Write ``weights.pt`` on the first rank. Every rank calls this."""
    weights = whole_weights(model, world)
    if world.is_first:
        with replacing(folder / WEIGHTS_FILE) as temporary:
            with open(temporary, "wb") as handle:  # torch's own file writer hides that a disk is full
                torch.save({"spec_hash": spec_hash, "model": weights}, handle)
            flush(temporary)


def whole_weights(model: nn.Module, world: World) -> dict[str, Tensor]:
    """On the first rank the model's state dict on the CPU, with the pieces of sharded tables put together.

    Every rank calls this; the others get what is not sharded. What the first rank holds whole is no copy.
    """
    weights = {}
    for key, value in model.state_dict().items():
        whole = _whole(value, world) if isinstance(value, ShardedTensor) else value.detach().cpu()
        if whole is not None:
            weights[key] = whole
    return weights


def _whole(value: ShardedTensor, world: World) -> Tensor | None:
    """A table (rows, columns) on the first rank, to which the others send their pieces; None on these."""
    own = {piece.offsets: piece.tensor.detach() for piece in local_pieces(value)}
    if world.is_first and own and next(iter(own.values())).shape == value.size():
        return next(iter(own.values())).cpu()
    whole = torch.empty(value.size()) if world.is_first else None
    for shard in value.metadata().shards_metadata:
        (row, column), (rows, columns) = shard.shard_offsets, shard.shard_sizes
        holder = cast(Any, shard.placement).rank()
        for start in range(0, rows, SENT_ROWS):
            stop = min(start + SENT_ROWS, rows)
            part = torch.empty(stop - start, columns)
            if holder == world.rank:
                part.copy_(own[(row, column)][start:stop])
            world.send_to_first(part, holder)
            if whole is not None:
                whole[row + start : row + stop, column : column + columns] = part
    return whole


def read_weights(folder: Path, spec_hash: str) -> dict[str, Tensor]:
    """The state dict in the folder of the run with this hash.

    Raises InputError, naming the file, where it cannot be read or is another run's.
    """
    path = folder / WEIGHTS_FILE
    mend = "delete the run's folder and run the suite again with --keep weights"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found, weights = content["spec_hash"], content["model"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, UnpicklingError) as error:
        reason = str(error).partition(". ")[0]
        raise InputError(f"{path}: cannot be read ({type(error).__name__}: {reason}); {mend}") from None
    if found != spec_hash:
        raise InputError(f"{path}: holds the weights of another run ({found}); {mend}")
    return weights
