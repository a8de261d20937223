"""The Python interface: what the command line does, with frames and figures as answers.

    from bench import open_results, run

    results = run("quick", seeds=2, set={"budget.flops_per_sample": 3e5})
    results.runs                  # one row a run and task, as in results.csv
    results.differences           # differences to the base with their intervals
    results.figure("forest")      # a matplotlib figure

`run_bench.py` calls the same functions. Bad input raises `files.errors.InputError`, whose message is one
sentence. Every import that takes time is inside the function that needs it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from datasets.describe import Description
    from datasets.prepared import PreparedDataset
    from harness.records.record import Record
    from harness.records.store import StoredRuns
    from harness.workers.ray_cluster import RayOptions
    from reports.figures.drawing.panels import Options
    from reports.figures.drawing.saving import Figures
    from suites.options import Options as HowToRun
    from suites.suite import Suite

ROOT = Path(__file__).absolute().parent  # of the checkout
CACHE = Path("cache")
NAMES_OF_FIGURES = {"forest": "differences"}  # figures that are known by another name than their files have

Settings = Mapping[str, Any] | Iterable[str]
Place = Path | str


class Results:
    """The finished runs of one folder, as frames and figures. Everything is read when it is first asked for.

    Args:
        out: a folder that `run` wrote.
        failed: how many of the runs that were just asked for failed.
        stored: the folder's records, where they were read before.
    """

    def __init__(self, out: Place, failed: int = 0, stored: StoredRuns | None = None) -> None:
        self.out = Path(out)
        self.failed = failed
        if stored is not None:
            self.stored = stored

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run and task, with the columns of ``results.csv``."""
        from reports.results import results_frame

        return results_frame(self.stored.records, self.stored.serving)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Differences to the base: one row a model, task and metric, columns as in ``comparisons.csv``."""
        import pandas as pd

        return pd.concat([section.comparisons for section in self._sections], ignore_index=True)

    @cached_property
    def published(self) -> pd.DataFrame:
        """Differences of the papers that the suite names as `published`, beside ours to the same base.

        Columns as `reports.paper.beside.beside_frame` says, with ``log``, ours; without rows where no
        published comparison has the base.
        """
        import pandas as pd

        from reports.paper.beside import beside_frame

        frames = [beside_frame(section).assign(log=section.dataset) for section in self._sections]
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Every figure of the report, by the name of its file."""
        return {name: drawing.figure for name, drawing in self._drawings.items()}

    def figure(self, name: str, **options: Unpack[Options]) -> Figure:
        """One figure: ``forest``, or the name of its file, with or without the dataset at its end.

        Args:
            options: ``ax``, ``metrics``, ``order``, ``names``, ``size`` and ``style``, as
                `reports.figures.drawing.panels.Options` says.

        Raises InputError if there is no such figure, or one for each of several datasets.
        """
        from files.errors import InputError

        wanted = NAMES_OF_FIGURES.get(name, name)
        found = [stem for stem in self._drawings if stem == wanted or stem.startswith(f"{wanted}-")]
        if wanted in found or len(found) == 1:
            drawing = self._drawings[wanted if wanted in found else found[0]]
            return drawing.draw(**options) if options else drawing.figure
        names = ", ".join(found or self._drawings)
        raise InputError(f"no single figure is named {name!r}: choose from {names}")

    @cached_property
    def _drawings(self) -> Figures:
        from reports.figures.sections import front_figures, section_figures

        return {
            name: drawing
            for section in self._sections
            for name, drawing in (section_figures(section) | front_figures(section)).items()
        }

    @cached_property
    def _sections(self) -> list:
        from reports.sections import load_sections

        return load_sections(self.stored)

    @cached_property
    def stored(self) -> StoredRuns:
        """The folder's records, its suite and its speeds."""
        from harness.records.store import read_runs

        return read_runs(self.out)


