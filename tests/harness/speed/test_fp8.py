"""Which devices and architectures are measured in fp8, and what the others are told."""

from __future__ import annotations

import pytest
import torch

from files.errors import InputError
from harness.speed.fp8 import fp8_obstacle, require_fp8
from tests.harness.small_runs import small_spec

CUDA = torch.device("cuda")


def test_the_cpu_is_refused_with_the_mend():
    with pytest.raises(
        InputError, match="--precision fp8: the CPU has no fast products of fp8 numbers; use bf16"
    ):
        require_fp8(torch.device("cpu"))


@pytest.mark.parametrize(
    ("card", "capability", "is_refused"), [("A100", (8, 0), True), ("L40S", (8, 9), False)]
)
def test_a_gpu_is_taken_from_capability_8_9_on(card, capability, is_refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: card)
    if not is_refused:
        require_fp8(CUDA)
        return
    with pytest.raises(InputError, match=r"A100 has no fast products.*compute capability 8.9 or later"):
        require_fp8(CUDA)


@pytest.mark.parametrize(
    ("architecture", "config", "words"),
    [
        ("dlrm_mlp", {"hidden_dim": 16}, "none of RankMixer's per-token feed-forward networks"),
        ("rankmixer", {"model_dim": 48, "ffn_dim": 100}, "widths 48 and 100"),
        ("rankmixer", {"model_dim": 48, "ffn_dim": 96}, None),
    ],
)
def test_an_architecture_without_a_way_in_fp8_is_told_why(architecture, config, words, prepared):
    spec = small_spec(prepared, architecture=architecture).model_copy(update={"config": config})
    found = fp8_obstacle(spec)
    assert found is None if words is None else words in found
