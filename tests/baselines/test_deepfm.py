from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from baselines.deepfm import DeepFM, pairwise_dot_sum
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, hidden_dim, num_layers=3: (
        T * d + 1 + mlp_weights(T * d, hidden_dim, num_layers) + num_layers * hidden_dim
    ),
    flops=lambda T, d, hidden_dim, num_layers=3: 2 * T * d + 2 * mlp_weights(T * d, hidden_dim, num_layers),
    output_dim=lambda T, d, hidden_dim, num_layers=3: 2 + hidden_dim,
    configs=({"hidden_dim": 8}, {"hidden_dim": 24, "num_layers": 1}, {"hidden_dim": 640, "num_layers": 4}),
)


shapes = {"num_tokens": st.integers(1, 7), "token_dim": st.integers(1, 5), "seed": st.integers(0, 10**6)}


@settings(max_examples=30, deadline=None)
@given(**shapes)
def test_second_order_term_equals_the_double_loop_over_pairs(num_tokens, token_dim, seed):
    tokens = random_tokens(2, num_tokens, token_dim, seed=seed)
    for row, total in zip(tokens.tolist(), pairwise_dot_sum(tokens).tolist(), strict=True):
        expected = sum(loops.dot(row[i], row[j]) for j in range(num_tokens) for i in range(j))
        assert abs(total[0] - expected) < 1e-10


@settings(max_examples=30, deadline=None)
@given(**shapes)
def test_second_order_term_is_the_strict_upper_triangle_of_the_gram_matrix(num_tokens, token_dim, seed):
    tokens = random_tokens(2, num_tokens, token_dim, seed=seed)
    expected = (tokens @ tokens.transpose(1, 2)).triu(diagonal=1).sum(dim=(1, 2))
    torch.testing.assert_close(pairwise_dot_sum(tokens)[:, 0], expected, rtol=0, atol=1e-10)


def test_the_order_of_tokens_does_not_change_the_second_order_term():
    tokens = random_tokens(3, 6, 4)
    torch.testing.assert_close(pairwise_dot_sum(tokens[:, torch.randperm(6)]), pairwise_dot_sum(tokens))


def test_a_single_token_that_is_not_zero_has_no_second_order_term():
    tokens = torch.zeros(1, 5, 4, dtype=torch.float64)
    tokens[0, 3] = random_tokens(4)
    assert pairwise_dot_sum(tokens).abs().item() < 1e-14


def test_second_order_term_is_homogeneous_of_degree_two():
    tokens = random_tokens(3, 6, 4)
    torch.testing.assert_close(pairwise_dot_sum(-3 * tokens), 9 * pairwise_dot_sum(tokens))


def test_equals_first_order_second_order_and_deep_terms_as_loops():
    model = scrambled(DeepFM(4, 3, DeepFM.Config(hidden_dim=5, num_layers=2)))
    weights = [(m.weight.tolist(), m.bias.tolist()) for m in model.deep if isinstance(m, nn.Linear)]
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        flat = [v for token in row for v in token]
        first = loops.linear(flat, model.first_order.weight.tolist(), model.first_order.bias.tolist())
        second = sum(loops.dot(row[i], row[j]) for j in range(4) for i in range(j))
        expected.append([*first, second, *loops.mlp(flat, weights)])
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))