def run(
    suite: str,
    *,
    dataset: str | None = None,
    seeds: int | None = None,
    worlds: int | None = None,
    set: Settings = (),
    out: Place | None = None,
    **options: Any,
) -> Results:
    """Train and compare what a suite asks for, then write the report. Finished runs are not repeated.

    Args:
        suite: a shipped suite's name, or the path of your own YAML.
        dataset: run on this dataset instead (name, or path of a schema).
        seeds: how many seeds.
        worlds: how many worlds of each dataset that has worlds.
        set: fields to override: ``{"training.batch_size": 2048}`` or ``["training.batch_size=2048"]``.
        out: where records and the report go; ``out/<suite>`` if None.
        options: as `carry_out` takes them.

    Raises InputError on bad input, UnfinishedError if a run broke: `report` then shows what is finished.
    """
    given = {
        "dataset": dataset,
        "seeds": seeds,
        "worlds": worlds,
        "set": set,
        "out": out and str(out),
        **options,
    }
    options.setdefault("command", _as_typed("run", suite, given))
    chosen = choose(suite, dataset=dataset, seeds=seeds, worlds=worlds, set=set)
    return carry_out(chosen, out or folder_of(chosen), **options)


def open_results(out: Place) -> Results:
    """The results in a folder that `run` wrote, or in one of the kept folders ``reports/measured/...``.

    Raises InputError if it holds no finished run, or a record is damaged.
    """
    from harness.records.archive import ARCHIVE_FILE, unpack
    from harness.records.remote_folder import opened
    from harness.records.store import read_runs

    folder = opened(out)
    if not (folder / ARCHIVE_FILE).is_file():
        return Results(folder, stored=read_runs(folder))
    unpacked = tempfile.TemporaryDirectory()
    results = Results(unpack(folder, Path(unpacked.name) / "unpacked"))
    weakref.finalize(results, unpacked.cleanup)
    return results


def choose(
    suite: str,
    *,
    dataset: str | None = None,
    seeds: int | None = None,
    worlds: int | None = None,
    set: Settings = (),
) -> Suite:
    """The suite by name or path, with the same overrides as `run`; no module of yours is imported."""
    from suites.suite import load_suite

    replaced: dict[str, object] = {}
    if dataset is not None:
        replaced["datasets"] = [{"name": dataset}]
    if seeds is not None:
        replaced["seeds"] = seeds
    return load_suite(suite, _texts(set), replaced, import_architectures=False, worlds=worlds)


def folder_of(suite: Suite) -> Path:
    """Where a suite's records and report go unless another folder is given."""
    return Path("out") / suite.name


def carry_out(
    suite: Suite,
    out: Place,
    *,
    data_root: Place | None = None,
    device: str = "auto",
    cache: Place = CACHE,
    rebuild: bool = False,
    checkpoint_seconds: float = 60.0,
    run_minutes: float | None = None,
    run_gigabytes: float | None = None,
    watch: Iterable[str] = (),
    speed: bool = True,
    keep: str = "auto",
    jobs: int = 1,
    shares: int | None = None,
    executor: str = "local",
    ray_address: str | None = None,
    cpus_per_run: int | None = None,
    gpus_per_run: float | None = None,
    memory_per_run: float | None = None,
    placement: Place | None = None,
    command: str = "",
) -> Results:
    """Carry out a suite's runs that are not finished, then write the report.

    Args:
        data_root: holds a folder of raw files per dataset.
        device: ``auto``, ``cpu`` or ``cuda``.
        cache: where prepared data are kept for reuse.
        rebuild: prepare the data anew even if a prepared copy exists.
        checkpoint_seconds: how often a run saves where it stands.
        run_minutes: end a run that takes longer, and go on with the others.
        run_gigabytes: end a run whose process takes more memory.
        watch: ``tensorboard``, ``mlflow``, both or none.
        speed: measure how fast the models answer, after the trainings.
        keep: ``weights`` keeps those of the first seed's run of each row, ``auto`` where they take up to
            64 MB, ``none`` keeps none.
        jobs: how many runs are carried out at once, on equal shares of the machine's threads.
        shares: deal rows and batches as so many processes would, a multiple of those there are.
        executor: ``local`` carries them out on this machine, ``ray`` as tasks of a Ray cluster.
        ray_address: the cluster: ``auto`` (this machine's, as if None), ``local`` (one that is started here
            and ends with the call) or ``HOST:PORT``.
        cpus_per_run, gpus_per_run, memory_per_run: what Ray keeps free for a run; one CPU if None, and
            memory, in gigabytes, that is not counted. A run computes on as many threads as CPUs.
        placement: a YAML file that says how torchrun's processes share the embedding tables.
        command: what the report says was typed.
    """
    from files.writing import check_writable
    from harness.training.progress import Silent, Terminal
    from harness.training.trackers import Several, watchers

    share = {"cpus": cpus_per_run, "gpus": gpus_per_run, "gigabytes": memory_per_run}
    ray = _ray_options(executor, ray_address, share)
    limits = _start_workers(run_minutes, run_gigabytes)
    from harness.training.placement import read_placement
    from suites.run import run_suite

    how = {"rebuild": rebuild, "checkpoint_seconds": checkpoint_seconds, "keep": keep, "limits": limits}
    how |= {"speed": speed, "jobs": jobs, "ray": ray, "shares": shares}
    how |= {"placement": None if placement is None else read_placement(Path(placement))}
    with _shared(out) as folder:
        check_writable(folder / "runs", "give another folder with --out")
        watcher = Several([Terminal(), *watchers(list(watch), folder)]) if is_first_process() else Silent()
        options = _options(folder, cache, data_root, device, **how, command=command)
        records = run_suite(suite, options, watcher)
        if is_first_process():
            report(folder)
    return Results(folder, failed=sum(record.status == "failed" for record in records))


