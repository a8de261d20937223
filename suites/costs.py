"""What a suite's architectures cost, as a table; nothing is trained or allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.data import prepare_dataset
from harness.tokens import Inputs
from suites.rows import MatchedRow, match_rows
from suites.suite import Suite

HEADING = (
    f"{'dense params':>14}{'sparse params':>15}{'FLOPs/sample':>15}{'active FLOPs':>15}"
    f"{'train FLOPs':>15}{'FLOPs/batch 512':>18}{'miss':>8}"
)


def cost_table(suite: Suite, data_root: Path | None, cache_root: Path) -> str:
    """One block a dataset, one line a contestant: parameters, FLOPs, budget miss, config.

    Tokens that all rows share stand above the block, else in each line.
    """
    blocks = []
    for dataset in suite.datasets:
        prepared = prepare_dataset(dataset.name, dataset.options, data_root, cache_root)
        blocks.append(_block(prepared.schema.name, match_rows(suite, prepared)))
    return "\n\n".join(blocks)


def _block(dataset: str, rows: list[MatchedRow]) -> str:
    tokens = [_tokens(row.inputs) for row in rows]
    shared = len(set(tokens)) == 1
    width = 2 + max(len(row.name) for row in rows)
    tokens_width = 0 if shared else 2 + max(map(len, tokens))
    lines = [f"{'architecture':<{width}}{'' if shared else 'tokens':<{tokens_width}}{HEADING}  config"]
    for row, made in zip(rows, tokens, strict=True):
        start = f"{row.name:<{width}}{'' if shared else made:<{tokens_width}}"
        lines.append(f"{start}{_numbers(row)}  {_fields(row.config)}")
    return "\n".join([f"{dataset}: {tokens[0]}" if shared else f"{dataset}:", *lines])


def _tokens(inputs: Inputs) -> str:
    made_by = "" if inputs.tokenizer == "chunks" else f", {inputs.tokenizer}"
    return f"{inputs.num_tokens} tokens of width {inputs.token_dim}{made_by}"


def _numbers(row: MatchedRow) -> str:
    cost = row.cost
    miss = f"{row.budget.miss:+.2%}" if row.budget else "-"
    return (
        f"{cost.dense_params:>14,}{cost.sparse_params:>15,}{cost.flops_per_sample:>15,}"
        f"{cost.active_flops_per_sample:>15,}{cost.train_flops_per_sample:>15,}"
        f"{cost.flops_per_batch_512:>18,}{miss:>8}"
    )


def _fields(config: dict[str, Any]) -> str:
    """``name=value, ...``; the fields of a config inside a config stand in parentheses."""
    return ", ".join(
        f"{field}({_fields(value)})" if isinstance(value, dict) else f"{field}={value}"
        for field, value in config.items()
    )
