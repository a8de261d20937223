"""Carries out a suite: matches costs, then runs what is not yet on disk."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, cast, get_args

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
from harness.training.ranks import start_world
from harness.training.weights import SMALL_MEGABYTES, Keep, keeps_weights, megabytes_of_weights
from harness.workers.isolation import BrokenCallError
from harness.workers.worker import Limits
from suites.estimate import Workload, announcement
from suites.plan import Broken, Caller, Row, find_own_architectures, fit_jobs, plan_rows
from suites.serving import measure_models
from suites.setting import Setting
from suites.suite import Dataset, Suite, check_own_names
from suites.tuning.tuned import TunedRow, read_tuned


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a number: places, device, checkpoints, limits of a run.

    ``keep`` is which weights are kept (`harness.training.weights.keeps_weights`), of the first seed's run of
    each row on each dataset.
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


def run_suite(suite: Suite, options: Options, watcher: Watcher) -> list[Record]:
    """Run everything of the suite that has no record yet; returns all records, failed ones too.

    Runs that another process holds are left until the end and then waited for. Each run has a process of its
    own (under torchrun, the rank's). One that raises, exceeds a limit or loses its process is reported and
    leaves no record, so that it is tried again next time; so is a row that fails on a few made-up rows before
    the first run. The others go on, and an UnfinishedError that lists the broken ones comes last.

    Raises InputError before anything is written where two datasets have one name, or where an architecture
    or its budget cannot be had.
    """
    world = start_world(options.device)
    if suite.training.batch_size % world.size:
        raise InputError(
            f"training.batch_size {suite.training.batch_size} must be a multiple of "
            f"the {world.size} processes"
        )
    watcher = watcher if world.is_first else Silent()
    call, broken = Caller(world, options.limits), Broken(watcher)
    call.start()
    find_own_architectures(suite, call)
    plans = [_plan(suite, dataset, options, call, broken) for dataset in suite.datasets]
    check_own_names(suite.datasets, [plan.setting.prepared.schema.name for plan in plans])
    if world.is_first:
        write_atomically(
            options.out / SUITE_FILE, json.dumps(_as_run(suite, plans, options).as_json(), indent=1).encode()
        )
    jobs = [job for plan in plans for job in plan.jobs_that_fit(call, broken)]
    watcher.note(_announcement(jobs, suite, call))
    if options.keep == "auto" and (large := _too_large_to_keep(jobs)):
        watcher.note(
            f"weights of more than {SMALL_MEGABYTES} MB are not kept ({', '.join(large)}); "
            "--keep weights keeps them"
        )
    records: list[Record] = []
    waiting: list[Job] = []
    tally = Tally(len(jobs))
    for patient, due in ((False, jobs), (True, waiting)):
        for job in due:
            start = time.monotonic()
            was_finished = job.folder.is_finished
            found = _run_once(job, call, patient, watcher, broken)
            if found is NoRecord.HELD:
                waiting.append(job)
                continue
            tally.count(None if was_finished or job.cost is None else time.monotonic() - start)
            if isinstance(found, Record):
                records.append(found)
                watcher.note(f"{tally} {job.title}: {_outcome(found)}")
    if options.speed:
        _measure_speeds(suite, plans, records, options, call, watcher)
    if broken.runs:
        total = sum(plan.runs for plan in plans)
        raise UnfinishedError(
            f"{broken.runs} of {total} runs broke and left no record: {'; '.join(broken.reasons)}"
        )
    return records


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
    """Why a run gives no record: another process holds it, or it broke or is the first rank's."""

    HELD = "held"
    NONE = "none"


def _run_once(job: Job, call: Caller, patient: bool, watcher: Watcher, broken: Broken) -> Record | NoRecord:
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
            broken.add(job.title, error if in_words else f"{type(error).__name__}: {error}")
            return NoRecord.NONE


def _carry_out(job: Job, call: Caller, watcher: Watcher, lock: int | None = None) -> Record | NoRecord:
    """The job's record; a reference that fits nothing is carried out in this process."""
    if job.cost is None and job.spec.architecture not in FITTED:
        return carry_out(job, None, call.world, watcher) or NoRecord.NONE
    machine = call.machine(job.spec.training.precision) if job.cost else None
    return call(carry_out, job, machine, call.world, watcher=watcher, hold=lock) or NoRecord.NONE


@dataclass
class Tally:
    """How much of a suite is done, and how long the rest may take at the pace so far."""

    total: int
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
        left = self.seconds / self.trained * (self.total - self.done)
        return f"[{self.done}/{self.total}, {left / 60:.0f} min left]"


def _announcement(jobs: list[Job], suite: Suite, call: Caller) -> str:
    """What is left to train, and about how long it takes."""
    left = [(job, job.cost) for job in jobs if job.cost and not job.folder.is_finished]
    together = call.world.size if call.world.device.type == "cuda" else 1
    return announcement(
        [Workload.of(job.spec.training, cost, job.prepared) for job, cost in left],
        [job.spec.architecture for job, _ in left],
        together * call.machine(suite.training.precision).peak.flops_per_second if left else 0.0,
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
    return ", ".join(found) + (f", {rate:,.0f} samples/s" if rate else "")


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
        return Job(spec, cost, setting.prepared, options.out, options.checkpoint_seconds, keeps)

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
