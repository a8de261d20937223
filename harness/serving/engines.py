"""What computes an answer: PyTorch as it is or compiled, AOTInductor, ONNX Runtime.

All have the same inputs and the same plain embedding tables (`harness.export.served`), and are held against
the eager model in fp32 before they are timed.
"""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from files.errors import InputError, RefusedError
from harness.export.formats import FORMATS, format_called, traced
from harness.export.parity import SCORE_BOUND
from harness.export.served import Input, WholeModel
from harness.machine.peaks import DTYPES
from harness.serving.requests import Request
from harness.speed.cuda_graphs import captured, require_cuda_graphs

Answer = Callable[[Request], np.ndarray]  # probabilities (candidates, tasks)
ENGINES = ("eager", "compile", "aoti", "onnx")
EXPORTED = ("aoti", "onnx")
PRECISIONS = ("fp32", "bf16")
BF16_SCORE_BOUND = 0.02  # of a probability: eight binary digits in every layer


@dataclass(frozen=True)
class Conditions:
    """Where and how engines compute."""

    device: torch.device
    threads: int = 1
    precision: str = "fp32"
    cuda_graphs: bool = False


def require_engines(names: Sequence[str], conditions: Conditions) -> None:
    """Raise InputError where an engine is unknown, not installed, or not for these conditions."""
    if conditions.precision not in PRECISIONS:
        raise InputError(f"--precision {conditions.precision}: choose from {', '.join(PRECISIONS)}")
    if conditions.cuda_graphs:
        require_cuda_graphs(conditions.device)
    for name in names:
        if name not in ENGINES:
            raise InputError(f"--engine {name}: choose from {', '.join(ENGINES)}")
        if name == "compile" and shutil.which(os.environ.get("CXX", "g++")) is None:
            raise InputError("--engine compile: needs a C++ compiler; install g++, or name another with CXX")
        if name in EXPORTED:
            _require_exported(name, conditions)


def _require_exported(name: str, conditions: Conditions) -> None:
    try:
        format_called(name)
    except InputError as error:
        raise InputError(str(error).replace("--format", "--engine", 1)) from None
    if conditions.device.type != "cpu" or conditions.precision != "fp32":
        raise InputError(f"--engine {name}: computes in fp32 on the CPU; use --device cpu --precision fp32")


def engine(
    name: str, model: WholeModel, inputs: list[Input], conditions: Conditions, example: Request, folder: Path
) -> Answer:
    """The model, in fp32 on the CPU, in an engine; ``folder`` is for files that the engine keeps.

    Raises InputError where the model cannot be traced, or its call cannot be captured.
    """
    names = [given.name for given in inputs]
    if name == "onnx":
        return _onnx(model, inputs, folder, conditions.threads)
    if name == "aoti":
        return _aoti(model, inputs, folder)
    plain = conditions.device.type == "cpu" and conditions.precision == "fp32"
    own = model if plain else copy.deepcopy(model).to(conditions.device)  # models share weights
    call: Callable[..., Tensor] = AtPrecision(own, DTYPES[conditions.precision]).eval()
    if name == "compile":
        torch.compiler.reset()
        call = torch.compile(call, dynamic=False)
    if conditions.cuda_graphs:
        call = _graphed(call, [torch.from_numpy(example[name]).to(conditions.device) for name in names])
    return _in_torch(call, names, conditions.device)


class AtPrecision(nn.Module):
    """A model whose weights, tables included, and numbers are in ``dtype``; it returns float32."""

    def __init__(self, model: WholeModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model.to(dtype)
        self.dtype = dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        cast = [given.to(self.dtype) if given.is_floating_point() else given for given in inputs]
        return self.model(*cast).float()


def _in_torch(call: Callable[..., Tensor], names: list[str], device: torch.device) -> Answer:
    @torch.no_grad()
    def answer(request: Request) -> np.ndarray:
        return call(*(torch.from_numpy(request[name]).to(device) for name in names)).cpu().numpy()

    return answer


@torch.no_grad()
def _graphed(call: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[..., Tensor]:
    """Copies the inputs to where the graph reads them, and replays it."""
    replay = captured(lambda: call(*inputs), "the model")

    def graphed(*given: Tensor) -> Tensor:
        for place, value in zip(inputs, given, strict=True):
            place.copy_(value)
        return replay()

    return graphed


def _aoti(model: WholeModel, inputs: list[Input], folder: Path) -> Answer:
    import torch._inductor

    path = folder / FORMATS["aoti"].file
    FORMATS["aoti"].write(traced(model, inputs), path, inputs, "probabilities")
    call: Any = torch._inductor.aoti_load_package(str(path))
    return _in_torch(call, [given.name for given in inputs], torch.device("cpu"))


def _onnx(model: WholeModel, inputs: list[Input], folder: Path, threads: int) -> Answer:
    import onnxruntime

    path = folder / FORMATS["onnx"].file
    with warnings.catch_warnings(action="ignore"):  # of deprecated parts that the exporter uses
        FORMATS["onnx"].write(traced(model, inputs), path, inputs, "probabilities")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    used = {given.name for given in session.get_inputs()}

    def answer(request: Request) -> np.ndarray:
        return session.run(None, {name: values for name, values in request.items() if name in used})[0]

    return answer


def score_difference(found: list[np.ndarray], exact: list[np.ndarray], precision: str) -> float:
    """The largest difference of a probability from the exact one.

    Raises RefusedError where it exceeds the bound of the precision, or a score is no number.
    """
    bound = SCORE_BOUND if precision == "fp32" else BF16_SCORE_BOUND
    difference = float(np.abs(np.concatenate(found) - np.concatenate(exact)).max())
    if not difference <= bound:  # NaN is no parity either
        raise RefusedError(
            f"its scores differ from the eager model's by up to {difference:.2g}, more than {bound:g}"
        )
    return difference
