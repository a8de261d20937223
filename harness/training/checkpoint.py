"""Save and restore a training run so that it goes on in the same bits.

Every rank writes the part it holds, with its place in the whole; a small pointer file, renamed last, makes a
set of parts the current one and holds their sha256. A process killed at any moment leaves the previous set
intact. Where there are other ranks, or tables are spread otherwise, each rank reads what it now holds out of
all parts; the weights are the same, and what follows is so up to rounding and the numbers that dropout draws.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from files.checksums import is_altered, sealed, sha256_of
from files.errors import InputError
from files.writing import flush, write_atomically
from harness.records.folder import remove_checkpoints
from harness.records.remote_run import POINTER_FILE
from harness.training.pieces import Pieces, as_plain, copies, from_plain, local_pieces
from harness.training.ranks import World, embedding_side

BEFORE_FILE = "checkpoint-before.json"  # the pointer to the set before
T = TypeVar("T")


class Pointer(BaseModel):
    """A set of parts: the step they were written at, the best weights' step, and the files' sha256 by rank.

    ``ranks`` wrote the parts; another number of them may have written the best weights. ``shares`` is into
    how many the run deals its rows.
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    tag: int
    ranks: int
    best: int | None = None
    best_sha256: list[str] = Field(default_factory=list)
    sha256: list[str]
    shares: int


class Savable(Protocol):
    """What a checkpoint needs of an optimizer, or of several as one."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None: ...


class DamagedError(Exception):
    """A file of a checkpoint is missing, altered or of another program; the message names it.

    What the system has to say of a file (an error of its disk, no memory left) is none of these: it may read
    the file the next time.
    """


Best = tuple[int, list[str]]  # the weights of the best validation: their step, their files' sha256 by rank


def _model_pieces(model: nn.Module) -> Pieces:
    """The model's tensors on this rank, by state-dict key; they alias the live weights."""
    return {key: local_pieces(value) for key, value in model.state_dict().items()}


def _table_optimizer_pieces(model: nn.Module) -> Pieces:
    """The fused optimizers' accumulators on this rank; they alias the live ones."""
    return {
        _accumulator(parameter, name): local_pieces(value)
        for optimizer in embedding_side(model).fused_optimizers()
        for parameter, accumulators in optimizer.state_dict()["state"].items()
        for name, value in accumulators.items()
    }


def _accumulator(parameter: str, name: str) -> str:
    """``user/momentum1`` of TorchRec's two names of it, in one process and in several.

    These are ``user.weight`` and ``user.weight.momentum_1``, and with more of them
    ``embedding_bags.user.weight`` and ``user.momentum1``.
    """
    table = parameter.removeprefix("embedding_bags.").removesuffix(".weight")
    return f"{table}/{name.rpartition('.')[2].replace('_', '')}"


def copy_all(copied: list[tuple[Tensor, Tensor]]) -> None:
    """Overwrite live tensors, each with its source."""
    with torch.no_grad():
        for target, source in copied:
            target.copy_(source)


# ------------------------------------------------------------------------------------------- writing


def save(
    folder: Path,
    tag: int,
    world: World,
    shares: int,
    model: nn.Module,
    optimizer: Savable,
    progress: dict,
) -> None:
    """Write a checkpoint named by ``tag`` (the step), make it the current one, and keep the one before.

    On disk there are two while a run works, and three for the moment of writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = {"model": _model_pieces(model), "tables": _table_optimizer_pieces(model)}
    content = as_plain(groups) | {
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "progress": progress,
    }
    sha256 = _save(content, _part(folder, tag, world.rank))
    parts = [str(found) for found in world.gather(np.asarray(sha256), patient=True)]
    best, best_sha256 = progress.get("best_weights") or (None, [])
    pointer = Pointer(
        tag=tag, ranks=world.size, best=best, best_sha256=best_sha256, sha256=parts, shares=shares
    )
    before = world.from_first(_current(folder) if world.is_first else None)
    if world.is_first:  # at every moment both pointers name sets that are on disk
        _point(folder / POINTER_FILE, pointer)
        if before is not None:
            _point(folder / BEFORE_FILE, before)
    world.barrier(patient=True)
    _remove_all_but(folder, world, [pointer, *([before] if before else [])])


def save_best(folder: Path, tag: int, world: World, model: nn.Module) -> Best:
    """Keep the weights of the best validation so far, made at step ``tag``.

    Returns what `load_best` finds them by. Of those before, the ones that a checkpoint on disk belongs with
    stay until it is replaced, so that a kill before the next one mixes no states.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sha256 = _save(as_plain({"model": _model_pieces(model)}), _best(folder, tag, world.rank))
    pointers, _ = _pointers(folder)
    kept = {_best(folder, tag, world.rank)}.union(*(_best_files(folder, pointer) for pointer in pointers))
    _remove_own(folder, world, "best", kept)
    return tag, [str(found) for found in world.gather(np.asarray(sha256), patient=True)]


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


def _remove_all_but(folder: Path, world: World, kept: list[Pointer]) -> None:
    """Delete the parts and best weights that no kept pointer names, each on one of the ranks."""
    parts = {_part(folder, pointer.tag, rank) for pointer in kept for rank in range(pointer.ranks)}
    _remove_own(folder, world, "checkpoint", parts)
    _remove_own(folder, world, "best", set().union(*(_best_files(folder, pointer) for pointer in kept)))


