"""The command line as a user meets it: own data end to end, every mistake, Ctrl-C, two processes at once.

Most commands run in this process through ``run_bench.main``, or in a forked one, since importing torch takes
seconds; ``started`` begins one as a user does.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml

import bench as python_interface
import run_bench
from files.errors import InputError
from tests.datasets.vk_lsvd.files import write_folder
from tests.forked import Forked, fork_the_server_of_workers, forked_command
from tests.threads import threads_at_work

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = str(ROOT / "run_bench.py")
ROWS = 2000

SCHEMA = {
    "name": "mine",
    "files": ["log.csv"],
    "features": [
        {"name": "who", "kind": "categorical", "group": "user", "embedding_dim": 8},
        {"name": "item", "kind": "categorical", "group": "item", "embedding_dim": 8},
        {"name": "tags", "kind": "multi_hot", "group": "item", "separator": "|", "embedding_dim": 4},
        {"name": "price", "kind": "numeric", "group": "item", "embedding_dim": 4},
    ],
    "tasks": [{"name": "click"}, {"name": "skip"}],
    "user_id": "who",
    "time": "at",
    "split": {"by": "fraction", "valid": 0.1, "test": 0.2},
}
SUITE = {
    "name": "tiny",
    "description": "Two architectures of one's own beside a shipped one.",
    "datasets": ["data/schema.yaml"],
    "tokens": 3,
    "budget": {"flops_per_sample": 20_000},
    "seeds": 2,
    "base": "dlrm_mlp",
    "architectures": ["dlrm_mlp", "own_models:Base", "own_models:Shallow"],
    "references": ["constant"],
    "training": {"batch_size": 64},
}
RUNS = {  # architecture, seed
    ("constant", 0),
    *((name, seed) for name in SUITE["architectures"] for seed in (0, 1)),  # type: ignore[attr-defined]
}

# A trained model of one's own leaves a line in WITNESS: the process that forked its run, class, seed.
# Where there is a MEETING, two commands wait for each other when they begin and, so that both train, at the
# first model of their own.
OWN_MODELS = """
import os, time
from dataclasses import dataclass
from pathlib import Path
import torch
from torch import nn
from baselines.dlrm_mlp import DLRMMLP
from baselines.layers import Knob, Knobs
from harness.runs.row_check import SEED as TRIED_OUT

def meet(place):
    if "MEETING" not in os.environ:
        return
    here = Path(os.environ["MEETING"], place)
    here.mkdir(exist_ok=True)
    (here / str(os.getpid())).touch()
    deadline = time.monotonic() + 240
    while len(os.listdir(here)) < 2:
        assert time.monotonic() < deadline, "the other process did not come"
        time.sleep(0.01)

def witness(model):
    is_tried_out = torch.initial_seed() == TRIED_OUT or next(model.parameters()).device.type == "meta"
    if "WITNESS" in os.environ and not is_tried_out:
        meet("training")
        with open(os.environ["WITNESS"], "a") as file:
            file.write(f"{os.getppid()} {type(model).__name__} {torch.initial_seed()}\\n")

class Base(DLRMMLP):
    def __init__(self, num_tokens, token_dim, config):
        super().__init__(num_tokens, token_dim, config)
        witness(self)

class Shallow(nn.Module):
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        width: int

    def __init__(self, num_tokens, token_dim, config):
        super().__init__()
        self.hidden = nn.Linear(num_tokens * token_dim, config.width)
        self.output_dim = config.width
        witness(self)

    def forward(self, tokens):
        return self.hidden(tokens.flatten(1)).relu()

    @staticmethod
    def knobs(num_tokens, token_dim):
        return Knobs(coarse=Knob("width"))

class Diverging(Shallow):
    def forward(self, tokens):
        return super().forward(tokens) * float("nan")

class Raising(Shallow):
    def forward(self, tokens):
        if tokens.device.type != "meta":
            raise RuntimeError("my own fault")
        return super().forward(tokens)

