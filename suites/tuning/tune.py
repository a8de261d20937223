"""Tuning a suite: one study a row and dataset, the same number of trials and the same ranges for all.

A trial trains a row at its budget and is judged by the validation split; the test split is not read. Trials
have a seed of their own, so that no seed of a later comparison has been tuned for. Each has a process of its
own, so that one that hangs, takes all memory or alters PyTorch's settings leaves the others as they are.

After the trials, each row's best three settings and its defaults are trained from three further seeds, and
the defaults are kept unless one beats them by more than a standard error (`suites.tuning.decision`). The
fitted references have as many trials (`suites.tuning.references`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from files.errors import UnfinishedError
from files.locks import locked
from files.writing import check_writable
from harness.data import InputError, is_full_disk, leak_warnings, prepare_dataset
from harness.training.progress import Watcher
from harness.training.ranks import World, start_world
from harness.workers.isolation import BrokenCallError
from harness.workers.ray_cluster import RayCluster, joined
from harness.workers.several import several
from suites.on_ray import trials_on_ray
from suites.options import Options, check_jobs, check_ray
from suites.plan import Caller, find_own_architectures
from suites.setting import Setting
from suites.suite import Dataset, Suite, SuiteRow, check_own_names
from suites.tuning.confirm import MOST_CANDIDATES, RATE_FACTORS, RESCORED_SEEDS, Confirmation
from suites.tuning.masking import masked_url
from suites.tuning.references import tuned_references
from suites.tuning.search import check_has_defaults, training_search
from suites.tuning.storage import DatabaseErrors, database_problem, open_storage
from suites.tuning.studies import SEED, RowStudy
from suites.tuning.tuned import FittedReference, Tuned, fingerprint_of, identity_of, tuned_path, write_tuned


def tune_suite(suite: Suite, options: Options, trials: int, storage: str, watcher: Watcher) -> list[Path]:
    """Make every study of the suite whole, and write what each dataset's found beside it; returns the files.

    Several processes may do so on one storage: each takes trials that no other makes, and waits at the end
    for those that others do. Of ``options.jobs`` trials at once each is of another row, so that the trials of
    a row follow each other and find what they find alone.

    Raises InputError, before any trial, where the search lacks the suite's own settings, the storage or the
    folder of the settings cannot be used, a row misses its budget, or two datasets have one name;
    UnfinishedError, when all trials of the others are made, where rows broke or had to be given up.
    """
    check_has_defaults(
        suite.search, {name: getattr(suite.training, name) for name in training_search(suite.search)}
    )
    for row in suite.architectures:
        if row.training:
            raise InputError(
                f"architectures: {row.name!r} has training of its own, which tuning would replace; remove "
                "it, or the row"
            )
    suite = suite.model_copy(update={"tuned": None})
    world = _world(suite, options, watcher)
    with ExitStack() as leaving:
        cluster = leaving.enter_context(joined(options.ray, watcher)) if options.ray else None
        return _tune(suite, options, trials, storage, watcher, world, cluster)


def _tune(
    suite: Suite,
    options: Options,
    trials: int,
    storage: str,
    watcher: Watcher,
    world: World,
    cluster: RayCluster | None,
) -> list[Path]:
    try:
        by_dataset = _studies(suite, options, storage, watcher, world, cluster)
        try:
            rows = [row for tuning in by_dataset for row in tuning.rows]
            at_once = options.jobs if cluster is None else len(rows)
            _make_trials([row.study for row in rows], trials, watcher, at_once)
            _confirm(rows, trials, watcher, at_once)
        except KeyboardInterrupt:
            watcher.note(f"the trials that ended are kept in {masked_url(storage)}")
            raise
        return _write_all(suite, by_dataset, trials, options.command, watcher)
    except DatabaseErrors as error:
        problem = database_problem(error, storage)
        if is_full_disk(problem):
            raise problem from problem.__cause__
        raise UnfinishedError(f"{problem}; finished trials are kept, and the same command goes on") from error


@dataclass
class Tuning:
    """What is made of one dataset's rows, and why there is nothing of a row whose code broke."""

    setting: Setting
    call: Caller
    rows: list[Confirmation] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def _make_trials(studies: list[RowStudy], trials: int, watcher: Watcher, jobs: int) -> None:
    judged = [min(trials, len(study.judged())) for study in studies]
    total = trials * len(studies)
    to_do = total - sum(judged)
    began = time.monotonic()
    telling = threading.Lock()
    watcher.note(f"{len(studies)} studies of {trials} trials, {to_do} trials left")

    def make(number: int, patient: bool) -> None:
        study = studies[number]
        while study.has_room(trials, patient):
            told = study.make_one(trials)
            # Of this study alone: to read all of them after each trial would take longer with each.
            found = min(trials, len(study.judged()))
            with telling:
                judged[number] = found
                left = total - sum(judged)
                minutes = (time.monotonic() - began) / 60 / max(to_do - left, 1) * left
                if told:
                    watcher.note(f"[{total - left}/{total}, {minutes:.0f} min left] {told}")
        judged[number] = min(trials, len(study.judged()))

    _for_each(make, studies, jobs)


def _confirm(rows: list[Confirmation], trials: int, watcher: Watcher, jobs: int) -> None:
    watcher.note(
        f"the best {MOST_CANDIDATES} settings of each row and its defaults from {len(RESCORED_SEEDS)} "
        f"further seeds, then {len(RATE_FACTORS)} learning rates"
    )

    def make(number: int, patient: bool) -> None:
        rows[number].make(trials, patient)

    _for_each(make, [row.study for row in rows], jobs)


