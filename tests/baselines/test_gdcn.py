from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from baselines.dcnv2 import DCNv2
from baselines.gdcn import GDCN, GatedCrossLayer
from baselines.layers import CrossLayer
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, cross_map_weights, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, rank, hidden_dim, num_layers=3, num_cross_layers=3, stacked=False: (
        num_cross_layers * (2 * cross_map_weights(T * d, rank) + T * d)
        + mlp_weights(T * d, hidden_dim, num_layers)
        + num_layers * hidden_dim
    ),
    flops=lambda T, d, rank, hidden_dim, num_layers=3, num_cross_layers=3, stacked=False: (
        4 * num_cross_layers * cross_map_weights(T * d, rank) + 2 * mlp_weights(T * d, hidden_dim, num_layers)
    ),
    output_dim=lambda T, d, hidden_dim, stacked=False, **_: (0 if stacked else T * d) + hidden_dim,
    configs=(
        {"rank": 2, "hidden_dim": 8},
        {"rank": None, "hidden_dim": 24, "num_layers": 1},
        {"rank": 160, "hidden_dim": 640, "num_cross_layers": 2, "stacked": True},
    ),
)


RANKS = [None, 3]


def last_of(cross_map):
    return cross_map if isinstance(cross_map, nn.Linear) else cross_map[1]


def map_in_loops(x, cross_map):
    if not isinstance(cross_map, nn.Linear):
        x = loops.linear(x, cross_map[0].weight.tolist())
    last = last_of(cross_map)
    return loops.linear(x, last.weight.tolist(), None if last.bias is None else last.bias.tolist())


def halve(linear):
    with torch.no_grad():
        linear.weight /= 2
        linear.bias /= 2


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("stacked", [False, True])
def test_equals_the_equation_written_as_loops(stacked, rank):
    config = GDCN.Config(rank=rank, hidden_dim=5, num_layers=2, num_cross_layers=3, stacked=stacked)
    model = scrambled(GDCN(4, 3, config))
    weights = [(m.weight.tolist(), m.bias.tolist()) for m in model.deep if isinstance(m, nn.Linear)]
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        x0 = [v for token in row for v in token]
        x = x0
        for layer in model.cross:
            cross, gate = map_in_loops(x, layer.cross), map_in_loops(x, layer.gate)
            x = [x0[i] * cross[i] / (1 + math.exp(-gate[i])) + x[i] for i in range(12)]
        deep = loops.mlp(x if stacked else x0, weights)
        expected.append(deep if stacked else x + deep)
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("rank", RANKS)
def test_zero_cross_weight_and_bias_give_the_identity_for_any_gate(rank):
    layer = scrambled(GatedCrossLayer(6, rank))
    nn.init.zeros_(last_of(layer.cross).weight)
    nn.init.zeros_(last_of(layer.cross).bias)
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    torch.testing.assert_close(layer(x0, x), x, rtol=0, atol=0)


@pytest.mark.parametrize("rank", RANKS)
def test_a_zero_gate_gives_the_cross_layer_of_version_two_with_half_its_matrix_and_bias(rank):
    gated, plain = scrambled(GatedCrossLayer(6, rank)), CrossLayer(6, rank).double()
    nn.init.zeros_(last_of(gated.gate).weight)
    plain.map.load_state_dict(gated.cross.state_dict())
    halve(last_of(plain.map))
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    torch.testing.assert_close(gated(x0, x), plain(x0, x))


@pytest.mark.parametrize("stacked", [False, True])
def test_with_zero_gates_the_whole_model_is_dcn_v2_with_half_its_cross_matrices(stacked):
    settings = {"rank": 3, "hidden_dim": 5, "num_cross_layers": 2, "stacked": stacked}
    gated = scrambled(GDCN(4, 3, GDCN.Config(**settings)))
    plain = DCNv2(4, 3, DCNv2.Config(**settings)).double()
    plain.deep.load_state_dict(gated.deep.state_dict())
    for ours, theirs in zip(gated.cross, plain.cross.layers, strict=True):
        nn.init.zeros_(last_of(ours.gate).weight)
        theirs.map.load_state_dict(ours.cross.state_dict())
        halve(last_of(theirs.map))
    tokens = random_tokens(5, 4, 3)
    torch.testing.assert_close(gated(tokens), plain(tokens))


@pytest.mark.parametrize("rank", RANKS)
def test_a_gate_opens_and_closes_each_feature_for_itself(rank):
    layer = scrambled(GatedCrossLayer(3, rank))
    x0, x = random_tokens(5, 3), torch.ones(5, 3, dtype=torch.float64)
    weight = last_of(layer.gate).weight
    size = 1 if rank is None else layer.gate[0](x)[0].sum()
    with torch.no_grad():
        weight.copy_(torch.tensor([[-1e3], [0.0], [1e3]]).expand_as(weight) / size)
    new = layer(x0, x) - x
    ungated = x0 * layer.cross(x)
    torch.testing.assert_close(new, ungated * torch.tensor([0.0, 0.5, 1.0]))
