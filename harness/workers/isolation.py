"""Calls in a process of their own, so that what goes wrong in one ends or alters nothing else.

Whatever a call does to its process (grad mode, default dtype, threads, random numbers, folder, environment,
signals, memory) is gone with it. It starts from this process's environment, folder, ``sys.path`` and number
of threads, and else from the state that importing leaves.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Protocol

import psutil

from files.errors import InputError
from harness.training.progress import Silent, Watcher
from harness.workers.fork_server import FORK, NUMBER_BYTES, WAIT, serve
from harness.workers.worker import Ended, Limits, Surroundings, WatcherCall, end_of

ROOT = Path(__file__).resolve().parents[2]
LOOK_SECONDS = 1.0  # between looks at whether a silent worker still lives
DEATH_SECONDS = 5.0  # that a worker has to end when it has closed its pipe
KILLED_SECONDS = 0.001  # between looks at whether a worker that was killed has ended


class BrokenCallError(Exception):
    """A call that did not come to its end; the message says why."""


class CallEnded(BaseException):
    """Raised by a call that `end_calls` ended: like KeyboardInterrupt, no failure of the call's own."""


def start_server(modules: Sequence[str] = (), fork: bool = False) -> None:
    """Have the fork server import ``modules``, unless it runs already. It ends with this process.

    With ``fork`` it is a copy of this process, which must have computed nothing yet, and imports no more.
    """
    global _server
    with _lock:
        if _server is None or not _server.is_alive:
            _server = _Server(modules, fork)


def in_worker(
    function: Callable[..., Any],
    *arguments: Any,
    watcher: Watcher | None = None,
    limits: Limits | None = None,
    hold: int | None = None,
    threads: int | None = None,
) -> Any:
    """``function(*arguments)``, called in a process of its own; several threads may do so at once.

    ``function`` is found by its name and ``arguments`` are pickled. With a ``watcher``, the call gets one as
    its last argument, which tells this one; watchers are told by one call at a time. The descriptor ``hold``
    stays open while the process lives, so that a lock on it outlives this one. The call computes on
    ``threads``, and finds them in OMP_NUM_THREADS; None: on as many as this process.

    Raises InputError as the call does, OSError (ENOSPC) where the disk is full, and BrokenCallError where the
    call raises anything else, exceeds a limit, or its process ends or is killed. RuntimeError where there
    could be no process.
    """
    limits = limits or Limits()
    with _lock:
        start_server()
        assert _server is not None
        server = _server
    worker = _Worker(server, hold)
    audience = Audience(watcher or Silent())
    try:
        with known_to_end_calls(worker):
            worker.call(Surroundings.here(limits, threads), function, arguments, watched=watcher is not None)
            ended = worker.listen(audience, limits)
    except BrokenCallError:
        if worker.is_unwanted:
            raise CallEnded from None
        raise
    finally:
        worker.end()
        audience.leave()
    return result_of(ended)


def in_this_process(
    function: Callable[..., Any], *arguments: Any, watcher: Watcher | None, limits: Limits
) -> Any:
    """As `in_worker`, in this process, which is there for this call alone and keeps to its limits already."""
    try:
        ended = Ended("returned", function(*arguments, *([] if watcher is None else [watcher])))
    except BaseException as error:
        ended = end_of(error, limits)
    return result_of(ended)


def result_of(ended: Ended) -> Any:
    """What a call returned. Raises what `in_worker` raises where it did not return."""
    if ended.how == "refused":
        raise InputError(ended.content)
    if ended.how == "full disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if ended.how == "broke":
        raise BrokenCallError(ended.content)
    return ended.content


class Endable(Protocol):
    """A call that is being made, for the thread that waits for it."""

    caller: threading.Thread
    is_unwanted: bool

    def kill(self) -> None: ...


@contextlib.contextmanager
def known_to_end_calls(call: Endable) -> Iterator[None]:
    """While this lasts, `end_calls` kills the call, which then has to raise CallEnded."""
    _being_made.add(call)
    try:
        yield
    finally:
        _being_made.discard(call)


def end_calls(callers: Collection[threading.Thread]) -> None:
    """Kill the workers of the calls that these threads make, each of which then raises CallEnded."""
    for call in tuple(_being_made):
        if call.caller in callers:
            call.is_unwanted = True
            call.kill()


class _Server:
    """The fork server as its parent sees it."""

    def __init__(self, modules: Sequence[str], fork: bool) -> None:
        self._channel, far_end = socket.socketpair()
        self._one_request = threading.Lock()
        # Blocked in the server until it ignores Ctrl-C, which would show a trace of its imports.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = (
                _forked(self._channel, far_end, modules) if fork else _spawned(far_end.fileno(), modules)
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            far_end.close()
        atexit.register(self.end)

    @property
    def is_alive(self) -> bool:
        return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE

    def fork(self, *descriptors: int) -> None:
        """Have a worker begin with these descriptors; OSError if the server is gone."""
        with self._one_request:
            socket.send_fds(self._channel, [FORK], list(descriptors))

    def wait(self, worker: int) -> int | None:
        """The exit code of a worker that has ended; None if the server is gone."""
        try:
            with self._one_request:
                self._channel.sendall(WAIT + worker.to_bytes(NUMBER_BYTES, "little"))
                status = self._channel.recv(NUMBER_BYTES, socket.MSG_WAITALL)
        except OSError:
            return None
        return os.waitstatus_to_exitcode(int.from_bytes(status, "little")) if status else None

    def end(self) -> None:
        """End the server, and all workers with it."""
        self._channel.close()
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.terminate()
        self._process.wait()


