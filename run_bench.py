"""RankMixer Bench: which interaction architecture, at what cost?

    python run_bench.py run quick                                  six architectures on the built-in data
    python run_bench.py run quick --dataset kuairand-pure --data-root DIR

Every import that takes time is inside the command that needs it.
"""

from __future__ import annotations

# ruff: noqa: E402  imports take a while, and Ctrl-C within them would leave a trace
import os
import signal
import sys

INTERRUPTED = 130  # what typer exits with on Ctrl-C


def _leave(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


_can_be_interrupted = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if __name__ == "__main__" and _can_be_interrupted:
    signal.signal(signal.SIGINT, _leave)

import contextlib
import errno
import gc
import io
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
import typer.core

import bench
from files.plain_text import say

app = typer.Typer(
    help=__doc__.split("\n\n")[0],
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    help="Prepare, describe and fetch datasets.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")

Device = Literal["auto", "cpu", "cuda"]
Keep = Literal["auto", "weights", "none"]


def _here(place: str | None) -> Path | None:
    """A folder that was given, or the local copy of one in a store."""
    from files.remote_copy import open_copy

    return None if place is None else open_copy(place)


DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        envvar="BENCH_DATA_ROOT",
        file_okay=False,
        path_type=str,  # a Path would drop one of a URL's slashes
        callback=_here,
        help="Holds a folder of raw files per dataset; a folder or a URL such as s3://BUCKET/raw.",
    ),
]
CacheRoot = Annotated[
    Path,
    typer.Option(
        "--cache",
        envvar="BENCH_CACHE",
        file_okay=False,
        path_type=str,
        callback=_here,
        help="Where prepared data are kept for reuse; one that is whole may be read-only.",
    ),
]
WatcherName = StrEnum("WatcherName", ["tensorboard", "mlflow"])  # typer takes no list of a Literal
Rebuild = Annotated[
    bool, typer.Option("--rebuild", help="Prepare the data anew even if a prepared copy exists.")
]
DatasetOptions = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the dataset; repeatable."),
]
RunMinutes = Annotated[
    float | None, typer.Option(min=0, help="End a run that takes longer, and go on with the others.")
]
RunGigabytes = Annotated[
    float | None,
    typer.Option(min=0, help="End a run whose process takes more memory; without data it takes 0.4."),
]
Jobs = Annotated[
    int, typer.Option(min=1, max=1024, help="Runs at once, on equal shares of the machine's threads.")
]
Executor = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Who carries runs out: this machine, or a Ray cluster (extra `ray`)."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="auto|local|HOST:PORT", help="The cluster; local starts one on this machine. [default: auto]"
    ),
]
CpusPerRun = Annotated[
    int | None, typer.Option(min=1, max=1024, help="That Ray keeps for a run, and its threads. [default: 1]")
]
GpusPerRun = Annotated[
    float | None, typer.Option(min=0, max=1024, help="That Ray keeps for a run. [default: 0]")
]
MemoryPerRun = Annotated[
    float | None, typer.Option(metavar="GB", min=0.001, help="That Ray keeps for a run.")
]
GOES_ON = "interrupted; what is finished is kept, and the same command goes on"
BEGINS_ANEW = "interrupted; nothing of it is kept, and the same command begins anew"
NOT_A_PLACE_TO_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


class RunInterrupted(Exception):  # noqa: N818 - Ctrl-C is no error
    """Ctrl-C within `run`; the message says how to go on."""


