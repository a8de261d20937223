"""The rows of a suite on one dataset: what each is fed, its config at the budget, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from harness.cost import Cost, CostCounter
from harness.data import InputError, PreparedDataset
from harness.runs import Budget
from harness.tokens import Inputs, check_tokens_hold_embeddings, natural_num_tokens, token_dim_for
from suites.suite import Contestant, Suite

DEFAULT_CHUNKS = 16


@dataclass(frozen=True)
class MatchedRow:
    """A contestant with its inputs, its config resolved at the budget on them, and its cost."""

    contestant: Contestant
    inputs: Inputs
    config: dict
    cost: Cost
    budget: Budget | None

    @property
    def name(self) -> str:
        return name_of(self.contestant)


def name_of(row: Contestant) -> str:
    """Architecture and variant joined as in the names of run folders."""
    return "-".join(filter(None, [row.architecture, row.variant]))


def match_rows(suite: Suite, prepared: PreparedDataset) -> list[MatchedRow]:
    """Resolve every contestant's inputs on this dataset, and its config at its own or the suite's budget."""
    num_tasks = len(prepared.schema.chosen_tasks(suite.tasks))

    @cache
    def counter(inputs: Inputs) -> CostCounter:
        return CostCounter(prepared.schema, prepared.table_sizes, inputs, num_tasks)

    inputs = [row_inputs(suite, prepared, row) for row in suite.architectures]
    return [
        _match_row(row, suite, counter(fed)) for row, fed in zip(suite.architectures, inputs, strict=True)
    ]


def row_inputs(suite: Suite, prepared: PreparedDataset, row: Contestant) -> Inputs:
    """A row's own tokens, or the suite's; InputError naming the row if they cannot be made."""
    schema = prepared.schema
    tokenizer = row.tokenizer or suite.tokenizer
    asked_for = row.tokens or (suite.tokens if row.tokenizer is None else None)
    num_tokens = asked_for or natural_num_tokens(schema, tokenizer, chunks=suite.tokens or DEFAULT_CHUNKS)
    try:
        inputs = Inputs(
            tokenizer=tokenizer,
            num_tokens=num_tokens,
            token_dim=row.token_dim or suite.token_dim or token_dim_for(schema, tokenizer, num_tokens),
            target_attention=suite.target_attention,
            tower_dim=suite.tower_dim,
        )
        check_tokens_hold_embeddings(schema, inputs)
    except InputError as error:
        raise InputError(f"{name_of(row)}: {error}") from None
    return inputs


def _match_row(row: Contestant, suite: Suite, counter: CostCounter) -> MatchedRow:
    wanted = row.budget or suite.budget
    try:
        if wanted is None:
            cost = counter.cost(row.architecture, row.config)
            return MatchedRow(row, counter.inputs, row.config, cost, None)
        match = counter.match(row.architecture, row.config, wanted.kind, wanted.target)
    except InputError as error:
        raise InputError(f"{row.variant}: {error}" if row.variant else str(error)) from None
    budget = Budget(kind=wanted.kind, target=wanted.target, miss=match.miss)
    return MatchedRow(row, counter.inputs, match.config, match.cost, budget)
