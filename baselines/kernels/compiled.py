"""Compiles `cpu.cpp` with g++ when it is first needed, which takes seconds, and stores the library for later.

A stored library is code that will run. It is loaded only if its file and folder belong to this user or to
root, if nobody else may write to them, and if its bytes have the sha256 that is in its name. It is opened
once, then checked and loaded by that file descriptor, so nothing can replace it in between. In every other
case it is compiled again.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

SOURCE = Path(__file__).with_name("cpu.cpp")
# Like -ffast-math, except that numbers of other code do not change (denormals), and NaN and infinity stay.
# Without peeling, the sums of a row do not depend on its address, so every run gives the same numbers.
FLAGS = (
    *("-O3", "-march=native", "-mprefer-vector-width=512", "-std=c++17", "-shared", "-fPIC", "-fopenmp"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
    *("-freciprocal-math", "--param=vect-max-peeling-for-alignment=0"),
)
DTYPES = {torch.float32: "float", torch.bfloat16: "bfloat16"}  # suffixes: every function exists for both
Pointer, Size, Int, Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
ARGUMENTS: dict[str, dict[str, Any]] = {  # names and types as cpu.cpp declares them
    "gelu": {
        **dict.fromkeys(("hidden", "bias", "slope"), Pointer),
        **dict.fromkeys(("tokens", "rows", "width"), Size),
        "threads": Int,
    },
    "norm": {
        **dict.fromkeys(("x", "step", "step_bias"), Pointer),
        "kind": Int,
        **dict.fromkeys(("weight", "bias"), Pointer),
        "eps": Float,
        **dict.fromkeys(("batch", "tokens", "width", "step_batch", "step_token"), Size),
        **dict.fromkeys(("y", "sum", "saved"), Pointer),
        "threads": Int,
    },
    "norm_gradient": {
        **dict.fromkeys(("dy", "sum", "saved", "weight"), Pointer),
        **dict.fromkeys(("rows", "width"), Size),
        **dict.fromkeys(("dx", "dparameters"), Pointer),
        "threads": Int,
    },
    "mixed": {
        "x": Pointer,
        **dict.fromkeys(("batch", "tokens", "width"), Size),
        "y": Pointer,
        "threads": Int,
    },
}


_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.writing|tmp[a-z0-9_]{8}")  # the second is from earlier versions
ABANDONED_AFTER_SECONDS = 24 * 3600.0


@lru_cache(maxsize=1)
def compiled_functions() -> ctypes.CDLL | None:
    """The compiled functions; None, with a note on stderr, if they cannot be compiled on this machine."""
    compiler = shutil.which("g++")
    if compiler is None:
        _note("there is no g++, so PyTorch's slower operators are used instead; install g++")
        return None
    loaded = _load_or_compile(compiler)
    if loaded is None:
        _note(f"{compiler} cannot compile them, so PyTorch's slower operators are used instead")
        return None
    for function, arguments in ARGUMENTS.items():
        for suffix in DTYPES.values():
            compiled = getattr(loaded, f"{function}_{suffix}")
            compiled.argtypes, compiled.restype = list(arguments.values()), None
    return loaded


def call(function: str, dtype: torch.dtype, **arguments: Any) -> None:
    """Call a compiled function with its arguments by name, on PyTorch's threads.

    A tensor is passed as its address, and None as the address zero. Raises KeyError if an argument is
    missing, and RuntimeError if nothing could be compiled.
    """
    arguments["threads"] = torch.get_num_threads()
    values = [_address(arguments[name]) for name in ARGUMENTS[function]]
    functions = compiled_functions()
    if functions is None:
        raise RuntimeError("the CPU kernels are not compiled; install g++")
    compiled = getattr(functions, f"{function}_{DTYPES[dtype]}")
    if torch.autograd._profiler_enabled():
        with torch.profiler.record_function(f"fused::{function}"):
            compiled(*values)
    else:
        compiled(*values)


def _address(argument: Any) -> Any:
    return argument.data_ptr() if isinstance(argument, torch.Tensor) else argument


def _note(text: str) -> None:
    print(f"CPU kernels: {text}", file=sys.stderr)


def _load_or_compile(compiler: str) -> ctypes.CDLL | None:
    path, key = _cache_folder(), _key()
    try:
        folder = _open_folder(path)
    except OSError as error:
        _note(
            f"{path} cannot be used ({error.strerror}), so every process compiles them again; "
            "remove it, or set XDG_CACHE_HOME to a folder of your own"
        )
        library = _compile(compiler)
        return None if library is None else _from_memory(library)
    try:
        return _load_stored(folder, key) or _compile_and_store(compiler, folder, key, path)
    finally:
        os.close(folder)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rankmixer-bench"


def _key() -> str:
    """Identifies this source, these flags and this processor: another one may lack some instructions."""
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {_processor_flags()}"
    content = "\n".join([SOURCE.read_text(encoding="utf-8"), *FLAGS, processor])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _processor_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


# ------------------------------------------------------------------------------------------- storing


def _open_folder(path: Path) -> int:
    """A descriptor of the folder of stored libraries, created if absent. Raises OSError if it is not safe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(folder).st_uid == os.geteuid():
            os.fchmod(folder, 0o700)
        if not _is_safe(folder):
            raise PermissionError(1, "it belongs to another user, or others may write to it")
    except OSError:
        os.close(folder)
        raise
    return folder