meet("beginning")
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def own_log() -> pl.DataFrame:
    """Users like some items, as scores of hidden tastes say."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 40, ROWS), rng.integers(0, 30, ROWS)
    like = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 30)))[user, item]
    probability = 1 / (1 + np.exp(-like))
    return pl.DataFrame(
        {
            "who": user,
            "item": item,
            "tags": ["|".join(map(str, rng.integers(0, 5, rng.integers(0, 3)))) for _ in range(ROWS)],
            "price": rng.exponential(3.0, ROWS).round(3),
            "click": (rng.random(ROWS) < probability).astype(int),
            "skip": (rng.random(ROWS) < 1 - probability).astype(int),
            "at": np.arange(ROWS),
        }
    )


def own_folder(folder: Path) -> Path:
    """A user's folder: data/log.csv, data/schema.yaml, tiny.yaml, own_models.py."""
    (folder / "data").mkdir()
    own_log().write_csv(folder / "data/log.csv")
    (folder / "data/schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    (folder / "own_models.py").write_text(OWN_MODELS)
    return folder


def started(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """``python run_bench.py ...`` in a process of its own, run from ``folder``."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
    return subprocess.Popen(
        [sys.executable, SCRIPT, *arguments],
        cwd=folder,
        env={**given, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen | Forked) -> Outcome:
    out, err = process.communicate(timeout=500)
    assert process.returncode is not None
    return Outcome(process.returncode, out, err)


def records_of(out: Path) -> dict[tuple[str, int], dict]:
    """The records by architecture and seed; fails if two are of the same run."""
    found = [json.loads(path.read_text()) for path in sorted(out.glob("runs/*/record.json"))]
    by_run = {(record["architecture"], record["seed"]): record for record in found}
    assert len(by_run) == len(found)
    return by_run


def record_times(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.glob("runs/*/record.json")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder after ``run tiny.yaml`` in a single process, from elsewhere than the checkout."""
    folder = own_folder(tmp_path_factory.mktemp("finished"))
    outcome = ended(started(folder, "run", "tiny.yaml", "--cache", "cache"))
    assert outcome.code == 0, outcome.err
    assert "report: out/tiny/report.md" in outcome.out
    return folder


@pytest.fixture
def bench(monkeypatch, capsys) -> Callable[..., Outcome]:
    """Calls the command line in this process, which measures its peak once for all calls."""
    from harness.machine.facts import machine_of
    from suites.plan import Caller

    fork_the_server_of_workers()
    monkeypatch.setattr(Caller, "machine", lambda self, precision: machine_of(self.world.device, precision))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in ("BENCH_CACHE", "BENCH_DATA_ROOT"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["run_bench.py", *arguments])
        sys.modules.pop("own_models", None)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run_bench.main()
        return Outcome(end.value.code, *capsys.readouterr())  # type: ignore[arg-type]

    with threads_at_work(1):
        yield call  # type: ignore[misc]
    sys.modules.pop("own_models", None)


@pytest.fixture
def unreported(monkeypatch) -> None:
    """Commands of this process draw no report, which takes longer than a small suite's runs."""
    monkeypatch.setattr(python_interface, "report", lambda out, **_: None)


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A user's folder, fresh, and the current one."""
    monkeypatch.chdir(tmp_path)
    return own_folder(tmp_path)


@pytest.fixture
def ran(finished, tmp_path, monkeypatch) -> Path:
    """A copy of the folder in which ``run tiny.yaml`` has ended, and the current one."""
    shutil.copytree(finished, tmp_path / "ran")
    monkeypatch.chdir(tmp_path / "ran")
    return tmp_path / "ran"


# ------------------------------------------------------------------------------------------- the main path


def test_a_run_on_own_data_with_an_own_architecture_leaves_records_results_and_a_report(finished):
    out = finished / "out/tiny"
    records = records_of(out)
    assert set(records) == RUNS
    assert {record["status"] for record in records.values()} == {"finished"}
    assert {record["suite"] for record in records.values()} == {"tiny"}
    results = pl.read_csv(out / "results.csv")
    assert results.height == len(RUNS) * 2
    report = (out / "report.md").read_text()
    assert "| Shallow |" in report
    assert "python run_bench.py run tiny.yaml --cache cache" in report


def test_the_first_seeds_models_keep_weights_that_export_takes(ran, bench):
    runs = {path.parent.name: path.parent for path in (ran / "out/tiny/runs").glob("*/record.json")}
    kept = {name for name, run in runs.items() if (run / "weights.pt").is_file()}
    assert kept == {name for name in runs if "-s0-" in name and "constant" not in name}
    [run] = (run for name, run in runs.items() if "Shallow-s0" in name)
    command = ["export", str(run), "--format", "torch-export", "--dense-only", "--cache", "cache"]
    outcome = bench(*command)
    folder = ran / f"out/tiny/export/{run.name}/torch-export-dense-only"
    assert (outcome.code, outcome.out.strip()) == (0, f"artefact: {folder}"), outcome.err
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["tasks"], manifest["parity"]["rows"]) == (["click", "skip"], 400)

    for name, words in (("constant", ["is a reference row"]), ("Shallow-s1", ["name the run of seed 0"])):
        [other] = (run for found, run in runs.items() if name in found)
        check_refusal(bench("export", str(other), "--format", "torch-export", "--cache", "cache"), words)


def test_the_recorded_test_rows_are_the_last_fifth_of_the_csv(finished):
    records = records_of(finished / "out/tiny")
    clicks = own_log()["click"].tail(ROWS // 5)
    for record in records.values():
        assert record["metrics"]["click"]["rows"] == len(clicks)
        assert record["dataset_info"]["rows"] == {"train": 1400, "valid": 200, "test": 400}
    rate = own_log()["click"].head(1400).mean()
    [scores] = [
        pl.read_parquet(path / "predictions.parquet")["score_click"].unique().to_list()
        for path in (finished / "out/tiny/runs").glob("mine-constant*")
    ]
    assert scores == [pytest.approx(rate, rel=1e-6)]


def test_a_second_run_trains_nothing_and_leaves_every_record_as_it_was(ran, bench, unreported, monkeypatch):
    import suites.carrying_out

    def train_nothing(*_: object) -> dict:
        raise AssertionError("a finished run was carried out again")

    monkeypatch.setattr(suites.carrying_out, "_carry_out", train_nothing)
    monkeypatch.setattr("suites.plan.check_row", train_nothing)
    before = record_times(ran / "out/tiny")
    outcome = bench("run", "tiny.yaml", "--cache", "cache")
    assert outcome.code == 0, outcome.err
    assert record_times(ran / "out/tiny") == before


def test_report_redraws_the_same_results_from_records_alone(ran, bench):
    out = ran / "out/tiny"
    before = (out / "results.csv").read_text()
    shutil.rmtree(ran / "cache")
    shutil.rmtree(ran / "data")
    for path in [*out.glob("*.*"), *out.glob("figures/*")]:
        if path.name not in ("suite.json", "serving.json"):  # records, as those of the runs are
            path.unlink()
    outcome = bench("report", "out/tiny")
    assert outcome.code == 0, outcome.err
    assert (out / "results.csv").read_text() == before
    assert (out / "comparisons.csv").is_file()
    assert list(out.glob("figures/*.svg"))


# --------------------------------------------------------------------------------------- the Python interface


def test_the_python_interface_gives_the_runs_and_differences_that_the_files_hold(finished):
    results = python_interface.open_results(finished / "out/tiny")
    kept = pd.read_csv(finished / "out/tiny/results.csv")
    assert list(results.runs.columns) == list(kept.columns)
    for name in ("architecture", "seed", "task", "auc", "uauc"):
        assert results.runs[name].to_list() == pytest.approx(kept[name].to_list(), nan_ok=True), name
    written = pd.read_csv(finished / "out/tiny/comparisons.csv")
    assert len(results.differences) == len(written) > 0
    assert sorted(results.differences["diff"]) == pytest.approx(sorted(written["diff"]))


def test_results_that_are_kept_packed_are_opened_like_the_folder_that_was_run(finished, tmp_path):
    from harness.records.archive import pack

    pack(finished / "out/tiny", tmp_path / "kept")
    run, kept = (python_interface.open_results(out) for out in (finished / "out/tiny", tmp_path / "kept"))
    assert kept.runs.equals(run.runs)
    assert kept.differences.equals(run.differences)
    assert set(kept.figures) == set(run.figures)


def test_a_figure_is_had_by_its_file_s_name_with_or_without_the_dataset(finished):
    results = python_interface.open_results(finished / "out/tiny")
    assert set(results.figures) == {path.stem for path in (finished / "out/tiny/figures").glob("*.svg")}
    forest = results.figure("forest")
    assert forest is results.figure("differences") is results.figure("differences-mine")
    assert "difference to DLRM-MLP" in forest.get_supxlabel()
    with pytest.raises(InputError, match=r"no single figure is named 'trees': choose from differences-mine"):
        results.figure("trees")


def test_run_from_python_is_the_command_s_run_and_trains_nothing_that_it_finished(ran, monkeypatch):
    import suites.carrying_out

    monkeypatch.setattr(suites.carrying_out, "_carry_out", None)
    monkeypatch.syspath_prepend(str(ran))
    before, runs = record_times(ran / "out/tiny"), (ran / "out/tiny/results.csv").read_text()
    with threads_at_work(1):
        results = python_interface.run("tiny.yaml", seeds=2, set={"training.batch_size": 64}, device="cpu")
    sys.modules.pop("own_models", None)
    assert (results.out, results.failed) == (Path("out/tiny"), 0)
    assert record_times(ran / "out/tiny") == before
    assert (ran / "out/tiny/results.csv").read_text() == runs
    typed = "run('tiny.yaml', seeds=2, set={'training.batch_size': 64}, device='cpu')"
    assert json.loads((ran / "out/tiny/suite.json").read_text())["command"] == typed


def test_settings_as_a_mapping_mean_what_they_mean_as_texts(own):
    mapping = {"training.batch_size": 32, "budget": {"dense_params": 1e5}, "description": "Größe 😀: 1, [2"}
    texts = ["training.batch_size=32", "budget={dense_params: 1e5}", "description='Größe 😀: 1, [2'"]
    chosen = python_interface.choose("tiny.yaml", set=mapping)
    assert chosen == python_interface.choose("tiny.yaml", set=texts)
    assert (chosen.training.batch_size, chosen.description) == (32, "Größe 😀: 1, [2")
    with pytest.raises(InputError, match=r"^set: .*; give numbers, texts, lists"):
        python_interface.choose("tiny.yaml", set={"seeds": {1, 2}})
    with pytest.raises(InputError, match="sedes: is not a known field"):
        python_interface.choose("tiny.yaml", set={"sedes": 3})


def test_cost_from_python_is_the_table_that_the_command_prints(ran, bench, monkeypatch):
    printed = bench("cost", "--scale", "tiny.yaml", "--cache", "cache").out.splitlines()
    monkeypatch.syspath_prepend(str(ran))
    costs = python_interface.cost("tiny.yaml")
    sys.modules.pop("own_models", None)
    assert list(costs["model"]) == SUITE["architectures"]
    for row, line in zip(costs.to_dict("records"), printed[-3:], strict=True):
        assert line.split()[:3] == [row["model"], f"{row['dense_params']:,}", f"{row['sparse_params']:,}"]
        assert f"{row['flops_per_sample']:,}" in line.split()


def test_a_dataset_is_described_from_python(own):
    description = python_interface.describe("data/schema.yaml")
    train = description.labels.filter((pl.col("split") == "train") & (pl.col("task") == "click"))
    assert train["positive_rate"].item() == pytest.approx(own_log()["click"].head(1400).mean())


# -------------------------------------------------------------------------------------------- data commands


def test_data_prepare_then_describe_show_rows_users_and_label_rates(own, bench):
    outcome = bench("data", "prepare", "data/schema.yaml", "--cache", "cache")
    assert (outcome.code, outcome.err) == (0, "")
    [folder] = (path for path in (own / "cache").iterdir() if path.is_dir())
    assert str(folder.relative_to(own)) in outcome.out
    assert re.match(r"mine: about 2,\d{3} rows, .* of disk .* of memory .* on \d+ free core", outcome.out)
    described = bench("data", "describe", "data/schema.yaml", "--cache", "cache")
    assert described.code == 0
    train = own_log().head(1400)
    assert re.search(rf"train +1,400 +{train['who'].n_unique()} *$", described.out, re.MULTILINE)
    assert re.search(rf"train +click +1,400 +{train['click'].mean():.4f} ", described.out)


def test_data_prepare_says_that_week_26_is_not_there(tmp_path, bench):
    write_folder(tmp_path, weeks=1, test=False)
    outcome = bench(
        "data", "prepare", "vk-lsvd", "--data-root", str(tmp_path), "--cache", str(tmp_path / "cache"),
        "--option", "weeks=1", "--option", "embedding_length=0",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    assert [line for line in outcome.out.splitlines() if line.startswith("note:")] == [
        "note: test: the second half of week 25, whose first half validates: week 26 is not there"
    ]


def test_a_cache_whose_name_looks_like_a_url_is_a_folder(own, bench):
    outcome = bench("data", "prepare", "data/schema.yaml", "--cache", "10:30/cache")
    assert (outcome.code, outcome.err) == (0, "")
    [folder] = (path for path in (own / "10:30/cache").iterdir() if path.is_dir())
    assert (folder / "manifest.json").is_file()


MINUS = "\N{MINUS SIGN}"


def test_data_describe_writes_a_page_with_the_same_numbers(own, bench):
    described = bench("data", "describe", "data/schema.yaml", "--cache", "cache", "--page", "out/data.html")
    assert (described.code, described.err) == (0, "")
    assert described.out.rstrip().endswith("page: out/data.html")
    text = Path("out/data.html").read_text(encoding="utf-8")
    change = re.search(r"test +click .* (-?\d\.\d{4}) +\d+ +\d+ *$", described.out, re.MULTILINE)
    assert change
    assert f">{change[1].replace('-', MINUS)}<" in text
    assert "Distance of each feature from training" in text
    refused = bench("data", "describe", "data/schema.yaml", "--cache", "cache", "--page", "out/data.html/x")
    assert (refused.code, refused.out) == (2, "")
    assert "out/data.html" in refused.err


def test_data_init_writes_a_schema_that_describe_takes_and_keeps_one_that_is_there(own, bench):
    asked = ["data", "init", "data/log.csv", "-o", "drafted.yaml", "--user", "who", "--label", "click"]
    asked += ["--time", "at"]
    outcome = bench(*asked)
    assert (outcome.code, outcome.err) == (0, "")
    assert "user_id: who (as --user says)" in outcome.out
    described = bench("data", "describe", "drafted.yaml", "--cache", "cache")
    assert (described.code, described.err) == (0, "")
    assert re.search(r"train +click ", described.out)
    check_refusal(bench(*asked), ["drafted.yaml", "--force"])
    assert bench(*asked, "--force").code == 0
    check_refusal(bench("data", "init", "nowhere.csv", "-o", "other.yaml"), ["nowhere.csv", "no such file"])
    check_refusal(bench("data", "init", "data/log.csv", "-o", "no/where.yaml"), ["no/where.yaml", "folder"])
    assert not (own / "other.yaml").exists()


def test_a_dataset_given_on_the_command_line_takes_the_suites_place(ran, bench):
    other = yaml.safe_dump(SCHEMA | {"name": "other"})
    (ran / "data/other.yaml").write_text(other)
    outcome = bench("cost", "--scale", "tiny.yaml", "--cache", "cache", "--dataset", "data/other.yaml")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("other: 3 tokens of width 8")


@pytest.mark.parametrize("command", ["run", "tune"])
def test_two_schemas_of_one_name_are_refused_since_their_runs_could_not_be_told_apart(own, bench, command):
    (own / "data/twin.yaml").write_text(yaml.safe_dump(SCHEMA | {"description": "other data"}))
    both = "datasets=[data/schema.yaml, data/twin.yaml]"
    outcome = bench(command, "tiny.yaml", "--cache", "cache", "--set", both)
    check_refusal(outcome, ["'data/schema.yaml' and 'data/twin.yaml' are both named 'mine'", "rename one"])
    assert not (own / "out/tiny").exists()


def test_cost_lists_every_architecture_with_the_flops_that_its_layers_have(ran, bench):
    outcome = bench("cost", "--scale", "tiny.yaml", "--cache", "cache")
    assert outcome.code == 0, outcome.err
    [line] = [line for line in outcome.out.splitlines() if line.startswith("own_models:Shallow")]
    width = int(re.search(r"width=(\d+)", line)[1])  # type: ignore[index]
    towers = 2 * (width * 32 + 32)
    assert f"{2 * (24 * width + towers):,}" in line.split()
    assert not (ran / "out/tiny-cost").exists()


def test_list_names_suites_architectures_and_datasets(bench):
    from datasets.catalog import DATASETS

    assert {line.split()[0] for line in bench("list", "datasets").out.splitlines()} == set(DATASETS)
    assert bench("data", "list").out == bench("list", "datasets").out
    files = {path.stem for path in (ROOT / "suites").glob("*.yaml")}
    assert {line.split()[0] for line in bench("list", "suites").out.splitlines()} == files


def test_help_lists_and_a_misspelt_suite_answer_without_importing_torch():
    calls = [["--help"], ["run", "--help"], ["list", "architectures"], ["list", "suites"], ["run", "quik"]]
    code = (
        "import sys, run_bench\n"
        f"for call in {calls!r}:\n"
        "    sys.argv = ['run_bench.py', *call]\n"
        "    try: run_bench.main()\n"
        "    except SystemExit as end: print('code', end.code)\n"
        "slow = {'torch', 'torchrec', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "print('slow:', *sorted(slow))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"code (\d)", done.stdout) == ["0", "0", "0", "0", "2"]
    assert done.stdout.splitlines()[-1] == "slow:"


# ---------------------------------------------------------------------------------------- mistakes in data


def edited(path: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / path).read_text()
        assert text.count(old) >= 1, f"{path} has no {old!r}"
        (folder / path).write_text(text.replace(old, new, 1))

    return edit


def cell(row: int, column: str, value: str) -> Callable[[Path], None]:
    """Replaces one cell of the CSV, or the whole column if ``row`` is -1."""

    def edit(folder: Path) -> None:
        lines = [line.split(",") for line in (folder / "data/log.csv").read_text().splitlines()]
        at = lines[0].index(column)
        for line in lines[1:] if row < 0 else [lines[row + 1]]:
            line[at] = value
        (folder / "data/log.csv").write_text("\n".join(map(",".join, lines)) + "\n")

    return edit


def first_rows(count: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        lines = (folder / "data/log.csv").read_text().splitlines(keepends=True)
        (folder / "data/log.csv").write_text("".join(lines[: count + 1]))

    return edit


def schema_with(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / "data/schema.yaml").write_text(yaml.safe_dump(SCHEMA | changes))

    return edit


def check_refusal(outcome: Outcome, words: list[str], code: int = 2) -> None:
    """One sentence on one line of stderr, with these words, and no stack trace."""
    line = outcome.err.splitlines()[-1]
    assert (outcome.code, line.startswith("error: ")) == (code, True), outcome.err
    assert [word for word in words if word not in line] == [], line
    assert "Traceback" not in outcome.err
    assert outcome.err.count("error: ") == 1


YAML_PATH = "data/schema.yaml"


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda f: (f / YAML_PATH).unlink(), ["data/schema.yaml: no such file in /", "give the path"]),
        (lambda f: (f / "data/log.csv").unlink(), ["data/schema.yaml: files: 'log.csv' matches no file in"]),
        (edited("data/log.csv", "price", "prize"), ["data/log.csv: has no column 'price'", "'price' needs"]),
        (cell(99, "click", "2"), ["task 'click'", "neither 0, 1 nor empty in row 99 ", ": 2.0;", "derive"]),
        (cell(99, "click", "0.5"), ["task 'click'", "neither 0, 1 nor empty in row 99 ", ": 0.5;"]),
        (cell(99, "click", "yes"), ["data/log.csv: line 101: column 'click' holds 'yes'", "no number"]),
        (cell(-1, "click", "1"), ["task 'click'", "never 0 in the training split", "remove the task"]),
        (cell(0, "price", "cheap"), ["data/log.csv: line 2: column 'price' holds 'cheap'", "mend it"]),
        (cell(99, "at", ""), ["time: column 'at' is empty in row 99 ", "drop the row"]),
        (cell(99, "who", ""), ["user_id: column 'who' is empty in row 99 ", "drop the row"]),
        (cell(99, "at", "noon"), ["data/log.csv: line 101: column 'at' holds 'noon'", "ISO form"]),
        (cell(-1, "at", "7"), ["no row falls into train", "give more rows"]),
        (cell(99, "price", "1.797e308"), ["feature 'price'", "too large to normalise", "log1p"]),
        (first_rows(3), ["split (fraction): no row falls into valid", "give more rows"]),
        (first_rows(0), ["files: no file has any rows (log.csv)", "fill them"]),
        (lambda f: (f / "data/log.csv").write_text(""), ["data/log.csv: cannot be read", "fill it"]),
        (edited("data/log.csv", "\n", "\n1,2,3,4,1,1,5,6,7\n"), ["log.csv: line 2: has 9 fields", "mend"]),
        (edited(YAML_PATH, "embedding_dim", "embeding_dim"), ["features.0.embeding_dim", "spelling"]),
        (edited(YAML_PATH, "user_id:", "userid:"), ["schema.yaml: userid: is not a known field"]),
        (edited(YAML_PATH, "user_id: who", ""), ["schema.yaml: user_id: is missing; add it"]),
        (edited(YAML_PATH, "user_id: who", "user_id: [who"), ["schema.yaml: line ", "not valid YAML"]),
        (edited(YAML_PATH, "user_id: who", "user_id: who\nuser_id: item"), ["'user_id' is given twice"]),
        (edited(YAML_PATH, "embedding_dim: 8", "embedding_dim: eight"), ["valid integer", "not 'eight'"]),
        (edited(YAML_PATH, "- name: skip", "- name: true"), ["tasks.1.name", "not True; quote it"]),
        (schema_with(tasks=["click"]), ["tasks.0: must be a mapping"]),
        (schema_with(split={"valid": 0.1}), ["split: lacks 'by'", "add it"]),
        (lambda f: (f / YAML_PATH).write_text(""), ["must be a mapping of fields to values"]),
    ],
)  # fmt: skip
def test_a_mistake_in_own_data_is_named_in_one_sentence_and_leaves_no_prepared_folder(
    own, bench, mistake, words
):
    mistake(own)
    check_refusal(bench("data", "prepare", "data/schema.yaml", "--cache", "cache"), words)
    left = [path.name for path in own.glob("cache/*") if path.is_dir()]
    assert left == []


@pytest.mark.parametrize("value", ["", "NaN", "inf"])
def test_a_number_that_is_no_number_is_missing_and_the_table_prepares(own, bench, value):
    cell(0, "price", value)(own)
    assert bench("data", "prepare", "data/schema.yaml", "--cache", "cache").code == 0


def test_a_feature_column_without_any_value_prepares_as_missing(own, bench):
    cell(-1, "price", "")(own)
    cell(-1, "tags", "7|8")(own)
    outcome = bench("data", "describe", "data/schema.yaml", "--cache", "cache")
    assert outcome.code == 0, outcome.err


def test_a_table_of_numbers_alone_is_read_as_standard_deviations_from_the_training_mean(own, bench):
    from datasets.prepared import open_prepared
    from datasets.reader import ShardReader

    schema_with(features=[{"name": "price", "kind": "numeric", "group": "item"}])(own)
    assert bench("data", "prepare", "data/schema.yaml", "--cache", "cache").code == 0
    [folder] = (path for path in (own / "cache").iterdir() if path.is_dir())
    batches = list(ShardReader(open_prepared(folder), "test", 128, ["click"]).batches())
    prices = own_log()["price"].to_numpy()
    train, test = prices[:1400], prices[1600:]
    expected = (test - train.mean()) / train.std()
    assert [batch.sparse.keys() for batch in batches] == [[]] * 4
    read = np.concatenate([batch.dense[:, 0].numpy() for batch in batches])
    np.testing.assert_allclose(read, np.clip(expected, -10, 10), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["movielens"], ["no dataset 'movielens'", "movielens-100k", "path of your schema"]),
        (["movielens-100k"], ["--data-root DIR", "data fetch movielens-100k"]),
        (["movielens-100k", "--data-root", "data"], ["/data/movielens-100k/u.data: no such file", "fetch"]),
        (["shortvideo", "--option", "row=5"], ["no option 'row'", "choose from rows, users"]),
        (["shortvideo", "--option", "rows=many"], ["option 'rows'", "whole number", "'many'"]),
        (["shortvideo", "--option", "rows=-5"], ["option 'rows'", "at least 100, not -5"]),
        (["shortvideo", "--option", "rows"], ["--option rows: write it as --option key=value"]),
        (["shortvideo", "--option", "rows=[1"], ["--option rows=[1", "not valid YAML"]),
        (["data/schema.yaml", "--option", "rows=5"], ["data/schema.yaml", "no option 'rows'"]),
    ],
)
def test_a_wrong_dataset_or_option_is_refused_with_what_there_is(own, bench, arguments, words):
    check_refusal(bench("data", "prepare", *arguments, "--cache", "cache"), words)


