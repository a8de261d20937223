"""Counted costs against closed forms; matching against exhaustive search and the budgets it must reach."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest
from torch import Tensor, nn

from baselines.contract import Knob, Knobs
from datasets.schema import Feature, FractionSplit, Schema, Task
from files.errors import InputError
from harness.model.architectures import ARCHITECTURES, architecture_class
from harness.model.cost import CLOSE_MISS, CostCounter
from harness.model.tokens import Inputs
from tests.baselines.by_formula import ByFormula
from tests.harness.schemas import TABLE_SIZES, small_schema


def wide_schema(width: int) -> Schema:
    """One feature as wide as all tokens together, be there such tables or not."""
    schema = Schema(
        name="wide",
        features=[Feature(name="f", kind="categorical", group="g")],
        tasks=[Task(name="a"), Task(name="b")],
        user_id="u",
        time="t",
        split=FractionSplit(by="fraction"),
    )
    wide = [feature.model_copy(update={"embedding_dim": width}) for feature in schema.features]
    return schema.model_copy(update={"features": wide})


def counter(num_tokens: int = 16, token_dim: int = 40, kind: type[CostCounter] = CostCounter) -> CostCounter:
    inputs = Inputs(num_tokens=num_tokens, token_dim=token_dim, target_attention=False, tower_dim=32)
    return kind(wide_schema(num_tokens * token_dim), {"f": 100}, inputs, num_tasks=2)


def test_cost_of_an_mlp_is_its_weights_towers_and_number_embeddings():
    inputs = Inputs(num_tokens=3, token_dim=16, target_attention=False, tower_dim=4)
    cost = CostCounter(small_schema(), TABLE_SIZES, inputs, num_tasks=2).cost("dlrm_mlp", {"hidden_dim": 10})
    layers = [(48, 10), (10, 10), (10, 10)]
    towers = 2 * [(10, 4), (4, 1)]
    assert cost.flops_per_sample == sum(2 * i * o for i, o in layers + towers)
    assert cost.dense_params == sum(i * o + o for i, o in layers + towers) + 2 * 8
    assert cost.sparse_params == 8 * (50 + 40 + 12)
    assert cost.train_flops_per_sample == 3 * cost.flops_per_sample
    assert cost.flops_per_batch_512 == 512 * cost.flops_per_sample


def test_target_attention_is_counted_for_every_padded_position():
    def cost(attention: bool) -> int:
        inputs = Inputs(num_tokens=3, token_dim=16, target_attention=attention, tower_dim=4)
        count = CostCounter(small_schema(), TABLE_SIZES, inputs, num_tasks=2)
        return count.cost("dlrm_mlp", {"hidden_dim": 10}).flops_per_sample

    sequences, length, width, hidden = 2, 5, 8, 32
    extra = 2 * sequences * length * (3 * width * hidden + hidden)
    assert cost(attention=True) - cost(attention=False) == extra


def test_a_vector_costs_its_linear_map():
    def cost(features: list[Feature]):
        schema = small_schema()
        schema = schema.model_copy(update={"features": [*schema.features, *features]})
        inputs = Inputs(num_tokens=3, token_dim=24, target_attention=False, tower_dim=4)
        config = {"hidden_dim": 10}
        return CostCounter(schema, TABLE_SIZES, inputs, num_tasks=2).cost("dlrm_mlp", config)

    length, width = 19, 6
    picture = Feature(name="picture", kind="vector", group="item", length=length, embedding_dim=width)
    without, with_it = cost([]), cost([picture])
    assert with_it.flops_per_sample - without.flops_per_sample == 2 * length * width
    assert with_it.dense_params - without.dense_params == (length + 1) * width
    assert with_it.sparse_params == without.sparse_params


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("budget", [0.25e6, 1e9])
def test_every_architecture_meets_every_budget(architecture, budget):
    match = counter(num_tokens=8, kind=ByFormula).match(architecture, {}, "flops_per_sample", budget)
    assert abs(match.miss) <= 0.01
    counted = counter(num_tokens=8).budgeted(architecture, match.config, "flops_per_sample")
    assert counted == pytest.approx(budget, rel=0.01)


@pytest.mark.parametrize("architecture", ["dlrm_mlp", "dcn", "rankmixer"])  # of one knob and of two
def test_a_match_by_counting_is_that_of_the_closed_form(architecture):
    match = counter(num_tokens=8).match(architecture, {}, "flops_per_sample", 0.25e6)
    by_formula = counter(num_tokens=8, kind=ByFormula).match(architecture, {}, "flops_per_sample", 0.25e6)
    assert (match.config, match.miss) == (by_formula.config, by_formula.miss)
    assert counter(num_tokens=8).cost(architecture, match.config) == match.cost


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_parameter_budget_is_met_too(architecture):
    match = counter(num_tokens=8).match(architecture, {}, "dense_params", 2e6)
    assert match.cost.dense_params == pytest.approx(2e6, rel=CLOSE_MISS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_half_a_percent_of_the_budget_buys_no_shape_far_from_the_customary_one(architecture):
    """A ratio beyond a factor of two is taken only where every nearer one misses by more than a percent."""
    for tokens, token_dim, budget in product((8, 16), (24, 48), (0.3e6, 0.55e6, 1e6, 3e6)):
        knobs = architecture_class(architecture).knobs(tokens, token_dim)
        by_formula = counter(tokens, token_dim, ByFormula)
        match = by_formula.match(architecture, {}, "flops_per_sample", budget)
        if knobs.fine is None or abs(log_ratio(knobs, match.config)) <= math.log(2):
            continue
        nearer = [
            config
            for config in shapes(knobs, widest=2 * match.config[knobs.coarse.field])
            if abs(log_ratio(knobs, config)) <= math.log(2)
        ]
        costs = [by_formula.budgeted(architecture, config, "flops_per_sample") for config in nearer]
        assert min(abs(cost / budget - 1) for cost in costs) > 0.01, match


def log_ratio(knobs: Knobs, config: dict[str, int]) -> float:
    return math.log(config[knobs.fine.field] / config[knobs.coarse.field] / knobs.fine_per_coarse)


def shapes(knobs: Knobs, widest: int) -> Iterator[dict[str, int]]:
    """Every pair of widths with a fine value of at most twice the customary one."""
    for coarse in range(knobs.coarse.minimum, widest + 1, knobs.coarse.step):
        most = int(2 * knobs.fine_per_coarse * coarse)
        for fine in range(knobs.fine.minimum, most + 1, knobs.fine.step):
            yield {knobs.coarse.field: coarse, knobs.fine.field: fine}


def test_one_knob_is_as_close_as_exhaustive_search_up_to_the_preference_for_aligned_widths():
    by_formula = counter(num_tokens=4, token_dim=8, kind=ByFormula)
    target = 30_000
    match = counter(num_tokens=4, token_dim=8).match("dlrm_mlp", {}, "flops_per_sample", target)
    best = min(
        abs(by_formula.budgeted("dlrm_mlp", {"hidden_dim": width}, "flops_per_sample") - target)
        for width in range(1, 200)
    )
    found = abs(match.cost.flops_per_sample - target)
    assert found == best or (found <= CLOSE_MISS * target and match.config["hidden_dim"] % 2 == 0)


def test_a_knob_that_the_config_sets_is_left_alone():
    match = counter().match("rankmixer", {"model_dim": 64}, "flops_per_sample", 2e6)
    assert match.config["model_dim"] == 64
    assert abs(match.miss) <= CLOSE_MISS


def test_an_unreachable_budget_names_the_nearest_reachable_ones():
    with pytest.raises(
        InputError, match=r"rankmixer cannot meet flops_per_sample = 5,000 .* nearest it reaches is"
    ):
        counter().match("rankmixer", {}, "flops_per_sample", 5e3)


def test_nothing_left_to_vary_is_said():
    with pytest.raises(InputError, match="sets hidden_dim, so nothing is left"):
        counter().match("dlrm_mlp", {"hidden_dim": 8}, "flops_per_sample", 1e6)


class Stubborn(nn.Module):
    """Its knob changes nothing, or its forward fails."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = 1
        broken: bool = False

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        self.linear = nn.Linear(num_tokens * token_dim + config.broken, 4)
        self.output_dim = 4

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(tokens.flatten(1))

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(coarse=Knob("width"))