@app.command("list")
def list_(what: Annotated[Literal["suites", "architectures", "datasets"], typer.Argument()]) -> None:
    """Name what there is: suites, architectures or datasets."""
    if what == "architectures":
        from harness.model.architectures import ARCHITECTURES

        found = dict(ARCHITECTURES)
    elif what == "datasets":
        from datasets.catalog import DESCRIPTIONS, how_read

        found = {name: "; ".join(filter(None, (text, how_read(name)))) for name, text in DESCRIPTIONS.items()}
    else:
        found = {}
        for path in sorted((Path(__file__).parent / "suites").glob("*.yaml")):
            first = path.read_text(encoding="utf-8").partition("\n")[0]
            found[path.stem] = first.removeprefix("#").split(maxsplit=1)[-1]
    width = max(map(len, found))
    for name, told in found.items():
        say(f"{name:<{width}}  {told}")


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="A shipped suite's name, or the path of your own YAML.")],
    dataset: Annotated[
        str | None, typer.Option(help="Run on this dataset instead (name or schema YAML).")
    ] = None,
    data_root: DataRoot = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=1000, help="How many seeds.")] = None,
    worlds: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="How many worlds of each dataset that has them."),
    ] = None,
    device: Annotated[Device, typer.Option()] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            writable=True,
            path_type=str,
            help="Where records and the report go, a folder or a URL [out/SUITE].",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field, e.g. training.batch_size=2048."),
    ] = None,
    cache: CacheRoot = bench.CACHE,
    rebuild: Rebuild = False,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="How often a run saves where it stands.")
    ] = 60.0,
    run_minutes: RunMinutes = None,
    run_gigabytes: RunGigabytes = None,
    watch: Annotated[
        list[WatcherName] | None,
        typer.Option("--watch", metavar="tensorboard|mlflow", help="Also write curves for it; repeatable."),
    ] = None,
    no_speed: Annotated[
        bool, typer.Option("--no-speed", help="Do not measure how fast the models answer.")
    ] = False,
    keep: Annotated[
        Keep,
        typer.Option(help="Weights of the first seed's run of each row, for `export`; auto: up to 64 MB."),
    ] = "auto",
    jobs: Jobs = 1,
    shares: Annotated[
        int | None,
        typer.Option(min=1, help="Deal rows and batches as so many processes would [torchrun's processes]."),
    ] = None,
    executor: Executor = "local",
    ray_address: RayAddress = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    memory_per_run: MemoryPerRun = None,
    placement: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="How torchrun's processes share the embedding tables: a YAML file.",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Train nothing: write a line for each run that is left, for `run-one`.",
        ),
    ] = None,
) -> None:
    """Train and compare what a suite asks for, then write the report. Finished runs are not repeated."""
    chosen = bench.choose(suite, dataset=dataset, seeds=seeds, worlds=worlds, set=settings or ())
    out = out or bench.folder_of(chosen)
    on_ray: dict[str, Any] = {
        "executor": executor,
        "ray_address": ray_address,
        "cpus_per_run": cpus_per_run,
        "gpus_per_run": gpus_per_run,
        "memory_per_run": memory_per_run,
    }
    if plan is not None:
        given = {"--jobs": jobs > 1, "--watch": bool(watch), "--executor": executor != "local"}
        given["--placement"] = placement is not None
        _refuse_beside_plan(given)
        runs = bench.write_plan(
            chosen,
            out,
            plan,
            data_root=data_root,
            device=device,
            cache=cache,
            rebuild=rebuild,
            checkpoint_seconds=checkpoint_seconds,
            run_minutes=run_minutes,
            run_gigabytes=run_gigabytes,
            keep=keep,
            shares=shares,
            command=_command(),
        )
        left = f"{runs} to carry out, numbered from 0" if runs else "none to carry out: each has its record"
        say(f"plan: {plan} (runs: {left})")
        return
    try:
        results = bench.carry_out(
            chosen,
            out,
            data_root=data_root,
            device=device,
            cache=cache,
            rebuild=rebuild,
            checkpoint_seconds=checkpoint_seconds,
            run_minutes=run_minutes,
            run_gigabytes=run_gigabytes,
            watch=watch or (),
            speed=not no_speed,
            keep=keep,
            jobs=jobs,
            shares=shares,
            **on_ray,
            placement=placement,
            command=_command(),
        )
    except KeyboardInterrupt:
        raise RunInterrupted(_how_to_go_on(out)) from None
    except RuntimeError:
        _report_what_is_finished(out)
        raise
    if bench.is_first_process():
        _say_where(out)
    if results.failed:
        say("some runs failed; the report names them, with step and reason", error=True)
        raise typer.Exit(1)