# --------------------------------------------------------------------------------------------- profile models


@pytest.fixture
def quick_clock(monkeypatch):
    """``profile models`` in a few short rounds beside a small matrix product."""
    from functools import partial

    import suites.speeds.profile
    from harness.machine.peaks import Gemm
    from harness.speed.models import profile_model

    monkeypatch.setattr(
        suites.speeds.profile, "profile_model", partial(profile_model, rounds=2, round_seconds=1e-3)
    )
    monkeypatch.setattr("harness.speed.models.Gemm", lambda device, precision: Gemm(device, precision, 64))
    monkeypatch.setattr("harness.speed.models.measured_bandwidth", lambda device: 1e10)


def test_fp8_is_of_the_rows_that_have_it_and_the_others_are_told_why(own, bench, quick_clock, monkeypatch):
    monkeypatch.setattr("suites.speeds.profile.require_fp8", lambda device: None)  # the CPU can, if slowly
    command = ["profile", "models", "--scale", "tiny.yaml", "--cache", "cache", "--batch-size", "32"]
    row = "{architecture: rankmixer, config: {model_dim: 16, ffn_dim: 32}, tokens: 2}"
    command += ["--precision", "fp8", "--set", "budget=null"]
    mlp = "{architecture: dlrm_mlp, config: {hidden_dim: 8}}"
    outcome = bench(*command, "--set", f"architectures=[{mlp}, {row}]", "--set", "base=dlrm_mlp")
    assert outcome.code == 0, outcome.err
    assert "dlrm_mlp, fp8: not measured; it has none of RankMixer's per-token" in outcome.out
    assert "fp8 is of inference alone" in outcome.out
    records = json.loads((own / "out/profile-tiny/profile.json").read_text())["records"]
    assert {(r["architecture"], r["precision"], r["mode"]) for r in records} == {
        ("rankmixer", "fp8", "inference")
    }
    assert "error, max" in (own / "out/profile-tiny/profile.md").read_text()
    outcome = bench(*command, "--set", f"architectures=[{mlp}]", "--set", "base=dlrm_mlp")
    check_refusal(outcome, ["--precision fp8: dlrm_mlp has none of RankMixer's", "use bf16"])


