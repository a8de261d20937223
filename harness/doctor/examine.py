"""What this machine can do, and what is missing, each with its mend."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil

from harness.doctor.examination import Examination
from harness.doctor.gpu import examine_gpu
from harness.doctor.packages import examine_packages
from harness.doctor.places import examine_cache, examine_data


def examine(data_root: Path | None = None, cache: Path = Path("cache")) -> tuple[str, bool]:
    """A report as text, and whether everything that is needed is there.

    Args:
        data_root: holds a folder of raw files per public dataset, or None.
        cache: where prepared data are kept.
    """
    found = Examination()
    examine_packages(found)
    _examine_machine(found)
    _examine_torch(found)
    examine_gpu(found)
    _examine_compiler(found)
    examine_data(found, data_root)
    examine_cache(found, cache)
    return str(found), not found.missing


def _examine_machine(found: Examination) -> None:
    from harness.machine.environment import processor

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(".")
    cores = f"{psutil.cpu_count(logical=False)} cores, {os.cpu_count()} threads"
    found.line("processor", f"{processor()}, {cores}")
    found.line("memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    found.line("disk here", f"{disk.free / 2**30:.1f} GiB free")


def _examine_torch(found: Examination) -> None:
    """TorchRec's kernels must be of the build of torch that is here; those of the CPU are the project's."""
    import torch

    flavour = "fbgemm-gpu" if torch.version.cuda else "fbgemm-gpu-cpu"
    try:
        found.line(flavour, importlib.metadata.version(flavour))
        import torchrec  # noqa: F401
    except (importlib.metadata.PackageNotFoundError, ImportError, OSError) as error:
        mend = "rm -rf .venv, make setup"
        found.missing.append(f"{flavour} that loads with torch {torch.__version__} ({error}); {mend}")
    found.line("bf16 on CPU", "native" if _cpu_has_bf16() else "emulated (slow)")
    from baselines.kernels.compiled import compiled_functions

    kernels = "compiled" if compiled_functions() else "none: PyTorch's operators instead; g++ compiles them"
    found.line("CPU kernels", kernels)


def _cpu_has_bf16() -> bool:
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _examine_compiler(found: Examination) -> None:
    """torch.compile on the CPU needs a C++ compiler that can build against its own headers."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        found.missing.append("a C++ compiler, for torch.compile on the CPU; install g++ (or set CXX)")
        return
    with tempfile.TemporaryDirectory() as folder:
        built = subprocess.run(
            [compiler, "-x", "c++", "-fopenmp", "-shared", "-fPIC", "-o", f"{folder}/probe.so", "-"],
            input="#include <omp.h>\nint threads() { return omp_get_max_threads(); }\n",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    if built.returncode:
        mend = "install libgomp (or libomp)"
        found.missing.append(f"OpenMP for {compiler}, for torch.compile on the CPU; {mend}")
    found.line("torch.compile", f"{compiler}{' (no OpenMP)' if built.returncode else ''}")
