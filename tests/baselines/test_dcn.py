from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from baselines.dcn import DCN, CrossLayer
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, hidden_dim, num_layers=3, num_cross_layers=3: (
        2 * num_cross_layers * T * d + mlp_weights(T * d, hidden_dim, num_layers) + num_layers * hidden_dim
    ),
    flops=lambda T, d, hidden_dim, num_layers=3, num_cross_layers=3: (
        2 * num_cross_layers * T * d + 2 * mlp_weights(T * d, hidden_dim, num_layers)
    ),
    output_dim=lambda T, d, hidden_dim, num_layers=3, num_cross_layers=3: T * d + hidden_dim,
    configs=(
        {"hidden_dim": 8},
        {"hidden_dim": 24, "num_cross_layers": 1},
        {"hidden_dim": 640, "num_layers": 2},
    ),
)


def cross(layers, x0):
    x = x0
    for layer in layers:
        x = layer(x0, x)
    return x


def cross_layers(num_layers, dim, zero_bias):
    layers = [scrambled(CrossLayer(dim), seed=i) for i in range(num_layers)]
    if zero_bias:
        for layer in layers:
            nn.init.zeros_(layer.bias)
    return layers


def test_equals_the_equation_written_as_loops():
    model = scrambled(DCN(4, 3, DCN.Config(hidden_dim=5, num_layers=2, num_cross_layers=3)))
    weights = [(m.weight.tolist(), m.bias.tolist()) for m in model.deep if isinstance(m, nn.Linear)]
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        x0 = [v for token in row for v in token]
        x = x0
        for layer in model.cross:
            w, b = layer.score.weight[0].tolist(), layer.bias.tolist()
            score = loops.dot(x, w)
            x = [x0[i] * score + b[i] + x[i] for i in range(12)]
        expected.append(x + loops.mlp(x0, weights))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def test_without_bias_the_cross_network_returns_a_scalar_multiple_of_its_input():
    x0 = random_tokens(5, 6)
    output = cross(cross_layers(3, 6, zero_bias=True), x0)
    ratio = output / x0
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert ratio[:, 0].std() > 1e-3, "the multiple does not depend on the row"


def test_with_bias_the_cross_network_leaves_that_line():
    x0 = random_tokens(5, 6)
    ratio = cross(cross_layers(3, 6, zero_bias=False), x0) / x0
    assert not torch.allclose(ratio, ratio[:, :1].expand_as(ratio))


def test_zero_weight_and_bias_give_the_identity():
    layer = CrossLayer(6).double()
    nn.init.zeros_(layer.score.weight)
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    torch.testing.assert_close(layer(x0, x), x, rtol=0, atol=0)


def test_equals_the_matrix_cross_of_version_two_when_its_rows_are_all_w():
    layer = cross_layers(1, 6, zero_bias=True)[0]
    matrix = torch.ones(6, 1, dtype=torch.float64) @ layer.score.weight
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    torch.testing.assert_close(layer(x0, x), x0 * (x @ matrix.T) + x)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_l_layers_are_a_polynomial_of_degree_l_plus_one(num_layers):
    layers = cross_layers(num_layers, 4, zero_bias=False)
    direction = random_tokens(1, 4)

    def difference(order):  # the order-th finite difference of a polynomial of lower degree is zero
        return sum(
            (-1) ** (order - k) * math.comb(order, k) * cross(layers, k * direction) for k in range(order + 1)
        )

    assert difference(num_layers + 2).abs().max() < 1e-9
    assert difference(num_layers + 1).abs().max() > 1e-3
