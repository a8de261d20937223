"""Carries out a suite: matches costs, then runs what is not yet on disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import torch

from files.errors import UnfinishedError
from files.writing import write_atomically
from harness.data import InputError, is_full_disk, leak_warnings, leaks_as_recorded, prepared_for_ranks
from harness.model.architectures import ARCHITECTURES, left_out
from harness.records.cost import Cost
from harness.records.record import Record, TaskMetrics
from harness.records.spec import RunSpec
from harness.records.suite import SUITE_FILE, SuiteRecord, TunedContestant
from harness.runs.fitted import FITTED
from harness.runs.jobs import Job, carry_out
from harness.runs.references import available_references
from harness.training.progress import Silent, Watcher
from harness.training.ranks import World, start_world
from harness.training.weights import SMALL_MEGABYTES, Keep, keeps_weights, megabytes_of_weights
from harness.workers.isolation import BrokenCallError
from harness.workers.several import several
from harness.workers.worker import Limits
from suites.estimate import Workload, announcement
from suites.plan import Broken, Caller, Row, find_own_architectures, fit_jobs, plan_rows
from suites.serving import measure_models
from suites.setting import Setting
from suites.suite import Dataset, Suite, check_own_names
from suites.tuning.tuned import TunedRow, read_tuned

HELD_SECONDS = 1.0  # between looks at runs that other processes hold


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a number: places, device, checkpoints, limits of a run.

    ``keep`` is which weights are kept (`harness.training.weights.keeps_weights`), of the first seed's run of
    each row on each dataset. ``jobs`` is how many runs are carried out at once, on equal shares of the
    machine's threads.
    """

    out: Path
    cache_root: Path
    data_root: Path | None
    device: torch.device
    rebuild: bool = False
    checkpoint_seconds: float = 60.0
    limits: Limits = field(default_factory=Limits)
    command: str = ""
    speed: bool = True  # measure how fast the models answer, after the trainings
    keep: Keep = "auto"
    jobs: int = 1


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one; InputError if ``cuda`` is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no usable GPU here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_keep(name: str) -> Keep:
    """Which weights are kept; InputError for a word that says none of it."""
    if name not in get_args(Keep):
        raise InputError(f"keep {name!r}: choose from {', '.join(get_args(Keep))}")
    return cast(Keep, name)


