"""What this machine can do, and what is missing, each with its mend."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile

import psutil

CHECKED = ("torch", "torchrec", "numpy", "polars", "pyarrow", "pandas", "pydantic", "matplotlib")


def examine() -> tuple[str, bool]:
    """A report as text, and whether everything that is needed is there."""
    lines: list[str] = []
    mends: list[str] = []
    _python_and_packages(lines, mends)
    _machine(lines)
    _torch(lines, mends)
    _compiler(lines, mends)
    lines.append("")
    lines += [f"missing: {mend}" for mend in mends] or ["nothing is missing"]
    return "\n".join(lines), not mends


def _python_and_packages(lines: list[str], mends: list[str]) -> None:
    lines.append(f"python        {platform.python_version()}")
    if sys.version_info[:2] != (3, 11):
        mends.append("Python 3.11; make setup PYTHON=/path/to/python3.11")
    for package in CHECKED:
        try:
            lines.append(f"{package:<14}{importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            mends.append(f"{package}; make setup")


def _machine(lines: list[str]) -> None:
    from harness.machine.environment import processor

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(".")
    lines.append(
        f"processor     {processor()}, {psutil.cpu_count(logical=False)} cores, {os.cpu_count()} threads"
    )
    lines.append(f"memory        {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    lines.append(f"disk here     {disk.free / 2**30:.1f} GiB free")


def _torch(lines: list[str], mends: list[str]) -> None:
    import torch

    flavour = "fbgemm-gpu" if torch.version.cuda else "fbgemm-gpu-cpu"
    try:
        lines.append(f"{flavour:<14} {importlib.metadata.version(flavour)}")
        import torchrec  # noqa: F401
    except (importlib.metadata.PackageNotFoundError, ImportError, OSError) as error:
        mends.append(f"{flavour} that loads with torch {torch.__version__} ({error}); make clean setup")
    lines.append(f"bf16 on CPU   {'native' if _cpu_has_bf16() else 'emulated (slow)'}")
    from baselines.kernels.compiled import compiled_functions

    kernels = "compiled" if compiled_functions() else "none: PyTorch's operators instead; g++ compiles them"
    lines.append(f"CPU kernels   {kernels}")
    if not torch.cuda.is_available():
        built = (
            f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is a CPU build"
        )
        lines.append(f"GPU           none usable ({built})")
        return
    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / 2**30
    lines.append(f"GPU           {properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
    lines.append(f"bf16 on GPU   {'yes' if torch.cuda.is_bf16_supported() else 'no'}")
    try:
        lines.append(f"triton        {importlib.metadata.version('triton')}")
    except importlib.metadata.PackageNotFoundError:
        mends.append(
            "triton, for torch.compile and kernels on the GPU; pip install -c requirements/lock.txt triton"
        )


def _cpu_has_bf16() -> bool:
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _compiler(lines: list[str], mends: list[str]) -> None:
    """torch.compile on the CPU needs a C++ compiler that can build against its own headers."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        mends.append("a C++ compiler, for torch.compile on the CPU; install g++ (or set CXX)")
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
        mends.append(f"OpenMP for {compiler}, for torch.compile on the CPU; install libgomp (or libomp)")
    lines.append(f"torch.compile {compiler}{' (no OpenMP)' if built.returncode else ''}")