def _refuse_beside_plan(given: dict[str, bool]) -> None:
    from files.errors import InputError

    for option in (name for name, is_given in given.items() if is_given):
        raise InputError(f"--plan trains nothing: leave {option} out beside it")


@app.command()
def run_one(
    plan: Annotated[Path, typer.Argument(dir_okay=False, help="A file that `run --plan` wrote.")],
    number: Annotated[int, typer.Argument(min=0, help="Which of its runs, counted from 0.")],
    cache: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            path_type=str,
            callback=_here,
            help="Where this machine keeps the prepared data, if not where the plan says.",
        ),
    ] = None,
    watch: Annotated[
        list[WatcherName] | None,
        typer.Option("--watch", metavar="tensorboard|mlflow", help="Also write curves for it; repeatable."),
    ] = None,
) -> None:
    """Carry out one run of a plan, as `run` would. A run that diverges ends with exit code 0, too."""
    try:
        record = bench.run_one(plan, number, cache=cache, watch=watch or ())
    except KeyboardInterrupt:
        raise RunInterrupted(GOES_ON) from None
    say(f"record: {record.folder / 'record.json'}")


@app.command()
def tune(
    suite: Annotated[str, typer.Argument(help="A shipped suite's name, or the path of your own YAML.")],
    trials: Annotated[
        int, typer.Option(min=1, max=100_000, help="Trials of every row, the defaults among them.")
    ] = 30,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database that processes share [sqlite:///out/tune/SUITE.db]."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Tune on this dataset instead (name or schema YAML).")
    ] = None,
    data_root: DataRoot = None,
    device: Annotated[Device, typer.Option()] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field, e.g. training.batch_size=2048."),
    ] = None,
    cache: CacheRoot = bench.CACHE,
    run_minutes: RunMinutes = None,
    run_gigabytes: RunGigabytes = None,
    jobs: Jobs = 1,
    executor: Executor = "local",
    ray_address: RayAddress = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    memory_per_run: MemoryPerRun = None,
) -> None:
    """Search each row's training, structure and tokens on validation, by the same number of trials."""
    written = bench.tune(
        suite,
        trials=trials,
        storage=storage,
        dataset=dataset,
        set=settings or (),
        data_root=data_root,
        device=device,
        cache=cache,
        run_minutes=run_minutes,
        run_gigabytes=run_gigabytes,
        jobs=jobs,
        executor=executor,
        ray_address=ray_address,
        cpus_per_run=cpus_per_run,
        gpus_per_run=gpus_per_run,
        memory_per_run=memory_per_run,
        command=_command(),
    )
    for path in written:
        say(f"settings: {path}")


@app.command()
def cost(
    scale: Annotated[str, typer.Option("--scale", help="A suite's name or YAML.")] = "quick",
    dataset: Annotated[str | None, typer.Option(help="Count on this dataset's tokens instead.")] = None,
    data_root: DataRoot = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
    cache: CacheRoot = bench.CACHE,
) -> None:
    """Parameters and FLOPs of a suite's architectures at its budget, without training."""
    from harness.machine.quiet import quiet_libraries
    from suites.costs import cost_table
    from suites.suite import load_suite

    quiet_libraries()
    chosen = load_suite(scale, settings or [], {"datasets": [{"name": dataset}]} if dataset else None)
    say(cost_table(chosen, data_root, cache, _published_costs()))


def _published_costs() -> dict[str, tuple[float, float]]:
    """Dense parameters and FLOPs per batch of 512 of the paper's Table 1, by the names of rows here."""
    from reports.paper.printed import load_paper

    return {
        name: (row.numbers["dense_params"], row.numbers["flops_per_batch_512"])
        for row in load_paper().tables["table1"].rows
        for name in (row.variant or row.architecture, row.name.lower())
        if name is not None
    }


# ------------------------------------------------------------------------------------------- profile

FLAGS = ("--compile", "--cuda-graphs")  # options of `profile` that have no value


