"""A call in a worker: its result, every way in which it can end, and that nothing of it stays."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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


# ------------------------------------------------------------------------------------- several at a time


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as threads:
        yield threads


def test_calls_of_several_threads_are_made_at_the_same_time(pool, tmp_path):
    in_worker(abs, -1)
    made = [pool.submit(in_worker, calls.meet, tmp_path, 3) for _ in range(3)]
    assert {str(call.result()) for call in made} == set(os.listdir(tmp_path))


def test_a_call_computes_on_the_threads_that_it_is_given():
    assert in_worker(calls.threads, threads=3) == (3, "3")
    assert in_worker(calls.threads, threads=1) == (1, "1")
    assert in_worker(calls.threads) == (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))


def test_a_call_that_is_killed_leaves_those_beside_it_as_they_are(pool, tmp_path):
    (tmp_path / "apart").mkdir()
    lasting = pool.submit(in_worker, calls.meet, tmp_path / "apart", 2)
    for how, words in (("killed", "SIGKILL"), ("os._exit", "exit code 0"), ("segmentation fault", "SIGSEGV")):
        with pytest.raises(BrokenCallError, match=words):
            in_worker(calls.leave, how)
    assert not lasting.done()
    (tmp_path / "apart" / "go on").touch()
    assert isinstance(lasting.result(), int)


def test_a_watcher_is_told_by_one_call_at_a_time(pool):
    class Slow(Silent):
        told, busy, overlaps = 0, threading.Lock(), 0

        def advance(self, *_: object) -> None:
            alone = self.busy.acquire(blocking=False)
            self.overlaps += not alone
            time.sleep(0.001)
            self.told += 1
            if alone:
                self.busy.release()

    slow = Slow()
    for call in [pool.submit(in_worker, calls.tell, 50, watcher=slow) for _ in range(3)]:
        call.result()
    assert (slow.told, slow.overlaps) == (150, 0)


def written(*paths: Path) -> list[int]:
    """The process ids that processes write to these files."""
    deadline = time.monotonic() + 300
    while not all(path.exists() and path.read_text() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(path.read_text()) for path in paths]


def have_ended(processes: list[psutil.Process]) -> bool:
    psutil.wait_procs(processes, timeout=60)
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_all_workers_end_with_the_server_that_was_killed(pool, tmp_path):
    in_worker(abs, -1)
    paths = [tmp_path / str(number) for number in range(3)]
    made = [pool.submit(in_worker, sleep, path) for path in paths]
    workers = [psutil.Process(pid) for pid in written(*paths)]
    assert isolation._server is not None
    isolation._server._process.kill()
    for call in made:
        with pytest.raises(BrokenCallError, match="its process ended"):
            call.result()
    assert have_ended(workers)
    assert in_worker(abs, -1) == 1
    isolation._server.end()  # it has imported nothing, so no later test should use it


# ------------------------------------------------------------------------ the end of the process that asked

# No guard around what it does: a worker does not execute it again.
SCRIPT = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from files.locks import locked
from harness.workers.isolation import in_worker
from tests.harness.sleeping import sleep
from contextlib import suppress
from threading import Thread

def call(name):
    with suppress(Exception):
        in_worker(sleep, Path(name), hold=lock)

with locked(Path("lock"), wait=False) as lock:
    Thread(target=call, args=["worker-2"], daemon=True).start()
    call("worker")
"""


@pytest.fixture
def sleeping(tmp_path):
    """A process whose two workers sleep, and these."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process, [psutil.Process(pid) for pid in written(tmp_path / "worker", tmp_path / "worker-2")]
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
def test_workers_end_with_the_process_that_asked_for_them(sleeping, tmp_path, number):
    process, workers = sleeping
    server = workers[0].parent()
    assert server is not None
    assert locked_by_another(tmp_path / "lock")
    process.send_signal(number)
    process.communicate()  # to the end of what all of them can write to
    assert have_ended([*workers, server])
    assert not locked_by_another(tmp_path / "lock")


def test_a_lock_is_held_until_the_workers_have_ended(sleeping, tmp_path):
    process, workers = sleeping
    server = workers[0].parent()
    server.suspend()  # so that it does not end the workers yet
    process.kill()
    process.wait()
    assert all(worker.is_running() for worker in workers)
    assert locked_by_another(tmp_path / "lock")
    server.resume()
    psutil.wait_procs([*workers, server], timeout=60)
    assert not locked_by_another(tmp_path / "lock")


def test_ctrl_c_on_a_terminal_shows_one_trace_and_leaves_no_process(sleeping):
    process, workers = sleeping
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate()
    assert errors.count("Traceback") == 1
    assert errors.strip().endswith("KeyboardInterrupt")
    assert have_ended(workers)
