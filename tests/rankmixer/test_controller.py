"""The coefficient's controller against sequences computed by hand and ReMoE's rule."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankmixer.controller import PenaltyCoefficient


def controller(num_layers: int = 1, **settings) -> PenaltyCoefficient:
    chosen = {
        "target": 0.5,
        "scope": "global",
        "initial": 1.0,
        "growth": 2.0,
        "lead": 0.0,
        "bounds": (1e-6, 1e6),
    }
    return PenaltyCoefficient(num_layers, **(chosen | settings)).double()


def shares(*layers: float, num_tokens: int = 2, num_experts: int = 2) -> torch.Tensor:
    """Usage (L, T, E) whose mean over tokens and experts is each layer's share."""
    spread = torch.linspace(-0.1, 0.1, num_tokens * num_experts, dtype=torch.float64)
    return torch.tensor(layers, dtype=torch.float64).view(-1, 1, 1) + spread.view(1, num_tokens, num_experts)


def after(coefficient: PenaltyCoefficient, sequence: list[float]) -> list[float]:
    found = []
    for share in sequence:
        coefficient.update(shares(share))
        found.append(coefficient.value[0].item())
    return found


def test_it_rises_above_the_target_and_falls_below_it_and_at_it():
    assert after(controller(), [0.6, 0.9, 0.4, 0.1, 0.7]) == [2, 4, 2, 1, 2]
    exactly = controller(target=0.5)
    exactly.update(torch.full((1, 2, 2), 0.5, dtype=torch.float64))
    assert exactly.value.item() == 0.5


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=60),
    st.sampled_from([1.02, 1.2]),
    st.sampled_from([1 / 2, 1 / 8]),
)
def test_without_lead_it_is_remoe_s_rule_on_sparsity(sequence, alpha, ratio):
    sequence = [share for share in sequence if abs(share - ratio) > 1e-6]
    literal = controller(target=ratio, initial=1e-8, growth=alpha, bounds=(1e-30, 1e30))
    value = 1e-8
    for share in sequence:
        sparsity = 1 - share
        value *= alpha ** math.copysign(1, (1 - ratio) - sparsity)
        literal.update(shares(share))
    assert literal.value.item() == pytest.approx(value, rel=1e-6)


def test_with_lead_it_turns_before_the_target_is_reached():
    """Share 0.6, then 0.52, 0.52, 0.55, 0.58 with moving averages 0.6, 0.6, 0.592, 0.5848, 0.58132.

    Three times the distance from the average makes 0.6, 0.28, 0.304, 0.4456, 0.57604 of them.
    """
    sequence = [0.6, 0.52, 0.52, 0.55, 0.58]
    ahead = controller(lead=3.0)
    assert after(ahead, sequence) == [2, 1, 0.5, 0.25, 0.5]
    assert ahead.average.item() == pytest.approx(0.9 * 0.58132 + 0.1 * 0.58)
    assert after(controller(lead=0.0), sequence) == [2, 4, 8, 16, 32]


def test_a_global_coefficient_follows_the_mean_and_each_per_layer_one_its_own_layer():
    together, apart = (controller(num_layers=2, scope=scope) for scope in ("global", "per_layer"))
    for coefficient in (together, apart):
        coefficient.update(shares(0.9, 0.3))  # 0.6 together
        coefficient.update(shares(0.9, 0.4))
    assert together.value.tolist() == [4, 4]
    assert apart.value.tolist() == [4, 0.25]


def test_other_tokens_can_compensate_for_one_far_above_the_target():
    coefficient = controller()
    coefficient.update(torch.tensor([[[1.0, 1.0], [0.1, 0.1], [0.1, 0.1]]]).double())  # 0.4 on average
    assert coefficient.value.item() == 0.5


def test_an_unreachable_target_holds_it_at_its_bound_and_it_returns_at_once():
    coefficient = controller(bounds=(0.25, 8.0))
    assert after(coefficient, 50 * [0.9])[-1] == 8
    assert after(coefficient, [0.1]) == [4]
    assert after(coefficient, 50 * [0.1])[-1] == 0.25
    assert after(coefficient, [0.9]) == [0.5]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 0.99), max_size=40), st.sampled_from([0.0, 5.0]))
def test_the_opening_coefficient_moves_opposite_to_the_closing_one_within_the_same_bounds(sequence, lead):
    pair = controller(initial=1.0, growth=2.0, lead=lead, bounds=(1 / 4, 8.0))
    closing = opening = 1.0
    for share in sequence:
        before = pair.value.item()
        pair.update(shares(share))
        rose = pair.value.item() > before or pair.value.item() == 8
        closing = min(8.0, closing * 2) if rose else max(1 / 4, closing / 2)
        opening = max(1 / 4, opening / 2) if rose else min(8.0, opening * 2)
        assert (pair.value.item(), pair.opening.item()) == (closing, opening)


def test_a_share_below_the_target_raises_the_opening_coefficient_to_its_bound():
    pair = controller(bounds=(0.25, 8.0))
    for share in 9 * [0.1]:
        pair.update(shares(share))
    assert (pair.value.item(), pair.opening.item()) == (0.25, 8)
    pair.update(shares(0.9))
    assert (pair.value.item(), pair.opening.item()) == (0.5, 4)


def test_a_fixed_coefficient_never_moves():
    coefficient = controller(num_layers=2, scope="fixed", initial=0.3)
    before = {name: value.clone() for name, value in coefficient.state_dict().items()}
    for share in (0.9, 0.1, 0.5):
        coefficient.update(shares(share, share))
    for name, value in coefficient.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(coefficient.value, torch.tensor([0.3, 0.3]).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scope", ["global", "per_layer"])
def test_it_continues_from_a_state_dict_without_a_difference(scope):
    whole, first, second = (controller(num_layers=2, scope=scope, lead=3.0) for _ in range(3))
    sequence = [(0.6, 0.55), (0.52, 0.51), (0.52, 0.6), (0.55, 0.3), (0.58, 0.4)]
    for layers in sequence:
        whole.update(shares(*layers))
    for layers in sequence[:2]:
        first.update(shares(*layers))
    second.load_state_dict(first.state_dict())
    for layers in sequence[2:]:
        second.update(shares(*layers))
    assert torch.equal(whole.value, second.value)
    assert torch.equal(whole.opening, second.opening)
    assert torch.equal(whole.average, second.average)


def test_it_has_no_parameters_that_an_optimizer_would_change():
    assert list(controller().parameters()) == []