class NameAnywhere(typer.core.TyperGroup):
    """A group whose command may stand after options, as in ``profile --json figures.json models``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments with the command's name first."""
        before = ""
        for place, word in enumerate(args):
            is_value = before.startswith("-") and "=" not in before and before not in FLAGS
            if word in self.commands and not is_value:
                args = [word, *args[:place], *args[place + 1 :]]
                break
            before = "" if is_value else word
        return super().parse_args(ctx, args)


profile_app = typer.Typer(
    cls=NameAnywhere,
    help="Measure speed, each against its reference in the same run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(profile_app, name="profile")

JsonFile = Annotated[
    Path | None, typer.Option("--json", dir_okay=False, help="Also write the figures to this file.")
]
ProfiledSuite = Annotated[str, typer.Option("--scale", metavar="<str>", help="A suite's name or YAML.")]
ProfiledDataset = Annotated[str | None, typer.Option("--dataset", help="On this dataset instead.")]
ProfiledDevice = Annotated[Device, typer.Option("--device", help="Where it is measured.")]
ProfiledFields = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A field of the suite.")
]


@profile_app.command("models")
def profile_models(
    json_file: JsonFile = None,
    scale: ProfiledSuite = "quick",
    batch_sizes: Annotated[
        list[int] | None,
        typer.Option("--batch-size", min=1, max=2**24, help="Repeatable. [default: 512]"),
    ] = None,
    precisions: Annotated[
        list[str] | None,
        typer.Option("--precision", help="fp32, bf16 or fp8; repeatable. [default: fp32]"),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Under torch.compile.")] = False,
    cuda_graphs: Annotated[
        bool, typer.Option("--cuda-graphs", help="Replay the dense part's inference as a CUDA graph.")
    ] = False,
    dataset: ProfiledDataset = None,
    data_root: DataRoot = None,
    device: ProfiledDevice = "auto",
    settings: ProfiledFields = None,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, path_type=str, help="Where to. [default: out/profile-SUITE]"),
    ] = None,
    cache: CacheRoot = bench.CACHE,
) -> None:
    """Latency, samples a second, MFU and the roofline of a suite's architectures."""
    from suites.speeds.profile import profile_figures

    _prepare_to_measure(json_file)
    command = _command()
    speeds = bench.profile(
        scale,
        batch_sizes=batch_sizes or [512],
        precisions=precisions or ["fp32"],
        compile=compiled,
        cuda_graphs=cuda_graphs,
        dataset=dataset,
        set=settings or [],
        out=out,
        data_root=data_root,
        device=device,
        cache=cache,
        command=command,
        say=say,
    )
    _say_figures(profile_figures(speeds.to_dict("records"), command), json_file)


@profile_app.command("serving")
def profile_serving(
    suite: Annotated[str, typer.Argument(help="A shipped suite's name, or the path of your own YAML.")],
    candidates: Annotated[
        str, typer.Option(metavar="C,...", help="Rows a request; a table for each number.")
    ] = "128,512",
    engines: Annotated[
        list[str] | None,
        typer.Option("--engine", help="eager, compile, aoti or onnx; repeatable. [default: eager]"),
    ] = None,
    p99: Annotated[
        float,
        typer.Option("--p99", metavar="MS", min=0.01, max=1e6, help="Milliseconds from arrival to answer."),
    ] = 10.0,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="How long each load is offered, up to 10,000 requests.")
    ] = 5.0,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="That an answer may use.")] = 1,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option()] = "fp32",
    cuda_graphs: Annotated[
        bool, typer.Option("--cuda-graphs", help="Replay an answer as a CUDA graph.")
    ] = False,
    price_per_hour: Annotated[
        float | None,
        typer.Option(
            "--price-per-hour", min=0, max=1e9, help="Of this machine; adds a million candidates' price."
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, path_type=str, help="A folder of the suite's runs, whose AUC stands beside."
        ),
    ] = None,
    dataset: ProfiledDataset = None,
    data_root: DataRoot = None,
    device: ProfiledDevice = "auto",
    settings: ProfiledFields = None,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, path_type=str, help="Where to. [default: out/serving-SUITE]"),
    ] = None,
    cache: CacheRoot = bench.CACHE,
) -> None:
    """Requests a second within a p99 under random arrivals, and candidates a second offline."""
    counts = _candidates(candidates)
    _prepare_to_measure(None)
    found = bench.profile_serving(
        suite,
        candidates=counts,
        engines=engines or ["eager"],
        p99=p99,
        seconds=seconds,
        threads=threads,
        precision=precision,
        cuda_graphs=cuda_graphs,
        price_per_hour=price_per_hour,
        results=results,
        dataset=dataset,
        set=settings or [],
        out=out,
        data_root=data_root,
        device=device,
        cache=cache,
        command=_command(),
        say=say,
    )
    if found["refused"].ne("").any():
        say("some engines were refused; the report names them and the reason", error=True)
        raise typer.Exit(1)


