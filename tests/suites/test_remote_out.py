"""Commands whose folder is in a store: killed, gone on with elsewhere, read, and two at a time."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
import requests

import bench as python_interface
from files.errors import InputError
from files.remote import Store
from tests.forked import Forked, forked_command
from tests.s3 import BUCKET, endpoint, url  # noqa: F401 - fixtures
from tests.suites.test_jobs import UNREPORTED, found
from tests.test_cli import (  # noqa: F401 - fixtures
    bench,
    check_refusal,
    ended,
    own_folder,
    records_of,
    unreported,
)

ROWS = ["--set", "architectures=[dlrm_mlp, own_models:Shallow]", "--set", "references=false", "--seeds", "1"]
RUN = ["run", "tiny.yaml", "--no-speed", "--set", "training.epochs=3", *ROWS]
SOON = """
from harness.records import remote_run
remote_run.HELD_SECONDS = 0.05
"""
IMPATIENT = f"""{SOON}
from files import remote_claims
remote_claims.SILENT_SECONDS = 0.0
"""
LOOKS_OFTEN = """
from harness.records import remote_run
remote_run.LOOK_SECONDS = 0.02
"""
TELLS_WHERE_IT_BEGINS = """
from harness.training.progress import Terminal
Terminal.start = lambda self, spec, samples, total: print("begun at", samples)
"""
# From the moment when the second run is about to be sent the server knows nobody.
WITHOUT_RIGHTS_BEFORE_THE_RUN = """
import os, requests
from files.remote import Store
_send = Store.send
def send(self, files):
    if any("Shallow" in name and ".partial" not in name for name in files):
        requests.post(os.environ["AWS_ENDPOINT_URL"] + "/moto-api/reset-auth", data="0", timeout=10)
    _send(self, files)
Store.send = send
"""
# Another process takes the first run over before it is sent.
TAKEN_OVER = """
from harness.records.remote_run import RemoteRun
_send = RemoteRun._send
def send(self):
    if "dlrm_mlp" in self._name:
        self._store.write(f"runs/.{self._final.name}.claim/2", b'{"owner": "another", "beats": 0}')
    _send(self)
RemoteRun._send = send
"""
# As where a row was matched to a measured latency.
KEEPS_LATENCIES = """
import suites.run
_plan_dataset = suites.run.plan_dataset
def plan_dataset(suite, dataset, options, *rest):
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latency.json").write_text("{}")
    return _plan_dataset(suite, dataset, options, *rest)
suites.run.plan_dataset = plan_dataset
"""
# Killed when the record of the second run is about to be sent.
KILLED_BEFORE_THE_RECORD = """
import os
from files.remote import Store
_send = Store.send
def send(self, files):
    if any("Shallow" in name and name.endswith("/record.json") for name in files):
        os.kill(os.getpid(), 9)
    _send(self, files)
