"""Runs as lines of a file: each carried out by itself gives the record that `run` gives, or says why not."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from datasets.prepare.pipeline import prepare
from datasets.source import Source
from files.locks import locked
from harness.records.spec import RunSpec
from harness.workers.isolation import in_this_process
from harness.workers.worker import Limits
from suites.plan_file import read_planned
from tests.forked import forked_command
from tests.harness.conftest import small_table
from tests.harness.schemas import small_schema
from tests.suites.test_jobs import DIES, RESTARTS, found
from tests.test_cli import (  # noqa: F401 - fixtures
    GOES_ON,
    RUNS,
    bench,
    check_refusal,
    ended,
    own,
    record_times,
    records_of,
    unreported,
)

ONE_ROW = ["--set", "architectures=[dlrm_mlp]", "--set", "references=false", "--seeds", "1"]
RUN = ["run", "tiny.yaml", "--cache", "cache", "--no-speed"]
PLAN = ["run", "tiny.yaml", "--cache", "cache", "--plan", "jobs.jsonl"]


def lines(path: str = "jobs.jsonl") -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture
def planning_without_memory(monkeypatch) -> None:
    """A command that plans finds a thousand bytes free, and makes its calls in this process."""

    def made_here(function: Callable, *arguments: Any, **_: object) -> Any:
        return in_this_process(function, *arguments, watcher=None, limits=Limits())

    monkeypatch.setattr("suites.plan.in_worker", made_here)
    monkeypatch.setattr("harness.training.memory.free_memory", lambda: 1000)


def test_every_run_of_a_plan_has_the_record_that_run_gives_to_the_last_bit(own, bench):  # noqa: F811
    outcome = bench(*PLAN, "--keep", "none", "--no-speed", "--seeds", "1")
    assert (outcome.code, outcome.out) == (0, "plan: jobs.jsonl (runs: 4 to carry out, numbered from 0)\n")
    assert records_of(own / "out/tiny") == {}
    planned = lines()
    runs = {(name, seed) for name, seed in RUNS if seed == 0}
    assert {(line["spec"]["architecture"], line["spec"]["seed"]) for line in planned} == runs
    for number in reversed(range(4)):
        outcome = bench("run-one", "jobs.jsonl", str(number))
        assert outcome.code == 0, outcome.err
        [record] = own.glob(f"out/tiny/runs/*-{planned[number]['spec_hash']}/record.json")
        assert outcome.out == f"record: {record}\n"
        assert len(records_of(own / "out/tiny")) == 4 - number
    assert bench(*RUN, "--seeds", "1", "--out", "out/whole").code == 0
    there, here = records_of(own / "out/whole"), records_of(own / "out/tiny")
    assert {run: found(record) for run, record in here.items()} == {
        run: found(record) for run, record in there.items()
    }
    assert bench("report", "out/tiny").code == 0
    results, expected = (pd.read_csv(own / out / "results.csv") for out in ("out/tiny", "out/whole"))
    same = ["architecture", "seed", "task", "auc", "uauc", "spec_hash"]
    here, there = (
        frame.sort_values(["spec_hash", "task"], ignore_index=True) for frame in (results, expected)
    )
    pd.testing.assert_frame_equal(here[same], there[same])


def test_a_plan_holds_what_has_no_record_yet(own, bench, unreported):  # noqa: F811
    assert bench(*RUN).code == 0
    outcome = bench(*PLAN)
    assert (outcome.code, lines()) == (0, [])
    assert outcome.out == "plan: jobs.jsonl (runs: none to carry out: each has its record)\n"
    check_refusal(bench("run-one", "jobs.jsonl", "0"), ["jobs.jsonl: there is no run 0: it has no runs"])
    [lost] = own.glob("out/tiny/runs/mine-dlrm_mlp-s1-*")
    shutil.rmtree(lost)
    before = record_times(own / "out/tiny")
    assert bench(*PLAN).code == 0
    [line] = lines()
    assert (line["spec"]["architecture"], line["spec"]["seed"]) == ("dlrm_mlp", 1)
    assert bench("run-one", "jobs.jsonl", "0").code == 0
    after = record_times(own / "out/tiny")
    assert before.items() <= after.items()
    assert len(after) == 7
    again = bench("run-one", "jobs.jsonl", "0")
    assert (again.code, again.out) == (0, f"record: {lost}/record.json\n")
    assert "has its record, and nothing is left to do" in again.err
    assert record_times(own / "out/tiny") == after


def test_a_run_may_start_in_another_folder_and_on_a_copy_of_the_data(own, bench, tmp_path, monkeypatch):  # noqa: F811
    assert bench(*PLAN, *ONE_ROW).code == 0
    (own / "cache").rename(own / "copied")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    check_refusal(bench("run-one", str(own / "jobs.jsonl"), "0"), ["cache/mine-", "no such prepared dataset"])
    assert bench("run-one", str(own / "jobs.jsonl"), "0", "--cache", str(own / "copied")).code == 0
    assert set(records_of(own / "out/tiny")) == {("dlrm_mlp", 0)}
    assert list(elsewhere.iterdir()) == []


def test_a_plan_has_runs_that_this_machine_lacks_memory_for_and_a_run_here_is_refused(
    own,  # noqa: F811
    bench,  # noqa: F811
    planning_without_memory,
):
    assert bench(*PLAN, *ONE_ROW).code == 0
    assert len(lines()) == 1
    check_refusal(bench(*RUN, *ONE_ROW), ["1 of 1 runs broke", "training takes", "are free"], code=1)


def test_a_run_in_a_world_has_that_world_s_data_and_record(own, bench):  # noqa: F811
    small = "datasets=[{name: shortvideo, options: {rows: 1200, users: 100, items: 100}, worlds: 2}]"
    outcome = bench(*PLAN, *ONE_ROW, "--set", small)
    assert outcome.code == 0, outcome.err
    for number in (0, 1):
        assert bench("run-one", "jobs.jsonl", str(number)).code == 0
    planned = [line["spec"] for line in lines()]
    records = {record["world"]: record for record in map(read, own.glob("out/tiny/runs/*/record.json"))}
    assert set(records) == {0, 1}
    for spec in planned:
        assert records[spec["world"]]["spec"] == RunSpec.model_validate(spec).as_json()
        assert records[spec["world"]]["dataset_info"]["fingerprint"] == spec["dataset_fingerprint"]


def read(path: Path) -> dict:
    return json.loads(path.read_text())


# ---------------------------------------------------------------------------------------- ends of a run


def test_a_run_that_diverges_is_a_record_and_one_that_breaks_is_an_error(own, bench):  # noqa: F811
    with (own / "own_models.py").open("a") as file:
        file.write(DIES)
    rows = "architectures=[own_models:Diverging, own_models:Dies, own_models:Raising]"
    few = ["--set", rows, "--set", "references=false", "--set", "base=null", "--seeds", "1"]
    check_refusal(bench(*PLAN, *few), ["1 of 3 runs broke", "own_models:Raising"], code=1)
    assert [line["spec"]["architecture"] for line in lines()] == ["own_models:Diverging", "own_models:Dies"]
    outcome = bench("run-one", "jobs.jsonl", "0")
    assert outcome.code == 0
    assert "FAILED" in outcome.err
    [record] = records_of(own / "out/tiny").values()
    assert (record["status"], record["failure"]["step"]) == ("failed", 1)
    words = [
        "the run broke and left no record: mine own_models:Dies seed 0 (its process was killed (SIGKILL)"
    ]
    check_refusal(bench("run-one", "jobs.jsonl", "1"), words, code=1)
    assert len(records_of(own / "out/tiny")) == 1


def test_limits_are_those_of_the_command_that_planned(own, bench):  # noqa: F811
    long = ["--set", "training.epochs=1000", "--checkpoint-seconds", "0", "--run-minutes", "0.06"]
    assert bench(*PLAN, *ONE_ROW, *long).code == 0
    words = ["longer than the 0.06 minutes of --run-minutes"]
    check_refusal(bench("run-one", "jobs.jsonl", "0"), words, code=1)
    assert list(own.glob("out/tiny/runs/*.partial/checkpoint.json"))


def test_a_second_process_waits_for_a_run_that_is_held_and_goes_on_where_its_holder_was_killed(own, bench):  # noqa: F811
    long = ["--set", "training.epochs=8", "--checkpoint-seconds", "0"]
    assert bench(*PLAN, *ONE_ROW, *long).code == 0
    first = forked_command(own, "run-one", "jobs.jsonl", "0")
    until(first, lambda: list(own.glob("out/tiny/runs/*.partial/checkpoint.json")))
    [server] = psutil.Process(first.pid).children()
    [worker] = server.children()
    worker.suspend()  # so that the run is not over before the second process meets it
    second = forked_command(own, "run-one", "jobs.jsonl", "0")
    until(second, lambda: "another process holds it; waiting" in Path(second._said[1].name).read_text())
    assert second.poll() is None
    first.kill()
    outcome = ended(second)
    assert outcome.code == 0, outcome.err
    assert set(records_of(own / "out/tiny")) == {("dlrm_mlp", 0)}


def test_ctrl_c_keeps_the_checkpoint(own, bench):  # noqa: F811
    long = ["--set", "training.epochs=1000", "--checkpoint-seconds", "0"]
    assert bench(*PLAN, *ONE_ROW, *long).code == 0
    process = forked_command(own, "run-one", "jobs.jsonl", "0")
    until(process, lambda: list(own.glob("out/tiny/runs/*.partial/checkpoint.json")))
    process.send_signal(signal.SIGINT)
    outcome = ended(process)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (130, GOES_ON)
    assert list(own.glob("out/tiny/runs/*.partial/checkpoint.json"))


def test_ctrl_c_ends_the_wait_for_a_run_that_is_held(own, bench):  # noqa: F811
    assert bench(*PLAN, *ONE_ROW).code == 0
    [line] = lines()
    name = RunSpec.model_validate(line["spec"]).folder_name
    with locked(own / f"out/tiny/runs/.{name}.lock", wait=False) as held:
        assert held is not None
        process = forked_command(own, "run-one", "jobs.jsonl", "0", before=RESTARTS)
        until(process, lambda: "another process holds it; waiting" in Path(process._said[1].name).read_text())
        process.send_signal(signal.SIGINT)
        outcome = ended(process)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (130, GOES_ON)


def until(process, has_come) -> None:
    deadline = time.monotonic() + 300
    while not has_come():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --------------------------------------------------------------------------------------------- refusals


@pytest.fixture
def planned(own, bench):  # noqa: F811
    assert bench(*PLAN, *ONE_ROW).code == 0
    return own


def change(**changes: object) -> None:
    [line] = lines()
    Path("jobs.jsonl").write_text(json.dumps(line | changes) + "\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda: None, ["jobs.jsonl: there is no run 1: its runs are numbered from 0 to 0"]),
        (lambda: Path("jobs.jsonl").unlink(), ["jobs.jsonl: cannot be read", "--plan"]),
        (lambda: Path("jobs.jsonl").write_text("a\n"), ["jobs.jsonl: run 0: is no JSON", "--plan"]),
        (lambda: Path("jobs.jsonl").write_text("[1]\n"), ["run 0: is of another version", "--plan"]),
        (lambda: change(format=2), ["run 0: is of another version", "--plan"]),
        (lambda: change(checkpoint_seconds=-1), ["run 0: checkpoint_seconds", "--plan"]),
        (lambda: change(more=1), ["run 0: more", "is not a known field"]),
        (lambda: change(spec=lines()[0]["spec"] | {"seed": 7}), ["this version of the program", "--plan"]),
        (lambda: shutil.rmtree("cache"), ["no such prepared dataset"]),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_with_the_mend(planned, bench, spoil, words):  # noqa: F811
    spoil()
    number = "1" if "no run 1" in words[0] else "0"
    check_refusal(bench("run-one", "jobs.jsonl", number), words)
    assert records_of(planned / "out/tiny") == {}


def test_a_folder_of_other_data_is_refused(planned, bench):  # noqa: F811
    [folder] = planned.glob("cache/mine-*")
    shutil.rmtree(folder)
    prepare(Source(schema=small_schema(), frame=small_table(600).lazy(), identity={}, notes={}), folder)
    words = [str(folder), "holds data of the fingerprint", "the run was planned on", "--plan"]
    check_refusal(bench("run-one", "jobs.jsonl", "0"), words)


def test_code_that_is_not_what_was_planned_is_refused(own, bench):  # noqa: F811
    rows = ["--set", "architectures=[own_models:Base]", "--set", "base=null", "--set", "references=false"]
    assert bench(*PLAN, *rows, "--seeds", "1").code == 0
    with (own / "own_models.py").open("a") as file:
        file.write("\n# edited\n")
    words = ["the code of 'own_models:Base' is not that which was planned", "--plan"]
    check_refusal(bench("run-one", "jobs.jsonl", "0"), words)
    (own / "own_models.py").unlink()
    check_refusal(bench("run-one", "jobs.jsonl", "0"), ["'own_models:Base'", "no module 'own_models'"])
    assert records_of(own / "out/tiny") == {}


@pytest.mark.parametrize(
    "option", [["--jobs", "2"], ["--watch", "tensorboard"]], ids=lambda option: option[0]
)
def test_what_says_nothing_beside_a_plan_is_refused(own, bench, option):  # noqa: F811
    check_refusal(bench(*PLAN, *option), [f"--plan trains nothing: leave {option[0]} out"])
    assert not (own / "jobs.jsonl").exists()
    assert not (own / "out").exists()


@pytest.mark.parametrize("number", ["-1", "one", "1.5"])
def test_what_is_no_number_of_a_run_is_refused(planned, bench, number):  # noqa: F811
    outcome = bench("run-one", "jobs.jsonl", number)
    assert outcome.code == 2
    assert "traceback" not in outcome.err.lower()


def test_a_run_for_a_gpu_is_refused_where_there_is_none(planned, bench, monkeypatch):  # noqa: F811
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    spec = read_planned(Path("jobs.jsonl"), 0).spec.model_copy(update={"device": "cuda"})
    change(spec=spec.as_json(), spec_hash=spec.hash)
    check_refusal(bench("run-one", "jobs.jsonl", "0"), ["jobs.jsonl: run 0 is planned for a GPU"])


def test_torchrun_is_refused(planned, bench, monkeypatch):  # noqa: F811
    from harness.training.ranks import World

    monkeypatch.setattr("suites.plan_file.start_world", lambda device: World(0, 2, device))
    for command, word in ((["run-one", "jobs.jsonl", "0"], "run-one"), ([*PLAN, *ONE_ROW], "--plan")):
        check_refusal(bench(*command), [f"{word}: works on one process; start it without torchrun"])
