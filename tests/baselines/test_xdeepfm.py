from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from baselines.deepfm import pairwise_dot_sum
from baselines.xdeepfm import CIN, CINLayer, XDeepFM
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, num_maps, hidden_dim, num_cin_layers=3, num_layers=3: (
        T * d
        + 1
        + T**2 * num_maps
        + (num_cin_layers - 1) * T * num_maps**2
        + mlp_weights(T * d, hidden_dim, num_layers)
        + num_layers * hidden_dim
    ),
    flops=lambda T, d, num_maps, hidden_dim, num_cin_layers=3, num_layers=3: (
        2 * T * d
        + 2 * d * (T**2 * num_maps + (num_cin_layers - 1) * T * num_maps**2)
        + 2 * mlp_weights(T * d, hidden_dim, num_layers)
    ),
    output_dim=lambda T, d, num_maps, hidden_dim, num_cin_layers=3, num_layers=3: (
        1 + num_cin_layers * num_maps + hidden_dim
    ),
    configs=(
        {"num_maps": 8, "hidden_dim": 12},
        {"num_maps": 24, "hidden_dim": 96, "num_cin_layers": 1, "num_layers": 1},
        {"num_maps": 100, "hidden_dim": 640, "num_cin_layers": 4, "num_layers": 2},
    ),
)


def feature_maps(tokens, maps, layer):
    """Equation 6, a map being a list of d numbers; products of map i and token j at column i * T + j."""
    return [
        [
            math.fsum(
                row[i * len(tokens) + j] * maps[i][place] * tokens[j][place]
                for i in range(len(maps))
                for j in range(len(tokens))
            )
            for place in range(len(tokens[0]))
        ]
        for row in layer.compress.weight.tolist()
    ]


def test_equals_the_equations_written_as_loops():
    config = XDeepFM.Config(num_maps=5, hidden_dim=8, num_cin_layers=3, num_layers=2)
    model = scrambled(XDeepFM(4, 3, config))
    deep = [(m.weight.tolist(), m.bias.tolist()) for m in model.deep if isinstance(m, nn.Linear)]
    linear = model.linear.weight.tolist(), model.linear.bias.tolist()
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        maps, sums = row, []
        for layer in model.cin.layers:
            maps = feature_maps(row, maps, layer)
            sums += [math.fsum(one) for one in maps]
        flat = [v for token in row for v in token]
        expected.append(loops.linear(flat, *linear) + sums + loops.mlp(flat, deep))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("layer", [1, 2, 3, 4])
def test_layer_k_is_homogeneous_of_degree_k_plus_one(layer):
    cin = scrambled(CIN(num_tokens=4, num_maps=5, num_layers=4))
    tokens = random_tokens(3, 4, 6)
    columns = slice(5 * (layer - 1), 5 * layer)
    scaled, plain = cin(-1.7 * tokens)[:, columns], cin(tokens)[:, columns]
    torch.testing.assert_close(scaled, (-1.7) ** (layer + 1) * plain)
    assert plain.abs().min() > 1e-6, "zero is homogeneous of every degree"


def test_with_all_weights_one_the_first_layer_is_the_square_of_the_sum_of_tokens():
    layer = CINLayer(num_tokens=4, in_maps=4, out_maps=2).double()
    nn.init.ones_(layer.compress.weight)
    tokens = random_tokens(3, 4, 6)
    places_first = tokens.transpose(1, 2)
    square = tokens.sum(dim=1).square().unsqueeze(2)
    torch.testing.assert_close(layer(places_first, places_first), square.expand(3, 6, 2))


def test_with_weights_above_the_diagonal_the_first_layer_sums_to_a_factorization_machine():
    cin = CIN(num_tokens=4, num_maps=1, num_layers=1).double()
    cin.layers[0].compress.weight.data = torch.ones(4, 4).triu(1).double().view(1, 16)
    tokens = random_tokens(3, 4, 6)
    torch.testing.assert_close(cin(tokens), pairwise_dot_sum(tokens))


def test_a_dimension_is_crossed_only_with_itself():
    cin = scrambled(CIN(num_tokens=4, num_maps=5, num_layers=3))
    tokens = random_tokens(3, 4, 6)
    apart = sum(cin(tokens[:, :, place : place + 1]) for place in range(6))
    torch.testing.assert_close(cin(tokens), apart)
