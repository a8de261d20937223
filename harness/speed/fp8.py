"""Where fp8 can be measured: devices that multiply it, and models that have what is computed in it."""

from __future__ import annotations

import torch

from files.errors import InputError
from harness.model.assembly import build_backbone
from harness.records.spec import RunSpec
from rankmixer.kernels.fp8 import obstacle

FIRST_CAPABILITY = (8, 9)  # of CUDA devices


def require_fp8(device: torch.device) -> None:
    """Raise InputError on a device without products of fp8 numbers."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < FIRST_CAPABILITY:
        name = "the CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
        raise InputError(
            f"--precision fp8: {name} has no fast products of fp8 numbers; use bf16, or a GPU of compute "
            "capability 8.9 or later, such as an H100"
        )


def fp8_obstacle(spec: RunSpec) -> str | None:
    """What keeps a run's architecture from inference in fp8; None where nothing does."""
    with torch.device("meta"):
        backbone = build_backbone(spec.architecture, spec.num_tokens, spec.token_dim, spec.config)
    return obstacle(backbone)
