"""What a node of a Ray cluster does for a call, and the board where calls tell how far they are."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.workers.worker import GIGABYTE, Ended, Limits, WatcherCall, end_of, settle

ADVANCE_SECONDS = 1.0  # between two messages that a run has advanced
# Events of a try for the cluster, and for no watcher: its first, the one its time counts from, and its last.
BEGAN, TIMED, ARRIVED = "began", "timed", "arrived"


@dataclass(frozen=True)
class Share:
    """What a run takes of a node. ``gigabytes`` are 10^9 bytes; None: memory is not counted."""

    cpus: int = 1
    gpus: float = 0.0
    gigabytes: float | None = None

    def fits_into(self, resources: dict[str, float]) -> int:
        """How many runs a node has room for at once."""
        rooms = [resources.get("CPU", 0) // self.cpus]
        if self.gpus:
            rooms.append(resources.get("GPU", 0) // self.gpus)
        if self.gigabytes is not None:
            rooms.append(resources.get("memory", 0) // (self.gigabytes * GIGABYTE))
        return int(min(rooms))


@dataclass(frozen=True)
class Conditions:
    """How a call is made on a node: from which folder, on which share of the node, within which limits."""

    folder: str
    share: Share
    limits: Limits


def rooms_by_host(nodes: Sequence[dict[str, Any]], share: Share) -> dict[str, int]:
    """How many runs each machine has room for. ``nodes`` are Ray's; several may be on one machine."""
    rooms: dict[str, int] = defaultdict(int)
    for node in nodes:
        if node["Alive"]:
            rooms[node["NodeManagerHostname"]] += share.fits_into(node["Resources"])
    return dict(rooms)


def room_here(share: Share) -> int:
    """How many runs the machine of this task has room for."""
    import ray

    nodes, here = ray.nodes(), ray.get_runtime_context().get_node_id()
    host = next(node["NodeManagerHostname"] for node in nodes if node["NodeID"] == here)
    return max(1, rooms_by_host(nodes, share)[host])


class Board:
    """An actor beside the command: events of calls, by the calls' numbers, until the command takes them."""

    def __init__(self) -> None:
        self._events: dict[int, list[WatcherCall]] = defaultdict(list)

    def tell(self, number: int, event: WatcherCall) -> None:
        self._events[number].append(event)

    def take(self, numbers: Sequence[int]) -> dict[int, list[WatcherCall]]:
        return {number: self._events.pop(number, []) for number in numbers}


class Told:
    """A `harness.training.progress.Watcher` whose calls reach the command's own watcher by the board.

    A record is not sent: the command reads it where it was written.
    """

    def __init__(self, board: Any, number: int) -> None:
        self._board, self._number = board, number
        self._spoke = 0.0

    def __getattr__(self, event: str) -> Callable[..., Any]:
        return partial(self.tell, event)

    def tell(self, event: str, *arguments: Any) -> Any:
        return self._board.tell.remote(self._number, WatcherCall(event, arguments))

    def start_clock(self) -> None:
        """From now on the call's time counts; what it did before is on no limit."""
        self.tell(TIMED)

    def beside_others(self) -> Told:
        return self

    def advance(self, *arguments: Any) -> None:
        if time.monotonic() - self._spoke > ADVANCE_SECONDS:
            self._spoke = time.monotonic()
            self.tell("advance", *arguments)

    def ended(self, record: object) -> None:
        pass


def make_call(
    function: Callable[..., Any], arguments: tuple, conditions: Conditions, board: Any, number: int
) -> Ended:
    """The body of a task: ``function(*arguments, watcher)`` in this process, which Ray started for it alone.

    All that the watcher was told has arrived when the task ends.
    """
    import ray

    told = Told(board, number)
    told.tell(BEGAN)
    try:
        os.chdir(conditions.folder)
        settle(conditions.share.cpus, conditions.limits)
        ended = Ended("returned", function(*arguments, told))
    except BaseException as error:  # also SystemExit, which architectures may raise
        ended = end_of(error, conditions.limits)
    ray.get(told.tell(ARRIVED))  # after all before it, which an actor hears in their order
    return ended
