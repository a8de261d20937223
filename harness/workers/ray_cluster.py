"""Calls as tasks of a Ray cluster: on this machine, or on many.

Ray places the tasks and repeats those whose process or node is lost. Nothing is kept in its object store: a
task returns a few words, and what it finds is written to files.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from files.cores import usable_cores
from files.errors import InputError
from harness.training.progress import Watcher
from harness.workers.isolation import (
    ROOT,
    Audience,
    BrokenCallError,
    CallEnded,
    known_to_end_calls,
    result_of,
)
from harness.workers.ray_node import (
    ARRIVED,
    BEGAN,
    TIMED,
    Board,
    Conditions,
    Share,
    make_call,
    rooms_by_host,
)
from harness.workers.worker import GIGABYTE, Limits

LOOK_SECONDS = 0.5  # between looks at the board
STOP_SECONDS = 5.0  # that a call has to remove what it keeps on disk
ANSWER_SECONDS = 10.0  # for the head of a cluster
RETRIES = 3  # of a call whose process or node is lost
STORE_BYTES = 80 * 2**20  # of a cluster that is started here; Ray accepts no fewer than 75 MiB
INSTALL = "pip install -c requirements/lock.txt -e '.[ray]'"
ADDRESSES = "give auto (the cluster of this machine), local (one that is started here) or HOST:PORT"


@dataclass(frozen=True)
class RayOptions:
    """Which cluster, and what each run takes of it."""

    address: str = "auto"
    share: Share = field(default_factory=Share)


def require_ray(wanted_by: str = "--executor ray") -> None:
    """InputError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError(f"{wanted_by}: Ray is not installed; {INSTALL}")


class RayCall:
    """A call that was begun: a task of the cluster."""

    def __init__(self, number: int, task: Any, watcher: Watcher, limits: Limits) -> None:
        self.number, self.task, self.limits = number, task, limits
        self.watcher, self.audience = watcher, Audience(watcher)
        self.caller = threading.current_thread()
        self.is_unwanted = False
        self._timed_since: float | None = None
        self._broke: str | None = None

    def hear(self, events: Sequence[Any]) -> None:
        for event in events:
            if event.method == BEGAN:
                self._timed_since = None
                self.audience.leave()  # an earlier try that was lost
            elif event.method == TIMED:
                self._timed_since = time.monotonic()
            elif event.method != ARRIVED:
                self.audience.hear(event)

    def ends_by_time(self) -> bool:
        """Whether it takes longer than it may; it is killed then."""
        minutes, since = self.limits.minutes, self._timed_since
        if since is None or minutes is None or time.monotonic() - since <= 60 * minutes:
            return False
        self._broke = f"it took longer than the {minutes:g} minutes of --run-minutes"
        self.kill()
        return True

    def kill(self) -> None:
        """End its task, which is not repeated; nothing where it has ended."""
        import ray

        ray.cancel(self.task, force=True)

    def stop(self) -> None:
        """As `kill`, with a moment for the call to remove what it keeps on the node's disk."""
        import ray

        ray.cancel(self.task)
        ray.wait([self.task], timeout=STOP_SECONDS)
        self.kill()

    def result(self) -> Any:
        """What the call returned, once it ended. Raises as `harness.workers.isolation.in_worker`."""
        import ray

        if self._broke is not None:
            raise BrokenCallError(self._broke)
        try:
            ended = ray.get(self.task)
        except ray.exceptions.RayError as error:
            raise BrokenCallError(_in_words(error)) from None
        return result_of(ended)


