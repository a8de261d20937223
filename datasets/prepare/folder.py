"""Writes a folder completely or not at all, one process at a time."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from files.errors import InputError
from files.locks import locked, open_lock, wait_for
from files.writing import check_writable, flush

FULL_DISK_WORDS = (
    "No space left on device",
    "no space left on the disk",  # our own
    "Disk quota exceeded",
    "database or disk is full",
)
WRITERS = ("polars", "pyarrow", "sqlite3", "sqlalchemy", "optuna", "torch")  # libraries that write files
PARTIAL = re.compile(r"\.(.+)\.\d+-[0-9a-f]{8}\.partial")  # `_sibling` of a destination
LEAST_ROOM = 256 * 1024  # bytes


@contextmanager
def one_at_a_time(destination: Path, option: str = "--cache") -> Iterator[None]:
    """Wait until no other process writes ``destination``, which ``option`` chose, then keep others waiting.

    The lock only saves repeated work: on a file system without locks, each process works in a folder of its
    own and the first to finish wins.

    Raises InputError where the folder around ``destination`` cannot be written to.
    """
    check_writable(destination.parent, f"choose another folder for {destination.name} with {option}")
    destination.parent.mkdir(parents=True, exist_ok=True)
    lock = open_lock(_lock_file(destination))
    try:
        with suppress(OSError):
            wait_for(lock)
            _remove_abandoned(destination)
        yield
    finally:
        os.close(lock)


def remove_abandoned(destination: Path) -> None:
    """Remove what killed processes left next to a complete ``destination``, unless one is working now."""
    if _partial_folders(destination):
        with suppress(OSError, InputError), locked(_lock_file(destination), wait=False) as held:
            if held is not None:
                _remove_abandoned(destination)


def _remove_abandoned(destination: Path) -> None:
    """Remove what killed processes left; the caller holds the lock, so no process is working."""
    for folder in _partial_folders(destination):
        shutil.rmtree(folder, ignore_errors=True)


def abandoned(folder: Path) -> list[Path]:
    """What killed processes left in ``folder``, whatever they wrote: no process holds the lock of it.

    Not removed without being asked: on some shared file systems a lock is not seen from other machines.
    """
    found = [(path, PARTIAL.fullmatch(path.name)) for path in sorted(folder.iterdir())]
    return [path for path, match in found if match and not _is_locked(_lock_file(folder / match[1]))]


def _is_locked(lock_file: Path) -> bool:
    """Whether a process holds it, or may: where that cannot be told, too."""
    if not lock_file.exists():
        return False
    with suppress(OSError, InputError), locked(lock_file, wait=False) as held:
        return held is None
    return True


def _partial_folders(destination: Path) -> list[Path]:
    return [
        path
        for path in destination.parent.iterdir()
        if path.name.startswith(f".{destination.name}.") and path.name.endswith(".partial")
    ]


def _lock_file(destination: Path) -> Path:
    return destination.parent / f".{destination.name}.lock"


@contextmanager
def partial_folder(destination: Path) -> Iterator[Path]:
    """A new folder next to ``destination``, which is removed at the end unless it was published."""
    partial = _sibling(destination)
    partial.mkdir()
    try:
        yield partial
    except Exception as error:
        if is_full_disk(error, partial):
            raise InputError(
                f"{destination}: no space left on the disk; free some or choose another cache folder"
            ) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sibling(destination: Path) -> Path:
    return destination.parent / f".{destination.name}.{os.getpid()}-{secrets.token_hex(4)}.partial"


def is_full_disk(error: BaseException | None, folder: Path | None = None) -> bool:
    """Whether a full disk or quota caused the error.

    polars, SQLite and other libraries keep only the text of the original error, or fail when they read a file
    that they could not write completely. So their errors also count if the file system of ``folder`` has
    almost no room left; call this while the files still exist.
    """
    first, seen = error, set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in FULL_DISK_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return type(first).__module__.partition(".")[0] in WRITERS and folder is not None and _is_full(folder)


def _is_full(folder: Path) -> bool:
    try:
        space = os.statvfs(folder)
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < LEAST_ROOM


def publish(partial: Path, destination: Path, replace: bool) -> bool:
    """Flush ``partial`` to disk, then rename it to ``destination``.

    Returns False where another process was first and ``replace`` is False.
    """
    for path in [*partial.rglob("*"), partial]:
        flush(path)
    while True:
        try:
            os.rename(partial, destination)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not replace:
                return False
            _move_away(destination)
        else:
            flush(destination.parent)
            return True


def _move_away(destination: Path) -> None:
    moved = _sibling(destination)
    try:
        os.rename(destination, moved)
    except FileNotFoundError:  # another process is replacing it right now
        return
    shutil.rmtree(moved, ignore_errors=True)