def check_jobs(jobs: int, world: World, watcher: Watcher) -> None:
    """InputError where several runs at once cannot share what they run on; told where there are few cores."""
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; give a number of runs at once, at least 1")
    if jobs == 1:
        return
    if world.size > 1:
        raise InputError(
            f"--jobs {jobs}: torchrun's {world.size} processes carry out one run together; leave --jobs out, "
            "or start without torchrun"
        )
    if world.device.type == "cuda":
        raise InputError(
            f"--jobs {jobs}: runs at once share the cores of a CPU and not a GPU; start the command once for "
            "each GPU, with CUDA_VISIBLE_DEVICES and the same --out, or one run on all of them with torchrun"
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs > cores:
        watcher.note(f"--jobs {jobs}: more runs at once than this machine's {cores} cores are no faster")


def run_suite(suite: Suite, options: Options, watcher: Watcher) -> list[Record]:
    """Run everything of the suite that has no record yet; returns all records, failed ones too.

    Runs that another process holds are left until the end and then waited for. Each run has a process of its
    own (under torchrun, the rank's). One that raises, exceeds a limit or loses its process is reported and
    leaves no record, so that it is tried again next time; so is a row that fails on a few made-up rows before
    the first run. The others go on, and an UnfinishedError that lists the broken ones comes last.

    Raises InputError before anything is written where two datasets have one name, where an architecture or
    its budget cannot be had, and where several runs at once cannot share what they run on.
    """
    world = start_world(options.device)
    check_jobs(options.jobs, world, watcher)
    if suite.training.batch_size % world.size:
        raise InputError(
            f"training.batch_size {suite.training.batch_size} must be a multiple of "
            f"the {world.size} processes"
        )
    watcher = watcher if world.is_first else Silent()
    call, broken = Caller(world, options.limits), Broken(watcher)
    plans, jobs = plan_jobs(suite, options, call, broken)
    at_work = Caller(world, options.limits, options.jobs) if options.jobs > 1 else call
    watcher.note(_announcement(jobs, suite, at_work))
    if options.keep == "auto" and (large := _too_large_to_keep(jobs)):
        watcher.note(
            f"weights of more than {SMALL_MEGABYTES} MB are not kept ({', '.join(large)}); "
            "--keep weights keeps them"
        )
    records: list[Record] = []
    tally = Tally(len(jobs), options.jobs)
    with closing(_made(jobs, at_work, watcher)) as made:
        for job, found, seconds in made:
            tally.count(seconds)
            if isinstance(found, Broke):
                broken.add(job.title, found.reason)
            elif isinstance(found, Record):
                records.append(found)
                watcher.note(f"{tally} {job.title}: {_outcome(found)}")
    if options.speed:
        _measure_speeds(suite, plans, records, options, call, watcher)
    raise_broken(broken, plans)
    return records


def plan_jobs(suite: Suite, options: Options, call: Caller, broken: Broken) -> tuple[list[Plan], list[Job]]:
    """Prepare the data, match all rows and write ``suite.json``; the jobs of rows that can be carried out."""
    call.start()
    find_own_architectures(suite, call)
    plans = [_plan(suite, dataset, options, call, broken) for dataset in suite.datasets]
    check_own_names(suite.datasets, [plan.setting.prepared.schema.name for plan in plans])
    if call.world.is_first:
        write_atomically(
            options.out / SUITE_FILE, json.dumps(_as_run(suite, plans, options).as_json(), indent=1).encode()
        )
    return plans, [job for plan in plans for job in plan.jobs_that_fit(call, broken)]


def raise_broken(broken: Broken, plans: list[Plan]) -> None:
    """UnfinishedError that lists the broken runs, if there are any."""
    if broken.runs:
        total = sum(plan.runs for plan in plans)
        raise UnfinishedError(
            f"{broken.runs} of {total} runs broke and left no record: {'; '.join(broken.reasons)}"
        )


def _measure_speeds(
    suite: Suite, plans: list[Plan], records: list[Record], options: Options, call: Caller, watcher: Watcher
) -> None:
    if call.world.size > 1:
        watcher.note(
            "how fast the models answer is measured in one process: run the suite again without torchrun"
        )
        return
    for plan in plans:
        dataset = plan.setting.prepared.schema.name
        jobs = [job for row in plan.rows for job in row.jobs]
        here = [record for record in records if record.dataset == dataset]
        if jobs:
            measure_models(jobs, here, suite.serving, options.out, call, watcher)


class NoRecord(Enum):
    """Why a run gives no record here: another process holds it, or it is the first rank's."""

    HELD = "held"
    NONE = "none"


class Broke(NamedTuple):
    """A run that left no record."""

    reason: str


class Made(NamedTuple):
    """What came of a job; ``seconds`` are those that its training took, None where it trained nothing."""

    job: Job
    found: Record | NoRecord | Broke
    seconds: float | None


def _made(jobs: list[Job], call: Caller, watcher: Watcher) -> Generator[Made]:
    """Every job as it ends. Those that another process holds are waited for when the others have ended."""
    if call.at_once > 1:
        yield from _made_at_once(jobs, call, watcher)
        return
    waiting: list[Job] = []
    for patient, due in ((False, jobs), (True, waiting)):
        for job in due:
            made = _make(job, call, patient, watcher)
            if made.found is NoRecord.HELD:
                waiting.append(job)
            else:
                yield made


def _made_at_once(jobs: list[Job], call: Caller, watcher: Watcher) -> Generator[Made]:
    while jobs:
        calls = [partial(_make, job, call, False, watcher.beside_others()) for job in jobs]
        held = []
        with closing(several(calls, call.at_once)) as ended:
            for _, made in ended:
                if made.found is NoRecord.HELD:
                    held.append(made.job)
                else:
                    yield made
        if len(held) == len(jobs):
            time.sleep(HELD_SECONDS)
        jobs = held


def _make(job: Job, call: Caller, patient: bool, watcher: Watcher) -> Made:
    start = time.monotonic()
    was_finished = job.folder.is_finished
    found = _run_once(job, call, patient, watcher)
    return Made(job, found, None if was_finished or job.cost is None else time.monotonic() - start)


def _run_once(job: Job, call: Caller, patient: bool, watcher: Watcher) -> Record | NoRecord | Broke:
    """The job's record: read if it is finished, made if the run is free."""
    world = call.world
    if not world.is_first:
        decision = world.from_first(None)
        if decision == "run":
            return _carry_out(job, call, watcher)
        return NoRecord.NONE if decision == "finished" else NoRecord.HELD
    with job.folder.locked(wait=patient) as held:
        finished = job.folder.is_finished
        world.from_first("finished" if finished else "run" if held is not None else "held")
        if finished:
            return job.folder.record()
        if held is None:
            return NoRecord.HELD
        try:
            return _carry_out(job, call, watcher, held)
        except Exception as error:
            # The other ranks would wait for this one, and a full disk breaks every run alike.
            if world.size > 1 or is_full_disk(error):
                raise
            in_words = isinstance(error, BrokenCallError | InputError)
            return Broke(str(error) if in_words else f"{type(error).__name__}: {error}")


def run_job(job: Job, call: Caller, watcher: Watcher) -> Record:
    """The record of one job, as `run_suite` makes it; where another process makes it, that is waited for.

    Raises UnfinishedError where the run breaks.
    """
    found = _run_once(job, call, False, watcher)
    if found is NoRecord.HELD:
        watcher.note(f"{job.title}: another process holds it; waiting until that ends")
        found = _run_once(job, call, True, watcher)
    if isinstance(found, Broke):
        raise broke(job, found.reason)
    assert isinstance(found, Record)
    watcher.note(f"{job.title}: {_outcome(found)}")
    return found


def broke(job: Job, reason: object) -> UnfinishedError:
    """The error of one run that broke."""
    return UnfinishedError(f"the run broke and left no record: {job.title} ({reason})")


def _carry_out(job: Job, call: Caller, watcher: Watcher, lock: int | None = None) -> Record | NoRecord:
    """The job's record; a reference that fits nothing is carried out in this process, where it runs alone."""
    if job.cost is None and job.spec.architecture not in FITTED and call.at_once == 1:
        return carry_out(job, None, call.world, watcher) or NoRecord.NONE
    machine = call.machine(job.spec.training.precision) if job.cost else None
    return call(carry_out, job, machine, call.world, watcher=watcher, hold=lock) or NoRecord.NONE


@dataclass
class Tally:
    """How much of a suite is done, and how long the rest may take at the pace so far, ``at_once`` of it."""

    total: int
    at_once: int = 1
    done: int = 0
    trained: int = 0
    seconds: float = 0.0

    def count(self, seconds: float | None) -> None:
        """One more run is done; it took ``seconds``, or None if there was nothing to train."""
        self.done += 1
        if seconds is not None:
            self.trained += 1
            self.seconds += seconds

    def __str__(self) -> str:
        if not self.trained or self.done == self.total:
            return f"[{self.done}/{self.total}]"
        left = self.seconds / self.trained * (self.total - self.done) / self.at_once
        return f"[{self.done}/{self.total}, {left / 60:.0f} min left]"


def _announcement(jobs: list[Job], suite: Suite, call: Caller) -> str:
    """What is left to train, and about how long it takes."""
    left = [(job, job.cost) for job in jobs if job.cost and not job.folder.is_finished]
    together = call.world.size if call.world.device.type == "cuda" else 1
    return announcement(
        [Workload.of(job.spec.training, cost, job.prepared) for job, cost in left],
        [job.spec.architecture for job, _ in left],
        together * call.machine(suite.training.precision).peak.flops_per_second if left else 0.0,
        call.at_once,
    )


def _too_large_to_keep(jobs: list[Job]) -> list[str]:
    """Rows that are yet to be trained and whose weights are not small, with their sizes."""
    names = (
        f"{job.spec.dataset} {job.spec.contestant.label}: {megabytes_of_weights(job.cost):,.0f} MB"
        for job in jobs
        if job.cost and not keeps_weights("auto", job.cost) and not job.folder.is_finished
    )
    return list(dict.fromkeys(names))


def _outcome(record: Record) -> str:
    if record.failure is not None:
        return f"FAILED: {record.failure.reason}"
    found = [f"{task} {_shown(metrics)}" for task, metrics in record.metrics.items()]
    rate = record.training.train_samples_per_second if record.training else None
    beside = record.training.runs_at_once if record.training else None
    shared = f" (one of {beside} at once)" if beside else ""
    return ", ".join(found) + (f", {rate:,.0f} samples/s{shared}" if rate else "")


def _shown(metrics: TaskMetrics) -> str:
    values = {"AUC": metrics.auc, "UAUC": metrics.uauc}
    return " ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)


@dataclass(frozen=True)
class Plan:
    """A suite on one dataset, in every one of its worlds: its references and its rows."""

    settings: list[Setting]
    references: list[Job]
    rows: list[Row]

    @property
    def setting(self) -> Setting:
        """The first world's, or the only one."""
        return self.settings[0]

    @property
    def jobs(self) -> list[Job]:
        """All jobs in their order: the references, then seed after seed, world after world, of all rows."""
        by_seed_and_world = zip(*(row.jobs for row in self.rows), strict=True)
        return [*self.references, *(job for jobs in by_seed_and_world for job in jobs)]

    @property
    def runs(self) -> int:
        """How many runs there would be if every row could be matched."""
        suite = self.setting.suite
        return len(self.references) + suite.seeds * len(self.settings) * len(suite.architectures)

    def jobs_that_fit(self, call: Caller, broken: Broken) -> list[Job]:
        """Those of rows that can be carried out, and those that have a record."""
        fit = {job.folder.final for row in self.rows for job in fit_jobs(row, call, broken)}
        return [job for job in self.jobs if job.cost is None or job.folder.final in fit]


def _plan(suite: Suite, dataset: Dataset, options: Options, call: Caller, broken: Broken) -> Plan:
    settings = [_setting(suite, dataset, world, options, call, broken) for world in dataset.each_world]

    def job(setting: Setting, spec: RunSpec, cost: Cost | None = None) -> Job:
        keeps = cost is not None and is_first(setting, spec) and keeps_weights(options.keep, cost)
        seconds = options.checkpoint_seconds
        return Job(spec, cost, setting.prepared, options.out, seconds, keeps, options.jobs)

    def is_first(setting: Setting, spec: RunSpec) -> bool:
        return spec.seed == 0 and setting is settings[0]

    rows = plan_rows(settings, options.out, job, call, broken)
    first = settings[0]
    names = available_references(first.prepared, first.tasks, suite.references)
    tuned = read_tuned(suite, first.prepared) if names else None
    found = {name: tuned.reference_settings(name) if tuned else None for name in names}
    references = [
        job(setting, setting.reference_spec(name, found[name])) for setting in settings for name in names
    ]
    return Plan(settings, references, rows)


def _setting(
    suite: Suite, dataset: Dataset, world: int | None, options: Options, call: Caller, broken: Broken
) -> Setting:
    """The suite in one world of a dataset, whose leaks are reported."""
    name = dataset.name if world is None else f"{dataset.name} world {world}"
    broken.watcher.note(f"{name}: preparing, or opening what is prepared")
    prepared = prepared_for_ranks(
        dataset.name,
        dataset.options,
        options.data_root,
        options.cache_root,
        options.rebuild,
        call.world,
        world,
    )
    setting = Setting(suite, dataset, prepared, call.world)
    for warning in leak_warnings(prepared, setting.tasks):
        broken.watcher.note(f"{name}: {warning}")
    return setting


def _as_tuned(rows: list[Row]) -> list[dict]:
    """What tuning found for each row, read once for each dataset."""
    kept = set(TunedContestant.model_fields) & set(TunedRow.model_fields)
    return [
        {name: getattr(row.jobs[0].spec, name) for name in ("dataset", "architecture", "variant")}
        | {"metric": row.matched.training.select_metric}
        | row.matched.tuned.model_dump(mode="json", include=kept)
        for row in rows
        if row.matched.tuned is not None
    ]


def _leaks(plan: Plan) -> dict[str, Any]:
    """The leaks of a dataset; one that several worlds have is that of the first of them."""
    first = leaks_as_recorded(plan.setting.prepared)
    if plan.setting.prepared.world is None:
        return first
    found: dict[tuple, dict[str, Any]] = {}
    for setting in plan.settings:
        for leak in leaks_as_recorded(setting.prepared)["found"]:
            says = f"{leak['says']} (world {setting.prepared.world})"
            found.setdefault((leak["feature"], leak["kind"], leak["task"]), leak | {"says": says})
    return first | {"found": list(found.values())}


def _shipped(suite: Suite) -> list[str]:
    """The suite's architectures that come with the project, each once."""
    return list(
        dict.fromkeys(row.architecture for row in suite.architectures if row.architecture in ARCHITECTURES)
    )


def _as_run(suite: Suite, plans: list[Plan], options: Options) -> SuiteRecord:
    """``suite.json``: what was asked for, as the report reads it."""
    worlds = {
        plan.setting.prepared.schema.name: plan.setting.dataset.worlds
        for plan in plans
        if plan.setting.dataset.worlds is not None
    }
    content: dict[str, Any] = {
        "name": suite.name,
        "description": suite.description,
        "paper_table": suite.paper_table,
        "analyses": suite.analyses,
        "base": suite.base or "",
        "architectures": [row.contestant for row in suite.architectures],
        "contrasts": suite.contrasted,
        "partial": {name: left_out(name) for name in _shipped(suite) if left_out(name)},
        "datasets": [plan.setting.prepared.schema.name for plan in plans],
        **({"worlds": worlds} if worlds else {}),
        "seeds": suite.seeds,
        "tasks": suite.tasks,
        "budget": suite.budget.model_dump(exclude_none=True) if suite.budget else None,
        "sizes": [size.model_dump(exclude_none=True) for size in suite.sizes],
        "tuned": _as_tuned([row for plan in plans for row in plan.rows]),
        "spec_hashes": [job.spec.hash for plan in plans for job in plan.jobs],
        "leaks": {plan.setting.prepared.schema.name: _leaks(plan) for plan in plans},
        "command": options.command,
    }
    return SuiteRecord.model_validate(content)
