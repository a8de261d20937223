"""Save and restore a training run so that it goes on in the same bits.

Every rank writes the part it holds; a small pointer file, renamed last, makes a set of parts the
current one. A process killed at any moment leaves the previous set intact.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from datasets.errors import InputError
from harness.distributed import World, embedding_side, local_pieces
from harness.runs import write_atomically

POINTER_FILE = "checkpoint.json"


def model_tensors(model: nn.Module) -> dict[str, list[torch.Tensor]]:
    """The model's tensors on this rank, by state-dict key; they alias the live weights."""
    return {key: [p.tensor for p in local_pieces(value)] for key, value in model.state_dict().items()}


def table_optimizer_tensors(model: nn.Module) -> dict[str, list[torch.Tensor]]:
    """The fused optimizers' accumulators on this rank; they alias the live ones."""
    found = {}
    for table in embedding_side(model).tables():
        optimizer = table.fused_optimizer  # a method, or a property where the table is sharded
        state = (optimizer() if callable(optimizer) else optimizer).state_dict()["state"]
        for parameter, accumulators in state.items():
            for name, value in accumulators.items():
                found[f"{parameter}/{name}"] = [p.tensor for p in local_pieces(value)]
    return found


def copy_into(live: dict[str, list[torch.Tensor]], saved: dict[str, list[torch.Tensor]]) -> None:
    """Overwrite live tensors with saved ones of the same keys and shapes."""
    if live.keys() != saved.keys():
        raise RuntimeError("the checkpoint is not of this run; delete its .partial folder and run again")
    with torch.no_grad():
        for key, pieces in live.items():
            for target, source in zip(pieces, saved[key], strict=True):
                target.copy_(source)


def save(
    folder: Path, tag: int, world: World, model: nn.Module, optimizer: Optimizer, progress: dict
) -> None:
    """Write a checkpoint named by ``tag`` (the step) and make it the current one."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "model": model_tensors(model),
        "tables": table_optimizer_tensors(model),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "progress": progress,
    }
    _save(content, _part(folder, tag, world.rank))
    world.barrier()
    if world.is_first:
        write_atomically(folder / POINTER_FILE, json.dumps({"tag": tag, "ranks": world.size}).encode())
    world.barrier()
    for old in folder.glob(f"checkpoint-*-{world.rank}.pt"):
        if old != _part(folder, tag, world.rank):
            old.unlink()


def load(folder: Path, world: World, model: nn.Module, optimizer: Optimizer) -> dict[str, Any] | None:
    """Restore the current checkpoint and return its progress; None if there is none.

    Raises InputError where a file of it is missing or damaged.
    """
    pointer = folder / POINTER_FILE
    if not pointer.is_file():
        return None
    part = _part(folder, json.loads(pointer.read_text())["tag"], world.rank)
    content = _load(part, world)
    copy_into(model_tensors(model), content["model"])
    copy_into(table_optimizer_tensors(model), content["tables"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["random"].cpu())
    return content["progress"]


def save_best(folder: Path, world: World, model: nn.Module) -> None:
    """Keep the weights of the best validation so far."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"best-{world.rank}.pt"
    temporary = target.with_suffix(".writing")
    _save(model_tensors(model), temporary)
    temporary.replace(target)


def load_best(folder: Path, world: World, model: nn.Module) -> None:
    """Restore the weights of the best validation; InputError where their file is missing or damaged."""
    copy_into(model_tensors(model), _load(folder / f"best-{world.rank}.pt", world))


def remove(folder: Path) -> None:
    """Delete all checkpoints of a folder."""
    (folder / POINTER_FILE).unlink(missing_ok=True)
    for part in (*folder.glob("checkpoint-*.pt"), *folder.glob("best-*.pt")):
        part.unlink()


def _save(content: object, path: Path) -> None:
    with open(path, "wb") as handle:  # torch's own file writer hides that a disk is full
        torch.save(content, handle)
        handle.flush()
        os.fsync(handle.fileno())  # before the pointer to it is on disk


def _load(path: Path, world: World) -> Any:
    try:
        return torch.load(path, map_location=world.device, weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = str(error).partition(". ")[0]
        raise InputError(
            f"{path}: the checkpoint cannot be read ({type(error).__name__}: {reason}); delete {path.parent} "
            "and run the same command again, which begins this run anew"
        ) from error


def _part(folder: Path, tag: int, rank: int) -> Path:
    return folder / f"checkpoint-{tag}-{rank}.pt"
