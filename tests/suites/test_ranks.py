"""`run` by two processes that belong together, as torchrun starts them, and one of them does not go on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from files.errors import InputError
from harness.data import prepared_for_ranks
from tests.forked import SCRIPT, forked_ranks
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


def test_more_processes_than_rows_are_refused_before_anything_is_trained(tmp_path):
    folder = own_folder(tmp_path)
    ranks = SimpleNamespace(is_first=True, size=500, barrier=lambda **_: None)
    with pytest.raises(InputError, match=r"rows of split 'valid' .* too few for 500 processes; start fewer"):
        prepared_for_ranks(str(folder / "data/schema.yaml"), {}, None, folder / "cache", False, ranks)
