"""CUDA graphs of inference: on a GPU the real ones, elsewhere a stand-in that repeats recorded operators."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from baselines.kernels import cpu as cpu_kernels
from files.errors import InputError
from harness.machine.peaks import Gemm
from harness.runs.run import build_model
from harness.speed import models as profile_models
from harness.speed.cuda_graphs import WARM_UP_CALLS, captured, require_cuda_graphs
from harness.speed.models import Machine, _call, profile_model, read_batches
from harness.training.ranks import World
from tests.harness.small_runs import small_spec
from tests.harness.speed.test_models import cost_of

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")


class RecordedOperators(TorchDispatchMode):
    """What a graph does: the same operators on the same memory, at every replay."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        result = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self.steps:
            for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    """Without a GPU, the part of torch.cuda that `captured` uses, on the CPU."""
    if HAS_GPU:
        return

    @contextmanager
    def capturing(graph):
        with graph:
            yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextmanager(lambda: (yield))())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedOperators)
    monkeypatch.setattr(torch.cuda, "graph", capturing)


def test_a_replay_reads_the_captured_memory_anew_and_writes_the_same_tensor():
    x = torch.ones(3, device=DEVICE)
    calls = []
    replay = captured(lambda: calls.append(1) or (2 * x + 1).view(3, 1), "a sum")
    assert len(calls) == WARM_UP_CALLS + 1
    first = replay()
    assert first.flatten().tolist() == [3, 3, 3]
    x.copy_(torch.arange(3.0))
    assert replay() is first
    assert first.flatten().tolist() == [1, 3, 5]
    assert len(calls) == WARM_UP_CALLS + 1


def test_what_waits_for_the_gpu_is_refused_by_name_in_one_sentence():
    x = torch.ones(3, device=DEVICE)
    with pytest.raises(InputError, match=r"--cuda-graphs: moe cannot be captured \(.*\); leave") as error:
        captured(lambda: x[: int(x.sum())], "moe")
    assert "\n" not in str(error.value)


def test_a_device_without_graphs_is_refused_with_the_mend():
    require_cuda_graphs(torch.device("cuda"))
    with pytest.raises(InputError, match="--cuda-graphs: the cpu has none; leave the flag out"):
        require_cuda_graphs(torch.device("cpu"))


@pytest.mark.parametrize(
    ("architecture", "config"),
    [("dlrm_mlp", {"hidden_dim": 8}), ("rankmixer", {"model_dim": 12, "ffn_dim": 24})],
)
def test_inference_of_the_dense_part_depends_on_the_held_memory_alone(
    architecture, config, prepared, monkeypatch
):
    """New values in it give what the model itself predicts of them: nothing was frozen by the capture."""
    monkeypatch.setattr(
        cpu_kernels, "compiled_functions", lambda: None
    )  # no GPU runs them, nor does what records here
    spec = small_spec(prepared, architecture=architecture).model_copy(update={"config": config})
    batches = read_batches(spec, prepared, 32, DEVICE)
    model = build_model(spec, prepared, World(0, 1, DEVICE))
    call, held = _call(model, spec, batches, "dense", "inference")
    replay = captured(call, architecture)
    before = replay().logits.clone()
    torch.testing.assert_close(before, call().logits)
    with torch.no_grad():
        for pooled in held.looked_up.pooled.values():
            pooled.copy_(torch.randn_like(pooled))
    torch.testing.assert_close(replay().logits, call().logits)
    assert not torch.allclose(replay().logits, before)


def test_the_record_says_which_measurement_was_of_replays(prepared, monkeypatch):
    taken = []
    monkeypatch.setattr(
        profile_models, "captured", lambda call, name: taken.append(captured(call, name)) or taken[-1]
    )
    spec = small_spec(prepared)
    machine = Machine(Gemm(DEVICE, "fp32", size=64), bandwidth=1e10)
    cost = cost_of(spec, prepared)
    records = profile_model(spec, cost, prepared, machine, 32, 1, 0.001, cuda_graphs=True)
    replayed = {(r["part"], r["mode"]) for r in records if r["cuda_graphs"]}
    assert len(taken) == 1
    assert replayed == {("dense", "inference")}