def test_speeds_are_a_frame_of_what_the_file_holds(own, quick_clock):
    lines: list[str] = []
    settings = {"architectures": ["dlrm_mlp"], "datasets": ["data/schema.yaml"]}
    speeds = python_interface.profile(
        "tiny.yaml", set=settings, batch_sizes=[32], cache="cache", out="speeds", say=lines.append
    )
    written = json.loads((own / "speeds/profile.json").read_text())
    shown = json.loads(json.dumps(speeds.to_dict("records")))
    columns = dict.fromkeys(speeds.columns)
    assert shown == [columns | record for record in written["records"]]
    assert set(speeds["part"]) == {"dense", "whole"}
    assert written["command"].startswith("profile('tiny.yaml', ")
    assert lines[-2:] == ["report: speeds/profile.md", "page: speeds/report/index.html"]


def test_a_suites_rows_are_timed_and_the_page_says_so(own, bench, quick_clock):
    command = ["profile", "models", "--scale", "tiny.yaml", "--cache", "cache", "--json", "figures.json"]
    command += ["--set", "architectures=[dlrm_mlp, own_models:Shallow]"]
    outcome = bench(*command, "--batch-size", "64", "--batch-size", "32", "--precision", "bf16")
    assert outcome.code == 0, outcome.err
    assert "report: out/profile-tiny/profile.md\npage: out/profile-tiny/report/index.html" in outcome.out
    assert (own / "out/profile-tiny/report/index.html").is_file()
    page = own / "out/profile-tiny/profile.md"
    before = page.read_text()
    page.unlink()
    assert bench("report", "out/profile-tiny").code == 0
    assert page.read_text() == before
    records = json.loads((own / "out/profile-tiny/profile.json").read_text())["records"]
    found = {(r["architecture"], r["batch_size"], r["part"], r["mode"]) for r in records}
    assert len(found) == len(records) == 2 * 2 * 2 * 2
    assert {r["precision"] for r in records} == {"bf16"}
    named = {
        figure["name"].rpartition("_mfu")[0] for figure in json.loads((own / "figures.json").read_text())
    }
    steady = {
        f"{r['architecture']}{'@bf16-32' if r['batch_size'] == 32 else ''}.{r['mode']}"
        for r in records
        if r["part"] == "dense" and r["mfu"] is not None
    }
    assert steady <= named
    assert "own_models:Shallow" in (own / "out/profile-tiny/profile.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "fp64"], ["--precision fp64: choose from fp32, bf16, fp8"]),
        (
            ["--precision", "fp8", "--device", "cpu"],
            ["--precision fp8: the CPU has no fast products", "bf16"],
        ),
        (["--cuda-graphs", "--device", "cpu"], ["--cuda-graphs: the cpu has none", "leave the flag out"]),
        (["--batch-size", "5000"], ["--batch-size 5000", "1400 rows", "smaller batch"]),
        (["--set", "datasets=[data/schema.yaml, shortvideo]"], ["one dataset", "--dataset"]),
    ],
)
def test_what_cannot_be_timed_is_refused_with_the_mend(own, bench, arguments, words):
    outcome = bench("profile", "models", "--scale", "tiny.yaml", "--cache", "cache", *arguments)
    check_refusal(outcome, words)
    assert not (own / "out").exists()


