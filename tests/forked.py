"""Processes that have imported everything when they begin.

Importing PyTorch and the rest takes seconds of computing, which a test that starts a process for what happens
within it (kills, Ctrl-C, two at a time) need not pay. They are forked from one process that has imported
(`tests.imported`) and computed nothing, as the product's own workers are.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import psutil

from harness.workers import isolation
from harness.workers.fork_server import serve

if TYPE_CHECKING:
    from harness.machine.facts import Machine

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "run_bench.py"
CONTEXT = multiprocessing.get_context("forkserver")


class Forked:
    """A forked process, to be used like a `subprocess.Popen` with text of stdout and stderr.

    ``code`` is what it executes as its main module; ``arguments`` are its ``sys.argv``.
    """

    def __init__(self, code: str, folder: Path, *arguments: object, **environment: str) -> None:
        given = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
        self._said = [tempfile.NamedTemporaryFile("r", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        files = [file.name for file in self._said]
        argv, given = list(map(str, arguments)), {**given, **environment}
        self._process = CONTEXT.Process(target=_begin, args=(code, argv, folder, given, files), daemon=True)
        _start(self._process)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float = 300) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self._process.exitcode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it wrote to stdout and to stderr, once it has ended."""
        self.wait(timeout)
        out, err = (file.read() for file in self._said)
        return out, err


def forked_command(folder: Path, *arguments: str, before: str = "", **environment: str) -> Forked:
    """``python run_bench.py ...``, run from ``folder``, after the statements ``before``."""
    code = f"{before}\nimport runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    return Forked(code, folder, str(SCRIPT), *arguments, **environment)


def forked_ranks(code: str, *arguments: object, size: int = 2, patience: float = 0) -> list[int]:
    """The exit codes of ``size`` processes that are to join one process group, as those of torchrun do.

    Where one fails, the others are killed after ``patience`` seconds.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    ranks = [
        Forked(code, ROOT, "rank", *arguments, RANK=str(rank), LOCAL_RANK=str(rank), **world)
        for rank in range(size)
    ]
    deadline = None
    while (codes := [rank.poll() for rank in ranks]).count(0) < size:
        if any(codes):
            deadline = deadline or time.monotonic() + patience
        if deadline is not None and time.monotonic() >= deadline:
            for rank in ranks:
                rank.kill()
        if None not in codes:
            break
        time.sleep(0.05)
    for rank in ranks:
        sys.stderr.write(rank.communicate()[1])  # shown by pytest where a test fails
    return [code for code in codes if code is not None]


def fork_the_server_of_workers() -> None:
    """From now on the server that this process's workers are forked from has imported everything, too."""
    isolation._spawned = _server_of_workers


def _server_of_workers(channel: int, modules: Sequence[str]) -> psutil.Process:
    with socket.socket(fileno=os.dup(channel)) as its_own:
        process = CONTEXT.Process(target=_serve, args=(its_own, list(modules)), daemon=True)
        _start(process)
    return psutil.Process(process.pid)


def _serve(channel: socket.socket, modules: Sequence[str]) -> None:
    _make_up_a_machine()
    serve(channel.detach(), modules)


def forked_pool() -> ProcessPoolExecutor:
    """Of one process."""
    _run_the_forkserver()
    return ProcessPoolExecutor(1, mp_context=CONTEXT)


def _start(process: ForkServerProcess) -> None:
    _run_the_forkserver()
    process.start()


def _run_the_forkserver() -> None:
    passive = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # a second thread, if set, does not spin
    with mock.patch.dict(os.environ, passive), contextlib.chdir(ROOT):
        multiprocessing.forkserver.set_forkserver_preload(["tests.imported"])
        multiprocessing.forkserver.ensure_running()


def _begin(code: str, argv: list[str], folder: Path, environment: dict[str, str], files: list[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for descriptor, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = argv
    sys.path[:] = [str(ROOT), *(path for path in sys.path if path not in ("", str(ROOT)))]
    _fork_workers()
    _make_up_a_machine()
    main = {"__name__": "__main__", "__file__": str(SCRIPT)}
    exec(compile(code, "<forked>", "exec"), main)


def _fork_workers() -> None:
    """A command takes PyTorch that is imported for one that may have computed; here it has not."""
    start = isolation.start_server
    isolation.start_server = lambda modules=(), fork=True: start(modules, fork=True)


def _make_up_a_machine() -> None:
    """A command measures the peak of its machine and its models' speed, seconds where others compute."""
    import suites.plan
    from harness.machine import peaks
    from harness.speed import serving

    peaks.SMALL_SIZE, serving.FEWEST_ROUNDS, serving.TURN_SECONDS = 64, 1, 0.0
    suites.plan.machine_of = made_up_machine


def made_up_machine(*_: object) -> Machine:
    """This machine in all but its peak."""
    from harness.machine.environment import environment
    from harness.machine.facts import Machine
    from harness.machine.peaks import Peak

    return Machine(Peak(1e11, "made up"), environment())
