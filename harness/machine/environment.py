"""What a record says of the machine and the software, so that its numbers can be distrusted well."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch

from baselines.kernels.compiled import compiled_functions
from rankmixer import __version__

PACKAGES = (
    "torch",
    "torchrec",
    "fbgemm-gpu-cpu",
    "fbgemm-gpu",
    "numpy",
    "polars",
    "pyarrow",
    "scikit-learn",
    "lightgbm",
)


def environment() -> dict[str, str | int | None]:
    """Versions, processor, threads, the CPU's kernels, accelerator and the code's commit."""
    return _constant() | {"threads": torch.get_num_threads()}


@functools.cache
def _constant() -> dict[str, str | int | None]:
    versions: dict[str, str | int | None] = {
        "rankmixer_bench": __version__,
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions | {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cpu_kernels": "compiled" if compiled_functions() else "none",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": commit(),
    }


def processor() -> str:
    """The processor's own name where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def commit() -> str | None:
    """The checkout's commit, marked if files differ from it; None outside git."""
    try:
        folder = Path(__file__).parent
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
