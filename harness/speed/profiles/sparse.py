"""How fast experts are that are not computed, beside computing all of them, both timed in the same run.

The clock: one layer of per-token experts, tokens and gates in memory, no gradient. The dense side is the
per-token FFN with its hidden width multiplied by the gates, as in training; the sparse side is what the model
runs in evaluation, finding out which rows go where included. Both have all threads, and the same gates:
exactly the stated share of experts for every row and token, drawn at random.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from baselines.layers import PerTokenLinear
from harness.machine.timing import seconds_of
from harness.speed.profiles.figures import figure
from rankmixer.kernels.grouped import grouped_ffn

RATIOS = {"1": 1, "1_2": 1 / 2, "1_4": 1 / 4, "1_8": 1 / 8}
COMMAND = "python run_bench.py profile sparse"


@torch.no_grad()
def profile_sparse(
    rows: int = 2048, num_tokens: int = 16, model_dim: int = 256, num_experts: int = 8, repeats: int = 9
) -> list[dict]:
    """Median rates over ``repeats``; ``spread`` is the largest less the smallest, in the same unit.

    ``sparse_speedup_at_1_8`` is the dense side's time over the sparse side's with one expert in eight active,
    each pair timed in succession. The hidden width is twice ``model_dim``.

    Raises AssertionError unless both sides agree, before anything is timed.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(rows, num_tokens, model_dim, generator=generator)
    up = PerTokenLinear(num_tokens, model_dim, 2 * model_dim)
    down = PerTokenLinear(num_tokens, 2 * model_dim, model_dim)
    dense_rates: list[float] = []
    speedups, sparse_figures = [], []
    for name, ratio in RATIOS.items():
        gates = random_gates(rows, num_tokens, num_experts, round(ratio * num_experts), generator)
        # Both calls also pay for fresh memory.
        torch.testing.assert_close(
            grouped_ffn(tokens, gates, up, down), dense_experts(tokens, gates, up, down), atol=1e-4, rtol=1e-4
        )
        dense, sparse = [], []
        for _ in range(repeats):  # interleaved, so that a busy machine slows both
            dense.append(rows / seconds_of(partial(dense_experts, tokens, gates, up, down)))
            sparse.append(rows / seconds_of(partial(grouped_ffn, tokens, gates, up, down)))
        dense_rates += dense
        speedup = [b / a for a, b in zip(dense, sparse, strict=True)]
        speedups.append(figure(f"sparse_speedup_at_{name}", speedup, "x", COMMAND))
        sparse_figures.append(figure(f"sparse_rows_per_second_at_{name}", sparse, "rows/s", COMMAND))
    return [*speedups, figure("dense_rows_per_second", dense_rates, "rows/s", COMMAND), *sparse_figures]


def dense_experts(s: Tensor, gates: Tensor, up: PerTokenLinear, down: PerTokenLinear) -> Tensor:
    """All experts computed, then gated: (B, T, D) and gates (B, T, E) to (B, T, D)."""
    hidden = functional.gelu(up(s)).unflatten(2, (gates.shape[2], -1))
    return down((hidden * gates.unsqueeze(3)).flatten(2))


def random_gates(
    rows: int, num_tokens: int, num_experts: int, active: int, generator: torch.Generator
) -> Tensor:
    """(B, T, E): ``active`` positive gates for every row and token, the others zero."""
    shape = rows, num_tokens, num_experts
    chosen = torch.rand(shape, generator=generator).topk(active, dim=2).indices
    return torch.zeros(shape).scatter_(2, chosen, torch.rand(chosen.shape, generator=generator) + 0.5)
