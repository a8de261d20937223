"""A large batch through an architecture in blocks of rows, on one thread of a CPU.

A block's activations stay in the cache, and in memory that is already mapped, where those of some thousand
rows do not: attention over tokens gains a quarter. What is mostly large products loses a tenth, so
architectures that work token by token ask for it by the number of rows that is fastest (``rows_at_once``:
128 where attention or shared weights leave little to compute, up to 512 with a network for every token), and
a batch of no more than two blocks stays whole.
Several threads share out a batch by themselves, and in smaller blocks they would meet more often; a GPU wants
the batch whole.

What an architecture returns beside its representation is put together as over ranks: penalties and statistics
are means over rows (`baselines.layers.Output`). A sparse model regroups its rows by expert, the more at once
the better, and gets its batch whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from baselines.layers import Output, View


def in_row_blocks(backbone: Any, tokens: Tensor) -> Tensor | Output:
    """``backbone`` of the tokens (B, T, d), by blocks where that is faster and changes nothing."""
    if not _may_be_cut(backbone, tokens) or len(tokens) <= 2 * backbone.rows_at_once:
        return backbone(tokens)
    blocks = tokens.split(backbone.rows_at_once)
    results = [backbone(block) for block in blocks]
    if isinstance(results[0], Tensor):
        return torch.cat(results)
    return _joined(results, [len(block) / len(tokens) for block in blocks])


def _may_be_cut(backbone: Any, tokens: Tensor) -> bool:
    if tokens.device.type != "cpu" or torch.get_num_threads() > 1 or torch.compiler.is_compiling():
        return False
    return hasattr(backbone, "rows_at_once") and not hasattr(backbone, "expert_flops")


def _joined(outputs: list[Output], shares: list[float]) -> Output:
    """One output of those of consecutive blocks, of which each has its share of the rows."""

    def mean(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {
            name: torch.stack([share * part[name] for share, part in zip(shares, parts, strict=True)]).sum(0)
            for name in parts[0]
        }

    views = {
        name: View(view.weight, torch.cat([output.views[name].representation for output in outputs]))
        for name, view in outputs[0].views.items()
    }
    return Output(
        torch.cat([output.representation for output in outputs]),
        views,
        mean([output.penalties for output in outputs]),
        mean([output.statistics for output in outputs]),
    )
