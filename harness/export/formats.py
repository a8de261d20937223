"""Writes a model in one of three formats."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from files.errors import InputError
from files.plain_text import one_line
from harness.export.served import Input

EXAMPLE_ROWS = 3  # not 0 or 1, which would be taken for constants
LARGEST_BATCH = 2**24


@dataclass(frozen=True)
class Format:
    """How a traced model is written.

    ``file`` is its name in the artefact's folder; ``packages`` are those that it needs beside PyTorch, whose
    versions the manifest states.
    """

    file: str
    write: Callable[[ExportedProgram, Path, list[Input], str], None]
    packages: tuple[str, ...] = ()
    needs_compiler: bool = False


def format_called(name: str) -> Format:
    """A format by its name; InputError where there is none, or what it needs is not installed."""
    if name not in FORMATS:
        raise InputError(f"--format {name}: choose from {', '.join(FORMATS)}")
    chosen = FORMATS[name]
    missing = [package for package in chosen.packages if find_spec(package) is None]
    if missing:
        raise InputError(
            f"--format {name}: needs {', '.join(missing)}; install the extra: pip install "
            "--constraint requirements/lock.txt --editable '.[export]'"
        )
    if chosen.needs_compiler and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise InputError(f"--format {name}: needs a C++ compiler; install g++, or name another with CXX")
    return chosen


def traced(model: nn.Module, inputs: list[Input]) -> ExportedProgram:
    """The model as a graph of PyTorch's own operators, for any number of rows.

    Raises InputError where it cannot be traced, or its graph has an operator that is not PyTorch's.
    """
    rows = Dim("batch", min=1, max=LARGEST_BATCH)
    dynamic = tuple({0: rows} for _ in inputs)
    example = tuple(given.example(EXAMPLE_ROWS) for given in inputs)
    try:
        # strict: Dynamo sees through what plain tracing takes for a constant, such as len(tokens)
        with torch.no_grad():
            program = torch.export.export(
                model.eval(), example, dynamic_shapes=_by_parameter(model, dynamic), strict=True
            )
    except Exception as error:
        raise InputError(
            f"the model cannot be traced ({one_line(error)}); "
            "write its forward without branches that depend on values"
        ) from error
    foreign = foreign_operators(program)
    if foreign:
        raise InputError(
            f"the model calls {', '.join(foreign)}, which PyTorch alone does not have; "
            "use PyTorch's operators where torch.compiler.is_compiling()"
        )
    return program


def _by_parameter(model: nn.Module, dynamic: tuple[dict[int, Any], ...]) -> Any:
    """The shapes as `torch.export` wants them: those of ``*inputs`` are one parameter's."""
    takes_many = model.forward.__code__.co_flags & 0x04
    return (dynamic,) if takes_many else dynamic


def foreign_operators(program: ExportedProgram) -> list[str]:
    """The operators of a graph that do not come with PyTorch."""
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    own = ("aten.", "prims.", "<built-in", "higher_order", "wrap_")
    return sorted(name for name in called if not name.startswith(own) and not name.startswith("<function"))


def _torch_export(program: ExportedProgram, path: Path, inputs: list[Input], output: str) -> None:
    torch.export.save(program, path)


def _aoti(program: ExportedProgram, path: Path, inputs: list[Input], output: str) -> None:
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def _onnx(program: ExportedProgram, path: Path, inputs: list[Input], output: str) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    names = [given.name for given in inputs]
    exported = torch.onnx.export(
        program, input_names=names, output_names=[output], dynamo=True, verbose=False
    )
    assert exported is not None
    exported.save(path)


FORMATS = {
    "torch-export": Format("model.pt2", _torch_export),
    "aoti": Format("model.pt2", _aoti, needs_compiler=True),
    "onnx": Format("model.onnx", _onnx, ("onnx", "onnxscript", "onnxruntime")),
}
