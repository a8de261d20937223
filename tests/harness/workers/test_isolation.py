"""A call in a worker: its result, every way in which it can end, and that nothing of it stays."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from files.errors import InputError
from harness.model.cost import CostCounter
from harness.runs.jobs import Job, carry_out
from harness.runs.run import inputs_of
from harness.training.progress import Silent
from harness.workers import isolation
from harness.workers.isolation import BrokenCallError, in_worker
from harness.workers.worker import Limits
from tests.harness import calls
from tests.harness.sleeping import sleep
from tests.harness.small_runs import ONE_PROCESS, small_spec
from tests.harness.small_runs import carry_out as carry_out_here
from tests.threads import threads_at_work

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.usefixtures("server")


def test_a_worker_has_this_process_s_surroundings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SURROUNDINGS", "a\nb=ü")
    monkeypatch.setattr(sys, "path", [*sys.path, "/nowhere"])
    monkeypatch.setattr(sys, "argv", ["a", "b"])
    with threads_at_work(torch.get_num_threads() + 1):
        assert in_worker(calls.surroundings) == calls.surroundings()


def test_what_a_call_alters_is_neither_here_nor_in_the_next_call():
    here, before = calls.state()[:5], in_worker(calls.state)
    in_worker(calls.alter)
    assert in_worker(calls.state) == before
    assert calls.state()[:5] == here


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("sys.exit", r"it called sys.exit\(0\)"),
        ("os._exit", "its process ended itself with exit code 0"),
        ("segmentation fault", "its process was ended by SIGSEGV"),
        ("killed", "its process was killed .* memory runs out"),
        ("killed, a child holds the pipe", "its process was killed .* memory runs out"),
        ("KeyboardInterrupt", "^KeyboardInterrupt$"),
        ("own", "^OwnBaseError: mine alone$"),
    ],
)
def test_a_call_that_breaks_says_how_and_the_next_one_works(how, reason):
    with pytest.raises(BrokenCallError, match=reason):
        in_worker(calls.leave, how)
    assert in_worker(abs, -1) == 1


def test_bad_input_and_a_full_disk_stay_what_they_are():
    with pytest.raises(InputError, match=r"^a: mend it$"):
        in_worker(calls.leave, "InputError")
    with pytest.raises(OSError, match="No space left") as error:
        in_worker(calls.leave, "full disk")
    assert error.value.errno == 28


def test_a_call_that_hangs_ends_at_its_limit():
    start = time.monotonic()
    with pytest.raises(BrokenCallError, match=r"longer than the 0.01 minutes of --run-minutes"):
        in_worker(sleep, limits=Limits(minutes=0.01))
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("how", ["torch", "python"])
def test_a_call_that_eats_memory_ends_at_its_limit(how):
    with pytest.raises(BrokenCallError, match=r"more memory than the 1.5 GB of --run-gigabytes"):
        in_worker(calls.eat, how, limits=Limits(gigabytes=1.5))


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_what_is_no_limit_is_refused(limit):
    with pytest.raises(InputError, match=r"--run-minutes .*give a number above 0"):
        Limits(minutes=limit)
    with pytest.raises(InputError, match=r"--run-gigabytes .*give a number above 0"):
        Limits(gigabytes=limit)


class Listening(Silent):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def start(self, *_: object) -> None:
        self.heard.append("start")

    def advance(self, *_: object) -> None:
        self.heard.append("advance")

    def finish(self) -> None:
        self.heard.append("finish")


def test_a_watcher_is_told_the_end_of_a_training_that_was_killed():
    listening = Listening()
    with pytest.raises(BrokenCallError):
        in_worker(calls.train_and_die, watcher=listening)
    assert listening.heard == ["start", "advance", "finish"]


def test_after_the_server_was_killed_another_one_is_started():
    in_worker(abs, -1)
    assert isolation._server is not None
    killed = isolation._server._process
    killed.kill()
    killed.wait()
    assert in_worker(abs, -1) == 1
    assert isolation._server._process.pid != killed.pid
    isolation._server.end()  # it has imported nothing, so no later test should use it


def test_a_run_in_a_worker_has_the_numbers_of_one_here_to_the_last_bit(prepared, tmp_path):
    spec = small_spec(prepared, dropout=0.2)
    here = carry_out_here(spec, prepared, tmp_path / "here")
    cost = CostCounter(prepared.schema, prepared.table_sizes, inputs_of(spec), 2).cost(
        "dlrm_mlp", spec.config
    )
    job = Job(spec, cost, prepared, tmp_path / "there", 1e9)
    listening = Listening()
    there = in_worker(carry_out, job, None, ONE_PROCESS, watcher=listening).as_json()
    measured = {"started_at", "finished_at", "training"}
    assert {k: v for k, v in there.items() if k not in measured} == {
        k: v for k, v in here.items() if k not in measured
    }
    [first], [second] = ((tmp_path / out).glob("runs/*/predictions.parquet") for out in ("here", "there"))
    assert first.read_bytes() == second.read_bytes()
    assert listening.heard[0] == "start"
    assert listening.heard.count("advance") == len(there["curve"])


# ------------------------------------------------------------------------ the end of the process that asked

# No guard around what it does: a worker does not execute it again.
SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from files.locks import locked
from harness.workers.isolation import in_worker
from tests.harness.sleeping import sleep
with locked(Path("lock"), wait=False) as lock:
    in_worker(sleep, Path("worker"), hold=lock)
"""


@pytest.fixture
def sleeping(tmp_path):
    """A process whose worker sleeps, and the worker."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not ((tmp_path / "worker").exists() and (tmp_path / "worker").read_text()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process, psutil.Process(int((tmp_path / "worker").read_text()))
    process.kill()
    process.wait()


def locked_by_another(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_with_the_process_that_asked_for_it(sleeping, tmp_path, number):
    process, worker = sleeping
    server = worker.parent()
    assert server is not None
    assert locked_by_another(tmp_path / "lock")
    process.send_signal(number)
    process.communicate()  # to the end of what all of them can write to
    for left in (worker, server):
        psutil.wait_procs([left], timeout=60)
        assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    assert not locked_by_another(tmp_path / "lock")


def test_a_lock_is_held_until_the_worker_has_ended(sleeping, tmp_path):
    process, worker = sleeping
    server = worker.parent()
    server.suspend()  # so that it does not end the worker yet
    process.kill()
    process.wait()
    assert worker.is_running()
    assert locked_by_another(tmp_path / "lock")
    server.resume()
    psutil.wait_procs([worker, server], timeout=60)
    assert not locked_by_another(tmp_path / "lock")


def test_ctrl_c_on_a_terminal_shows_one_trace_and_leaves_no_process(sleeping):
    process, worker = sleeping
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate()
    assert errors.count("Traceback") == 1
    assert errors.strip().endswith("KeyboardInterrupt")
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
