"""Several runs at once: what they find, what is said of their speeds, and every way in which they can end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

import suites.carrying_out
from files.errors import InputError
from harness.records.store import read_runs
from harness.training.progress import Silent
from harness.training.ranks import World
from suites.options import check_jobs
from tests.forked import forked_command
from tests.test_cli import (  # noqa: F401 - fixtures
    GOES_ON,
    RUNS,
    Outcome,
    bench,
    check_refusal,
    ended,
    own,
    own_folder,
    record_times,
    records_of,
    unreported,
)

UNREPORTED = "import bench; bench.report = lambda *_, **__: None"  # as the fixture, in a forked command
MEASURED = {"started_at", "finished_at", "training", "checksum"}


LONGER = ["--set", "training.batch_size=32"]  # so many steps that their pace is measured


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder after the same runs one after another, on one thread."""
    folder = own_folder(tmp_path_factory.mktemp("finished"))
    command = ["run", "tiny.yaml", "--cache", "cache", "--no-speed", *LONGER]
    outcome = ended(forked_command(folder, *command))
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="module")
def at_once(tmp_path_factory) -> tuple[Path, Outcome]:
    """The folder after ``run tiny.yaml --jobs 2``, each run on one thread, and what was said."""
    folder = own_folder(tmp_path_factory.mktemp("at_once"))
    command = ["run", "tiny.yaml", "--cache", "cache", "--jobs", "2", *LONGER]
    outcome = ended(forked_command(folder, *command, before="import torch; torch.set_num_threads(2)"))
    assert outcome.code == 0, outcome.err
    return folder, outcome


def found(record: dict) -> dict:
    """All that may not depend on what else ran: also the predictions' sha256, the threads and versions."""
    return {name: value for name, value in record.items() if name not in MEASURED}


def test_runs_at_once_find_what_runs_one_after_another_find_to_the_last_bit(at_once, finished):
    folder, _ = at_once
    together, alone = records_of(folder / "out/tiny"), records_of(finished / "out/tiny")
    assert set(together) == RUNS
    for run, record in together.items():
        assert found(record) == found(alone[run]), run
        assert record["environment"]["threads"] == 1
    assert all("predictions.parquet" in record["files"] for record in together.values())
    weights = [len(list(out.glob("out/tiny/runs/*/weights.pt"))) for out in (folder, finished)]
    assert weights == [3, 3]


def test_the_record_says_that_runs_shared_the_machine_and_that_of_a_run_alone_says_nothing(at_once, finished):
    folder, outcome = at_once
    for record in records_of(folder / "out/tiny").values():
        assert (record["training"] or {}).get("runs_at_once") == (2 if record["kind"] == "model" else None)
    for record in records_of(finished / "out/tiny").values():
        assert "runs_at_once" not in (record["training"] or {})
    lines = [line for line in outcome.err.splitlines() if "samples/s" in line]
    assert len(lines) == 6
    assert all(line.endswith("samples/s (one of 2 at once)") for line in lines)


def test_tables_and_pages_mark_the_speeds_of_runs_that_shared_the_machine(at_once, finished):
    out, alone = at_once[0] / "out/tiny", finished / "out/tiny"
    means = "≈: up to 2 runs shared the machine"
    for name in ("cost-mine.md", "main-mine.md"):
        assert means in (out / "tables" / name).read_text()
        assert means not in (alone / "tables" / name).read_text()
    rows = [line for line in (out / "tables/cost-mine.md").read_text().splitlines() if line[:1] == "|"]
    header, cells = rows[0].split("|"), rows[2].split("|")
    marked = {title.strip() for title, cell in zip(header, cells, strict=True) if "≈" in cell}
    speeds = {"train samples/s", "eval samples/s", "train MFU"} & {title.strip() for title in header}
    assert marked == speeds >= {"train samples/s", "train MFU"}
    pages = list((out / "report/runs").glob("*dlrm_mlp*.html"))
    assert len(pages) == 2
    for page in pages:
        assert page.read_text().count("≈") == len(speeds) + 1  # what the mark means is said beside them
    for folder, expected in ((out, {2.0}), (alone, set())):
        results = pd.read_csv(folder / "results.csv")
        assert set(results["runs_at_once"].dropna()) == expected
        assert set(pd.read_csv(folder / "tables/cost-mine.csv")["runs_at_once"].dropna()) == expected


