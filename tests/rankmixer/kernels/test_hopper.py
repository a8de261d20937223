"""Triton's compiler accepts every kernel for a Hopper GPU: unlike the interpreter, it checks types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rankmixer.kernels.against_float64 import WITHOUT_TRITON

pytest.importorskip("triton", reason=WITHOUT_TRITON)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    cache = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    process = subprocess.run(
        [sys.executable, "-m", "tests.rankmixer.kernels.compile_for_hopper"],
        env=os.environ | cache,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout)


@pytest.mark.parametrize("size", ["64 float32", "768 bfloat16"])
def test_every_elementwise_kernel_compiles(size, compiled):
    assert len(compiled[size]) == 5
    assert all(code_bytes > 0 for code_bytes in compiled[size].values())


def test_the_fused_gemm_uses_tensor_cores_without_spilling(compiled):
    """A block may use 99 KiB of shared memory on the GPUs that have the least (L40S)."""
    assert compiled["gemm"]["shared"] <= 99 * 1024
    assert compiled["gemm"]["uses tensor cores"]
    assert not compiled["gemm"]["spills"]