def write_plan(
    suite: Suite,
    out: Place,
    plan: Place,
    *,
    data_root: Place | None = None,
    device: str = "auto",
    cache: Place = CACHE,
    rebuild: bool = False,
    checkpoint_seconds: float = 60.0,
    run_minutes: float | None = None,
    run_gigabytes: float | None = None,
    keep: str = "auto",
    shares: int | None = None,
    command: str = "",
) -> int:
    """Write a line for each run that `carry_out` would carry out to the file ``plan``, and train nothing.

    The arguments are those of `carry_out`. Returns how many runs there are: `run_one` carries each out.
    """
    from files.writing import check_writable
    from harness.training.progress import Terminal

    plan = Path(plan)
    limits = _start_workers(run_minutes, run_gigabytes)
    from suites.plan_file import plan_suite

    check_writable(plan.parent, "give another file with --plan")
    how = {"rebuild": rebuild, "checkpoint_seconds": checkpoint_seconds, "keep": keep, "limits": limits}
    how["shares"] = shares
    with _shared(out) as folder:
        check_writable(folder / "runs", "give another folder with --out")
        options = _options(folder, cache, data_root, device, **how, command=command)
        return plan_suite(suite, options, plan, Terminal())


def run_one(plan: Place, number: int, *, cache: Place | None = None, watch: Iterable[str] = ()) -> Record:
    """Carry out one run of a plan, as `carry_out` would, and return its record, also where it diverged.

    Args:
        plan: the file that `write_plan` wrote.
        number: of its line, counted from 0.
        cache: where this machine keeps the prepared data; None: where the plan says.
        watch: ``tensorboard``, ``mlflow``, both or none.

    Raises InputError where the line cannot be used here, UnfinishedError where the run breaks.
    """
    from harness.training.progress import Terminal
    from harness.training.trackers import Several, watchers

    _start_workers(None, None)
    from suites.plan_file import read_planned, run_planned

    planned = read_planned(Path(plan), number)
    with _shared(planned.store or planned.out, planned.spec.folder_name) as out:
        watcher = Several([Terminal(), *watchers(list(watch), out)])
        return run_planned(Path(plan), number, _path(cache), watcher)


def report(out: Place, *, style: str = "") -> Results:
    """Compare the finished runs of a folder and redraw its tables, figures and report pages.

    Results that were kept without predictions have the comparisons that were kept with them.

    Args:
        style: ``paper`` draws figures one column wide, as PDF too, and adds ``tables/paper.tex`` with a
            compact table of each dataset; ``talk`` draws them for slides.

    Raises InputError where the folder holds no records, a file is damaged, or there is no such style.
    """
    from harness.evaluation.inference import write_inference
    from harness.records.store import read_runs
    from reports.figures.drawing.style import use_style
    from reports.render import render
    from reports.tables.compact import write_compact_tables

    with _shared(out) as folder:
        stored = read_runs(folder)
        if not (stored.lacks_predictions and (stored.out / "comparisons.csv").is_file()):
            write_inference(stored)
        with use_style(style):
            render(stored.out, stored)
        if style == "paper":
            write_compact_tables(stored)
    return Results(folder, stored=stored)


