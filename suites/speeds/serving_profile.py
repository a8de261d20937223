"""A suite's rows as servers: requests a second within a bound, and candidates a second offline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.data import InputError
from harness.export.served import WholeModel, inputs_of
from harness.machine.environment import environment
from harness.model.assembly import RankingModel
from harness.records.contestant import Contestant
from harness.records.record import Record
from harness.records.select import Selection
from harness.records.serving_profile import ProfiledEngine, ServingProfile, write_serving_profile
from harness.records.spec import RunSpec
from harness.records.store import read_runs
from harness.runs.run import build_dense_side, build_model, now
from harness.serving.engines import Conditions, require_engines
from harness.serving.profile import Scenario, profile_engine
from harness.serving.requests import Request, read_requests, user_features
from harness.training.ranks import World
from suites.rows import MatchedRow
from suites.setting import Setting
from suites.speeds.profile import matched_rows
from suites.suite import Suite

SHAPE = ("config", "tokenizer", "num_tokens", "token_dim", "target_attention", "tower_dim")
HERE = World(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class ServingOptions:
    """What to serve, how, and where the profile goes. ``results`` are runs, whose AUC is stated."""

    out: Path
    cache_root: Path
    data_root: Path | None
    conditions: Conditions
    scenario: Scenario
    engines: list[str]
    candidates: list[int]
    results: Path | None = None
    price_per_hour: float | None = None
    command: str = ""


def profile_serving(suite: Suite, options: ServingOptions, say: Callable[[str], None]) -> ServingProfile:
    """Measure every row in every engine at every number of candidates; written to ``out`` after each.

    Weights are as they are before training.

    Raises InputError on bad input, before anything is measured.
    """
    _check(options)
    require_engines(options.engines, options.conditions)
    setting, rows = matched_rows(suite, options.data_root, options.cache_root, HERE.device)
    specs = [_spec(setting, row) for row in rows]
    auc = read_auc(options.results, specs, say) if options.results else {}
    profile = _empty_profile(suite, setting, options)
    before = torch.get_num_threads()
    torch.set_num_threads(options.conditions.threads)
    try:
        requests = {count: read_requests(specs[0], setting.prepared, count) for count in options.candidates}
        for measured in _measured(setting, specs, requests, options):
            measured = measured.model_copy(update={"auc": auc.get(measured.contestant, {})})
            profile = profile.model_copy(update={"models": [*profile.models, measured]})
            write_serving_profile(options.out, profile)
            say(_outcome(measured))
    finally:
        torch.set_num_threads(before)
    return profile


def _check(options: ServingOptions) -> None:
    """Raise InputError, naming the option, where a number is none that can be measured with."""
    for name, given in (("engines", options.engines), ("candidates", options.candidates)):
        if not given:
            raise InputError(f"{name} is empty; give at least one")
    numbers = {
        "p99": 1e3 * options.scenario.bound_seconds,
        "seconds": options.scenario.seconds,
        "threads": options.conditions.threads,
        "candidates": min(options.candidates),
    }
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name} is {value}; give a number above 0")
    price = options.price_per_hour
    if price is not None and not 0 <= price < math.inf:
        raise InputError(f"price_per_hour is {price}; give 0 or more")


def _spec(setting: Setting, row: MatchedRow) -> RunSpec:
    spec = setting.spec(row, seed=0)
    plain = spec.training.model_copy(update={"precision": "fp32", "compile": False})
    return spec.model_copy(update={"training": plain})


def _measured(
    setting: Setting, specs: list[RunSpec], requests: dict[int, list[Request]], options: ServingOptions
) -> Iterator[ProfiledEngine]:
    """Every measurement; the models have the same embedding tables."""
    prepared = setting.prepared
    inputs = inputs_of(prepared.schema)
    shared: Any = build_model(specs[0], prepared, HERE)
    for spec in specs:
        model = RankingModel(shared.embeddings, build_dense_side(spec, prepared, HERE.device)).eval()
        named = {name: getattr(spec, name) for name in ("architecture", "variant", "series", "size", "ratio")}
        for count, asked in requests.items():
            for engine in options.engines:
                who = ProfiledEngine(**named, spec_hash=spec.hash, engine=engine, candidates=count)
                whole = WholeModel(model, prepared.schema, spec.target_attention).eval()
                yield profile_engine(who, whole, inputs, asked, options.conditions, options.scenario)


def _empty_profile(suite: Suite, setting: Setting, options: ServingOptions) -> ServingProfile:
    conditions, scenario = options.conditions, options.scenario
    return ServingProfile(
        suite=suite.name,
        description=suite.description,
        dataset=setting.prepared.schema.name,
        command=options.command,
        measured_at=now(),
        bound_ms=1e3 * scenario.bound_seconds,
        seconds=scenario.seconds,
        threads=conditions.threads,
        precision=conditions.precision,
        device=conditions.device.type,
        cuda_graphs=conditions.cuda_graphs,
        user_features=user_features(setting.prepared.schema),
        price_per_hour=options.price_per_hour,
        results=str(options.results or ""),
        environment=dict(environment()) | {"threads": conditions.threads},
    )


def read_auc(
    results: Path, specs: list[RunSpec], say: Callable[[str], None]
) -> dict[Contestant, dict[str, float | None]]:
    """Each contestant's AUC by task: the mean over worlds of the mean over finished runs.

    Raises InputError where the folder holds no runs on this dataset, or they are of other models or data.
    """
    dataset = specs[0].dataset
    selection = next((each for each in read_runs(results).selections() if each.dataset == dataset), None)
    if selection is None:
        raise InputError(f"--results {results}: holds no runs on {dataset!r}; name the folder of a run on it")
    found: dict[Contestant, dict[str, float | None]] = {}
    for spec in specs:
        runs = [run for run in selection.finished() if run.contestant == spec.contestant]
        if not runs:
            say(f"{spec.contestant.label}: has no finished run in {results}, so no AUC stands beside it")
            continue
        _require_same(results, spec, runs)
        found[spec.contestant] = {task: _mean_auc(selection, spec, task) for task in spec.tasks}
    return found


def _require_same(results: Path, spec: RunSpec, runs: list[Record]) -> None:
    """Refuse runs of a model of another shape, or on other data of the same name."""
    mend = "name the folder of this suite's runs, or give --set as there"
    who, asked = spec.contestant.label, spec.as_json()
    for name in SHAPE:
        trained = runs[0].spec.get(name)
        if trained != asked[name]:
            raise InputError(
                f"--results {results}: {who} was trained with {name} {trained}, not {asked[name]}; {mend}"
            )
    if all(run.spec.get("dataset_fingerprint") != spec.dataset_fingerprint for run in runs):
        raise InputError(f"--results {results}: {who} was trained on other {spec.dataset!r} data; {mend}")


def _mean_auc(selection: Selection, spec: RunSpec, task: str) -> float | None:
    by_world: dict[int | None, list[float]] = {}
    for run in selection.finished():
        auc = run.metrics[task].auc if run.contestant == spec.contestant and task in run.metrics else None
        if auc is not None:
            by_world.setdefault(run.world, []).append(auc)
    means = [sum(values) / len(values) for values in by_world.values()]
    return sum(means) / len(means) if means else None


def _outcome(measured: ProfiledEngine) -> str:
    noisy = " (noisy)" if measured.noisy else ""
    who = f"{measured.contestant.label}, {measured.engine}, {measured.candidates} candidates{noisy}"
    if measured.refused:
        return f"{who}: refused; {measured.refused}"
    rate = f"offline {measured.candidates_per_second:,.0f} candidates/s"
    if measured.qps is None:
        return f"{who}: {rate}; too slow for a p99 to be known, give a longer --seconds"
    if measured.qps == 0:
        return f"{who}: {rate}; no load that was offered holds the bound"
    known = f"{measured.qps_low:,.0f} to {measured.qps_high:,.0f}"
    return f"{who}: {rate}, {measured.qps:,.0f} requests/s at the bound ({known})"
