"""Runs that were begun with another number of shares, and would begin anew."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from harness.data import cuts_shards
from harness.records.folder import RunFolder
from harness.records.remote_run import POINTER_FILE
from harness.runs.jobs import Job
from harness.training.progress import Watcher


def note_other_shares(jobs: list[Job], out: Path, processes: int, watcher: Watcher) -> None:
    """Say which ``--shares`` goes on with runs that were begun with another number of them."""
    for shares in sorted(_shares_of_checkpoints(out)):
        begun = sum(_as_dealt(job, shares).partial.is_dir() for job in jobs if _would_begin(job, shares))
        if begun:
            where = "" if shares % processes == 0 else f", on a number of processes that divides {shares}"
            watcher.note(
                f"runs that are unfinished with --shares {shares} begin anew: {begun}; it goes on with "
                f"them{where}"
            )


def _would_begin(job: Job, shares: int) -> bool:
    is_begun = job.folder.is_finished or job.folder.partial.is_dir()
    return job.cost is not None and job.spec.world_size != shares and not is_begun


def _shares_of_checkpoints(out: Path) -> set[int]:
    found = set()
    for pointer in out.glob(f"runs/*.partial/{POINTER_FILE}"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # a run tells of its damaged one
            found.add(int(json.loads(pointer.read_bytes())["shares"]))
    return found


def _as_dealt(job: Job, shares: int) -> RunFolder:
    """The folder of the same run, had its rows been dealt into ``shares``."""
    dealt = {"world_size": shares, "cuts_shards": cuts_shards(job.prepared, shares)}
    return RunFolder(job.out, job.spec.model_copy(update=dealt).folder_name)