def _candidates(text: str) -> list[int]:
    from files.errors import InputError

    counts = [int(word) if word.strip().isdecimal() else 0 for word in text.split(",")]
    if not all(0 < count <= 2**20 for count in counts):
        raise InputError(f"--candidates {text}: give whole numbers from 1 to {2**20:,}, as in 128,512")
    return counts


@profile_app.command("pipeline")
def profile_pipeline(
    json_file: JsonFile = None,
    scale: ProfiledSuite = "quick",
    dataset: ProfiledDataset = None,
    data_root: DataRoot = None,
    settings: ProfiledFields = None,
    cache: CacheRoot = bench.CACHE,
) -> None:
    """The whole training step beside plain PyTorch, and where its time goes; on the CPU."""
    from suites.speeds.profile import profile_pipelines
    from suites.suite import load_suite

    _prepare_to_measure(json_file)
    chosen = load_suite(scale, settings or [], {"datasets": [{"name": dataset}]} if dataset else None)
    _say_figures(profile_pipelines(chosen, data_root, cache, _command(), say), json_file)


@profile_app.command("sparse")
def profile_sparse(json_file: JsonFile = None) -> None:
    """Experts that are not computed, beside computing all of them."""
    _prepare_to_measure(json_file)
    from harness.speed.profiles.sparse import profile_sparse

    _say_figures(profile_sparse(), json_file)


@profile_app.command("metrics")
def profile_metrics(json_file: JsonFile = None) -> None:
    """The metrics, beside a loop over users with scikit-learn."""
    _prepare_to_measure(json_file)
    from harness.speed.profiles.metrics import profile_metrics

    _say_figures(profile_metrics(), json_file)


@profile_app.command("bootstrap")
def profile_bootstrap(json_file: JsonFile = None) -> None:
    """The draws of users behind intervals, beside scikit-learn's weighted AUC."""
    _prepare_to_measure(json_file)
    from harness.speed.profiles.bootstrap import profile_bootstrap

    _say_figures(profile_bootstrap(), json_file)


@profile_app.command("data")
def profile_data(json_file: JsonFile = None) -> None:
    """How fast rows are generated and shards are read, on one core."""
    _prepare_to_measure(json_file)
    from harness.speed.profiles.data import profile_data

    _say_figures(profile_data(), json_file)


def _prepare_to_measure(json_file: Path | None) -> None:
    """What every measurement does before it loads its libraries."""
    from harness.machine.quiet import quiet_libraries

    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)  # now, and not after minutes of measuring
    quiet_libraries()


def _say_figures(figures: list[dict], json_file: Path | None) -> None:
    import json

    for figure in figures:
        digits = 3 if abs(figure["value"]) < 10 else 1
        say(
            f"{figure['name']:<40}{figure['value']:>16,.{digits}f} {figure['unit']}"
            f"   (median of {figure['median_of']}, spread {figure['spread']:,.{digits}f})"
        )
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1), encoding="utf-8")
        say(f"written to {json_file}")


