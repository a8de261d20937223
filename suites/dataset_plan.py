"""A suite on one dataset: its data in every world, its rows and references as jobs, and ``suite.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.data import leak_warnings, leaks_as_recorded, prepared_for_ranks
from harness.model.architectures import ARCHITECTURES, left_out
from harness.records.cost import Cost
from harness.records.spec import RunSpec
from harness.records.suite import SuiteRecord, TunedContestant
from harness.runs.jobs import Job
from harness.runs.references import available_references
from harness.training.weights import keeps_weights
from suites.options import Options
from suites.plan import Broken, Caller, Row, fit_jobs, plan_rows
from suites.setting import Setting
from suites.suite import Dataset, Suite
from suites.tuning.tuned import TunedRow, read_tuned


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

    def jobs_that_fit(self, call: Caller, broken: Broken, elsewhere: bool) -> list[Job]:
        """Those of rows that can be carried out, here or ``elsewhere``, and those that have a record."""
        fit = {job.folder.final for row in self.rows for job in fit_jobs(row, call, broken, elsewhere)}
        return [job for job in self.jobs if job.cost is None or job.folder.final in fit]


def plan_dataset(suite: Suite, dataset: Dataset, options: Options, call: Caller, broken: Broken) -> Plan:
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
        options.shares,
    )
    setting = Setting(suite, dataset, prepared, call.world, options.shares)
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


def suite_as_run(suite: Suite, plans: list[Plan], options: Options) -> SuiteRecord:
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
        **({"published": suite.published} if suite.published else {}),
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