class RayCluster:
    """A cluster that this process has joined; see `joined`."""

    def __init__(self, options: RayOptions) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.share = options.share
        beside_us = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        lasting = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
        self._board: Any = ray.remote(Board).options(**lasting, scheduling_strategy=beside_us).remote()
        takes: dict[str, Any] = {"num_cpus": self.share.cpus, "num_gpus": self.share.gpus}
        if self.share.gigabytes is not None:
            takes["memory"] = int(self.share.gigabytes * GIGABYTE)
        # a process for each call, as workers have it
        self._task = ray.remote(max_calls=1, max_retries=RETRIES, **takes)(make_call)
        self._numbers = itertools.count()

    def rooms(self) -> dict[str, int]:
        """How many runs each machine of the cluster has room for now."""
        import ray

        return rooms_by_host(ray.nodes(), self.share)

    def begin(
        self, function: Callable[..., Any], *arguments: Any, watcher: Watcher, limits: Limits
    ) -> RayCall:
        """Have ``function(*arguments, watcher)`` called in a process of its own when a node has room for it.

        ``function`` is found by its name on every node, and ``arguments`` are small: they are sent with it.
        The minutes of ``limits`` count from when it starts the clock of its watcher, a `Told`.
        """
        number = next(self._numbers)
        conditions = Conditions(os.getcwd(), self.share, limits)
        task = self._task.remote(function, arguments, conditions, self._board, number)
        return RayCall(number, task, watcher, limits)

    def wait(self, calls: Sequence[RayCall]) -> list[RayCall]:
        """Tell the watchers what happened within LOOK_SECONDS; returns the calls that have ended."""
        import ray

        done, _ = ray.wait([call.task for call in calls], num_returns=1, timeout=LOOK_SECONDS)
        if done:
            done, _ = ray.wait([call.task for call in calls], num_returns=len(calls), timeout=0)
        events = ray.get(self._board.take.remote([call.number for call in calls]))
        ended = []
        for call in calls:
            call.hear(events[call.number])
            if call.task in done or call.ends_by_time():
                call.audience.leave()
                ended.append(call)
        return ended

    def call(self, function: Callable[..., Any], *arguments: Any, watcher: Watcher, limits: Limits) -> Any:
        """`begin` and wait; several threads may do so at once. Raises as `RayCall.result`, and what the
        watcher raises, which ends the call."""
        call = self.begin(function, *arguments, watcher=watcher, limits=limits)
        try:
            with known_to_end_calls(call):
                while not self.wait([call]):
                    if call.is_unwanted:
                        raise CallEnded
            return call.result()
        except BrokenCallError:
            if call.is_unwanted:
                raise CallEnded from None
            raise
        except BaseException:
            call.stop()
            raise
        finally:
            call.audience.leave()


@contextmanager
def joined(options: RayOptions, watcher: Watcher) -> Iterator[RayCluster]:
    """Join the cluster of ``options.address`` and leave it at the end, when all of its calls are killed.

    ``local`` starts one on this machine, which ends with this process. Raises InputError where there is none,
    and where this machine alone has no room for a run.
    """
    require_ray()
    with connected(options.address, {"OMP_NUM_THREADS": str(options.share.cpus)}, STORE_BYTES):
        cluster = RayCluster(options)
        rooms = cluster.rooms()
        _say_room(options, rooms, watcher)
        yield cluster


@contextmanager
def connected(address: str, variables: dict[str, str], store_bytes: int | None = None) -> Iterator[None]:
    """Connect to a cluster whose processes have this checkout and these environment variables, then leave it.

    ``local`` starts one on this machine, with an object store of so many bytes (None: what Ray chooses).
    Raises InputError where there is none.
    """
    import ray

    _connect(address, variables, store_bytes)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str, variables: dict[str, str], store_bytes: int | None) -> None:
    import ray

    path = os.pathsep.join([str(ROOT), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"PYTHONPATH": path} | variables
    how: dict[str, Any] = {
        "runtime_env": {"env_vars": environment},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray reports to its makers
        os.environ.setdefault("RAY_worker_niceness", "0")  # or its tasks wait for whoever else computes here
        how |= {"num_cpus": usable_cores(), "include_dashboard": False, "object_store_memory": store_bytes}
    elif address != "auto":
        _check_answers(address)
    try:
        ray.init(address=address, **how)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        told = " ".join(str(error).split())[:200]
        raise InputError(
            f"--ray-address {address}: no Ray cluster can be joined ({told}); start one with "
            "`ray start --head`, or give local"
        ) from None


def _check_answers(address: str) -> None:
    """InputError where nothing listens at HOST:PORT, which Ray would wait minutes for."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InputError(f"--ray-address {address}: {ADDRESSES}")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--ray-address {address}: no Ray cluster answers there ({error}); `ray start --head` starts one "
            "and prints its address"
        ) from None


def _say_room(options: RayOptions, rooms: dict[str, int], watcher: Watcher) -> None:
    share, total = options.share, sum(rooms.values())
    asked = f"CPUs a run: {share.cpus}"
    asked += f", GPUs: {share.gpus:g}" if share.gpus else ""
    asked += "" if share.gigabytes is None else f", GB: {share.gigabytes:g}"
    if total:
        watcher.note(f"Ray: runs at once: {total}, machines: {len(rooms)} ({asked})")
    elif options.address == "local":
        raise InputError(
            f"--ray-address local: this machine of {usable_cores()} CPUs has no room for a run ({asked}); "
            "ask for less with --cpus-per-run, --gpus-per-run and --memory-per-run"
        )
    else:
        watcher.note(f"Ray: no machine has room for a run yet ({asked}); waiting until one with it joins")


def _in_words(error: Exception) -> str:
    """What Ray says of a task that has no result."""
    import ray

    lost = (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.LocalRayletDiedError,
    )
    if isinstance(error, lost):
        why = "memory ran out" if isinstance(error, ray.exceptions.OutOfMemoryError) else "it was lost"
        return f"its process ended {RETRIES + 1} times ({why})"
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:500]}"