@app.command()
def report(
    out: Annotated[
        Path,
        typer.Argument(
            file_okay=False,
            path_type=str,
            help="A folder or URL that `run`, `profile models` or `profile serving` wrote to.",
        ),
    ],
    style: Annotated[
        Literal["plain", "paper", "talk"],
        typer.Option(help="paper: figures of one column, also as PDF, and compact LaTeX tables."),
    ] = "plain",
) -> None:
    """Redraw tables, figures and the report page from records alone."""
    from files.writing import check_writable
    from harness.records.remote_folder import shared

    with shared(out) as folder:
        check_writable(folder, "copy it to a folder of your own and draw the report there")
        draw_speeds = next((draw for file, draw in _SPEED_REPORTS.items() if (folder / file).is_file()), None)
        if draw_speeds is None or (folder / "runs").is_dir():
            _report(folder, style.removeprefix("plain"))
            return
        from reports.figures.drawing.style import use_style

        with use_style(style.removeprefix("plain")):
            draw_speeds(folder)


@app.command()
def choose(
    out: Annotated[
        Path, typer.Argument(file_okay=False, path_type=str, help="A folder or URL that `run` wrote to.")
    ],
    p99: Annotated[float, typer.Option("--p99", metavar="MS", min=0, help="Milliseconds a call may take.")],
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows a call.")] = 512,
    task: Annotated[str | None, typer.Option(help="One task [all].")] = None,
    metric: Annotated[Literal["auc", "uauc", "gauc"], typer.Option()] = "auc",
    part: Annotated[
        Literal["whole", "dense"], typer.Option(help="With look-ups, or what comes after them.")
    ] = "whole",
) -> None:
    """Which models answer in time, which of them is best, and which cannot be told apart from it."""
    say(bench.choices(out, p99, batch, task=task, metric=metric, part=part)[1])


@app.command()
def export(
    run: Annotated[
        Path,
        typer.Argument(
            file_okay=False, path_type=str, help="A run's folder that keeps weights, OUT/runs/RUN, or URL."
        ),
    ],
    format: Annotated[Literal["torch-export", "aoti", "onnx"], typer.Option(help="What loads it.")],
    dense_only: Annotated[
        bool, typer.Option("--dense-only", help="From the tokens to the logits, without tables.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, path_type=str, help="Where to. [default: OUT/export/RUN/FORMAT]"),
    ] = None,
    cache: CacheRoot = bench.CACHE,
) -> None:
    """A trained model as an artefact that runs without this project, if it scores as its run did."""
    folder = bench.export(run, format=format, dense_only=dense_only, out=out, cache=cache)
    say(f"artefact: {folder}")


@app.command()
def doctor(data_root: DataRoot = None, cache: CacheRoot = bench.CACHE) -> None:
    """What this machine can do, and what is missing, each with its mend."""
    from harness.doctor.examine import examine

    text, healthy = examine(data_root, cache)
    say(text)
    raise typer.Exit(0 if healthy else 1)


@data_app.command("list")
def data_list() -> None:
    """Datasets by name."""
    list_("datasets")


@data_app.command("fetch")
def data_fetch(name: str, data_root: DataRoot = None, options: DatasetOptions = None) -> None:
    """Download a public dataset, check it and unpack it under --data-root; options choose its files."""
    from datasets.fetch.download import shown
    from datasets.fetch.sending import fetch_and_send
    from files.errors import InputError

    if data_root is None:
        raise InputError("data fetch: say where to with --data-root DIR (or BENCH_DATA_ROOT)")
    with shown(name) as progress:
        folder = fetch_and_send(name, data_root, progress, _chosen(options))
    say(folder)


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="A dataset's name, or your own schema YAML.")],
    data_root: DataRoot = None,
    options: DatasetOptions = None,
    cache: CacheRoot = bench.CACHE,
    rebuild: Rebuild = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every file of a prepared copy, even if it looks unchanged.")
    ] = False,
) -> None:
    """Turn raw files into shards that training reads."""
    prepared = _prepare(name, data_root, options, cache, rebuild, verify, report=say)
    users = f"{prepared.num_users:,} users" if prepared.num_users is not None else "no users"
    say(f"{prepared.schema.name}: {prepared.rows} rows, {users}, in {prepared.path}")
    is_own_table = name.endswith((".yaml", ".yml"))
    for note, value in prepared.manifest["notes"].items():
        if is_own_table or note == "test":  # how it was read, or split otherwise, must not be a surprise
            say(f"note: {note}: {value:.3g}" if isinstance(value, float) else f"note: {note}: {value}")


