"""The rows of a suite on one dataset: the inputs of each, its config at the budget, and its cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from harness.data import InputError, PreparedDataset
from harness.model.cost import CostCounter
from harness.model.tokens import Inputs, check_tokens_hold_embeddings, natural_num_tokens, token_dim_for
from harness.records.cost import Cost
from harness.records.spec import Budget, Training
from suites.suite import Suite, SuiteRow
from suites.tuning.tuned import Tuned, TunedRow, chooses_tokens, inputs_of, read_tuned, tuned_training

DEFAULT_CHUNKS = 16


@dataclass(frozen=True)
class MatchedRow:
    """A contestant with its inputs, its config resolved at the budget on them, its cost and its training.

    ``tuned`` is where the training comes from, if it was tuned.
    """

    row: SuiteRow
    inputs: Inputs
    config: dict
    cost: Cost
    budget: Budget | None
    training: Training
    tuned: TunedRow | None = None

    @property
    def name(self) -> str:
        return self.row.name


Match = Callable[[SuiteRow], MatchedRow]


def match_rows(suite: Suite, prepared: PreparedDataset) -> list[MatchedRow]:
    """Resolve every contestant: inputs, settings, and config at its own or the suite's budget."""
    match = matcher(suite, prepared)
    return [match(row) for row in suite.architectures]


def matcher(suite: Suite, prepared: PreparedDataset) -> Match:
    """The function that resolves one contestant of the suite on this dataset.

    It raises InputError that names the row where its tokens or settings cannot be made, or its budget cannot
    be met.
    """
    num_tasks = len(prepared.schema.chosen_tasks(suite.tasks))
    tuned = read_tuned(suite, prepared)

    @cache
    def counter(inputs: Inputs) -> CostCounter:
        return CostCounter(prepared.schema, prepared.table_sizes, inputs, num_tasks)

    def match(row: SuiteRow) -> MatchedRow:
        inputs = row_inputs(suite, prepared, row)
        settings = tuned_row(tuned, row, inputs)
        if settings is not None and settings.tokens and chooses_tokens(row):
            inputs = row_inputs(suite, prepared, row.model_copy(update=settings.tokens))
        return _match_row(row, suite, counter(inputs), settings)

    return match


def tuned_row(tuned: Tuned | None, row: SuiteRow, inputs: Inputs) -> TunedRow | None:
    """The row's tuned settings, None where it wants none; InputError where there are none for its inputs.

    ``inputs`` are the row's before tuning; a row with tokens of its own keeps them.
    """
    if tuned is None or row.tuned_as is None:
        return None
    settings = tuned.rows.get(row.tuned_as or row.name)
    again = f"tune {tuned.suite!r} again with this row in it, or --set tuned=null"
    if settings is None:
        raise InputError(
            f"{row.name}: has no tuned settings in {tuned.suite!r} for {tuned.dataset!r}; {again}"
        )
    untuned = settings.default_inputs if settings.tokens and chooses_tokens(row) else settings.inputs
    if untuned != inputs_of(inputs):
        raise InputError(f"{row.name}: was tuned on other tokens in {tuned.suite!r}; {again}")
    return settings


def row_inputs(suite: Suite, prepared: PreparedDataset, row: SuiteRow) -> Inputs:
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
        raise InputError(f"{row.name}: {error}") from None
    return inputs


def _match_row(row: SuiteRow, suite: Suite, counter: CostCounter, settings: TunedRow | None) -> MatchedRow:
    wanted = row.budget or suite.budget
    config = row.config if settings is None else settings.config | row.config
    training = row.trained_by(tuned_training(suite, settings))
    try:
        if wanted is None:
            cost = counter.cost(row.architecture, config)
            return MatchedRow(row, counter.inputs, config, cost, None, training, settings)
        if wanted.kind == "latency_ms_p99":
            raise InputError(
                f"{row.name}: a budget of latency_ms_p99 is measured, which the command run alone does; give "
                "flops_per_sample or dense_params here"
            )
        match = counter.match(row.architecture, config, wanted.kind, wanted.target)
    except InputError as error:
        raise InputError(f"{row.variant}: {error}" if row.variant else str(error)) from None
    budget = Budget(kind=wanted.kind, target=wanted.target, miss=match.miss)
    return MatchedRow(row, counter.inputs, match.config, match.cost, budget, training, settings)
