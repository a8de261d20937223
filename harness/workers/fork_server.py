"""The process that workers are forked from: all modules are imported there, and nothing was computed.

A worker is there within milliseconds, where importing PyTorch takes seconds, and every worker starts from the
same state. Nothing may be computed before the fork: the threads that compute do not survive it.

Not `multiprocessing`'s fork server: that runs ``__main__`` again in every worker (a notebook's kernel, or a
script that trains where it is imported), and imports nothing ahead if it was started from another folder,
since Python 3.11 does not hand it ``sys.path``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NoReturn

from harness.machine.quiet import quiet_libraries
from harness.workers.worker import work

FORK, WAIT = b"f", b"w"
NUMBER_BYTES = 4  # of a process id, and of its status
IMPORTED_LATE = ("pandas", "pyarrow.compute", "pyarrow.pandas_compat")  # by Arrow, in the midst of a run
MOST_DESCRIPTORS = 2  # a worker's end of the pipe to its parent, and what it is to hold open
PR_SET_PDEATHSIG = 1  # as Linux's prctl.h has it


def serve(channel_number: int, modules: Sequence[str]) -> NoReturn:
    """Import ``modules`` and what runs import late; then fork workers on request until the channel ends.

    FORK comes with the descriptors of the next worker; there may be any number at a time. WAIT comes with the
    process id of one that has ended, and is answered by its status as `os.waitpid` gives it; both have
    NUMBER_BYTES. If the parent or this process dies, all workers are killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends the workers
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
        self._workers: set[int] = set()

    def serve(self) -> NoReturn:
        signal.signal(signal.SIGTERM, self._end)
        while True:
            request, descriptors, _, _ = socket.recv_fds(self._channel, 1, MOST_DESCRIPTORS)
            if request == FORK:
                self._workers.add(self._fork(descriptors))
            elif request == WAIT:
                worker = int.from_bytes(self._channel.recv(NUMBER_BYTES, socket.MSG_WAITALL), "little")
                _, status = os.waitpid(worker, 0)
                self._workers.remove(worker)
                self._channel.sendall(status.to_bytes(NUMBER_BYTES, "little"))
            else:
                self._end()

    def _fork(self, descriptors: list[int]) -> int:
        """Begin a worker, and return its process id; in the worker itself, never."""
        server = os.getpid()
        worker = os.fork()
        if worker:
            for descriptor in descriptors:
                os.close(descriptor)
            return worker
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _end_with(server)
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
        for worker in self._workers:
            os.kill(worker, signal.SIGKILL)
        os._exit(0)


def _end_with(server: int) -> None:
    """Have the system kill this process when the server is gone, which may have had no time to do so."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # a C library that has no prctl
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
