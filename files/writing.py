"""Writes files atomically, and removes the temporary files of killed writers."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from files.errors import InputError

# A writer locks its temporary file. The lock ends with the process, on this host or another, so no process
# ids need to be compared; on a file system without locks, only the age decides.
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.writing(\.\w+)?")
_TEMPORARY_BEFORE_LOCKS = re.compile(
    r"\.[\w-]+\.(json|csv|yaml)\.\d+|\.[a-z0-9_]{8}\.(csv|md|tex|html|svg|png|parquet)"
)
ABANDONED_AFTER_SECONDS = 24 * 3600.0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path next to ``path`` to write to; on success it replaces ``path``.

    Temporary files in that folder whose writers were killed are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    temporary, handle = _claimed(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically: temporary file, flush to disk, rename."""
    with replacing(path) as temporary:
        with open(temporary, "wb") as handle:
            handle.write(content)
        flush(temporary)


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files in ``folder`` that no process is writing."""
    for name in os.listdir(folder):
        if not name.startswith("."):  # cheaper than two patterns: there may be thousands of files
            continue
        if _TEMPORARY.fullmatch(name):
            _remove_unless_locked(folder / name)
        elif _TEMPORARY_BEFORE_LOCKS.fullmatch(name) and _is_old(folder / name):  # written without a lock
            (folder / name).unlink(missing_ok=True)


def check_writable(folder: Path, mend: str) -> None:
    """InputError, with the mend, where ``folder`` cannot be written or created; called before any work."""
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(f"{place}: cannot be written to ({error.strerror}); {mend}") from error


def _claimed(path: Path) -> tuple[Path, int]:
    """A new temporary file next to ``path``, and the descriptor that holds its lock."""
    while True:
        temporary = path.with_name(f".{secrets.token_hex(4)}.writing{path.suffix}")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return temporary, handle
        if os.fstat(handle).st_nlink:
            return temporary, handle
        os.close(handle)  # another process removed it just before it was locked


def _remove_unless_locked(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:  # removed, or another user's
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:  # being written
        pass
    except OSError:
        if _is_old(path):
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > ABANDONED_AFTER_SECONDS
    except FileNotFoundError:
        return False