def test_a_knob_that_does_not_scale_the_model_is_named_rather_than_doubled_forever():
    with pytest.raises(InputError, match="its knob 'width' does not raise flops_per_sample to 1,000,000"):
        counter().match(f"{__name__}:Stubborn", {}, "flops_per_sample", 1e6)


def test_a_forward_that_fails_is_bad_input_that_names_the_architecture():
    with pytest.raises(InputError, match=r"Stubborn.*forward fails on 16 tokens of width 40"):
        counter().cost(f"{__name__}:Stubborn", {"broken": True})


class WeightsAlone(nn.Module):
    """Multiplies two weights in every forward: FLOPs that a batch has once, however many its rows."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        rank: int

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.rank, num_tokens * token_dim, bias=False)
        self.down = nn.Linear(1, config.rank, bias=False)
        self.output_dim = 1

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.flatten(1) @ (self.up.weight @ self.down.weight)


@pytest.mark.parametrize(
    "num_tokens", [16, 1]
)  # FLOPs that eight rows divide evenly, and such that they do not
def test_a_cost_that_depends_on_the_batch_is_bad_input_that_names_the_architecture(num_tokens):
    with pytest.raises(InputError, match=r"WeightsAlone.*depends on the batch.*no weights by weights"):
        counter(num_tokens, token_dim=1).cost(f"{__name__}:WeightsAlone", {"rank": 1})