def test_figures_are_written_into_a_folder_that_is_not_there_yet(own, bench, monkeypatch):
    made = {"name": "x", "value": 1.0, "unit": "rows/s", "median_of": 1, "spread": 0.0, "command": "c"}
    monkeypatch.setattr("harness.speed.profiles.data.profile_data", lambda: [made])
    assert bench("profile", "data", "--json", "new/folder/figures.json").code == 0
    assert json.loads((own / "new/folder/figures.json").read_text()) == [made]


# ------------------------------------------------------------------------------- mistakes in suites and flags


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quik"], ["no suite 'quik'", "quick, rankelastor-avazu", "path ending in .yaml"]),
        (["run", "absent.yaml"], ["absent.yaml: no such file in "]),
        (["run", "tiny.yaml", "--set", "seeds"], ["--set seeds: write it as --set key=value"]),
        (["run", "tiny.yaml", "--set", "sedes=3"], ["--set sedes=3: sedes: is not a known field"]),
        (["run", "tiny.yaml", "--set", "training.batch_size=0"], ["batch_size", "greater", "not 0"]),
        (["run", "tiny.yaml", "--set", "tokens.x=3"], ["--set tokens.x=3: 'tokens' has no fields inside"]),
        (["run", "tiny.yaml", "--set", "budget.flops_per_sample=.inf"], ["flops_per_sample", "finite"]),
        (["run", "tiny.yaml", "--set", "architectures=[rankmixr]", "--set", "base=rankmixr"],
         ["no architecture 'rankmixr'", "rankmixer", "package.module:Class"]),
        (["run", "tiny.yaml", "--set", "architectures=[own_model:Base]", "--set", "base=own_model:Base"],
         ["'own_model:Base'", "no module 'own_model'", "PYTHONPATH"]),
        (["run", "tiny.yaml", "--set", "architectures=[own_models:Bass]", "--set", "base=own_models:Bass"],
         ["'own_models:Bass'", "'own_models' has no 'Bass'"]),
        (["run", "tiny.yaml", "--dataset", "mine"], ["no dataset 'mine'", "shortvideo"]),
        (["cost", "--scale", "tiny.yaml", "--set", "budget.flops_per_sample=100"],
         ["dlrm_mlp cannot meet flops_per_sample = 100 within 3%", "nearest it reaches is 308", "choose"]),
        (["cost", "--scale", "tiny.yaml", "--set", "architectures=[rankmixer]", "--set", "base=null",
          "--set", "budget.flops_per_sample=1e20"], ["rankmixer", "does not raise", "lower the budget"]),
        (["run", "tiny.yaml", "--set", "training.recipe=[1]"], ["training.recipe", "'default' or 'paper'"]),
        (["run", "tiny.yaml", "--set", "token_dim=1"], ["3 tokens of width 1", "24 wide", "at least 8"]),
        (["run", "tiny.yaml", "--set", "tasks=[clik]"], ["no task 'clik'", "click, skip"]),
        (["run", "tiny.yaml", "--set", "tasks=[skip, skip]"], ["'skip' is named twice", "name each once"]),
        (["report", "absent"], ["absent/runs: holds no finished run", "--out"]),
        (["export", "absent", "--format", "torch-export"], ["absent: no such folder", "name a run's folder"]),
    ],
)  # fmt: skip
def test_a_wrong_suite_or_setting_is_refused_before_anything_is_written(own, bench, arguments, words):
    command = [*arguments, *(["--cache", "cache"] if arguments[0] != "report" else [])]
    check_refusal(bench(*command), words)
    assert not (own / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "tiny.yaml", "--seeds", "0"], ["--seeds", "greater than or equal to 1"]),
        (["run", "tiny.yaml", "--seeds", "1001"], ["--seeds", "less than or equal to 1000"]),
        (["run", "tiny.yaml", "--seeds", str(2**63)], ["--seeds", "less than or equal to 1000"]),
        (["run", "tiny.yaml", "--out", "tiny.yaml"], ["--out", "is a file"]),
        (["run", "tiny.yaml", "--sed", "3"], ["No such option: --sed"]),
        (["run"], ["Missing argument"]),
        (["data", "prepare", "shortvideo", "--cache", "tiny.yaml"], ["--cache", "is a file"]),
        (["report", "tiny.yaml"], ["is a file"]),
        (["run", "tiny.yaml", "--keep", "all"], ["--keep", "'auto', 'weights', 'none'"]),
        (["export", "data", "--format", "trt"], ["--format", "'torch-export', 'aoti', 'onnx'"]),
        (["profile", "data", "--json", "data"], ["--json", "is a directory"]),
    ],
)
def test_a_wrong_flag_is_refused_by_name(own, bench, arguments, words):
    outcome = bench(*arguments)
    assert outcome.code == 2
    assert [word for word in words if word not in outcome.err.splitlines()[-1]] == [], outcome.err


