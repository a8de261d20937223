"""The process that workers are forked from: all modules are imported there, and nothing was computed.

A worker is there within milliseconds, where importing PyTorch takes seconds, and every worker starts from the
same state. Nothing may be computed before the fork: the threads that compute do not survive it.

Not `multiprocessing`'s fork server: that runs ``__main__`` again in every worker (a notebook's kernel, or a
script that trains where it is imported), and imports nothing ahead if it was started from another folder,
since Python 3.11 does not hand it ``sys.path``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NoReturn

from harness.machine.quiet import quiet_libraries
from harness.workers.worker import work

FORK, WAIT = b"f", b"w"
IMPORTED_LATE = ("pandas", "pyarrow.compute", "pyarrow.pandas_compat")  # by Arrow, in the midst of a run
MOST_DESCRIPTORS = 2  # a worker's end of the pipe to its parent, and what it is to hold open


def serve(channel_number: int, modules: Sequence[str]) -> NoReturn:
    """Import ``modules`` and what runs import late; then fork workers on request until the channel ends.

    FORK comes with the descriptors of the next worker; there is one at a time. WAIT, when it has ended, is
    answered by its status as `os.waitpid` gives it, in four bytes. If the parent dies, its worker is killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends the worker
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    quiet_libraries()
    for module in (*modules, *IMPORTED_LATE):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # or each worker's first collection would copy the pages of all that is imported
    with socket.socket(fileno=channel_number) as channel:
        _Server(channel).serve()


class _Server:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._worker = 0

    def serve(self) -> NoReturn:
        signal.signal(signal.SIGTERM, self._end)
        while True:
            request, descriptors, _, _ = socket.recv_fds(self._channel, 1, MOST_DESCRIPTORS)
            if request == FORK:
                self._worker = self._fork(descriptors)
            elif request == WAIT:
                _, status = os.waitpid(self._worker, 0)
                self._worker = 0
                self._channel.sendall(status.to_bytes(4, "little"))
            else:
                self._end()

    def _fork(self, descriptors: list[int]) -> int:
        """Begin a worker, and return its process id; in the worker itself, never."""
        worker = os.fork()
        if worker:
            for descriptor in descriptors:
                os.close(descriptor)
            return worker
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._channel.close()
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            with (
                contextlib.suppress(OSError),
                open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file,
            ):
                file.write("500")  # where memory runs out, the system is to kill this process, not its parent
            work(Connection(descriptors[0]))
        finally:
            os._exit(1)

    def _end(self, *_: object) -> NoReturn:
        if self._worker:
            os.kill(self._worker, signal.SIGKILL)
        os._exit(0)
