"""One process at a time fetches a dataset."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

from files.locks import locked

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # from a file system without locks


@contextlib.contextmanager
def one_process_at_a_time(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process is fetching ``folder``; a killed process leaves no lock behind."""
    path = folder.with_name(f".{folder.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            if not stack.enter_context(locked(path, wait=False)):
                say(f"{folder.name}: another process is fetching it; waiting for it to finish")
                stack.enter_context(locked(path, wait=True))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise  # without locks, the md5 shows whether two processes wrote into each other's file
        yield
