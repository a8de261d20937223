"""What a suite's architectures cost, as a table; nothing is trained or allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.data import prepare_dataset
from harness.model.tokens import Inputs, embedding_width
from suites.rows import MatchedRow, match_rows
from suites.suite import Dataset, Suite

HEADING = (
    f"{'dense params':>14}{'sparse params':>15}{'FLOPs/sample':>15}{'active FLOPs':>15}"
    f"{'train FLOPs':>15}{'FLOPs/batch 512':>18}{'miss':>8}"
)
BATCH = 512
AT_THE_PAPERS_SIZE = 0.02
HEADING_BESIDE = (
    f"{'params, M':>12}{'paper':>9}{'off':>8}{'forward, G':>14}{'training, G':>14}{'paper, G':>11}"
    f"{'FLOPs/param':>14}{'paper':>8}"
)
NOTE = """\
Beside the paper: dense parameters, FLOPs per batch of 512, FLOPs over parameters and batch (ours: training).
The paper's FLOPs cannot be had with its parameters. A weight that is used once a sample costs 2 FLOPs forward
and 6 in training; per parameter and sample the paper's column says 3.7 (RankMixer-1B) to 31.2 (AutoInt), and
for the same MLP 11.7 at one size and 3.8 at another. Its two MLPs fit 3.0 a parameter on top of 38.6 G that
no layer accounts for, as if it counted the multiply-adds of training. So rows are matched to its parameters,
and one counter counts for all."""

Published = dict[str, tuple[float, float]]


def cost_table(
    suite: Suite, data_root: Path | None, cache_root: Path, published: Published | None = None
) -> str:
    """One block for each dataset, one line for each contestant: parameters, FLOPs, budget miss, config.

    Tokens that all rows share are written above the block, otherwise in each line, with the share of their
    numbers that are padding. ``published`` holds a paper's dense parameters and FLOPs per batch of 512 by
    row name; rows that have these parameters within 2% are shown beside them in a block of their own.
    """
    blocks = []
    for dataset in suite.datasets:
        prepared = prepare_dataset(
            dataset.name, dataset.options, data_root, cache_root, world=dataset.each_world[0]
        )
        rows = match_rows(suite, prepared)
        width = embedding_width(prepared.schema.features)
        blocks.append(_block(_heading(suite, dataset, prepared.schema.name), rows, width))
        at_the_papers_size = [row for row in rows if _is_at_the_papers_size(row, published or {})]
        if published and at_the_papers_size:
            blocks += [_beside(at_the_papers_size, published), NOTE]
    return "\n\n".join(blocks)


def _heading(suite: Suite, dataset: Dataset, name: str) -> str:
    """The dataset's name and, where it is run in worlds, how many runs a row has; costs are of the first."""
    if dataset.worlds is None:
        return name
    worlds, seeds = len(dataset.worlds), suite.seeds
    return f"{name} world {dataset.worlds[0]}, {worlds * seeds} runs a row ({worlds} worlds x {seeds} seeds)"


def _is_at_the_papers_size(row: MatchedRow, published: Published) -> bool:
    params, _ = published.get(row.name, (0.0, 0.0))
    return abs(row.cost.dense_params - params) <= AT_THE_PAPERS_SIZE * params


def _beside(rows: list[MatchedRow], published: Published) -> str:
    width = 2 + max(len(row.name) for row in rows)
    lines = [f"{'':<{width}}{HEADING_BESIDE}"]
    for row in rows:
        cost, (params, flops) = row.cost, published[row.name]
        training = BATCH * cost.train_flops_per_sample
        lines.append(
            f"{row.name:<{width}}{cost.dense_params / 1e6:>12,.1f}{params / 1e6:>9,.1f}"
            f"{cost.dense_params / params - 1:>+8.1%}{cost.flops_per_batch_512 / 1e9:>14,.1f}"
            f"{training / 1e9:>14,.1f}{flops / 1e9:>11,.0f}"
            f"{training / BATCH / cost.dense_params:>14.1f}{flops / BATCH / params:>8.1f}"
        )
    return "\n".join(lines)


def _block(dataset: str, rows: list[MatchedRow], width_of_embeddings: int) -> str:
    tokens = [_tokens(row.inputs, width_of_embeddings) for row in rows]
    shared = len(set(tokens)) == 1
    width = 2 + max(len(row.name) for row in rows)
    tokens_width = 0 if shared else 2 + max(map(len, tokens))
    lines = [f"{'architecture':<{width}}{'' if shared else 'tokens':<{tokens_width}}{HEADING}  config"]
    for row, made in zip(rows, tokens, strict=True):
        start = f"{row.name:<{width}}{'' if shared else made:<{tokens_width}}"
        lines.append(f"{start}{_numbers(row)}  {_fields(row.config)}")
    return "\n".join([f"{dataset}: {tokens[0]}" if shared else f"{dataset}:", *lines])


def _tokens(inputs: Inputs, width_of_embeddings: int) -> str:
    made_by = "" if inputs.tokenizer == "chunks" else f", {inputs.tokenizer}"
    padding = 1 - width_of_embeddings / (inputs.num_tokens * inputs.token_dim)
    padded = f", {padding:.0%} padding" if padding else ""
    return f"{inputs.num_tokens} tokens of width {inputs.token_dim}{made_by}{padded}"


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
