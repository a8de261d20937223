"""What a worker does: takes over its parent's surroundings, makes one call, and tells how it ended."""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, NoReturn

from datasets.prepare.folder import is_full_disk
from files.errors import InputError

GIGABYTE = 10**9
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory", "malloc of size")


@dataclass(frozen=True)
class Limits:
    """What a call may take; None for no limit. ``gigabytes`` are 10^9 bytes of the process's own data."""

    minutes: float | None = None
    gigabytes: float | None = None

    def __post_init__(self) -> None:
        """InputError for what is no limit."""
        for name, limit in (("--run-minutes", self.minutes), ("--run-gigabytes", self.gigabytes)):
            if limit is not None and not 0 < limit < math.inf:
                raise InputError(f"{name} {limit:g}: give a number above 0")


@dataclass(frozen=True)
class Surroundings:
    """What a worker has in common with the process that asked for it."""

    environment: dict[str, str]
    folder: str
    path: list[str]
    arguments: list[str]
    threads: int
    limits: Limits

    @classmethod
    def here(cls, limits: Limits, threads: int | None = None) -> Surroundings:
        """Those of this process, with another number of threads unless that is None."""
        import torch

        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        computing = torch.get_num_threads() if threads is None else threads
        return cls(environment, os.getcwd(), sys.path, sys.argv, computing, limits)

    def take_over(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        sys.path[:], sys.argv[:] = self.path, self.arguments
        settle(self.threads, self.limits)


def settle(threads: int, limits: Limits) -> None:
    """Have this process compute on so many threads, and take no more memory than its limit."""
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if limits.gigabytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = int(limits.gigabytes * GIGABYTE)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


class WatcherCall(NamedTuple):
    """A call of the parent's watcher: the method's name and its arguments."""

    method: str
    arguments: tuple[Any, ...]


class Ended(NamedTuple):
    """How a call ended: ``returned`` its result, or with a sentence ``refused``, ``full disk``, ``broke``."""

    how: str
    content: Any


class Relay:
    """A `harness.training.progress.Watcher` whose calls the parent's own watcher gets."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, event: str) -> Callable[..., None]:
        return partial(self._tell, event)

    def _tell(self, event: str, *arguments: Any) -> None:
        self._connection.send(WatcherCall(event, arguments))


def work(connection: Connection) -> NoReturn:
    """Make the call that arrives by ``connection``, tell there how it ended, and end this process."""
    connection.send(os.getpid())
    surroundings = connection.recv()
    try:
        surroundings.take_over()
        function, arguments, watched = connection.recv()
        ended = Ended("returned", function(*arguments, *([Relay(connection)] if watched else [])))
    except BaseException as error:  # also SystemExit and KeyboardInterrupt, which architectures may raise
        ended = end_of(error, surroundings.limits)
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(ended)
    os._exit(0)  # without waiting for threads that an architecture may have left


def end_of(error: BaseException, limits: Limits) -> Ended:
    """How a call ended that raised this."""
    text = " ".join(str(error).split())
    if is_full_disk(error):
        return Ended("full disk", text)
    if isinstance(error, InputError):
        return Ended("refused", text)
    if isinstance(error, SystemExit):
        return Ended("broke", f"it called sys.exit({error.code!r})")
    if limits.gigabytes is not None and _is_out_of_memory(error, text):
        return Ended("broke", f"it takes more memory than the {limits.gigabytes:g} GB of --run-gigabytes")
    return Ended("broke", f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    """PyTorch, Arrow and others each raise an error of their own."""
    return isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)
