"""Matches a suite's rows on one dataset, makes them into jobs, and tries them out before any is trained.

All that calls an architecture's own code does so in a process of its own (`Caller`), row by row.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from harness.data import InputError
from harness.machine.facts import Machine, machine_of
from harness.model.architectures import architecture_class
from harness.records.cost import Cost
from harness.records.spec import RunSpec
from harness.runs.jobs import Job
from harness.runs.row_check import check_row
from harness.training.progress import Watcher
from harness.training.ranks import World
from harness.training.recipe import check_recipe
from harness.workers.isolation import BrokenCallError, in_worker, start_server
from harness.workers.worker import Limits
from suites.rows import MatchedRow, matcher
from suites.setting import Setting
from suites.speeds.latency import match_on_latency
from suites.suite import Suite


@dataclass
class Caller:
    """Calls functions in workers; under torchrun, whose processes belong together, in this one.

    ``at_once`` calls, which threads of this process may make, share the machine's threads.
    """

    world: World
    limits: Limits
    at_once: int = 1
    _machines: dict[str, Machine] = field(default_factory=dict, init=False)
    _measuring: threading.Lock = field(default_factory=threading.Lock, init=False)

    def start(self) -> None:
        """Begin to import what workers need."""
        if self.world.size == 1:
            start_server(["suites.run"])

    def __call__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        watcher: Watcher | None = None,
        hold: int | None = None,
    ) -> Any:
        """As `harness.workers.isolation.in_worker`; in this process, whatever the call raises."""
        if self.world.size > 1:
            return function(*arguments, *([] if watcher is None else [watcher]))
        threads = self.threads if self.at_once > 1 else None
        return in_worker(
            function, *arguments, watcher=watcher, limits=self.limits, hold=hold, threads=threads
        )

    @property
    def threads(self) -> int:
        """How many a call computes on."""
        return max(1, torch.get_num_threads() // self.at_once)

    def machine(self, precision: str) -> Machine:
        """This machine, measured once, on no limit of a run."""
        with self._measuring:
            if precision not in self._machines:
                without_limits = replace(self, limits=Limits())
                self._machines[precision] = without_limits(machine_of, self.world.device, precision)
            return self._machines[precision]


@dataclass
class Broken:
    """Runs that have no record, and why."""

    watcher: Watcher
    runs: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, title: str, reason: object, runs: int = 1) -> None:
        self.runs += runs
        self.reasons.append(f"{title} ({reason})")
        self.watcher.note(f"{title} broke: {reason}")


@dataclass(frozen=True)
class Row:
    """A matched row on a dataset, and its jobs: seed after seed, each in every world."""

    title: str
    matched: MatchedRow
    jobs: list[Job]


def find_own_architectures(suite: Suite, call: Caller) -> None:
    """Import the user's own modules; InputError for one that lacks what a row names.

    One that ends or hangs its process is left to the rows that name it.
    """
    own = [row.architecture for row in suite.architectures if ":" in row.architecture]
    with contextlib.suppress(BrokenCallError):
        call(_find, own)


def _find(architectures: list[str]) -> None:
    for name in architectures:
        architecture_class(name)


def plan_rows(
    settings: list[Setting],
    out: Path,
    job: Callable[[Setting, RunSpec, Cost], Job],
    call: Caller,
    broken: Broken,
) -> list[Row]:
    """The suite's rows on a dataset, except those that break while they are matched.

    ``settings`` are the dataset's worlds. A row is matched in the first: its structure, inputs and FLOPs do
    not depend on the world, and the sizes of its embedding tables are counted in each. What is measured for
    it is kept in ``out``.

    Raises InputError where a row's tokens or settings cannot be made, or its budget cannot be met.
    """
    rows = []
    setting = settings[0]
    seeds = range(setting.suite.seeds)
    for number, contestant in enumerate(setting.suite.architectures):
        title = f"{setting.prepared.schema.name} {contestant.name}"
        try:
            matched, spec = call(plan_row, setting, number, out)
        except BrokenCallError as error:
            broken.add(title, error, len(seeds) * len(settings))
            continue
        jobs = [
            job(world, world.here(spec).model_copy(update={"seed": seed}), world.cost_here(matched.cost))
            for seed in seeds
            for world in settings
        ]
        rows.append(Row(title, matched, jobs))
    return rows


def plan_row(setting: Setting, number: int, out: Path) -> tuple[MatchedRow, RunSpec]:
    """A row of the suite, matched, and the spec of its first run."""
    row = setting.suite.architectures[number]
    budget = row.budget or setting.suite.budget
    if budget is not None and budget.kind == "latency_ms_p99":
        matched = match_on_latency(setting, row, budget, out)
    else:
        matched = matcher(setting.suite, setting.prepared)(row)
    spec = setting.spec(matched, seed=0)
    try:
        check_recipe(spec, setting.prepared.schema)
    except InputError as error:
        raise InputError(f"{row.name}: {error}") from None
    return matched, spec


def fit_jobs(row: Row, call: Caller, broken: Broken, elsewhere: bool) -> list[Job]:
    """The row's jobs that have a record; those that have none, too, if one step on made-up rows succeeds.

    Under torchrun no step is made. This machine's memory decides, too, unless they are carried out
    ``elsewhere``.
    """
    if call.world.size > 1:
        return row.jobs
    if (problem := _problem_of_name(row.jobs)) is not None:
        broken.add(row.title, problem, len(row.jobs))
        return []
    finished = [job for job in row.jobs if job.folder.is_finished]
    if len(finished) == len(row.jobs):
        return row.jobs
    try:
        job = row.jobs[0]
        asked = job.spec, row.matched.cost, job.prepared, call.world, job.runs_at_once, elsewhere
        call(check_row, *asked)
    except (BrokenCallError, InputError) as error:
        broken.add(row.title, error, len(row.jobs) - len(finished))
        return finished
    return row.jobs


def _problem_of_name(jobs: list[Job]) -> str | None:
    """Why the file system can have no folder of such a name; None if it can."""
    for folder in (job.folder.partial for job in jobs):
        folder.parent.mkdir(parents=True, exist_ok=True)  # where it is not there, no name is looked at
        try:
            os.lstat(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return f"its folder's name has {len(folder.name)} letters, too many here; shorten the variant"
            raise
    return None
