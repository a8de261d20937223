"""Lock files: held by one process at a time, and released by the operating system when that process dies.

Not filelock: its release unlocks the file, which also ends the lock of a worker that inherited the
descriptor. Here the descriptor is only closed, so the lock lasts until the last process that has it ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from files.errors import InputError

_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would otherwise wait for a reader


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[int | None]:
    """Yield the lock file's descriptor, or None if another process holds it; with ``wait``, wait for it.

    Raises InputError where the path is no plain file.
    """
    handle = open_lock(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield handle
    finally:
        os.close(handle)


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