Store.send = send
"""


def machine(folder: Path) -> Path:
    """A folder as a user has it on one of several machines."""
    folder.mkdir()
    return own_folder(folder)


def named(store: Store, word: str) -> list[str]:
    return [name for name in store.listing() if word in name]


def wait_for_checkpoint(process: Forked, store: Store) -> None:
    deadline = time.monotonic() + 300
    while not any(name.endswith("checkpoint.json") and "Shallow" in name for name in store.listing()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_twice_on_two_machines_a_run_ends_in_the_bits_of_an_undisturbed_one(
    url,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    first, second, third, fourth = (
        machine(tmp_path / name) for name in ("first", "second", "third", "fourth")
    )
    store = Store(url)

    process = forked_command(first, *RUN, "--checkpoint-seconds", "0", "--out", url, before=LOOKS_OFTEN)
    wait_for_checkpoint(process, store)
    process.kill()
    process.wait()
    assert not any("Shallow" in name for name in named(store, "record.json"))

    killed = IMPATIENT + KILLED_BEFORE_THE_RECORD
    process = forked_command(second, *RUN, "--out", url, before=killed)
    assert process.wait() == -signal.SIGKILL, process.communicate()
    assert any("Shallow" in name for name in named(store, "predictions.parquet"))
    assert not any("Shallow" in name for name in named(store, "record.json"))

    monkeypatch.chdir(third)
    assert set(python_interface.open_results(url).runs["architecture"]) == {"dlrm_mlp"}
    assert not list(third.rglob("*Shallow*"))

    told = IMPATIENT + TELLS_WHERE_IT_BEGINS + UNREPORTED
    again = ended(forked_command(fourth, *RUN, "--out", url, before=told))
    assert again.code == 0, again.err
    [begun] = re.findall(r"^begun at (\d+)$", again.out, re.MULTILINE)
    assert int(begun) > 0
    undisturbed = ended(forked_command(second, *RUN, "--out", "out/alone", before=UNREPORTED))
    assert undisturbed.code == 0, undisturbed.err

    monkeypatch.chdir(third)
    runs = python_interface.open_results(url).out
    here, alone = records_of(runs), records_of(second / "out/alone")
    assert set(here) == set(alone) == {("dlrm_mlp", 0), ("own_models:Shallow", 0)}
    for run, record in here.items():
        assert found(record) == found(alone[run])  # the sha256 of its predictions, too
    for path in (second / "out/alone/runs").glob("*/predictions.parquet"):
        name = f"runs/{path.parent.name}/predictions.parquet"
        assert store.read(name) == path.read_bytes()
    assert named(store, ".partial") == named(store, ".claim") == []


def test_a_run_that_ended_while_the_store_was_away_is_sent_by_the_next_command(url, endpoint, tmp_path):  # noqa: F811
    here, store = machine(tmp_path / "here"), Store(url)
    try:
        outcome = ended(
            forked_command(here, *RUN, "--out", url, before=WITHOUT_RIGHTS_BEFORE_THE_RUN + UNREPORTED)
        )
    finally:
        requests.post(f"{endpoint}/moto-api/reset-auth", data="inf", timeout=10).raise_for_status()
    check_refusal(outcome, [url, "gives no rights", "allow it"])
    assert not any("Shallow" in name for name in named(store, "record.json"))

    again = ended(forked_command(here, *RUN, "--out", url, before=SOON + TELLS_WHERE_IT_BEGINS + UNREPORTED))
    assert again.code == 0, again.err
    assert "begun at" not in again.out
    assert sum("Shallow" in name for name in named(store, "record.json")) == 1
    for path in here.glob("cache/remote/s3/**/runs/*/*"):
        if not path.name.startswith("."):
            assert store.read(f"runs/{path.parent.name}/{path.name}") == path.read_bytes()
    assert named(store, ".partial") == named(store, ".claim") == []


def test_a_run_that_is_taken_over_ends_alone_and_what_was_matched_is_in_the_store(url, tmp_path):  # noqa: F811
    here, store = machine(tmp_path / "here"), Store(url)
    before = TAKEN_OVER + KEEPS_LATENCIES + UNREPORTED
    outcome = ended(forked_command(here, *RUN, "--out", url, before=before))
    check_refusal(outcome, ["1 of 2 runs broke", "another process took mine-dlrm_mlp-", "goes on"], code=1)
    [record] = named(store, "record.json")
    assert "Shallow" in record
    assert store.read("latency.json") == b"{}"


def test_two_machines_share_the_runs_and_make_none_twice(url, tmp_path):  # noqa: F811
    (tmp_path / "meeting").mkdir()
    environment = {"WITNESS": str(tmp_path / "witness"), "MEETING": str(tmp_path / "meeting")}
    rows = ["--set", "architectures=[own_models:Base, own_models:Shallow]", "--set", "base=null"]
    command = ["run", "tiny.yaml", "--no-speed", "--out", url, "--set", "references=false", *rows]
    folders = [machine(tmp_path / name) for name in ("first", "second")]
    pair = [forked_command(folder, *command, before=UNREPORTED + SOON, **environment) for folder in folders]
    outcomes = [ended(process) for process in pair]
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.err for outcome in outcomes]
    trained = [line.split() for line in (tmp_path / "witness").read_text().splitlines()]
    expected = [["Base", "0"], ["Base", "1"], ["Shallow", "0"], ["Shallow", "1"]]
    assert sorted(run for _, *run in trained) == expected
    assert len({process for process, *_ in trained}) == 2  # each trained at least one
    assert sorted(name.split("/")[-1] for name in named(Store(url), "runs/")) == sorted(
        [*4 * ["predictions.parquet", "record.json"], *2 * ["weights.pt"]]
    )
    for folder in folders:
        assert len(records_of(folder / f"cache/remote/s3/{BUCKET}/{tmp_path.name}")) == 4


def test_a_planned_run_fetches_and_sends_itself_alone(url, tmp_path):  # noqa: F811
    here, there = machine(tmp_path / "here"), machine(tmp_path / "there")
    planned = ended(forked_command(here, *RUN, "--out", url, "--plan", "jobs.jsonl"))
    assert planned.code == 0, planned.err
    for number, folder in enumerate((here, there)):
        command = ["run-one", str(here / "jobs.jsonl"), str(number), "--watch", "tensorboard"]
        outcome = ended(forked_command(folder, *command))
        assert outcome.code == 0, outcome.err
    store, copy = Store(url), there / f"cache/remote/s3/{BUCKET}/{tmp_path.name}"
    assert len(named(store, "record.json")) == len(named(store, "tensorboard/")) == 2
    assert {architecture for architecture, _ in records_of(copy)} == {"own_models:Shallow"}
    assert not (copy / "suite.json").exists()


# -------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["run", "tiny.yaml", "--out", "s3://no-such-bucket/x"],
            ["s3://no-such-bucket/x", "make the bucket"],
        ),
        (["run", "tiny.yaml", "--out", "zz://x/y"], ["zz://x/y", "scheme zz:// is unknown"]),
        (["data", "prepare", "shortvideo", "--cache", "zz://x/y"], ["zz://x/y", "scheme zz:// is unknown"]),
        (["report", f"s3://{BUCKET}/nothing"], [f"{BUCKET}/nothing/runs", "holds no finished run"]),
        (["choose", f"s3://{BUCKET}/nothing", "--p99", "9"], [f"s3://{BUCKET}/nothing", "holds nothing"]),
    ],
)
def test_a_url_that_cannot_be_used_ends_the_command_with_a_sentence(
    endpoint,  # noqa: F811
    bench,  # noqa: F811
    tmp_path,
    monkeypatch,
    arguments,
    words,
):
    monkeypatch.chdir(tmp_path)
    own_folder(tmp_path)
    check_refusal(bench(*arguments), words)
    assert not (tmp_path / "out").exists()


def test_ranks_on_several_hosts_are_refused_a_url(url, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="on several hosts"):
        python_interface._shared(url).__enter__()
