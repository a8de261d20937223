"""Runs as data: a file with one line for each, from which any process carries one out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from files.errors import InputError
from files.writing import write_atomically
from harness.data import first_problem
from harness.records.record import Record
from harness.runs.jobs import Job
from harness.training.progress import Watcher
from harness.training.ranks import World, start_world
from harness.workers.isolation import BrokenCallError
from harness.workers.worker import Limits
from suites.carrying_out import broke, run_job
from suites.options import Options, check_shares
from suites.plan import Broken, Caller
from suites.planned_run import ANEW, PLAN_FORMAT, PlannedRun, check_code
from suites.run import plan_jobs, raise_broken
from suites.suite import Suite


def write_plan(jobs: Sequence[Job], limits: Limits, path: Path) -> None:
    """Write a line for each job, in their order."""
    lines = [PlannedRun.from_job(job, limits).model_dump_json() for job in jobs]
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def read_planned(path: Path, number: int) -> PlannedRun:
    """The run of a line, counted from 0.

    Raises InputError where the file cannot be read or has no such line, and where the line is damaged or of
    another version.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {ANEW}") from None
    if not 0 <= number < len(lines):
        numbers = f"its runs are numbered from 0 to {len(lines) - 1}" if lines else "it has no runs"
        raise InputError(f"{path}: there is no run {number}: {numbers}")
    where = f"{path}: run {number}"
    try:
        content: Any = json.loads(lines[number])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no JSON ({error}); {ANEW}") from None
    if not isinstance(content, dict) or content.get("format") != PLAN_FORMAT:
        raise InputError(f"{where}: is of another version of this program; {ANEW}")
    try:
        planned = PlannedRun.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{first_problem(error, where)}; {ANEW}") from None
    if planned.spec.hash != planned.spec_hash:
        raise InputError(
            f"{where}: this version of the program knows it as {planned.spec.hash} and not as "
            f"{planned.spec_hash}; {ANEW}"
        )
    return planned


def plan_suite(suite: Suite, options: Options, path: Path, watcher: Watcher) -> int:
    """Write a line for each run of the suite that has no record; returns how many there are.

    All that comes before the first run is done as `suites.run.run_suite` does it, and nothing is trained.
    Raises as that does.
    """
    world = _alone(start_world(options.device), "--plan")
    check_shares(options.shares, suite.training.batch_size, world)
    call, broken = Caller(world, options.limits), Broken(watcher)
    plans, jobs = plan_jobs(suite, options, call, broken, elsewhere=True)
    left = [job for job in jobs if not job.folder.is_finished]
    write_plan(left, options.limits, path)
    raise_broken(broken, plans)
    return len(left)


def run_planned(path: Path, number: int, cache_root: Path | None, watcher: Watcher) -> Record:
    """Carry out the run of a line, counted from 0, as `suites.run.run_suite` would; returns its record.

    ``cache_root`` is where this machine has the prepared data, None: where the plan says.

    Raises InputError where the line cannot be used here: `read_planned`, `PlannedRun.job`, no GPU, or another
    code of the architecture; UnfinishedError where the run breaks.
    """
    planned = read_planned(path, number)
    if planned.spec.device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"{path}: run {number} is planned for a GPU, and there is no usable one here")
    world = _alone(start_world(torch.device(planned.spec.device)), "run-one")
    job = planned.job(cache_root)
    call = Caller(world, planned.limits)
    call.start()
    if job.folder.is_finished:
        watcher.note(f"{job.title}: has its record, and nothing is left to do")
        return job.folder.record()
    try:
        check_code(job, call)
    except BrokenCallError as error:
        raise broke(job, error) from None
    run_job(job, call, watcher)
    return job.folder.record()


def _alone(world: World, what: str) -> World:
    if world.size > 1:
        raise InputError(f"{what}: works on one process; start it without torchrun")
    return world