def choices(
    out: Place,
    p99: float,
    batch: int,
    *,
    task: str | None = None,
    metric: str = "auc",
    part: Literal["whole", "dense"] = "whole",
) -> tuple[pd.DataFrame, str]:
    """What answers within ``p99`` milliseconds on ``batch`` rows, best first; as a frame and in words.

    The frame is that of `harness.evaluation.choice.choose_models`. Raises InputError as that does.
    """
    from harness.evaluation.choice import Wanted, choose_models
    from reports.choice import choice_text

    wanted = Wanted(p99, batch, part, task, metric)
    chosen = choose_models(open_results(out).stored, wanted)
    return chosen, choice_text(chosen, wanted)


def tune(
    suite: str,
    *,
    trials: int = 30,
    storage: str | None = None,
    dataset: str | None = None,
    set: Settings = (),
    data_root: Place | None = None,
    device: str = "auto",
    cache: Place = CACHE,
    run_minutes: float | None = None,
    run_gigabytes: float | None = None,
    jobs: int = 1,
    executor: str = "local",
    ray_address: str | None = None,
    cpus_per_run: int | None = None,
    gpus_per_run: float | None = None,
    memory_per_run: float | None = None,
    command: str = "",
) -> list[Path]:
    """Search each row's settings on the validation split, by the same number of trials.

    ``storage`` is the URL of a database that processes share, ``sqlite:///out/tune/<suite>.db`` if None. Of
    ``jobs`` trials at once, each on its share of the machine's threads, every one is of another row.
    ``executor`` and what a Ray cluster is told are as `carry_out` takes them: each trial is a task then.
    Returns the files of settings that were written, one a dataset.
    """
    chosen = choose(suite, dataset=dataset, set=set)
    share = {"cpus": cpus_per_run, "gpus": gpus_per_run, "gigabytes": memory_per_run}
    ray = _ray_options(executor, ray_address, share)

    from harness.training.progress import Terminal

    limits = _start_workers(run_minutes, run_gigabytes)
    from suites.tuning.tune import tune_suite

    how = {"limits": limits, "command": command, "jobs": jobs, "ray": ray}
    options = _options("out", cache, data_root, device, **how)
    return tune_suite(chosen, options, trials, storage or f"sqlite:///out/tune/{chosen.name}.db", Terminal())


def cost(
    suite: str = "quick",
    *,
    dataset: str | None = None,
    set: Settings = (),
    data_root: Place | None = None,
    cache: Place = CACHE,
) -> pd.DataFrame:
    """Parameters and FLOPs of a suite's architectures at its budget, one row a dataset and model."""
    from dataclasses import asdict

    import pandas as pd

    from datasets.catalog import prepare_dataset
    from harness.machine.quiet import quiet_libraries

    quiet_libraries()
    from suites.rows import match_rows

    chosen = choose(suite, dataset=dataset, set=set)
    rows = []
    for source in chosen.datasets:
        prepared = prepare_dataset(
            source.name, source.options, _path(data_root), _folder(cache), world=source.each_world[0]
        )
        for row in match_rows(chosen, prepared):
            named = {"dataset": prepared.schema.name, "model": row.name}
            miss = row.budget.miss if row.budget else None
            rows.append(named | asdict(row.cost) | {"miss": miss, "config": row.config})
    return pd.DataFrame(rows)


