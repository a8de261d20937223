"""Several calls at once, in threads, each of which may wait for a worker of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from harness.workers.isolation import end_calls

Result = TypeVar("Result")
LISTEN_SECONDS = 0.5  # between looks at whether Ctrl-C was pressed
LOOK_SECONDS = 0.05  # between looks at whether all threads have ended
LAST_SECONDS = 5.0  # that a thread has to end in, which may be waiting for a file or a database


def several(calls: Sequence[Callable[[], Result]], at_once: int) -> Generator[tuple[int, Result]]:
    """Make the calls, begun in their order, ``at_once`` at a time; yield place and result of each that ends.

    The first exception of a call is raised. Then, and where the caller stops listening (on Ctrl-C, say: close
    the iterator), no further call is begun, the workers of all are killed, and their threads end.
    """
    waiting: queue.SimpleQueue[tuple[int, Callable[[], Result]]] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[int, Result | None, BaseException | None]] = queue.SimpleQueue()
    for place, call in enumerate(calls):
        waiting.put((place, call))

    def make_calls() -> None:
        while (due := _next(waiting)) is not None:
            place, call = due
            try:
                ended.put((place, call(), None))
            except BaseException as error:
                _drop(waiting)
                ended.put((place, None, error))

    # daemons, or the interpreter would wait for those that are left at its end
    threads = [threading.Thread(target=make_calls, daemon=True) for _ in range(min(at_once, len(calls)))]
    try:
        for thread in threads:
            thread.start()
        for _ in calls:
            place, result, error = _get(ended)
            if error is not None:
                raise error
            yield place, result  # type: ignore[misc]
    except BaseException:  # also GeneratorExit
        _drop(waiting)
        deadline = time.monotonic() + LAST_SECONDS
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            end_calls(threads)
            for thread in threads:
                thread.join(LOOK_SECONDS)
        raise


def _get(ended: queue.SimpleQueue) -> tuple:
    while (
        True
    ):  # Ctrl-C does not break off a wait without end, which the handler that Polars installs restarts
        with contextlib.suppress(queue.Empty):
            return ended.get(timeout=LISTEN_SECONDS)


def _drop(waiting: queue.SimpleQueue) -> None:
    while _next(waiting) is not None:
        pass


def _next(waiting: queue.SimpleQueue) -> tuple[int, Callable] | None:
    try:
        return waiting.get_nowait()
    except queue.Empty:
        return None