def test_a_stack_trace_comes_with_debug_alone(own, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "argv", ["run_bench.py", "run", "quik", "--debug"])
    with pytest.raises(SystemExit) as end:
        run_bench.main()
    assert end.value.code == 1
    trace = capsys.readouterr().err
    assert "Traceback" in trace
    assert "no suite 'quik'" in trace


# --------------------------------------------------------------------------- damaged folders and full disks


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda shard: shard.write_bytes(shard.read_bytes()[:300]),
            ["has 300 bytes instead of", "truncated"],
        ),
        (lambda shard: shard.write_bytes(bytes(shard.stat().st_size)), ["was changed", "sha256"]),
        (lambda shard: shard.unlink(), ["is missing"]),
        (lambda shard: (shard.parent / "manifest.json").unlink(), ["manifest.json", "not written whole"]),
    ],
)
def test_a_damaged_cache_is_named_and_rebuild_mends_it(ran, bench, damage, words):
    [shard] = (ran / "cache").glob("mine-*/train-00001.parquet")
    whole = shard.read_bytes()
    damage(shard)
    prepare = ["data", "prepare", "data/schema.yaml", "--cache", "cache"]
    check_refusal(bench(*prepare), [shard.parent.name, "--rebuild", *words])
    assert bench(*prepare, "--rebuild").code == 0
    assert shard.read_bytes() == whole


