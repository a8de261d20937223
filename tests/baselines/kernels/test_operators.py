"""The CPU kernels as operators, checked with PyTorch's own tools."""

from __future__ import annotations

import ctypes
import re

import pytest
import torch
from torch import Tensor, library, nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.kernels import compiled
from baselines.kernels import cpu as cpu_kernels
from baselines.kernels.operators import OPERATORS

pytestmark = pytest.mark.skipif(
    compiled.compiled_functions() is None, reason="NO COMPILER (g++): kernels untested"
)
B, T, D, M = 6, 4, 8, 20


def arguments(name: str, device: str = "cpu", requires_grad: bool = False) -> tuple:
    torch.manual_seed(0)

    def made(*shape: int) -> Tensor:
        return torch.randn(shape).to(device).requires_grad_(requires_grad)

    if name == "per_token_ffn":
        return made(B, T, D), made(T, D, M), made(T, 1, M), made(T, M, D), made(T, 1, D)
    if name == "ffn_without_last_bias":
        return *arguments("per_token_ffn", device, requires_grad)[:4], None
    if name == "add_norm":
        return made(B, T, D), made(B, T, D), None, made(D), made(D), 1e-5, False
    if name == "ffn_add_norm":
        return made(B, T, D), made(B, T, D), made(T, 1, D), made(D), made(D), 1e-5, False
    return made(B, T, D), None, None, made(D), made(D), 1e-5, True


NAMES = {
    "per_token_ffn": "per_token_ffn",
    "ffn_without_last_bias": "per_token_ffn",
    "add_norm": "sum_norm",
    "ffn_add_norm": "sum_norm",
    "mix_add_norm": "sum_norm",
}
EACH = pytest.mark.parametrize("name", NAMES)


def operator(name: str):
    return getattr(OPERATORS, NAMES[name]).default


@EACH
@pytest.mark.parametrize("requires_grad", [False, True])
def test_pytorch_finds_no_fault_with_schema_shapes_and_autograd(name, requires_grad):
    library.opcheck(operator(name), arguments(name, requires_grad=requires_grad))


@EACH
def test_the_meta_device_finds_the_shapes_and_strides(name):
    found, wanted = operator(name)(*arguments(name, "meta")), operator(name)(*arguments(name))
    assert found.is_meta
    assert (found.shape, found.stride(), found.dtype) == (wanted.shape, wanted.stride(), wanted.dtype)


@EACH
def test_a_compiled_graph_contains_the_operator_and_gives_the_same_bits(name):
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    def function(*inputs):
        return operator(name)(*inputs).square()

    results = []
    for call in (function, torch.compile(function, fullgraph=True, backend=backend)):
        inputs = arguments(name, requires_grad=True)
        y = call(*inputs)
        y.sum().backward()
        results.append([y, *(x.grad for x in inputs if isinstance(x, Tensor))])
    assert operator(name) in [node.target for node in graphs[0].graph.nodes]
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(arguments("per_token_ffn")[1:])
        self.norm = nn.LayerNorm(D)

    def forward(self, s: Tensor) -> Tensor:
        return cpu_kernels.mix_add_norm(cpu_kernels.per_token_ffn(s, *self.weights), self.norm)


def test_an_exported_program_contains_the_operators():
    network, s = Network().eval(), torch.randn(B, T, D)
    with torch.no_grad():
        exported = torch.export.export(network, (s,))
        wanted = [OPERATORS.per_token_ffn.default, OPERATORS.sum_norm.default]
        assert [node.target for node in exported.graph.nodes if node.target in wanted] == wanted
        assert torch.equal(exported.module()(s), network(s))


def test_flops_equal_those_of_the_products_on_the_meta_device_too():
    for device in ("cpu", "meta"):
        inputs = arguments("per_token_ffn", device, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            OPERATORS.per_token_ffn(*inputs).sum().backward()
        assert counter.get_total_flops() == 3 * 4 * B * T * D * M


@EACH
def test_second_derivatives_are_refused(name):
    inputs = arguments(name, requires_grad=True)
    [gradient] = torch.autograd.grad(operator(name)(*inputs).square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.sum(), inputs[0])


def test_names_and_types_of_arguments_are_those_of_the_cpp_file():
    source = compiled.SOURCE.read_text(encoding="utf-8").replace("\\\n", " ")
    declared = dict(re.findall(r'extern "C" void (\w+)_##name\((.*?)\)', source, re.DOTALL))
    assert declared.keys() == compiled.ARGUMENTS.keys()
    types = {"Size": ctypes.c_int64, "int": ctypes.c_int, "float": ctypes.c_float}
    for function, text in declared.items():
        found = {}
        for argument in text.split(","):
            kind, name = argument.split()[-2:]
            found[name] = ctypes.c_void_p if kind.endswith("*") else types[kind]
        assert list(found.items()) == list(compiled.ARGUMENTS[function].items())
    steps = re.search(r"enum Step \{ (.*) \}", source)
    assert steps is not None
    assert steps[1].split(", ") == ["nothing", "given", "biased", "mixing"]
