"""The GPU: whether the machine has one, whether PyTorch can use it, and what it would need."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from pathlib import Path

from harness.doctor.examination import Examination
from harness.doctor.packages import is_installed

DEVICES = Path("/dev")
LOOK_SECONDS = 20.0  # a driver that hangs is no reason to hang
NEEDS = "NVIDIA's driver, the CUDA builds of torch and fbgemm-gpu, and triton"
# What decides which build pip takes. `make clean` would remove results, too.
CUDA_BUILD = "unset PIP_EXTRA_INDEX_URL if it names an index of CPU builds, rm -rf .venv, make setup"


def examine_gpu(found: Examination) -> None:
    """A GPU that PyTorch can use, or why it can use none. Of other makers than NVIDIA it looks for none."""
    import torch

    here, built_for = nvidia_gpus(), torch.version.cuda
    if torch.cuda.is_available():
        _examine_usable(found)
        return
    build = (
        f"torch {torch.__version__} is built for CUDA {built_for}" if built_for else "torch is a CPU build"
    )
    if not here:
        found.line("GPU", f"none seen ({build}); one would need {NEEDS}")
        return
    found.line("GPU", f"{'; '.join(here)}: cannot be used ({build})")
    if not built_for:
        found.missing.append(f"the CUDA build of torch, for the GPU of this machine; {CUDA_BUILD}")
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        found.missing.append("the GPU, which CUDA_VISIBLE_DEVICES hides; unset it")
    else:
        found.missing.append(f"a driver of the GPU for CUDA {built_for}; update NVIDIA's driver")


def _examine_usable(found: Examination) -> None:
    import torch

    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / 2**30
    found.line("GPU", f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
    found.line("bf16 on GPU", "yes" if torch.cuda.is_bf16_supported() else "no")
    if is_installed("triton"):
        found.line("triton", importlib.metadata.version("triton"))
    else:
        mend = "pip install -c requirements/lock.txt triton"
        found.missing.append(f"triton, for torch.compile and kernels on the GPU; {mend}")


def nvidia_gpus() -> list[str]:
    """Name and driver of each NVIDIA GPU, whatever PyTorch thinks; the device where nothing tells them."""
    if command := shutil.which("nvidia-smi"):
        try:
            answer = subprocess.run(
                [command, "--query-gpu=name,driver_version", "--format=csv,noheader"],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=LOOK_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            pass
        else:
            rows = [line.partition(",") for line in answer.stdout.splitlines() if "," in line]
            return [f"{name.strip()}, driver {driver.strip()}" for name, _, driver in rows]
    return [f"NVIDIA's {path}" for path in sorted(DEVICES.glob("nvidia[0-9]*"))]