def _best_files(folder: Path, pointer: Pointer) -> set[Path]:
    if pointer.best is None:
        return set()
    return {_best(folder, pointer.best, rank) for rank in range(len(pointer.best_sha256))}


def _remove_own(folder: Path, world: World, kind: str, kept: set[Path]) -> None:
    """Delete files of a kind that are not kept: those of this rank, and of ranks that are no longer there."""
    for path in folder.glob(f"{kind}-*-*.pt"):
        writer = int(path.stem.rpartition("-")[2])
        if path not in kept and writer % world.size == world.rank:
            path.unlink()


# ------------------------------------------------------------------------------------------- reading


def load(
    folder: Path, world: World, model: nn.Module, optimizer: Savable, note: Callable[[str], None]
) -> dict[str, Any] | None:
    """Restore the current checkpoint and return its progress; None if there is none.

    It may be of another number of ranks. Where a file of it is damaged, all ranks restore the one before, and
    where that is damaged too the run begins anew; ``note`` is told, with the file's name. Raises OSError or
    MemoryError where the system cannot read a file now; what is on disk is then left as it is.
    """
    pointers, notes = world.from_first(_pointers(folder) if world.is_first else None)
    for pointer in pointers:
        # All files are checked before one is read: what a damaged one holds may be anything.
        _, problems = _tried(partial(_check_set, folder, pointer, world), world)
        saved = None
        if not problems:
            saved, problems = _tried(partial(_read_parts, folder, pointer, world, model), world)
        if saved is not None and not problems:
            _tell(notes, f"going on from step {pointer.tag}", note)
            if notes and world.is_first:  # the next checkpoint's predecessor must be a whole one
                _point(folder / POINTER_FILE, pointer)
            copy_all(saved.copies)
            content = saved.content
            optimizer.load_state_dict(copy.deepcopy(content["optimizer"]))  # which keeps what it is given
            torch.set_rng_state(content["random"])
            world.barrier(patient=True)
            return content["progress"]
        notes += problems
    _tell(notes, "no checkpoint is whole, and the run begins anew", note)
    if notes and world.is_first:
        remove_checkpoints(folder)
    world.barrier()
    return None


def _tried(step: Callable[[], T], world: World) -> tuple[T | None, list[str]]:
    """What ``step`` returns here, and what is damaged in the words of each rank that finds something."""
    found, problem = None, ""
    try:
        found = step()
    except DamagedError as error:
        problem = str(error)
    problems = [str(each) for each in world.gather(np.asarray(problem), patient=True)]
    return found, [each for each in problems if each]


def _tell(notes: list[str], outcome: str, note: Callable[[str], None]) -> None:
    if notes:
        note(f"{'; '.join(notes)}: {outcome}")


def load_best(folder: Path, world: World, model: nn.Module, best: Best) -> None:
    """Restore the weights of the best validation; ``best`` is what `save_best` returned.

    Raises InputError where a file is missing or damaged, and what `load` raises where it cannot be read now.
    """
    step, sha256 = best

    def checked(rank: int) -> dict[str, Any]:
        path = _best(folder, step, rank)
        _check(path, sha256[rank])
        return _load(path)

    try:
        saved = _saved({"model": _model_pieces(model)}, checked, len(sha256), world)
        if saved is None:
            raise DamagedError(f"{_best(folder, step, 0)} is of another version of this program")
    except DamagedError as error:
        raise InputError(f"{error}; run the same command again, which goes on from what is whole") from None
    copy_all(saved.copies)
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


@dataclass(frozen=True)
class _Saved:
    """A set of files, as this rank needs it: what to copy, and one file's ``content`` for all else."""

    copies: list[tuple[Tensor, Tensor]]
    content: dict[str, Any]


def _check_set(folder: Path, pointer: Pointer, world: World) -> None:
    """Check the files of a set, its best weights among them: each rank its own, and its share of others'."""
    for rank in range(world.rank, pointer.ranks, world.size):
        _check(_part(folder, pointer.tag, rank), pointer.sha256[rank])
    for rank in range(world.rank, len(pointer.best_sha256), world.size):
        _check(_best(folder, pointer.best or 0, rank), pointer.best_sha256[rank])


def _read_parts(folder: Path, pointer: Pointer, world: World, model: nn.Module) -> _Saved:
    """What of a set of parts, which was checked, this rank needs."""
    live = {"model": _model_pieces(model), "tables": _table_optimizer_pieces(model)}
    saved = _saved(live, lambda rank: _load(_part(folder, pointer.tag, rank)), pointer.ranks, world)
    if saved is None:
        raise DamagedError(f"{_part(folder, pointer.tag, 0)} is of another version of this program")
    return saved


def _saved(
    live: dict[str, Pieces], load: Callable[[int], dict[str, Any]], ranks: int, world: World
) -> _Saved | None:
    """What fills the live pieces: this rank's file, else those of all ``ranks`` that saved; None: nothing.

    All are read where there are other ranks now, or tables are spread otherwise.
    """
    for read in ([world.rank] if world.rank < ranks else [], range(ranks)):
        contents = [load(rank) for rank in read]
        by_name = [
            copies(pieces, [from_plain(content, name) for content in contents])
            for name, pieces in live.items()
        ]
        whole = [found for found in by_name if found is not None]
        if contents and len(whole) == len(live):
            return _Saved([pair for found in whole for pair in found], contents[0])
    return None


def _check(path: Path, sha256: str) -> None:
    try:
        altered = sha256_of(path) != sha256
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