def test_results_are_in_the_suite_s_order_whichever_run_began_first(at_once):
    out = at_once[0] / "out/tiny"
    asked_for = json.loads((out / "suite.json").read_text())["spec_hashes"]
    assert [record.spec_hash for record in read_runs(out).records] == asked_for
    results = pd.read_csv(out / "results.csv")
    assert list(dict.fromkeys(results["spec_hash"])) == asked_for


def test_speeds_are_measured_alone_and_on_all_threads(at_once):
    serving = json.loads((at_once[0] / "out/tiny/serving.json").read_text())
    [measured] = serving["passes"]
    assert (measured["threads"], measured["environment"]["threads"]) == (2, 2)
    assert len(measured["models"]) == 3 * 2 * 2


def test_a_second_command_trains_nothing(at_once, bench, unreported, monkeypatch):  # noqa: F811
    monkeypatch.chdir(at_once[0])
    before = record_times(Path("out/tiny"))
    assert bench("run", "tiny.yaml", "--cache", "cache", "--jobs", "2", *LONGER).code == 0
    assert record_times(Path("out/tiny")) == before


# --------------------------------------------------------------------------------------- kills and faults

DIES = """

class Dies(Base):
    def __init__(self, num_tokens, token_dim, config):
        super().__init__(num_tokens, token_dim, config)
        self.calls = 0

    def forward(self, tokens):
        self.calls += not tokens.is_meta
        if self.calls == 9:
            os.kill(os.getpid(), 9)
        return super().forward(tokens)
"""


def test_a_run_that_is_killed_is_reported_and_those_beside_it_end(own, bench):  # noqa: F811
    with (own / "own_models.py").open("a") as file:
        file.write(DIES)
    rows = "architectures=[dlrm_mlp, own_models:Dies, own_models:Diverging, own_models:Shallow]"
    command = ["run", "tiny.yaml", "--cache", "cache", "--set", rows, "--no-speed", "--jobs", "3"]
    outcome = bench(*command)
    killed = [f"mine own_models:Dies seed {seed} (its process was killed (SIGKILL)" for seed in (0, 1)]
    check_refusal(outcome, ["2 of 9 runs broke", *killed], code=1)
    records = records_of(own / "out/tiny")
    assert {run for run, record in records.items() if record["status"] == "finished"} == {
        ("constant", 0),
        *((name, seed) for name in ("dlrm_mlp", "own_models:Shallow") for seed in (0, 1)),
    }
    assert {run for run, record in records.items() if record["status"] == "failed"} == {
        ("own_models:Diverging", 0),
        ("own_models:Diverging", 1),
    }
    assert "report: out/tiny/report.md" in outcome.out


