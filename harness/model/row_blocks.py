"""A large batch through an architecture in blocks of rows, on one thread of a CPU.

The activations of one block stay in the cache, and in memory that is already mapped; those of some thousand
rows do not. Attention over tokens is a quarter faster this way, large matrix products are a tenth slower.
So architectures that work token by token ask for it by the number of rows that is fastest (``rows_at_once``:
128 where attention or shared weights leave little to compute, up to 512 with a network for every token), and
a batch of at most two blocks stays whole.
Several threads divide a batch among themselves, and with smaller blocks they would wait for each other more
often. A GPU is fastest with the whole batch.

Penalties and statistics of the blocks are averaged over rows, as they are over ranks
(`baselines.contract.Output`). A sparse model groups its rows by expert, which is faster the more rows there
are, so it gets its batch whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from baselines.contract import Experts, Output, RowBlocks, View


def in_row_blocks(backbone: Any, tokens: Tensor) -> Tensor | Output:
    """``backbone`` of the tokens (B, T, d), by blocks where that is faster and changes nothing."""
    rows = _rows_at_once(backbone, tokens)
    if rows is None or len(tokens) <= 2 * rows:
        return backbone(tokens)
    blocks = tokens.split(rows)
    results = [backbone(block) for block in blocks]
    if isinstance(results[0], Tensor):
        return torch.cat(results)
    return _joined(results, [len(block) / len(tokens) for block in blocks])


def _rows_at_once(backbone: Any, tokens: Tensor) -> int | None:
    """How many rows a block has; None where the batch stays whole."""
    # is_compiling before get_num_threads, which would break the compiled graph in three
    if tokens.device.type != "cpu" or torch.compiler.is_compiling() or torch.get_num_threads() > 1:
        return None
    if isinstance(backbone, Experts) or not isinstance(backbone, RowBlocks):
        return None
    return backbone.rows_at_once


def _joined(outputs: list[Output], shares: list[float]) -> Output:
    """One output made of those of consecutive blocks; ``shares`` are their shares of the rows."""

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
