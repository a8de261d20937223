"""Gates and the losses on them against their formulas written as loops over rows, tokens and experts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rankmixer.routers import (
    Router,
    balance_loss,
    closure_penalty,
    mutual_information_loss,
    revival_penalty,
    sparsity_penalty,
    top_k_gates,
    usage,
)
from tests.baselines import loops
from tests.baselines.scrambled import random_tokens, scrambled

B, T, E = 6, 3, 4


def uneven_gates(seed: int = 0) -> Tensor:
    """Gates of which half are zero, with experts that are used more or less often."""
    return (random_tokens(B, T, E, seed=seed) + torch.linspace(-0.8, 0.8, E)).relu()


def probabilities(seed: int = 0) -> Tensor:
    return (2 * random_tokens(B, T, E, seed=seed)).softmax(-1)


def used(gates: Tensor, t: int, e: int) -> float:
    return sum(float(gates[b, t, e] > 0) for b in range(len(gates))) / len(gates)


@pytest.mark.parametrize("shared", [False, True])
def test_a_router_is_a_linear_map_of_each_token(shared):
    router = scrambled(Router(T, 5, E, shared=shared))
    s = random_tokens(B, T, 5)
    weight, bias = router.linear.weight.tolist(), router.linear.bias.tolist()
    expected = [
        [
            loops.linear(token, weight, bias)
            if shared
            else loops.linear(token, loops.transpose(weight[t]), bias[t][0])
            for t, token in enumerate(row)
        ]
        for row in s.tolist()
    ]
    torch.testing.assert_close(router(s), torch.tensor(expected, dtype=torch.float64))


def test_equal_tokens_are_routed_differently_unless_the_router_is_shared():
    same = random_tokens(B, 1, 5).expand(B, T, 5)
    own, one_for_all = (scrambled(Router(T, 5, E, shared=shared))(same) for shared in (False, True))
    assert all(not torch.allclose(own[:, 0], own[:, t]) for t in range(1, T))
    torch.testing.assert_close(one_for_all, one_for_all[:, :1].expand(B, T, E))


@pytest.mark.parametrize(("shared", "sets"), [(False, T), (True, 1)])
def test_a_router_costs_its_weights_and_biases(shared, sets):
    router = Router(T, 5, E, shared=shared)
    assert sum(p.numel() for p in router.parameters()) == sets * (5 * E + E)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("bias", "low", "high"), [(-10.0, 0, 0), (0.0, 0.4, 0.6), (10.0, 1, 1)])
def test_the_initial_bias_decides_how_many_gates_open(shared, bias, low, high):
    torch.manual_seed(0)
    router = Router(8, 32, 16, shared=shared, bias=bias)
    assert torch.equal(router.linear.bias, torch.full_like(router.linear.bias, bias))
    is_open = router(torch.randn(200, 8, 32)) > 0
    assert low <= is_open.float().mean() <= high


# Top-k ----------------------------------------------------------------------------------------


def top_k_of_a_token(logits: list[float], k: int, order: str, scale: float) -> list[float]:
    kept = sorted(range(len(logits)), key=lambda e: -logits[e])[:k]
    pool = range(len(logits)) if order == "softmax_first" else kept
    total = math.fsum(math.exp(logits[e]) for e in pool)
    return [scale * math.exp(logits[e]) / total if e in kept else 0.0 for e in range(len(logits))]


@settings(max_examples=40, deadline=None)
@given(
    k=st.integers(1, 5),
    order=st.sampled_from(["softmax_first", "top_k_first"]),
    scale=st.sampled_from([1.0, 8.0]),
    seed=st.integers(0, 999),
)
def test_top_k_gates_equal_a_loop_and_exactly_k_are_open(k, order, scale, seed):
    logits = 2 * random_tokens(3, 2, 5, seed=seed)
    gates = top_k_gates(logits, k, order, scale)
    expected = [[top_k_of_a_token(token, k, order, scale) for token in row] for row in logits.tolist()]
    torch.testing.assert_close(gates, torch.tensor(expected, dtype=torch.float64))
    assert ((gates > 0).sum(-1) == k).all()


def test_softmax_first_gives_values_of_the_softmax_and_top_k_first_sums_to_the_scale():
    logits = random_tokens(B, T, E)
    softmax_first, top_k_first = (top_k_gates(logits, 2, o, 3.0) for o in ("softmax_first", "top_k_first"))
    kept = softmax_first > 0
    torch.testing.assert_close(softmax_first[kept], 3 * logits.softmax(-1)[kept])
    assert (softmax_first.sum(-1) < 3).all()
    torch.testing.assert_close(top_k_first.sum(-1), torch.full((B, T), 3.0, dtype=torch.float64))


def test_the_two_orders_are_equal_only_if_all_experts_are_open():
    logits = random_tokens(B, T, E)
    for k in range(1, E + 1):
        one, other = (top_k_gates(logits, k, order, 1.0) for order in ("softmax_first", "top_k_first"))
        assert torch.allclose(one, other) == (k == E)


@pytest.mark.parametrize("order", ["softmax_first", "top_k_first"])
def test_ties_still_open_exactly_k(order):
    logits = torch.zeros(B, T, E)
    for k in range(1, E + 1):
        assert ((top_k_gates(logits, k, order, 1.0) > 0).sum(-1) == k).all()


@pytest.mark.parametrize("order", ["softmax_first", "top_k_first"])
def test_one_dominant_logit_gives_no_nan_in_gates_or_gradients(order):
    logits = torch.tensor([[[80.0, -80.0, 0.0, 0.0]]], requires_grad=True)
    gates = top_k_gates(logits, 2, order, 1.0)
    gates.square().sum().backward()
    assert gates.isfinite().all()
    assert logits.grad.isfinite().all()


# Losses ---------------------------------------------------------------------------------------


def test_usage_is_the_share_of_rows_that_open_an_expert():
    gates = uneven_gates()
    expected = [[used(gates, t, e) for e in range(E)] for t in range(T)]
    torch.testing.assert_close(usage(gates), torch.tensor(expected, dtype=torch.float64))


def test_the_balance_loss_is_switch_s_sum_over_experts_averaged_over_tokens():
    gates, P, k = top_k_gates(random_tokens(B, T, E), 2, "softmax_first", 1.0), probabilities(), 2
    expected = 0.0
    for t in range(T):
        for e in range(E):
            mean_probability = sum(P[b, t, e].item() for b in range(B)) / B
            expected += E * used(gates, t, e) / k * mean_probability / T
    assert balance_loss(gates, P, k).item() == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_balance_loss_is_one_for_equal_use_and_e_over_k_at_collapse(k):
    even = torch.zeros(E, T, E)
    for row in range(E):
        even[row, :, [(row + i) % E for i in range(k)]] = 1.0
    collapsed = torch.zeros(E, T, E)
    collapsed[:, :, :k] = 1.0
    assert balance_loss(even, torch.rand(E, T, E).softmax(-1), k).item() == pytest.approx(1)
    assert balance_loss(collapsed, collapsed / k, k).item() == pytest.approx(E / k)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999))
def test_the_balance_loss_is_smallest_for_equal_use(seed):
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(E, (32, T), generator=generator)
    gates = torch.nn.functional.one_hot(chosen, E).double()
    assert balance_loss(gates, gates, 1) >= 1 - 1e-9


def test_only_probabilities_have_a_gradient_of_the_balance_loss():
    gates, P = uneven_gates().requires_grad_(), probabilities().requires_grad_()
    balance_loss(gates, P, 2).backward()
    assert gates.grad is None
    expected = usage(gates) / 2 * E / B / T
    torch.testing.assert_close(P.grad, expected.expand(B, T, E))


def test_experts_are_balanced_within_their_own_token_and_not_over_all_tokens_together():
    """Token t always opens its expert t: balanced over all tokens together, but collapsed for each token."""
    gates = torch.eye(E).expand(B, E, E)
    assert balance_loss(gates, gates, 1).item() == pytest.approx(E)
    pooled = gates.reshape(-1, 1, E)
    assert balance_loss(pooled, pooled, 1).item() == pytest.approx(1)


def test_the_load_balanced_penalty_is_remoe_s_equations_10_and_11():
    gates, k = uneven_gates(), 2
    expected = 0.0
    for t in range(T):
        for e in range(E):
            count = sum(float(gates[b, t, e] > 0) for b in range(B))
            f = E / (k * B) * count
            expected += sum(f * gates[b, t, e].item() for b in range(B)) / B
    assert sparsity_penalty(gates, balanced=True, k=k).item() == pytest.approx(expected)


def test_the_plain_penalty_is_the_sum_of_gates_averaged_over_rows():
    gates = uneven_gates()
    expected = math.fsum(gates.flatten().tolist()) / B
    assert sparsity_penalty(gates, balanced=False, k=2).item() == pytest.approx(expected)


def test_the_closure_penalty_is_the_depth_of_closed_gates_and_ignores_open_ones():
    logits = (uneven_gates() - 0.4).requires_grad_()
    expected = math.fsum(max(0.0, -value) for value in logits.flatten().tolist()) / B
    penalty = closure_penalty(logits)
    penalty.backward()
    assert penalty.item() == pytest.approx(expected)
    torch.testing.assert_close(logits.grad, torch.where(logits < 0, -1 / B, 0.0).to(logits.dtype))


def test_the_revival_penalty_is_the_closure_expert_probabilitys_used_less_than_a_tenth_of_their_share():
    logits, ratio = torch.full((200, 1, 4), -0.5, dtype=torch.float64), 0.5
    logits[:1, 0, 1] = 2.0  # used on 0.5%, a tenth of a tenth of the ratio: idle to nine tenths
    logits[:10, 0, 2] = 2.0  # on 5%: just not idle
    logits[:, 0, 3] = 2.0
    expected = 0.5 + 0.9 * 0.5 * 199 / 200
    assert revival_penalty(logits, ratio).item() == pytest.approx(expected)
    assert revival_penalty(logits[..., 2:], ratio).item() == 0


def test_the_revival_penalty_opens_idle_experts_and_their_usage_is_not_differentiated():
    logits = torch.full((8, 1, 2), -0.5, dtype=torch.float64)
    logits[:4, 0, 1] = 1.0
    revival_penalty(logits.requires_grad_(), 0.5).backward()
    torch.testing.assert_close(logits.grad[:, 0, 0], torch.full((8,), -1 / 8, dtype=torch.float64))
    assert (logits.grad[:, 0, 1] == 0).all()


def test_a_busy_expert_is_penalised_more_and_its_usage_is_not_differentiated():
    gates = uneven_gates().requires_grad_()
    sparsity_penalty(gates, balanced=True, k=2).backward()
    expected = torch.tensor([[used(gates, t, e) * E / 2 / B for e in range(E)] for t in range(T)])
    torch.testing.assert_close(gates.grad, expected.double().expand(B, T, E))


def test_for_equal_use_expert_probabilitys_the_two_penalties_are_equal():
    even = torch.zeros(E, T, E)
    for row in range(E):
        even[row, :, [row, (row + 1) % E]] = 0.3 + row
    plain, balanced = (sparsity_penalty(even, balanced=b, k=2) for b in (False, True))
    torch.testing.assert_close(plain, balanced)


def test_the_mutual_information_is_that_of_the_joint_distribution_of_rows_and_experts():
    P = probabilities()
    P[0, 0] = torch.tensor([1.0, 0, 0, 0])  # 0 * log 0 is 0
    expected = 0.0
    for t in range(T):
        for e in range(E):
            expert_probability = sum(P[b, t, e].item() for b in range(B)) / B
            for b in range(B):
                joint = P[b, t, e].item() / B
                if joint > 0:
                    expected += joint * math.log(joint / (expert_probability / B)) / T
    assert mutual_information_loss(P).item() == pytest.approx(-expected)


def test_mutual_information_is_largest_for_certain_balanced_rows_and_zero_for_equal_rows():
    sure = torch.eye(E).unsqueeze(1).expand(E, T, E)
    assert mutual_information_loss(sure).item() == pytest.approx(-math.log(E))
    alike = probabilities()[:1].expand(B, T, E)
    assert mutual_information_loss(alike).item() == pytest.approx(0, abs=1e-12)
