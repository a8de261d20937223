"""Carries out a suite: matches costs, then runs what is not yet on disk."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from files.errors import UnfinishedError
from files.remote_copy import sent
from files.writing import write_atomically
from harness.records.record import Record
from harness.records.suite import SUITE_FILE
from harness.runs.jobs import Job
from harness.training.progress import Silent, Watcher
from harness.training.ranks import lost_ranks_in_words, start_world
from harness.training.weights import SMALL_MEGABYTES, keeps_weights, megabytes_of_weights
from harness.workers.ray_cluster import RayCluster, joined
from suites.carrying_out import Broke, carried_out, outcome
from suites.dataset_plan import Plan, plan_dataset, suite_as_run
from suites.estimate import Workload, announcement
from suites.on_ray import NodeData, carried_out_on_ray
from suites.options import Options, check_jobs, check_placement, check_ray, check_shares
from suites.other_shares import note_other_shares
from suites.plan import Broken, Caller, find_own_architectures
from suites.speeds.latency import LATENCY_FILE
from suites.speeds.serving import measure_models
from suites.suite import Suite, check_own_names


def run_suite(suite: Suite, options: Options, watcher: Watcher) -> list[Record]:
    """Run everything of the suite that has no record yet; returns all records, failed ones too.

    Runs that another process holds are left until the end and then waited for. Each run has a process of its
    own (under torchrun, the rank's). One that raises, exceeds a limit or loses its process is reported and
    leaves no record, so that it is tried again next time; so is a row that fails on a few made-up rows before
    the first run. The others go on, and an UnfinishedError that lists the broken ones comes last.

    Raises InputError before anything is written where two datasets have one name, where an architecture or
    its budget cannot be had, where several runs at once cannot share what they run on, where there is no Ray
    cluster to carry them out, and where their tables cannot be spread as asked.
    """
    world = start_world(options.device, options.placement)
    check_jobs(options.jobs, world, watcher)
    check_ray(options, world)
    check_shares(options.shares, suite.training.batch_size, world)
    check_placement(options.placement, world)
    watcher = watcher if world.is_first else Silent()
    call, broken = Caller(world, options.limits), Broken(watcher)
    with lost_ranks_in_words(world):
        with ExitStack() as leaving:
            cluster = leaving.enter_context(joined(options.ray, watcher)) if options.ray else None
            plans, records = _carry_out(suite, options, call, cluster, broken)
        if options.speed:
            _measure_speeds(suite, plans, records, options, call, watcher)
        raise_broken(broken, plans)
    return records


def _carry_out(
    suite: Suite, options: Options, call: Caller, cluster: RayCluster | None, broken: Broken
) -> tuple[list[Plan], list[Record]]:
    watcher = broken.watcher
    plans, jobs = plan_jobs(suite, options, call, broken, elsewhere=cluster is not None)
    at_work = Caller(call.world, options.limits, options.jobs) if options.jobs > 1 else call
    at_once = options.jobs if cluster is None else max(1, sum(cluster.rooms().values()))
    watcher.note(_announcement(jobs, suite, at_work, at_once))
    if options.keep == "auto" and (large := _too_large_to_keep(jobs)):
        watcher.note(
            f"weights of more than {SMALL_MEGABYTES} MB are not kept ({', '.join(large)}); "
            "--keep weights keeps them"
        )
    records: list[Record] = []
    tally = Tally(len(jobs), at_once)
    making = (
        carried_out(jobs, at_work, watcher)
        if cluster is None
        else carried_out_on_ray(jobs, call, cluster, _data_of_nodes(plans, options), watcher)
    )
    with closing(making) as made:
        for job, found, seconds in made:
            tally.count(seconds)
            if isinstance(found, Broke):
                broken.add(job.title, found.reason)
            elif isinstance(found, Record):
                records.append(found)
                watcher.note(f"{tally} {job.title}: {outcome(found)}")
    return plans, records


def _data_of_nodes(plans: list[Plan], options: Options) -> dict[Path, NodeData]:
    """What a node needs in order to have each prepared folder."""
    return {
        setting.prepared.path: NodeData.of(setting.prepared, setting.dataset, options.data_root)
        for plan in plans
        for setting in plan.settings
    }


def plan_jobs(
    suite: Suite, options: Options, call: Caller, broken: Broken, elsewhere: bool
) -> tuple[list[Plan], list[Job]]:
    """Prepare the data, match all rows and write ``suite.json``; the jobs of rows that can be carried out.

    Where they are carried out ``elsewhere``, by other machines, the memory of this one refuses none.
    In a store's copy what was decided so far is sent: others then have the same rows, whatever breaks here.
    """
    call.start()
    find_own_architectures(suite, call)
    plans = [plan_dataset(suite, dataset, options, call, broken) for dataset in suite.datasets]
    check_own_names(suite.datasets, [plan.setting.prepared.schema.name for plan in plans])
    if options.placement is not None:
        schemas = [plan.setting.prepared.schema for plan in plans]
        options.placement.check_tables([f for schema in schemas for f in schema.sparse_features])
    if call.world.is_first:
        write_atomically(
            options.out / SUITE_FILE,
            json.dumps(suite_as_run(suite, plans, options).as_json(), indent=1).encode(),
        )
        for path in (options.out / SUITE_FILE, options.out / LATENCY_FILE):
            if path.is_file():
                sent(path)
    jobs = [job for plan in plans for job in plan.jobs_that_fit(call, broken, elsewhere)]
    note_other_shares(jobs, options.out, call.world.size, broken.watcher)
    return plans, jobs


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
            "how fast the models answer is measured in one process: run the suite again without torchrun, "
            f"with --shares {options.shares or call.world.size}"
        )
        return
    for plan in plans:
        dataset = plan.setting.prepared.schema.name
        jobs = [job for row in plan.rows for job in row.jobs]
        here = [record for record in records if record.dataset == dataset]
        if jobs:
            measure_models(jobs, here, suite.serving, options.out, call, watcher)


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


def _announcement(jobs: list[Job], suite: Suite, call: Caller, at_once: int) -> str:
    """What is left to train, and about how long it takes where ``at_once`` train at a time."""
    left = [(job, job.cost) for job in jobs if job.cost and not job.folder.is_finished]
    return announcement(
        [Workload.of(job.spec.training, cost, job.prepared) for job, cost in left],
        [job.spec.architecture for job, _ in left],
        call.world.size * call.machine(suite.training.precision).peak.flops_per_second if left else 0.0,
        at_once,
    )


def _too_large_to_keep(jobs: list[Job]) -> list[str]:
    """Rows that are yet to be trained and whose weights are not small, with their sizes."""
    names = (
        f"{job.spec.dataset} {job.spec.contestant.label}: {megabytes_of_weights(job.cost):,.0f} MB"
        for job in jobs
        if job.cost and not keeps_weights("auto", job.cost) and not job.folder.is_finished
    )
    return list(dict.fromkeys(names))