def test_a_full_disk_ends_all_runs_and_is_said_once(own, bench, unreported, monkeypatch):  # noqa: F811
    def fill(job, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(suites.carrying_out, "_carry_out", fill)
    outcome = bench("run", "tiny.yaml", "--cache", "cache", "--jobs", "2")
    check_refusal(outcome, ["no space left on the disk"], code=1)


# As Polars does when it is imported after the command has set its handler: what waits is not broken off.
RESTARTS = """
import signal
_set = signal.signal
def _restarting(number, handler):
    before = _set(number, handler)
    if number == signal.SIGINT:
        signal.siginterrupt(number, False)
    return before
signal.signal = _restarting
"""


def test_ctrl_c_ends_all_runs_leaves_no_process_and_the_same_command_goes_on(own, bench, unreported):  # noqa: F811
    long = ["--set", "training.epochs=2000", "--checkpoint-seconds", "0", "--seeds", "1", "--jobs", "2"]
    rows = ["--set", "architectures=[dlrm_mlp, own_models:Base]", "--set", "references=false"]
    command = ["run", "tiny.yaml", "--cache", "cache", "--no-speed", *rows, *long]
    process = forked_command(own, *command, before=RESTARTS)
    deadline = time.monotonic() + 300
    while len(list(own.glob("out/tiny/runs/*.partial/checkpoint.json"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 3  # the server and two workers
    process.send_signal(signal.SIGINT)
    interrupted = time.monotonic()
    outcome = ended(process)
    assert time.monotonic() - interrupted < 20  # two seconds, where no other tests keep the machine
    psutil.wait_procs(children, timeout=20)
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in children)
    assert outcome.code == 130, outcome.err
    assert outcome.err.splitlines()[-1] == GOES_ON
    assert "Traceback" not in outcome.err
    assert "broke" not in outcome.err
    assert records_of(own / "out/tiny") == {}
    again = [word if word != "training.epochs=2000" else "training.epochs=2" for word in command]
    assert bench(*again).code == 0


def test_two_commands_with_jobs_share_a_folder(finished, tmp_path):
    folder = own_folder(tmp_path)
    (folder / "meeting").mkdir()
    environment = {"WITNESS": str(folder / "witness"), "MEETING": str(folder / "meeting")}
    command = ["run", "tiny.yaml", "--cache", "cache", "--no-speed", "--jobs", "2", *LONGER]
    pair = [forked_command(folder, *command, before=UNREPORTED, **environment) for _ in range(2)]
    outcomes = [ended(process) for process in pair]
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.err for outcome in outcomes]
    alone, shared = records_of(finished / "out/tiny"), records_of(folder / "out/tiny")
    assert {run: found(record)["metrics"] for run, record in shared.items()} == {
        run: found(record)["metrics"] for run, record in alone.items()
    }
    trained = [line.split()[1:] for line in (folder / "witness").read_text().splitlines()]
    assert sorted(trained) == [["Base", "0"], ["Base", "1"], ["Shallow", "0"], ["Shallow", "1"]]
    for outcome in outcomes:
        assert all(name in outcome.err for name, _ in RUNS)


def test_a_run_that_goes_on_alone_stays_marked(own, bench, unreported):  # noqa: F811
    rows = ["--set", "architectures=[dlrm_mlp]", "--set", "references=false", "--seeds", "1"]
    command = ["run", "tiny.yaml", "--cache", "cache", "--no-speed", "--checkpoint-seconds", "0", *rows]
    command += ["--set", "training.epochs=8"]
    process = forked_command(own, *command, "--jobs", "2")
    while not list(own.glob("out/tiny/runs/*.partial/checkpoint.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert bench(*command).code == 0
    [record] = records_of(own / "out/tiny").values()
    assert record["training"]["runs_at_once"] == 2


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("jobs", "world", "words"),
    [
        (2, World(0, 2, torch.device("cpu")), "--jobs 2: torchrun's 2 processes .*; leave --jobs out"),
        (2, World(0, 1, torch.device("cuda")), "--jobs 2: .* CUDA_VISIBLE_DEVICES .* torchrun"),
        (0, World(0, 1, torch.device("cpu")), "jobs is 0; give .* at least 1"),
    ],
)
def test_what_runs_at_once_cannot_share_is_refused_with_the_mend(jobs, world, words):
    with pytest.raises(InputError, match=words):
        check_jobs(jobs, world, Silent())


@pytest.mark.parametrize(("more", "notes"), [(0, 0), (1, 1)])
def test_more_runs_at_once_than_cores_are_told(more, notes):
    told: list[str] = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    cores = len(os.sched_getaffinity(0))
    check_jobs(max(2, cores) + more, World(0, 1, torch.device("cpu")), Listening())
    assert len(told) == (notes if cores > 1 else 1)
    assert all(f"{cores} cores are no faster" in text for text in told)


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1025"])
def test_jobs_that_are_no_number_of_runs_are_refused(own, bench, jobs):  # noqa: F811
    outcome = bench("run", "tiny.yaml", "--jobs", jobs)
    assert outcome.code == 2
    assert "--jobs" in outcome.err.splitlines()[-1]
    assert not (own / "out").exists()