@data_app.command("stage")
def data_stage(
    schema: Annotated[Path, typer.Argument(help="Your own schema YAML.", dir_okay=False)],
    out: Annotated[
        Path, typer.Option(file_okay=False, help="The folder to write, which all machines share.")
    ],
    ray_address: RayAddress = None,
) -> None:
    """Type, sort and count your own table with Ray Data, for `staged` in its schema (extra `ray`)."""
    rows = bench.stage(schema, out, ray_address=ray_address or "auto", report=say)
    say(f"staged: {rows} rows in {out}")
    say(f"add 'staged: {out.absolute()}' to {schema}, and run: data prepare {schema}")


@data_app.command("describe")
def data_describe(
    name: Annotated[str, typer.Argument(help="A dataset's name, or your own schema YAML.")],
    data_root: DataRoot = None,
    options: DatasetOptions = None,
    cache: CacheRoot = bench.CACHE,
    rebuild: Rebuild = False,
    page: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write one HTML page with figures of the drift."),
    ] = None,
) -> None:
    """Leaks, fields, missing values, label rates, drift from training, users with both classes."""
    from datasets.describe import render

    chosen = _chosen(options)
    say(render(bench.describe(
        name, page=page, options=chosen, data_root=data_root, cache=cache, rebuild=rebuild
    )))  # fmt: skip
    if page is not None:
        say(f"page: {page}")


@data_app.command("init")
def data_init(
    files: Annotated[
        list[str], typer.Argument(metavar="FILES...", help="Your table's files, folders or patterns.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, help="The schema to write.")
    ] = Path("schema.yaml"),
    user: Annotated[str | None, typer.Option(metavar="COLUMN", help="Whose row it is.")] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="When the row happened.")] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="COLUMN|'NAME: EXPRESSION'", help="What is to be predicted; repeatable."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a schema that is there.")] = False,
) -> None:
    """Draft the schema of your own table, with the reasons as comments; read it before you use it."""
    from datasets.draft.choices import Wishes
    from datasets.draft.draft import draft, refuse_to_overwrite, write

    refuse_to_overwrite(output, force)
    with _shown_progress() as report:
        drafted = draft(files, output, Wishes(user, time, tuple(labels or ())), report)
    write(drafted, output, force)
    for what, why in drafted.check:
        print(f"{what}: {why}")
    print(f"schema: {output} (check it by eye, then: data describe {output})")


