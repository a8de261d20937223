"""Functions that the tests of isolation call in workers."""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from datasets.prepared import PreparedDataset
from files.errors import InputError
from harness.records.spec import RunSpec
from harness.training.loop import Trainer
from tests.harness.small_runs import carry_out


class OwnBaseError(BaseException):
    """What no ``except Exception`` catches."""


def surroundings() -> tuple:
    return os.getcwd(), os.environ.get("SURROUNDINGS"), sys.path, sys.argv, torch.get_num_threads()


def state() -> tuple:
    """All that a call could leave behind in a process."""
    return (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.initial_seed() == 7,
        random.random() == random.Random(7).random(),
        np.random.random() == np.random.RandomState(7).random(),  # noqa: NPY002
        os.getcwd(),
        os.environ.get("ALTERED"),
        os.umask(0o22),
        signal.getsignal(signal.SIGTERM),
        signal.getsignal(signal.SIGINT),
        sys.getrecursionlimit(),
        torch.nn.Linear.__name__,
    )


def alter() -> None:
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    os.chdir("/")
    os.environ["ALTERED"] = "yes"
    os.umask(0o77)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setrecursionlimit(99)
    torch.nn.Linear = torch.nn.Bilinear  # type: ignore[misc, assignment]


def leave(how: str) -> None:
    if how == "sys.exit":
        sys.exit(0)
    if how == "os._exit":
        os._exit(0)
    if how == "segmentation fault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "killed, a child holds the pipe":
        if os.fork() == 0:
            time.sleep(60)
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if how == "own":
        raise OwnBaseError("mine\nalone")
    if how == "InputError":
        raise InputError("a: mend it")
    if how == "full disk":
        raise OSError(errno.ENOSPC, "No space left on device")


def eat(how: str) -> None:
    held: list = []
    while True:
        held.append(torch.ones(10**7) if how == "torch" else bytearray(10**8))


def meet(folder: Path, number: int) -> int:
    """Returns when as many calls as ``number`` are being made in ``folder``; its process id."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 240
    while len(os.listdir(folder)) < number:
        assert time.monotonic() < deadline, "the other calls did not come"
        time.sleep(0.01)
    return os.getpid()


def threads() -> tuple[int, str | None]:
    return torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")


def tell(times: int, watcher) -> None:
    for number in range(times):
        watcher.advance(number, 0.0, 0.0)


def train_and_die(watcher) -> None:
    watcher.start("spec", 0, 10)
    watcher.advance(5, 0.5, 100.0)
    os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(spec: RunSpec, prepared: PreparedDataset, out: Path, step: int) -> None:
    """Train with a checkpoint after every stretch; be killed at the end of the first one after ``step``."""
    look = Trainer._look

    def deadly_look(trainer: Trainer, *arguments: object) -> None:
        if trainer.progress.step >= step:
            os.kill(os.getpid(), signal.SIGKILL)
        look(trainer, *arguments)

    Trainer._look = deadly_look  # type: ignore[method-assign]
    carry_out(spec, prepared, out, checkpoint_seconds=0.0)