def _is_safe(handle: int) -> bool:
    """Whether a file or folder belongs to this user or to root, and only its owner may write to it."""
    found = os.fstat(handle)
    return found.st_uid in (os.geteuid(), 0) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _load_stored(folder: int, key: str) -> ctypes.CDLL | None:
    """Load a library of the folder that is complete and safe; None if this system can load none."""
    for name in sorted(os.listdir(folder)):
        match = re.fullmatch(rf"kernels-{key}-([0-9a-f]{{64}})\.so", name)
        if match is None:
            continue
        try:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        except OSError:
            continue
        if _is_safe(handle) and _sha256(handle) == match[1]:
            loaded = _load(handle)
            if loaded is not None:
                return loaded
        os.close(handle)
    return None


def _sha256(handle: int) -> str:
    with open(handle, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(handle: int) -> ctypes.CDLL | None:
    """Load the library of a descriptor, which stays open: the loader identifies the library by its number."""
    try:
        return ctypes.CDLL(f"/proc/self/fd/{handle}")
    except OSError:
        return None


def _compile_and_store(compiler: str, folder: int, key: str, path: Path) -> ctypes.CDLL | None:
    """Compile once, however many processes wait for it. If it cannot be stored, only this process has it."""
    with contextlib.suppress(OSError):  # without locks every process compiles its own
        fcntl.flock(folder, fcntl.LOCK_EX)
    stored = _load_stored(folder, key)
    if stored is not None:
        return stored
    library = _compile(compiler)
    if library is None:
        return None
    try:
        _store(folder, key, library)
    except OSError as error:
        _note(f"they cannot be stored in {path} ({error.strerror}), so every process compiles them again")
    return _from_memory(library)


def _store(folder: int, key: str, library: bytes) -> None:
    """Store the complete library, and remove damaged libraries and old half-written files."""
    for name in os.listdir(folder):
        if name.startswith(f"kernels-{key}-") or (_TEMPORARY.fullmatch(name) and _is_old(folder, name)):
            _remove(folder, name)
    name = f"kernels-{key}-{hashlib.sha256(library).hexdigest()}.so"
    temporary = f".{secrets.token_hex(4)}.writing"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
        file.write(library)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=folder)


def _is_old(folder: int, name: str) -> bool:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return time.time() - found.st_mtime > ABANDONED_AFTER_SECONDS


# ----------------------------------------------------------------------------------------- compiling


def _compile(compiler: str) -> bytes | None:
    """Compile the library in a temporary folder that only this user can enter; None if that fails."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "kernels.so"
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(output)]
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                return None
            return output.read_bytes()
    except OSError:
        return None


def _from_memory(library: bytes) -> ctypes.CDLL | None:
    """Load a library that is not stored in a folder."""
    handle = os.memfd_create("kernels")
    with open(handle, "wb", closefd=False) as file:
        file.write(library)
    return _load(handle)