@pytest.mark.parametrize("content", ["", '{"kind":', "[]", '{"a": 1}'])
def test_a_damaged_record_is_named_with_the_mend(ran, bench, content):
    [record] = (ran / "out/tiny/runs").glob("mine-Shallow-s1-*/record.json")
    record.write_text(content)
    check_refusal(bench("report", "out/tiny"), [f"{record.parent.name}/record.json", "run the suite again"])


def fill_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_while_preparing_is_said_in_one_sentence_with_code_1(own, bench, monkeypatch):
    import datasets.prepare.encode

    monkeypatch.setattr(datasets.prepare.encode, "write_shard", fill_disk)
    outcome = bench("data", "prepare", "data/schema.yaml", "--cache", "cache")
    check_refusal(outcome, ["cache/mine-", "no space left on the disk", "another cache folder"], code=1)
    assert [path for path in own.glob("cache/*") if path.is_dir()] == []


def test_a_full_disk_under_the_records_is_said_in_one_sentence_with_code_1(ran, bench, monkeypatch):
    import suites.run

    monkeypatch.setattr(suites.run, "write_atomically", fill_disk)
    before = record_times(ran / "out/tiny")
    outcome = bench("run", "tiny.yaml", "--cache", "cache")
    check_refusal(outcome, ["no space left on the disk", "run the same command again"], code=1)
    assert record_times(ran / "out/tiny") == before


def test_a_folder_that_may_not_be_written_is_named(own, bench, monkeypatch):
    import suites.suite

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "out/tiny")

    monkeypatch.setattr(suites.suite, "read_yaml", refuse)
    check_refusal(bench("run", "tiny.yaml"), ["Permission denied (out/tiny)", "mend that"])


# -------------------------------------------------------------------------- runs that fail, and interruptions


def test_failed_and_broken_runs_end_with_code_1_and_a_report_of_the_others(ran, bench):
    architectures = "architectures=[dlrm_mlp, own_models:Diverging, own_models:Raising]"
    outcome = bench(
        "run", "tiny.yaml", "--cache", "cache", "--set", architectures, "--seeds", "1", "--no-speed"
    )
    said = ["error: 1 of 4 runs broke", "mine own_models:Raising (RuntimeError: my own fault)"]
    check_refusal(outcome, said, code=1)
    records = records_of(ran / "out/tiny")
    assert records["own_models:Diverging", 0]["status"] == "failed"
    assert records["own_models:Diverging", 0]["failure"]["step"] == 1
    assert ("own_models:Raising", 0) not in records
    assert "report: out/tiny/report.md" in outcome.out
    assert "own_models:Diverging" in (ran / "out/tiny/report.md").read_text()


GOES_ON = "interrupted; what is finished is kept, and the same command goes on"
BEGINS_ANEW = "interrupted; nothing of it is kept, and the same command begins anew"