def profile(
    suite: str = "quick",
    *,
    batch_sizes: Iterable[int] = (512,),
    precisions: Iterable[str] = ("fp32",),
    compile: bool = False,
    cuda_graphs: bool = False,
    dataset: str | None = None,
    set: Settings = (),
    out: Place | None = None,
    data_root: Place | None = None,
    device: str = "auto",
    cache: Place = CACHE,
    command: str = "",
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Latency, samples a second and MFU of a suite's architectures, and their report in ``out``.

    Args:
        batch_sizes: in rows.
        precisions: of ``fp32``, ``bf16`` and ``fp8``.
        compile: measure the models under torch.compile.
        cuda_graphs: replay the dense part's inference as a CUDA graph.
        out: where the records and the report go; ``out/profile-<suite>`` if None.
        say: receives a line for each model that was measured.

    Returns one row a model, precision, batch size, part (dense, whole) and mode (inference, train): times in
    milliseconds, spreads as fractions, None where a time was too unsteady to be stated.

    Raises InputError on bad input: an unknown precision or dataset, several datasets, what the device lacks.
    """
    import pandas as pd

    from files.writing import check_writable
    from harness.machine.quiet import quiet_libraries
    from reports.speed.report import render_profile

    quiet_libraries()
    from suites.options import choose_device
    from suites.speeds.profile import ProfileOptions, profile_suite
    from suites.suite import load_suite

    replaced: dict[str, object] = {"datasets": [{"name": dataset}]} if dataset else {}
    chosen = load_suite(suite, _texts(set), replaced)
    with _shared(out or Path("out") / f"profile-{chosen.name}") as folder:
        check_writable(folder, "give another folder with --out")
        options = ProfileOptions(
            out=folder,
            cache_root=_folder(cache),
            data_root=_path(data_root),
            device=choose_device(device),
            batch_sizes=list(batch_sizes),
            precisions=list(precisions),
            compile=compile,
            cuda_graphs=cuda_graphs,
            command=command or _as_typed("profile", suite, {"dataset": dataset, "set": set}),
        )
        records = profile_suite(chosen, options, say)
        say(f"report: {render_profile(folder)}")
    say(f"page: {folder / 'report' / 'index.html'}")
    frame = pd.DataFrame(records, dtype=object)
    return frame.where(frame.notna(), None)


def profile_serving(
    suite: str = "quick",
    *,
    candidates: Iterable[int] = (128, 512),
    engines: Iterable[str] = ("eager",),
    p99: float = 10.0,
    seconds: float = 5.0,
    threads: int = 1,
    precision: str = "fp32",
    cuda_graphs: bool = False,
    price_per_hour: float | None = None,
    results: Place | None = None,
    dataset: str | None = None,
    set: Settings = (),
    out: Place | None = None,
    data_root: Place | None = None,
    device: str = "auto",
    cache: Place = CACHE,
    command: str = "",
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Requests a second that a suite's models answer within a p99, and their rate offline; report in ``out``.

    Args:
        candidates: rows that a request has, for each of which everything is measured.
        engines: of ``eager``, ``compile``, ``aoti`` and ``onnx``.
        p99: the bound in milliseconds, from a request's arrival to its answer.
        seconds: how long each load is offered, up to 10,000 requests.
        threads: that an answer may use.
        precision: ``fp32`` or ``bf16``.
        cuda_graphs: replay an answer as a CUDA graph.
        price_per_hour: of this machine; adds the price of a million candidates.
        results: a folder of runs of the suite, whose AUC stands beside.
        out: where the profile and the report go; ``out/serving-<suite>`` if None.
        say: receives a line for each model, engine and number of candidates.

    Returns one row for each of these: the columns of ``serving_profile.csv``; ``refused`` says why a row has
    no figures.

    Raises InputError on bad input, before anything is measured.
    """
    from files.writing import check_writable
    from harness.machine.quiet import quiet_libraries
    from harness.records.remote_folder import opened
    from harness.records.serving_profile import read_serving_profile
    from reports.speed.serving import render_serving_profile, serving_profile_frame

    quiet_libraries()
    from harness.serving.engines import Conditions
    from harness.serving.profile import Scenario
    from suites.options import choose_device
    from suites.speeds.serving_profile import ServingOptions, profile_serving
    from suites.suite import load_suite

    replaced: dict[str, object] = {"datasets": [{"name": dataset}]} if dataset else {}
    chosen = load_suite(suite, _texts(set), replaced)
    with _shared(out or Path("out") / f"serving-{chosen.name}") as folder:
        check_writable(folder, "give another folder with --out")
        options = ServingOptions(
            out=folder,
            cache_root=_folder(cache),
            data_root=_path(data_root),
            conditions=Conditions(choose_device(device), threads, precision, cuda_graphs),
            scenario=Scenario(p99 / 1e3, seconds),
            engines=list(dict.fromkeys(engines)),
            candidates=list(dict.fromkeys(candidates)),
            results=None if results is None else opened(results),
            price_per_hour=price_per_hour,
            command=command or _as_typed("profile_serving", suite, {"dataset": dataset, "set": set}),
        )
        profile_serving(chosen, options, say)
        say(f"report: {render_serving_profile(folder)}")
    say(f"page: {folder / 'report' / 'index.html'}")
    return serving_profile_frame(read_serving_profile(folder))


def prepare(
    dataset: str,
    *,
    options: Mapping[str, Any] | None = None,
    data_root: Place | None = None,
    cache: Place = CACHE,
    rebuild: bool = False,
    verify: bool = False,
    report: Callable[[str], None] | None = None,
) -> PreparedDataset:
    """Turn raw files into shards that training reads; ``dataset`` is a name or the path of a schema.

    ``rebuild`` does so anew even if a prepared copy exists, ``verify`` hashes every file of that copy, and
    ``report`` is told what preparing your own table will take.
    """
    from datasets.catalog import prepare_dataset

    return prepare_dataset(
        dataset,
        dict(options or {}),
        _path(data_root),
        _folder(cache),
        rebuild=rebuild,
        verify=verify,
        report=report,
    )


def stage(
    schema: Place,
    out: Place,
    *,
    ray_address: str = "auto",
    report: Callable[[str], None] = lambda told: None,
) -> dict[str, int]:
    """Stage the files of a schema with Ray Data as the folder ``out``, which its ``staged`` may then name.

    ``ray_address`` as for `run`; ``report`` is told what begins. Returns the rows of each split.
    """
    from datasets.staged.on_ray import stage_on_ray
    from harness.workers.ray_cluster import connected, require_ray

    require_ray("data stage")
    cluster = connected(ray_address, {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"})
    return stage_on_ray(Path(schema), Path(out), cluster, report)


def describe(dataset: str, *, page: Place | None = None, **options: Any) -> Description:
    """Leaks, fields, missing values, label rates, drift and users of a dataset. ``options`` as in `prepare`.

    ``page``: a file that is written, too: one page of HTML with figures of the drift and all tables.
    """
    from datasets.describe import describe

    description = describe(prepare(dataset, **options))
    if page is not None:
        _write_data_page(description, Path(page))
    return description


def _write_data_page(description: Description, page: Path) -> None:
    from datasets.describe import parts
    from reports.page.data import DataPage, write_data_page

    shown = list(parts(description))
    write_data_page(
        DataPage(
            name=description.name,
            description=description.text,
            words=[part for part in shown if isinstance(part, str)],
            labels=description.labels.to_pandas(),
            distances=description.drift.features.to_pandas(),
            new=description.drift.new.to_pandas(),
            tables={part.title: part.table.to_pandas() for part in shown if not isinstance(part, str)},
        ),
        page,
    )


def export(
    run: Place, *, format: str, dense_only: bool = False, out: Place | None = None, cache: Place = CACHE
) -> Path:
    """Make an artefact of a finished run that runs without this project; returns its folder.

    Args:
        run: the run's folder, ``out/<suite>/runs/<run>``, which keeps its weights; or its URL, of which
            this run alone is fetched.
        format: ``torch-export``, ``aoti`` or ``onnx``.
        dense_only: from the tokens to the logits, without embedding tables and tokenizer.
        out: the artefact's folder on this machine; ``out/<suite>/export/<run>/<format>`` if None, which is
            sent where the run is in a store.
        cache: where the run's prepared data are, of which the test split is scored again.

    Raises InputError on bad input, RefusedError where the artefact's scores are not those of the run.
    """
    from harness.machine.quiet import quiet_libraries

    quiet_libraries()
    from files.errors import InputError
    from files.remote import is_url
    from harness.export.run import export_run

    if out is not None and is_url(out):
        raise InputError(
            f"out {out}: an artefact is written to this machine; leave it out to have that of a run in a "
            "store sent beside it"
        )
    with _run_folder(run) as folder:
        return export_run(folder, format, dense_only, Path(out) if out else None, _folder(cache)).folder


def is_first_process() -> bool:
    """Whether this process speaks for all that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def _start_workers(run_minutes: float | None, run_gigabytes: float | None):
    """Check the limits of a run, and have ready the process that its workers are forked from."""
    from harness.machine.quiet import quiet_libraries
    from harness.workers.isolation import start_server
    from harness.workers.worker import Limits

    limits = Limits(run_minutes, run_gigabytes)
    # threads, such as those of a notebook's kernel, do not survive a fork
    can_fork = "torch" not in sys.modules and threading.active_count() == 1
    import suites.run  # noqa: F401 - what workers need, before the fork

    quiet_libraries()
    if "WORLD_SIZE" not in os.environ:
        start_server(["suites.run"], fork=can_fork)
    return limits


def _ray_options(executor: str, address: str | None, share: Mapping[str, Any]) -> RayOptions | None:
    """What Ray is told, None where it is not used; InputError for what cannot be, and without Ray."""
    from files.errors import InputError
    from harness.workers.ray_cluster import RayOptions, require_ray
    from harness.workers.ray_node import Share

    given = {name: value for name, value in share.items() if value is not None}
    if executor == "ray":
        require_ray()
        return RayOptions(address or "auto", Share(**given))
    if executor != "local":
        raise InputError(f"executor {executor!r}: choose from local, ray")
    if address or given:
        raise InputError(
            "--ray-address, --cpus-per-run, --gpus-per-run and --memory-per-run are for a Ray cluster: add "
            "--executor ray, or leave them out"
        )
    return None


def _options(
    out: Place, cache: Place, data_root: Place | None, device: str, *, keep: str = "auto", **others: Any
) -> HowToRun:
    """How suites are run, from words and places; ``others`` are fields of `Options`. May raise InputError."""
    from suites.options import Options, choose_device, choose_keep

    where = Path(out), _folder(cache), _path(data_root), choose_device(device)
    return Options(*where, keep=choose_keep(keep), **others)


def _path(place: Place | None) -> Path | None:
    return None if place is None else _folder(place)


def _folder(place: Place) -> Path:
    """The folder itself, or the local copy of one in a store."""
    from files.remote_copy import open_copy

    return open_copy(place)


@contextmanager
def _shared(out: Place, run: str | None = None) -> Iterator[Path]:
    """The folder itself, or the local copy of one in a store, which is sent at the end.

    ``run`` names the only one that is carried out, and then fetched.

    Of torchrun's processes the first alone fetches and sends. Raises InputError where they are on several
    hosts, each of which would have a copy of its own.
    """
    from files.errors import InputError
    from files.remote import is_url
    from files.remote_copy import local_path
    from harness.records.remote_folder import shared

    folder, size = local_path(out), os.environ.get("WORLD_SIZE", "1")
    if is_url(out) and os.environ.get("LOCAL_WORLD_SIZE", size) != size:
        raise InputError(f"{out}: torchrun's processes on several hosts need a folder that all share, no URL")
    with shared(out, run) if is_first_process() else nullcontext(folder) as folder:
        yield folder


@contextmanager
def _run_folder(run: Place) -> Iterator[Path]:
    """A run's folder, or the local copy of one in a store; what is written beside it is sent at the end."""
    from files.errors import InputError
    from files.remote import is_url

    if not is_url(run):
        yield Path(run)
        return
    out, found, name = str(run).rstrip("/").rpartition("/runs/")
    if not found or "/" in name:
        raise InputError(f"{run}: is no run's URL; give one as in s3://BUCKET/out/quick/runs/RUN")
    with _shared(out, name) as results:
        folder = results / "runs" / name
        if not folder.is_dir():
            raise InputError(f"{run}: the store has no such finished run")
        yield folder


def _texts(settings: Settings) -> list[str]:
    """Settings as the command line takes them: ``key=value``, the value in YAML, which all JSON is."""
    if not isinstance(settings, Mapping):
        return list(settings)
    try:
        return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    except TypeError as error:
        from files.errors import InputError

        raise InputError(f"set: {error}; give numbers, texts, lists and mappings of these") from None


def _as_typed(function: str, suite: str, given: Mapping[str, Any]) -> str:
    """The call as the report repeats it; passwords in URLs are hidden."""
    from suites.tuning.masking import masked

    more = [f"{name}={value!r}" for name, value in given.items() if value not in (None, ())]
    return masked(f"{function}({', '.join([repr(suite), *more])})")
