"""What a suite's architectures cost, as a table; nothing is trained or allocated."""

from __future__ import annotations

from pathlib import Path

from harness.data import prepare_dataset
from suites.run import MatchedRow, match_rows
from suites.suite import Suite


def cost_table(suite: Suite, data_root: Path | None, cache_root: Path) -> str:
    """One block a dataset, one line a contestant: config, parameters, FLOPs, budget miss."""
    blocks = []
    for dataset in suite.datasets:
        prepared = prepare_dataset(dataset.name, dataset.options, data_root, cache_root)
        inputs, rows = match_rows(suite, prepared)
        header = f"{prepared.schema.name}: {inputs.num_tokens} tokens of width {inputs.token_dim}"
        width = 2 + max(len(_name(row)) for row in rows)
        blocks.append(
            "\n".join([header, f"{'architecture':<{width}}{HEADING}", *(_line(row, width) for row in rows)])
        )
    return "\n\n".join(blocks)


HEADING = (
    f"{'dense params':>14}{'sparse params':>15}{'FLOPs/sample':>15}"
    f"{'train FLOPs':>15}{'FLOPs/batch 512':>18}{'miss':>8}  config"
)


def _name(row: MatchedRow) -> str:
    return " ".join(filter(None, [row.contestant.architecture, row.contestant.variant]))


def _line(row: MatchedRow, width: int) -> str:
    cost = row.cost
    miss = f"{row.budget.miss:+.2%}" if row.budget else "-"
    config = ", ".join(f"{field}={value}" for field, value in row.config.items())
    return (
        f"{_name(row):<{width}}{cost.dense_params:>14,}{cost.sparse_params:>15,}{cost.flops_per_sample:>15,}"
        f"{cost.train_flops_per_sample:>15,}{cost.flops_per_batch_512:>18,}{miss:>8}  {config}"
    )
