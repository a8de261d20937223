"""Runs that another number of processes began, and that would begin anew without `--shares`."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from harness.data import cuts_shards
from harness.records.folder import RunFolder
from harness.records.remote_run import POINTER_FILE
from harness.runs.jobs import Job
from harness.training.progress import Watcher


def note_other_shares(jobs: list[Job], out: Path, watcher: Watcher) -> None:
    """Say which ``--shares`` goes on with runs that another number of processes left unfinished."""
    for shares in sorted(_processes_of_checkpoints(out)):
        begun = sum(_as_dealt(job, shares).partial.is_dir() for job in jobs if _would_begin(job, shares))
        if begun:
            whose = f"{shares} process{'es' if shares > 1 else ''}"
            watcher.note(
                f"runs that {whose} left unfinished begin anew: {begun}; --shares {shares} goes on with them"
            )


def _would_begin(job: Job, shares: int) -> bool:
    is_begun = job.folder.is_finished or job.folder.partial.is_dir()
    return job.cost is not None and job.spec.world_size != shares and not is_begun


def _processes_of_checkpoints(out: Path) -> set[int]:
    found = set()
    for pointer in out.glob(f"runs/*.partial/{POINTER_FILE}"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # of a damaged one its run tells
            found.add(int(json.loads(pointer.read_bytes())["ranks"]))
    return found


def _as_dealt(job: Job, shares: int) -> RunFolder:
    """The folder of the same run, had its rows been dealt into ``shares``."""
    dealt = {"world_size": shares, "cuts_shards": cuts_shards(job.prepared, shares)}
    return RunFolder(job.out, job.spec.model_copy(update=dealt).folder_name)
