"""`run` by two processes that belong together, as torchrun starts them, and one of them does not go on."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from files.errors import InputError
from harness.data import prepared_for_ranks
from harness.records.cost import Cost
from harness.records.folder import RunFolder
from harness.records.record import read_record
from harness.runs.jobs import Job
from harness.training.ranks import World
from suites.options import check_shares
from suites.other_shares import note_other_shares
from tests.forked import SCRIPT, forked_ranks
from tests.harness.small_runs import small_spec
from tests.hosts import CABLE, two_hosts
from tests.test_cli import own_folder

COMMAND = """
import os, runpy, signal, sys, time
from datetime import timedelta

import bench, harness.data
from harness.training import ranks
from harness.training.loop import Trainer

folder, script, word = sys.argv[1:4]
sys.argv = [script, "run", "tiny.yaml", "--cache", "cache", *sys.argv[4:]]
os.chdir(folder)
bench.report = lambda *_, **__: None
ranks.TRAINING_WAIT = timedelta(seconds=3)
prepare, look = harness.data.prepare_dataset, Trainer._look

def slow_prepare(*arguments, **options):
    time.sleep(4 * (os.environ["RANK"] == "0" and word == "SIGSTOP"))
    return prepare(*arguments, **options)

def look_and_stop(self, *arguments):
    look(self, *arguments)
    if self.world.rank == 1 and self.progress.batch:  # after the first checkpoint
        os.kill(os.getpid(), getattr(signal, word))

harness.data.prepare_dataset, Trainer._look = slow_prepare, look_and_stop
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("SIGSTOP", "heard nothing from another for 0.05 minutes: one hangs or was stopped, or the network"),
        ("SIGKILL", "lost another, which ended"),
    ],
)
def test_a_process_says_that_another_is_silent_or_gone(word, words, tmp_path, capsys):
    """In training within its timeout, and never while the first prepares the data, which takes longer."""
    folder = own_folder(tmp_path)
    patience = 0 if word == "SIGSTOP" else 30  # to be killed while it is stopped, or to say that it was left
    codes = forked_ranks(COMMAND, folder, SCRIPT, word, "--checkpoint-seconds", "0", patience=patience)
    said = capsys.readouterr().err
    assert codes == [1, -9]
    [error] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"process 0 of 2 {words}" in error
    assert error.endswith("the same command on all hosts goes on from the last checkpoint")
    assert "Traceback" not in said
    assert list(folder.glob("out/tiny/runs/*.partial/checkpoint.json"))


def test_one_process_goes_on_with_the_shares_of_two_that_ended(tmp_path):
    folder = own_folder(tmp_path)
    forked_ranks(COMMAND, folder, SCRIPT, "SIGKILL", "--checkpoint-seconds", "0", patience=30)
    [begun] = folder.glob("out/tiny/runs/*.partial")
    assert json.loads((begun / "checkpoint.json").read_text())["ranks"] == 2
    assert forked_ranks(COMMAND, folder, SCRIPT, "", "--shares", "2", "--no-speed", size=1) == [0]
    record = read_record(folder / "out/tiny/runs" / begun.name.removesuffix(".partial"))
    assert (record.spec["world_size"], record.training.processes) == (2, 1)
    assert not begun.exists()


def test_runs_that_were_begun_with_other_shares_are_told_of_where_they_begin_anew(tmp_path):
    """Whatever number of processes wrote the last checkpoint."""
    prepared = SimpleNamespace(fingerprint="made up")  # two shares never cut shards, so none is looked at
    specs = [small_spec(prepared, seed=seed) for seed in range(3)]
    jobs = [Job(spec, Cost(1, 1, 1, 1, 3), prepared, tmp_path, 60.0) for spec in specs]
    for ranks, spec in zip((2, 1), specs, strict=False):
        folder = RunFolder(tmp_path, spec.model_copy(update={"world_size": 2}).folder_name).partial
        folder.mkdir(parents=True)
        pointer = {"tag": 20, "ranks": ranks, "shares": 2}
        (folder / "checkpoint.json").write_text(json.dumps(pointer))
    for name, text in (("damaged", '{"tag": 20'), ("earlier", '{"tag": 20, "ranks": 3}')):
        (tmp_path / f"runs/{name}.partial").mkdir()
        (tmp_path / f"runs/{name}.partial/checkpoint.json").write_text(text)

    def told(jobs: list[Job], processes: int = 1) -> list[str]:
        notes: list[str] = []
        note_other_shares(jobs, tmp_path, processes, SimpleNamespace(note=notes.append))
        return notes

    said = "runs that are unfinished with --shares 2 begin anew: 2; it goes on with them"
    assert told(jobs) == told(jobs, 2) == [said]
    assert told(jobs, 4) == [f"{said}, on a number of processes that divides 2"]
    jobs[0].folder.partial.mkdir()  # what has begun here goes on here
    assert told(jobs) == [said.replace("anew: 2", "anew: 1")]
    assert told([replace(job, spec=job.spec.model_copy(update={"world_size": 2})) for job in jobs]) == []


