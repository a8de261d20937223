"""`cpu_kernels.cpp`, compiled by g++ when it is first needed, in seconds, and kept for the next process."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

SOURCE = Path(__file__).with_name("cpu_kernels.cpp")
# As fast-math, but for what would alter the numbers of other code (denormals) or hide one that is not finite.
# Without peeling, a row's sums do not depend on where in memory it lies: the same numbers in every run.
FLAGS = (
    *("-O3", "-march=native", "-mprefer-vector-width=512", "-std=c++17", "-shared", "-fPIC", "-fopenmp"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
    *("-freciprocal-math", "--param=vect-max-peeling-for-alignment=0"),
)
DTYPES = ("float", "bfloat16")  # every function is there for both, named so
Pointer, Size, Int = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
ARGUMENTS: dict[str, list[Any]] = {  # of all, the number of threads comes last
    "gelu": [Pointer] * 3 + [Size] * 3 + [Int],
    "norm": [Pointer] * 3 + [Int] + [Pointer] * 2 + [ctypes.c_float] + [Size] * 5 + [Pointer] * 3 + [Int],
    "norm_gradient": [Pointer] * 4 + [Size] * 2 + [Pointer] * 2 + [Int],
    "mixed": [Pointer] + [Size] * 3 + [Pointer, Int],
}


@lru_cache(maxsize=1)
def compiled_functions() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be compiled, or loaded, here."""
    compiler = shutil.which("g++")
    if compiler is None:
        return None
    path = _kept_path()
    loaded = _load(path)
    if loaded is None and _compile(compiler, path):
        loaded = _load(path)
    if loaded is None:
        return None
    for function, arguments in ARGUMENTS.items():
        for suffix in DTYPES:
            getattr(loaded, f"{function}_{suffix}").argtypes = arguments
            getattr(loaded, f"{function}_{suffix}").restype = None
    return loaded


def _load(path: Path) -> ctypes.CDLL | None:
    """None where nothing lies there, or nothing that this system can load."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _kept_path() -> Path:
    """Where the functions lie for this source and processor: another may lack this one's instructions."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rankmixer-bench"
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {_processor_flags()}"
    key = hashlib.sha256("\n".join([SOURCE.read_text(), *FLAGS, processor]).encode()).hexdigest()
    return cache / f"kernels-{key[:16]}.so"


def _processor_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _compile(compiler: str, path: Path) -> bool:
    """Whether ``path`` now holds the functions: whole, whoever else compiles them too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(made)]
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                return False
            made.replace(path)
    except OSError:
        return False
    return True