def _for_each(make: Callable[[int, bool], None], studies: Sequence[RowStudy], jobs: int) -> None:
    """``make(number, patient)`` for each study: what is free, ``jobs`` at once; then what others hold."""

    def make_free(number: int) -> None:
        try:
            make(number, False)
        finally:
            studies[number].storage.remove_session()  # this thread's connection

    if jobs > 1:
        calls = [partial(make_free, number) for number in range(len(studies))]
        with closing(several(calls, jobs)) as ended:
            for _ in ended:
                pass
    for patient in (True,) if jobs > 1 else (False, True):
        for number in range(len(studies)):
            make(number, patient)


def _write_all(
    suite: Suite, by_dataset: list[Tuning], trials: int, command: str, watcher: Watcher
) -> list[Path]:
    """Write the file of every dataset whose rows were all tuned; raises for the others when that is done."""
    written: list[Path] = []
    problems: list[str] = []
    for tuning in by_dataset:
        given_up = [f"{row.study.row.name}: {why}" for row in tuning.rows if (why := row.given_up(trials))]
        problems += (missing := tuning.broken + given_up)
        if missing:
            continue
        try:
            written.append(_write(suite, tuning, trials, command, watcher))
        except (BrokenCallError, InputError) as error:  # such as a row whose trials all diverged
            problems.append(str(error))
    if problems:
        also = f" ({', '.join(map(str, written))} is written)" if written else ""
        raise UnfinishedError(f"settings of {suite.name!r} are not written{also}: {'; '.join(problems)}")
    return written


def _world(suite: Suite, options: Options, watcher: Watcher) -> World:
    """This process's world; InputError where trials cannot be carried out in it as ``options`` say."""
    world = start_world(options.device)
    if world.size > 1:
        raise InputError(
            "tune: works on one process; start it several times on one --storage, not by torchrun"
        )
    check_jobs(options.jobs, world, watcher)
    check_ray(options, world)
    if any(_is_timed(suite, row) for row in suite.architectures):
        given = "--executor ray" if options.ray else f"--jobs {options.jobs}" if options.jobs > 1 else None
        if given is not None:
            raise InputError(
                f"{given}: trials are matched to a latency, which is measured alone; leave it out"
            )
    return world


def _studies(
    suite: Suite,
    options: Options,
    storage: str,
    watcher: Watcher,
    world: World,
    cluster: RayCluster | None,
) -> list[Tuning]:
    check_writable(suite.folder / "tuned", "copy the suite to a folder of your own and tune that")
    database = open_storage(storage)
    call = Caller(world, options.limits)
    at_work = Caller(world, options.limits, options.jobs) if options.jobs > 1 else call
    call.start()
    find_own_architectures(suite, call)
    by_dataset = []
    for dataset in suite.datasets:
        watcher.note(f"{dataset.name}: preparing, or opening what is prepared")
        tuning = Tuning(_setting(suite, dataset, options, world, watcher), call)
        for row in suite.architectures:
            try:
                study = RowStudy.open(tuning.setting, row, call, database, watcher)
                if options.jobs > 1:
                    study = replace(study, call=at_work, watcher=watcher.beside_others())
                if cluster is not None:
                    carry = trials_on_ray(cluster, tuning.setting, options.data_root, options.limits)
                    study = replace(study, elsewhere=carry, watcher=watcher.beside_others())
                tuning.rows.append(Confirmation.join(study))
            except BrokenCallError as error:
                tuning.broken.append(f"{row.name}: {error}")
                watcher.note(f"{dataset.name} {row.name} broke: {error}")
        by_dataset.append(tuning)
    check_own_names(suite.datasets, [tuning.setting.prepared.schema.name for tuning in by_dataset])
    return by_dataset


def _is_timed(suite: Suite, row: SuiteRow) -> bool:
    budget = row.budget or suite.budget
    return budget is not None and budget.kind == "latency_ms_p99"


def _setting(suite: Suite, dataset: Dataset, options: Options, world: World, watcher: Watcher) -> Setting:
    prepared = prepare_dataset(
        dataset.name,
        dataset.options,
        options.data_root,
        options.cache_root,
        rebuild=options.rebuild,
        world=dataset.each_world[0],  # settings are found in the first world and hold for all
    )
    setting = Setting(suite, dataset, prepared, world)
    for warning in leak_warnings(prepared, setting.tasks):
        watcher.note(f"{dataset.name}: {warning}")
    return setting


def _write(suite: Suite, tuning: Tuning, trials: int, command: str, watcher: Watcher) -> Path:
    path = tuned_path(suite.folder, suite.name, tuning.setting.prepared.schema.name)
    path.parent.mkdir(exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with locked(lock, wait=True):
        references = tuned_references(tuning.setting, trials, path, tuning.call, watcher)
        write_tuned(path, _found(suite, tuning, trials, command, references))
    lock.unlink(missing_ok=True)
    return path


def _found(
    suite: Suite, tuning: Tuning, trials: int, command: str, references: dict[str, FittedReference]
) -> Tuned:
    prepared = tuning.setting.prepared
    rows = {row.study.row.name: row.found(trials) for row in tuning.rows}
    return Tuned(
        suite=suite.name,
        dataset=prepared.schema.name,
        fingerprint=fingerprint_of({name: row.study for name, row in rows.items()} | {"trials": trials}),
        command=command,
        metric=suite.training.select_metric,
        trials=trials,
        seed=SEED,
        identity=identity_of(suite, prepared),
        rows=rows,
        references=references,
    )