@pytest.mark.parametrize(
    ("shares", "size", "words"),
    [
        (3, 2, "--shares 3: .* give a multiple of the 2 processes, or start fewer with torchrun"),
        (7, 1, "training.batch_size 512 must be a multiple of the 7 shares"),
        (None, 3, "training.batch_size 512 must be a multiple of the 3 processes"),
    ],
)
def test_shares_that_cannot_be_dealt_are_refused(shares, size, words):
    with pytest.raises(InputError, match=words):
        check_shares(shares, 512, World(0, size, torch.device("cpu")))


def test_hosts_whose_cable_is_pulled_both_say_so(tmp_path, capsys):
    pull = f"lambda *_: __import__('subprocess').run(['ip', 'link', 'set', '{CABLE}', 'down'], check=True)"
    with two_hosts() as enter:
        pulling = enter + f"os.kill = {pull}\n" + COMMAND
        folder = own_folder(tmp_path)
        arguments = ("SIGTERM", "--checkpoint-seconds", "0")
        assert forked_ranks(pulling, folder, SCRIPT, *arguments, patience=30) == [1, 1]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert sorted(error[:23] for error in errors) == ["error: process 0 of 2 h", "error: process 1 of 2 h"]
    assert all("heard nothing from another for 0.05 minutes" in error for error in errors)


PLAIN = """
import os, runpy, sys

import bench

os.chdir(sys.argv[1])
sys.argv = [sys.argv[2], "run", "tiny.yaml", "--cache", "cache", "--seeds", "1", *sys.argv[3:]]
bench.report = lambda *_, **__: None
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_placement_changes_nothing_in_a_record_and_is_no_part_of_its_spec(tmp_path):
    folder = own_folder(tmp_path)
    (folder / "placement.yaml").write_text("{default: {sharding_types: [table_wise]}, tables: {tags: {}}}")
    arguments = (folder, SCRIPT, "--set", "architectures=[dlrm_mlp]", "--out")
    assert forked_ranks(PLAIN, *arguments, "plain") == [0, 0]
    assert forked_ranks(PLAIN, *arguments, "placed", "--placement", "placement.yaml") == [0, 0]
    plain, placed = (
        json.loads(path.read_text())
        for out in ("plain", "placed")
        for path in (folder / out).glob("runs/*-dlrm_mlp-*/record.json")
    )
    for field in ("spec", "spec_hash", "metrics", "curve", "validation"):
        assert placed[field] == plain[field]
    tables = placed["training"]["tables"]
    assert tables == plain["training"]["tables"]
    assert tables.keys() == {"who", "item", "tags"}
    assert {rank for table in tables.values() for rank in table["ranks"]} == {0, 1}
    assert {(t["sharding_type"], t["compute_kernel"]) for t in tables.values()} == {("table_wise", "fused")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{tables: {item: {sharding_types: [row_wise]}}}",
            "tables.item.sharding_types: on CPUs TorchRec has",
        ),
        ("{tables: {itme: {}}}", "tables.itme: is no table; choose from item, tags, who"),
    ],
)
def test_a_placement_that_cannot_be_is_refused_by_every_process(text, said, tmp_path, capsys):
    folder = own_folder(tmp_path)
    (folder / "placement.yaml").write_text(text)
    arguments = (folder, SCRIPT, "--device", "cpu", "--placement", "placement.yaml")
    assert forked_ranks(PLAIN, *arguments, patience=30) == [2, 2]
    said_by_all = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said_by_all) == 2
    assert all(line.startswith(f"error: placement.yaml: {said}") for line in said_by_all)
    assert not list(folder.glob("out/tiny/runs/*/record.json"))


def test_more_processes_than_rows_are_refused_before_anything_is_trained(tmp_path):
    folder = own_folder(tmp_path)
    ranks = SimpleNamespace(is_first=True, size=500, barrier=lambda **_: None)
    with pytest.raises(InputError, match=r"rows of split 'valid' .* too few for 500 processes; start fewer"):
        prepared_for_ranks(str(folder / "data/schema.yaml"), {}, None, folder / "cache", False, ranks)
