"""Save and restore a training run so that it goes on in the same bits.

Every rank writes the part it holds; a small pointer file, renamed last, makes a set of parts the
current one and holds their sha256. A process killed at any moment leaves the previous set intact.
The set before the current one is kept, and is gone on with where a file of the current one is damaged.
The weights of the best validation lie in files of their own, named by their step: a set of parts says
which of them belong to it.
"""

from __future__ import annotations

import copy
import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from files.checksums import is_altered, sealed, sha256_of
from files.errors import InputError
from files.writing import flush, write_atomically
from harness.records.folder import remove_checkpoints
from harness.records.remote_run import POINTER_FILE
from harness.training.ranks import World, embedding_side, local_pieces

BEFORE_FILE = "checkpoint-before.json"  # the pointer to the set before


class Pointer(BaseModel):
    """A set of parts: the step they were written at, the best weights' step, and the parts' sha256 by rank.

    Pointers of earlier versions have no sha256, and their best weights no step.
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    tag: int
    ranks: int
    best: int | None = None
    sha256: list[str] | None = None


class Savable(Protocol):
    """What a checkpoint needs of an optimizer, or of several as one."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None: ...


class DamagedError(Exception):
    """A file of a checkpoint is missing, altered or of another program; the message names it.

    What the system has to say of a file (an error of its disk, no memory left) is none of these: it may read
    the file the next time.
    """


def model_tensors(model: nn.Module) -> dict[str, list[torch.Tensor]]:
    """The model's tensors on this rank, by state-dict key; they alias the live weights."""
    return {key: [p.tensor for p in local_pieces(value)] for key, value in model.state_dict().items()}


def table_optimizer_tensors(model: nn.Module) -> dict[str, list[torch.Tensor]]:
    """The fused optimizers' accumulators on this rank; they alias the live ones."""
    found = {}
    for optimizer in embedding_side(model).fused_optimizers():
        for parameter, accumulators in optimizer.state_dict()["state"].items():
            for name, value in accumulators.items():
                found[f"{parameter}/{name}"] = [p.tensor for p in local_pieces(value)]
    return found


def copy_into(live: dict[str, list[torch.Tensor]], saved: dict[str, list[torch.Tensor]]) -> None:
    """Overwrite live tensors with saved ones of the same keys and shapes."""
    with torch.no_grad():
        for key, pieces in live.items():
            for target, source in zip(pieces, saved[key], strict=True):
                target.copy_(source)


def _fits(live: dict[str, list[torch.Tensor]], saved: dict[str, list[torch.Tensor]]) -> bool:
    return {key: [p.shape for p in pieces] for key, pieces in live.items()} == {
        key: [p.shape for p in pieces] for key, pieces in saved.items()
    }


# ------------------------------------------------------------------------------------------- writing


def save(folder: Path, tag: int, world: World, model: nn.Module, optimizer: Savable, progress: dict) -> None:
    """Write a checkpoint named by ``tag`` (the step), make it the current one, and keep the one before.

    On disk there are two while a run works, and three for the moment of writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "model": model_tensors(model),
        "tables": table_optimizer_tensors(model),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "progress": progress,
    }
    sha256 = _save(content, _part(folder, tag, world.rank))
    parts = [str(found) for found in world.gather(np.asarray(sha256), patient=True)]
    best = progress.get("best_weights")
    pointer = Pointer(tag=tag, ranks=world.size, best=best[0] if best else None, sha256=parts)
    before = world.from_first(_current(folder) if world.is_first else None)
    if world.is_first:  # at every moment both pointers name sets that are on disk
        _point(folder / POINTER_FILE, pointer)
        if before is not None:
            _point(folder / BEFORE_FILE, before)
    world.barrier(patient=True)
    _remove_all_but(folder, world.rank, [pointer, *([before] if before else [])])


def save_best(folder: Path, tag: int, world: World, model: nn.Module) -> tuple[int, str]:
    """Keep the weights of the best validation so far, made at step ``tag``.

    Returns what `load_best` finds them by: the step, and this rank's file's sha256. Of those before, the ones
    that a checkpoint on disk belongs with stay until it is replaced, so that a kill before the next one mixes
    no states.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sha256 = _save(model_tensors(model), _best(folder, tag, world.rank))
    pointers, _ = _pointers(folder)
    _remove_best_but(folder, world.rank, {tag, *(pointer.best for pointer in pointers)})
    world.barrier(patient=True)
    return tag, sha256


def _save(content: object, path: Path) -> str:
    """Write a file, flushed to disk before anything points to it; returns its sha256."""
    with open(path, "wb") as handle:  # torch's own file writer hides that a disk is full
        torch.save(content, handle)
        handle.flush()
        os.fsync(handle.fileno())
    return sha256_of(path)


def _point(path: Path, pointer: Pointer) -> None:
    write_atomically(path, json.dumps(sealed(pointer.model_dump())).encode())
    flush(path.parent)


def _current(folder: Path) -> Pointer | None:
    """The pointer that is about to be replaced; none where it was damaged since."""
    try:
        return _read_pointer(folder / POINTER_FILE)
    except (DamagedError, OSError):
        return None


def _remove_all_but(folder: Path, rank: int, kept: list[Pointer]) -> None:
    """Delete this rank's parts and best weights that no kept pointer names."""
    parts = {_part(folder, pointer.tag, rank) for pointer in kept}
    for path in folder.glob(f"checkpoint-*-{rank}.pt"):
        if path not in parts:
            path.unlink()
    _remove_best_but(folder, rank, {pointer.best for pointer in kept})


