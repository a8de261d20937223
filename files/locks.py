"""Lock files: held by one process at a time, and released by the operating system when that process dies.

Not filelock: its release unlocks the file, which also ends the lock of a worker that inherited the
descriptor. Here the descriptor is only closed, so the lock lasts until the last process that has it ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from files.errors import InputError

WAIT_SECONDS = 0.1  # between two tries to take a lock that another process holds
_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would otherwise wait for a reader


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[int | None]:
    """Yield the lock file's descriptor, or None if another process holds it; with ``wait``, wait for it.

    Raises InputError where the path is no plain file.
    """
    handle = open_lock(path)
    try:
        if wait:
            wait_for(handle)
        yield handle if wait or _take(handle) else None
    finally:
        os.close(handle)


def wait_for(handle: int) -> None:
    """Take the lock of a descriptor as soon as no other process holds it.

    Not by the system's own wait, which Ctrl-C does not break off once Polars has installed its handler.
    Raises OSError on a file system without locks.
    """
    while not _take(handle):
        time.sleep(WAIT_SECONDS)


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_lock(path: Path) -> int:
    """A descriptor of the lock file ``path``, created if it does not exist; its content is never changed.

    A link is not followed, since it could point to any file, which would then be created or locked.

    Raises InputError where the path is a link or otherwise no plain file.
    """
    try:
        handle = _open(path)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _no_lock_file(path) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _no_lock_file(path)
    return handle


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | _SAFELY)  # another user's file: reading is enough for a lock


def _no_lock_file(path: Path) -> InputError:
    what = "is a symbolic link" if path.is_symlink() else "is no plain file"
    return InputError(f"{path}: {what}, and a lock is kept in a file of this name; remove it")
