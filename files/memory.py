"""How much memory is free: on the machine, and within the limits of the groups that a process is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

OWN_GROUPS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes that this process may still take before the system ends it.

    The least of what the machine has available and what Linux's control groups leave, by which containers
    and jobs of a scheduler are limited.
    """
    return min([psutil.virtual_memory().available, *_left_by_groups()])


def _left_by_groups() -> Iterator[int]:
    """What the limit of each group that holds this process leaves; nothing elsewhere than on Linux."""
    for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines() if OWN_GROUPS.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # of version 2, which has one hierarchy
            top, most, taken, file_pages = GROUPS, "memory.max", "memory.current", "{}_file"
        elif "memory" in controllers.split(","):
            top, most, taken = GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            file_pages = "total_{}_file"
        else:
            continue
        group = top / path.strip("/")  # in a container its own group may be the only one to be seen
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
            limit = _number(folder / most)
            if limit is not None:
                statistics = _statistics(folder / "memory.stat")
                cached = sum(statistics.get(file_pages.format(kind), 0) for kind in ("active", "inactive"))
                yield limit - (_number(folder / taken) or 0) + cached


def _number(path: Path) -> int | None:
    """What a file holds; None where it is not there or says ``max``."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _statistics(path: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    return {name: int(value) for name, value in lines}