def test_ctrl_c_offers_the_report_keeps_finished_runs_and_the_same_command_goes_on(ran, bench, unreported):
    shutil.rmtree(ran / "out")
    long = ["--set", "training.epochs=10", "--checkpoint-seconds", "0", "--seeds", "1"]
    process = forked_command(ran, "run", "tiny.yaml", "--cache", "cache", *long)
    deadline = time.monotonic() + 300
    while not list(ran.glob("out/tiny/runs/*-Base-*.partial/checkpoint.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    interrupted = time.monotonic()
    outcome = ended(process)
    assert time.monotonic() - interrupted < 20  # two seconds, where no other tests keep the machine
    assert outcome.code == 130, outcome.err
    offered = f"{GOES_ON}; for the report of what is finished: python run_bench.py report out/tiny"
    assert outcome.err.splitlines()[-1] == offered
    assert "Traceback" not in outcome.err
    assert set(records_of(ran / "out/tiny")) == {("constant", 0), ("dlrm_mlp", 0)}
    assert not list(ran.glob("out/tiny/*report*"))  # nor anything else that is drawn
    assert not list(ran.glob("out/tiny/comparisons.csv"))
    kept = record_times(ran / "out/tiny")
    assert bench("run", "tiny.yaml", "--cache", "cache", *long).code == 0
    after = record_times(ran / "out/tiny")
    assert kept.items() <= after.items()
    assert len(after) == 4
    assert not list(ran.glob("out/tiny/runs/*.partial"))


def test_ctrl_c_before_the_first_record_ends_with_130_and_no_other_complaint(own, bench, monkeypatch):
    import suites.carrying_out

    def interrupt(*_: object) -> dict:
        raise KeyboardInterrupt

    monkeypatch.setattr(suites.carrying_out, "_carry_out", interrupt)
    outcome = bench("run", "tiny.yaml", "--cache", "cache")
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1] == GOES_ON
    assert "error" not in outcome.err


@pytest.mark.parametrize(
    ("command", "module", "function", "words"),
    [
        (
            ["prepare", "data/schema.yaml", "--cache", "cache"],
            "datasets.prepare.pipeline",
            "stage",
            BEGINS_ANEW,
        ),
        (
            ["describe", "data/schema.yaml", "--cache", "cache"],
            "datasets.prepare.pipeline",
            "stage",
            BEGINS_ANEW,
        ),
        (["fetch", "movielens-100k", "--data-root", "raw"], "datasets.fetch.official", "download", GOES_ON),
    ],
)
def test_ctrl_c_within_a_command_on_data_says_what_it_keeps(
    own, bench, monkeypatch, command, module, function, words
):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{module}.{function}", interrupt)
    outcome = bench("data", *command)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (130, words)
    if words == BEGINS_ANEW:
        assert [path.suffix for path in (own / "cache").iterdir()] == [".lock"]


def test_ctrl_c_while_the_report_is_drawn_offers_it_with_its_folder_quoted(ran, bench, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(python_interface, "report", interrupt)
    (ran / "out/tiny").rename(ran / "out/my runs")
    command = ["run", "tiny.yaml", "--cache", "cache", "--no-speed", "--out", "out/my runs"]
    outcome = bench(*command)
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1].endswith(": python run_bench.py report 'out/my runs'")


def test_ctrl_c_within_the_imports_leaves_no_trace(tmp_path):
    interrupted = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"
    (tmp_path / "typer.py").write_text(interrupted, encoding="utf-8")
    outcome = ended(started(tmp_path, "run", "quick", PYTHONPATH=str(tmp_path)))
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "interrupted\n")


# ------------------------------------------------------------------------------- names from files, any locale


def test_a_name_from_a_file_is_shown_and_does_nothing_to_the_terminal(own, bench):
    text = 'architectures=[{architecture: dlrm_mlp, config: {"\\e[2J\\e[31m[/x]": 1}}]'
    check_refusal(
        bench("cost", "--scale", "tiny.yaml", "--set", text, "--cache", "cache"), [r"\x1b[2J\x1b[31m[/x]"]
    )
    schema = (own / "data/schema.yaml").read_text(encoding="utf-8").replace("column: who", "column: nobody")
    (own / "data/schema.yaml").write_text(schema.replace("name: who", "name: nobody"), encoding="utf-8")
    log = (own / "data/log.csv").read_text(encoding="utf-8").replace("who,", "who\x1b]0;owned\x07,", 1)
    (own / "data/log.csv").write_text(log, encoding="utf-8")
    outcome = bench("data", "prepare", "data/schema.yaml", "--cache", "cache")
    check_refusal(outcome, ["nobody", r"who\x1b]0;owned\x07"])
    assert "\x1b" not in outcome.err


def test_a_table_is_prepared_and_described_in_a_locale_that_lacks_its_letters(own):
    words = {"who": "Größe", "item": "用户", "price": "prix (€)"}
    features = [
        {**feature, "column": words.get(feature["name"], feature["name"])} for feature in SCHEMA["features"]
    ]
    schema = {**SCHEMA, "features": features, "user_id": "Größe", "description": "Žižek 😀"}
    text = yaml.safe_dump(schema, allow_unicode=True)
    (own / "data/schema.yaml").write_text(text, encoding="utf-8")
    log = own_log().with_columns(pl.format("东京{}", "item").alias("item")).rename(words)
    log.write_csv(own / "data/log.csv")
    ascii_only = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = ["data", "describe", "data/schema.yaml", "--cache", "cache"]
    outcome = ended(started(own, *command, **ascii_only))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(r"mine: \u017di\u017eek \U0001f600")
    assert outcome.out.isascii()
    assert "\\u2500" not in outcome.out  # lines are drawn of what there is
    [vocabulary] = own.glob("cache/mine-*/vocabulary/item.parquet")
    assert {"东京0", "东京29"} <= set(pl.read_parquet(vocabulary).to_series(0))
    in_utf8 = ended(started(own, *command, PYTHONUTF8="1"))
    assert in_utf8.out.startswith("mine: Žižek 😀")


# --------------------------------------------------------------------------------------- two at the same time


def test_two_processes_on_one_folder_share_the_runs_and_give_what_one_gives(finished, tmp_path):
    folder = own_folder(tmp_path)
    (folder / "meeting").mkdir()
    environment = {"WITNESS": str(folder / "witness"), "MEETING": str(folder / "meeting")}
    command = ["run", "tiny.yaml", "--cache", "cache", "--no-speed"]  # of a timed model there are two
    pair = [forked_command(folder, *command, **environment) for _ in range(2)]
    outcomes = [ended(process) for process in pair]
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.err for outcome in outcomes]

    alone, shared = records_of(finished / "out/tiny"), records_of(folder / "out/tiny")
    assert set(shared) == RUNS
    for run, record in shared.items():
        assert record["metrics"] == alone[run]["metrics"], run
        assert record["spec_hash"] == alone[run]["spec_hash"], run
        assert record["curve"] == alone[run]["curve"], run

    trained = [line.split() for line in (folder / "witness").read_text().splitlines()]
    assert sorted((name, seed) for _, name, seed in trained) == [
        ("Base", "0"), ("Base", "1"), ("Shallow", "0"), ("Shallow", "1"),
    ]  # fmt: skip
    assert len({process for process, _, _ in trained}) == 2
    assert not list(folder.glob("out/tiny/runs/*.partial"))
    for outcome in outcomes:
        assert all(name in outcome.err for name, _ in RUNS)