def _spawned(channel: int, modules: Sequence[str]) -> psutil.Process:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        f"from harness.workers.fork_server import serve; serve({channel}, {list(modules)!r})"
    )
    return psutil.Popen([sys.executable, "-c", code], pass_fds=[channel], stdin=subprocess.DEVNULL)


def _forked(near_end: socket.socket, far_end: socket.socket, modules: Sequence[str]) -> psutil.Process:
    sys.stdout.flush()  # or a worker would write out once more what waits here
    sys.stderr.flush()
    server = os.fork()
    if server:
        return psutil.Process(server)
    try:
        near_end.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        serve(far_end.detach(), modules)
    finally:
        os._exit(1)


_server: _Server | None = None
_lock = threading.RLock()  # of the server's start
_being_made: set[Endable] = set()
_telling = threading.RLock()  # a watcher need not know that several calls tell it


class _Worker:
    """A process that makes one call."""

    def __init__(self, server: _Server, hold: int | None) -> None:
        self.caller = threading.current_thread()
        self._server = server
        self._connection, far_end = Pipe()
        try:
            with far_end:
                server.fork(far_end.fileno(), *([] if hold is None else [hold]))
            while not self._connection.poll(LOOK_SECONDS):  # which Ctrl-C breaks off, unlike recv
                pass
            self._process = psutil.Process(self._connection.recv())
        except (OSError, EOFError, psutil.NoSuchProcess):
            raise RuntimeError("the process that workers are forked from has ended; run it again") from None
        self.is_unwanted = self._has_returned = self._is_reaped = False

    def call(
        self, surroundings: Surroundings, function: Callable[..., Any], arguments: tuple, watched: bool
    ) -> None:
        self._connection.send(surroundings)
        self._connection.send((function, arguments, watched))

    def listen(self, audience: Audience, limits: Limits) -> Ended:
        """Hand on what the call tells until it ends. Raises BrokenCallError where it does not."""
        deadline = math.inf if limits.minutes is None else time.monotonic() + 60 * limits.minutes
        while (left := deadline - time.monotonic()) > 0:
            message = self._message(min(left, LOOK_SECONDS), limits)
            if isinstance(message, WatcherCall):
                audience.hear(message)
            elif isinstance(message, Ended):
                self._has_returned = True
                return message
        raise BrokenCallError(f"it took longer than the {limits.minutes:g} minutes of --run-minutes")

    def _message(self, seconds: float, limits: Limits) -> WatcherCall | Ended | None:
        """The next message, None if there is none within ``seconds``."""
        try:
            if self._connection.poll(seconds):
                return self._connection.recv()
            if not self._is_dead():
                return None
        except (EOFError, OSError):
            pass
        raise BrokenCallError(self._cause_of_death(limits))

    def _is_dead(self) -> bool:
        try:  # a zombie is one that the server has not waited for yet
            return not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def _cause_of_death(self, limits: Limits) -> str:
        deadline = time.monotonic() + DEATH_SECONDS
        while not self._is_dead():
            if time.monotonic() > deadline:
                return "it closed the pipe to this process"
            time.sleep(0.01)
        code, self._is_reaped = self._server.wait(self._process.pid), True
        if code is None:
            return "its process ended"
        limit = "" if limits.gigabytes is None else f", with --run-gigabytes {limits.gigabytes:g}"
        if code == -signal.SIGKILL:
            return f"its process was killed (SIGKILL{limit}), as the system does when memory runs out"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}{limit}"
        return f"its process ended itself with exit code {code}{limit}"

    def kill(self) -> None:
        """Kill the process and, if its call did not return, those that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            started = [] if self._has_returned else self._process.children(recursive=True)
            self._process.kill()
            for process in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def end(self) -> None:
        """Kill the process, and wait for its end."""
        self.kill()
        while not self._is_dead():  # not by the server, which other workers wait for, too
            time.sleep(KILLED_SECONDS)
        if not self._is_reaped:
            self._server.wait(self._process.pid)
        self._connection.close()


class Audience:
    """A call's watcher here, which is told that training is over also where the call could not tell it.

    ``knows_a_run`` is whether it was told of a training's start.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._is_training = self.knows_a_run = False

    def hear(self, call: WatcherCall) -> None:
        with _telling:
            getattr(self._watcher, call.method)(*call.arguments)
        if call.method in ("start", "finish"):
            self._is_training = call.method == "start"
            self.knows_a_run = True

    def leave(self) -> None:
        if self._is_training:
            with _telling:
                self._watcher.finish()