def _remove_best_but(folder: Path, rank: int, steps: set[int | None]) -> None:
    """Delete this rank's best weights of other steps."""
    best = {_best(folder, step, rank) for step in steps if step is not None}
    for path in folder.glob(f"best-*-{rank}.pt"):
        if path not in best:
            path.unlink()


# ------------------------------------------------------------------------------------------- reading


def load(
    folder: Path, world: World, model: nn.Module, optimizer: Savable, note: Callable[[str], None]
) -> dict[str, Any] | None:
    """Restore the current checkpoint and return its progress; None if there is none.

    Where a file of it is damaged on any rank, all ranks restore the one before, and where that is damaged
    too the run begins anew; ``note`` is told, with the file's name. Raises OSError or MemoryError where the
    system cannot read a file now; what is on disk is then left as it is.
    """
    pointers, notes = world.from_first(_pointers(folder) if world.is_first else None)
    for pointer in pointers:
        content, problem = None, ""
        try:
            content = _read_part(folder, pointer, world, model)
        except DamagedError as error:
            problem = str(error)
        problems = [str(found) for found in world.gather(np.asarray(problem), patient=True)]
        if content is not None and not any(problems):
            _tell(notes, f"going on from step {pointer.tag}", note)
            if notes and world.is_first:  # the next checkpoint's predecessor must be a whole one
                _point(folder / POINTER_FILE, pointer)
            copy_into(model_tensors(model), content["model"])
            copy_into(table_optimizer_tensors(model), content["tables"])
            optimizer.load_state_dict(copy.deepcopy(content["optimizer"]))  # which keeps what it is given
            torch.set_rng_state(content["random"])
            world.barrier(patient=True)
            return content["progress"]
        notes += [found for found in problems if found]
    _tell(notes, "no checkpoint is whole, and the run begins anew", note)
    if notes and world.is_first:
        remove_checkpoints(folder)
    world.barrier()
    return None


def _tell(notes: list[str], outcome: str, note: Callable[[str], None]) -> None:
    if notes:
        note(f"{'; '.join(notes)}: {outcome}")


def load_best(folder: Path, world: World, model: nn.Module, best: tuple[int, str] | None) -> None:
    """Restore the weights of the best validation; ``best`` is what `save_best` returned.

    None stands for an earlier version's file, which has no step in its name. Raises InputError where the
    file is missing or damaged, and what `load` raises where it cannot be read now.
    """
    path = _best(folder, best[0], world.rank) if best else folder / f"best-{world.rank}.pt"
    try:
        _check(path, best[1] if best else None)
        saved, live = _load(path), model_tensors(model)
        if not _fits(live, saved):
            raise DamagedError(f"{path} is of another version of this program")
    except DamagedError as error:
        raise InputError(f"{error}; run the same command again, which goes on from what is whole") from None
    copy_into(live, saved)
    world.barrier(patient=True)


def _pointers(folder: Path) -> tuple[list[Pointer], list[str]]:
    """The sets of parts on disk, latest first, and what is wrong with a pointer that is no longer one."""
    pointers: list[Pointer] = []
    notes: list[str] = []
    for name in (POINTER_FILE, BEFORE_FILE):
        try:
            pointer = _read_pointer(folder / name)
            pointers += [pointer] if pointer not in pointers else []
        except FileNotFoundError:
            if name == POINTER_FILE and (folder / BEFORE_FILE).exists():
                notes.append(f"{folder / name} is missing")
        except DamagedError as error:
            notes.append(str(error))
    return pointers, notes


def _read_pointer(path: Path) -> Pointer:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        pointer = Pointer.model_validate(content)
    except (ValueError, RecursionError) as error:  # pydantic's is a ValueError
        reason = (
            "it lacks a field or has one of another type" if isinstance(error, ValidationError) else error
        )
        raise DamagedError(f"{path} cannot be read ({reason})") from None
    if is_altered(content):
        raise DamagedError(f"{path} was changed since it was written (its checksum differs)")
    return pointer


def _read_part(folder: Path, pointer: Pointer, world: World, model: nn.Module) -> dict[str, Any]:
    """This rank's part of a set, checked, as are the best weights that belong to it."""
    if pointer.ranks != world.size:
        raise DamagedError(f"{folder / POINTER_FILE} is of {pointer.ranks} processes, not of {world.size}")
    path = _part(folder, pointer.tag, world.rank)
    _check(path, pointer.sha256[world.rank] if pointer.sha256 else None)
    content = _load(path)
    if not (
        _fits(model_tensors(model), content["model"])
        and _fits(table_optimizer_tensors(model), content["tables"])
    ):
        raise DamagedError(f"{path} is of another version of this program")
    best = content["progress"].get("best_weights")
    if best is not None:
        _check(_best(folder, best[0], world.rank), best[1])
    return content


def _check(path: Path, sha256: str | None) -> None:
    try:
        altered = sha256 is not None and sha256_of(path) != sha256
    except FileNotFoundError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror})") from None
    if altered:
        raise DamagedError(f"{path} was damaged since it was written (its sha256 differs)")


def _load(path: Path) -> Any:
    """What a file holds, in tensors that alias the file: read them, and change none.

    The mapping is shared, since a private one counts as the process's own data (``--run-gigabytes``).
    """
    try:
        with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (FileNotFoundError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = f"{path} cannot be read ({type(error).__name__}: {str(error).partition('. ')[0]})"
        if "unable to mmap" in str(error) or "allocate memory" in str(error):
            raise MemoryError(reason) from error
        raise DamagedError(reason) from error


def _part(folder: Path, tag: int, rank: int) -> Path:
    return folder / f"checkpoint-{tag}-{rank}.pt"


def _best(folder: Path, tag: int, rank: int) -> Path:
    return folder / f"best-{tag}-{rank}.pt"
