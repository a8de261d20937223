"""The choices that tuning has: as many for every architecture, and all of them possible at small budgets."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest

from harness.model.architectures import ARCHITECTURES, architecture_class
from harness.model.cost import CostCounter
from harness.model.tokens import Inputs
from tests.baselines.by_formula import ByFormula
from tests.harness.schemas import TABLE_SIZES, small_schema

COMBINATIONS = 4
TAKES_THE_MODEL_APART = {
    "mixing",
    "feed_forward",
    "residual",
    "norm",
    "moe",
    "global_token",
    "shared_projection",
}

pytestmark = pytest.mark.parametrize("name", ARCHITECTURES)


def choices(name) -> dict[str, tuple]:
    config_fields = dataclasses.fields(architecture_class(name).Config)
    return {f.name: f.metadata["choices"] for f in config_fields if "choices" in f.metadata}


def combinations(name) -> list[dict]:
    return [dict(zip(choices(name), values, strict=True)) for values in product(*choices(name).values())]


def counter_of(kind: type[CostCounter], token_dim: int) -> CostCounter:
    inputs = Inputs(num_tokens=16, token_dim=token_dim, target_attention=False, tower_dim=32)
    return kind(small_schema(), TABLE_SIZES, inputs, num_tasks=2)


def test_every_architecture_has_a_search_of_the_same_size(name):
    assert 1 <= len(choices(name)) <= 2
    assert len(combinations(name)) == COMBINATIONS


def test_the_default_is_the_first_choice_and_choices_do_not_repeat(name):
    defaults = {f.name: f.default for f in dataclasses.fields(architecture_class(name).Config)}
    for field, values in choices(name).items():
        assert values[0] == defaults[field]
        assert len(set(values)) == len(values)


def test_tuning_changes_neither_widths_set_by_a_budget_nor_ablation_switches(name):
    for token_dim in (16, 24, 32):
        knobs = architecture_class(name).knobs(16, token_dim)
        assert not {knob.field for knob in (knobs.coarse, knobs.fine) if knob} & set(choices(name))
    assert not TAKES_THE_MODEL_APART & set(choices(name))


@pytest.mark.parametrize("token_dim", [16, 24, 32])
def test_every_combination_meets_every_budget(name, token_dim):
    by_formula = counter_of(ByFormula, token_dim)
    for target in (5e5, 1e6, 3e6):
        for config in combinations(name):
            match = by_formula.match(name, config, "flops_per_sample", target)
            assert config.items() <= match.config.items()
            assert abs(match.miss) < 0.03, (config, target)


def test_sizes_matched_by_the_formula_meet_the_budget_when_counted(name):
    """The budget that is hardest to meet is the smallest one, with the widest tokens."""
    by_formula, counted = counter_of(ByFormula, 32), counter_of(CostCounter, 32)
    for config in combinations(name):
        matched = by_formula.match(name, config, "flops_per_sample", 5e5).config
        assert counted.budgeted(name, matched, "flops_per_sample") == pytest.approx(5e5, rel=0.03), config