@contextlib.contextmanager
def _shown_progress():
    """A bar on stderr where that is a terminal, moved by calls with what is done and which share of it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(bar, description=escape(what), completed=share)


def _prepare(
    name: str,
    data_root: Path | None,
    options: list[str] | None,
    cache: Path,
    rebuild: bool,
    verify: bool = False,
    report: Callable[[str], None] | None = None,
):
    return bench.prepare(
        name,
        options=_chosen(options),
        data_root=data_root,
        cache=cache,
        rebuild=rebuild,
        verify=verify,
        report=report,
    )


def _chosen(options: list[str] | None) -> dict[str, Any]:
    from files.yaml_files import key_and_value

    return dict(key_and_value("--option", option) for option in options or [])


def _report(out: Path, style: str = "") -> None:
    if bench.report(out, style=style).stored.lacks_predictions:
        say("the runs have no predictions here: their comparisons are those that were kept with them")
    _say_where(out)


def _say_where(out: Path) -> None:
    from files.remote_copy import local_path

    folder = local_path(out)
    say(f"report: {folder / 'report.md'}")
    say(f"page: {folder / 'report' / 'index.html'}")


def _report_speeds(out: Path) -> None:
    from reports.speed.report import render_profile

    say(f"report: {render_profile(out)}")
    say(f"page: {out / 'report' / 'index.html'}")


def _report_serving(out: Path) -> None:
    from reports.speed.serving import render_serving_profile

    say(f"report: {render_serving_profile(out)}")
    say(f"page: {out / 'report' / 'index.html'}")


_SPEED_REPORTS = {"profile.json": _report_speeds, "serving_profile.json": _report_serving}


def _how_to_go_on(out: Path) -> str:
    """What an interrupted `run` says at once: a report takes seconds to draw, so it is offered."""
    import shlex

    from files.remote_copy import local_path
    from harness.records.record import RECORD_FILE

    records = (local_path(out) / "runs").glob(f"*/{RECORD_FILE}")
    if all(path.parent.name.endswith(".partial") for path in records):
        return GOES_ON
    report = shlex.join(["python", "run_bench.py", "report", str(out)])
    return f"{GOES_ON}; for the report of what is finished: {report}"


def _report_what_is_finished(out: Path) -> None:
    """The report where runs broke, which it must not hide: before the first record there is none."""
    from files.errors import InputError

    with contextlib.suppress(InputError):
        if bench.is_first_process():
            bench.report(out)
            _say_where(out)


def _command() -> str:
    """What was typed, as the report repeats it; passwords in URLs are hidden."""
    import shlex

    from suites.tuning.masking import masked_argument

    typed = [masked_argument(argument) for argument in sys.argv[1:] if argument != "--debug"]
    return shlex.join(["python", "run_bench.py", *typed])


def main() -> None:
    """Run a command; bad input is one sentence and exit code 2, a failure one sentence and 1."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal's encoding lacks is shown as an escape
            stream.reconfigure(errors="backslashreplace")
    sys.path.append(os.getcwd())  # for the user's own package.module:Class
    try:
        _run_command(debug)
    except KeyboardInterrupt:  # outside of the command itself
        say("interrupted", error=True)
        sys.exit(INTERRUPTED)


def _run_command(debug: bool) -> None:
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _leave_interrupted(GOES_ON if _keeps_what_is_finished() else BEGINS_ANEW)
        raise
    except RunInterrupted as end:
        _leave_interrupted(str(end))
    except Exception as error:
        if debug:
            import traceback

            from suites.tuning.masking import masked

            print(masked(traceback.format_exc()), end="", file=sys.stderr)
            sys.exit(1)
        sys.exit(_explain(error))


def _keeps_what_is_finished() -> bool:
    """Of the commands on data, only a fetch does: a folder is prepared, or staged, whole or not at all."""
    return sys.argv[1:2] != ["data"] or sys.argv[2:3] == ["fetch"]


def _leave_interrupted(words: str) -> NoReturn:
    say(words, error=True)
    gc.freeze()  # or the interpreter goes through all that PyTorch imports once more, which takes seconds
    sys.exit(INTERRUPTED)


def _explain(error: Exception) -> int:
    """Print one sentence for an error and give the exit code."""
    from datasets.prepare.folder import is_full_disk
    from files.errors import InputError, RefusedError, UnfinishedError

    code = 1
    if isinstance(error, InputError):
        message = str(error)
        code = 1 if is_full_disk(error) else 2
    elif is_full_disk(error):
        message = "no space left on the disk; free some and run the same command again, which goes on"
    elif isinstance(error, UnfinishedError | RefusedError):
        message = str(error)
    elif isinstance(error, OSError) and error.errno is not None:
        where = f" ({error.filename})" if error.filename else ""
        message = f"{error.strerror}{where}; mend that and run the same command again"
        code = 2 if error.errno in NOT_A_PLACE_TO_WRITE else 1
    elif isinstance(error, UnicodeError) and sys.getfilesystemencoding() != "utf-8":
        message = (
            f"a name cannot be written in this locale's {sys.getfilesystemencoding()}; "
            "set PYTHONUTF8=1 and run the same command again"
        )
        code = 2
    else:
        message = f"{type(error).__name__}: {error} (--debug shows where)"
    from suites.tuning.masking import masked

    say("error: " + masked(" ".join(message.split())), error=True)
    return code


if __name__ == "__main__":
    if _can_be_interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
