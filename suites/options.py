"""How to run a suite: places, device, limits, how many runs at once. None of it changes a number."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args

import torch

from files.cores import usable_cores
from harness.data import InputError
from harness.training.placement import Placement
from harness.training.progress import Watcher
from harness.training.ranks import World
from harness.training.weights import Keep
from harness.workers.ray_cluster import RayOptions
from harness.workers.worker import Limits


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a number: places, device, checkpoints, limits of a run.

    ``keep`` is which weights are kept (`harness.training.weights.keeps_weights`), of the first seed's run of
    each row on each dataset. ``jobs`` is how many runs are carried out at once, on equal shares of the
    machine's threads; ``ray`` is the cluster that carries them out in place of this machine. ``placement`` is
    how torchrun's processes share embedding tables. ``shares`` alone decides which runs they are: those of as
    many processes (`check_shares`).
    """

    out: Path
    cache_root: Path
    data_root: Path | None
    device: torch.device
    rebuild: bool = False
    checkpoint_seconds: float = 60.0
    limits: Limits = field(default_factory=Limits)
    command: str = ""
    speed: bool = True  # measure how fast the models answer, after the trainings
    keep: Keep = "auto"
    jobs: int = 1
    ray: RayOptions | None = None
    shares: int | None = None
    placement: Placement | None = None


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one; InputError if ``cuda`` is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no usable GPU here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_keep(name: str) -> Keep:
    """Which weights are kept; InputError for a word that says none of it."""
    if name not in get_args(Keep):
        raise InputError(f"keep {name!r}: choose from {', '.join(get_args(Keep))}")
    return cast(Keep, name)


def check_shares(shares: int | None, batch_size: int, world: World) -> None:
    """InputError where a batch cannot be dealt into shares, or the shares not to the processes."""
    if shares is not None and (shares < 1 or shares % world.size):
        raise InputError(
            f"--shares {shares}: each process takes as many as the others; give a multiple of the "
            f"{world.size} processes, or start fewer with torchrun"
        )
    dealt = shares or world.size
    if batch_size % dealt:
        raise InputError(
            f"training.batch_size {batch_size} must be a multiple of the {dealt} "
            f"{'processes' if shares is None else 'shares'}"
        )


def check_jobs(jobs: int, world: World, watcher: Watcher) -> None:
    """InputError where several runs at once cannot share what they run on; told where there are few cores."""
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; give a number of runs at once, at least 1")
    if jobs == 1:
        return
    if world.size > 1:
        raise InputError(
            f"--jobs {jobs}: torchrun's {world.size} processes carry out one run together; leave --jobs out, "
            "or start without torchrun"
        )
    if world.device.type == "cuda":
        raise InputError(
            f"--jobs {jobs}: runs at once share the cores of a CPU and not a GPU; start the command once for "
            "each GPU, with CUDA_VISIBLE_DEVICES and the same --out, or one run on all of them with torchrun"
        )
    cores = usable_cores()
    if jobs > cores:
        watcher.note(f"--jobs {jobs}: more runs at once than this machine's {cores} cores are no faster")


def check_placement(placement: Placement | None, world: World) -> None:
    """InputError where tables cannot be spread as it says, whatever the suite."""
    if placement is None:
        return
    if world.size == 1:
        raise InputError(
            "--placement: one process holds every table; start several with torchrun, or leave it out"
        )
    placement.check_device(world.device)


def check_ray(options: Options, world: World) -> None:
    """InputError where runs cannot be the tasks of a Ray cluster, or do not ask it for what they need."""
    if options.ray is None:
        return
    if world.size > 1:
        raise InputError(
            f"--executor ray: torchrun's {world.size} processes carry out one run together; start without "
            "torchrun"
        )
    if options.jobs > 1:
        raise InputError(
            f"--executor ray: Ray has as many runs at once as there is room for; leave --jobs {options.jobs} "
            "out, and give --cpus-per-run"
        )
    gpus = options.ray.share.gpus
    if world.device.type == "cuda" and not gpus:
        raise InputError("--executor ray: the runs need a GPU; give --gpus-per-run 1, or --device cpu")
    if world.device.type == "cpu" and gpus:
        raise InputError(
            f"--gpus-per-run {gpus:g}: the runs are for the CPU; leave it out, or give --device cuda"
        )
