from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from baselines.dcnv2 import DCNv2, MixtureCrossLayer, MixtureCrossNetwork
from baselines.layers import CrossLayer, CrossNetwork
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, cross_map_weights, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled


def dcnv2_cross(dim, rank, num_cross_layers, num_experts):
    """Weights of the cross network, each used once a sample; and those used once a layer."""
    if num_experts == 1:
        return num_cross_layers * cross_map_weights(dim, rank), 0
    return num_cross_layers * num_experts * (2 * dim * rank + rank**2), num_experts * dim


def dcnv2_params(T, d, rank, hidden_dim, num_layers=3, num_cross_layers=2, num_experts=1, stacked=False):
    weights, shared = dcnv2_cross(T * d, rank, num_cross_layers, num_experts)
    deep = mlp_weights(T * d, hidden_dim, num_layers) + num_layers * hidden_dim
    return weights + shared + num_cross_layers * T * d + deep


def dcnv2_flops(T, d, rank, hidden_dim, num_layers=3, num_cross_layers=2, num_experts=1, stacked=False):
    weights, shared = dcnv2_cross(T * d, rank, num_cross_layers, num_experts)
    return 2 * (weights + num_cross_layers * shared + mlp_weights(T * d, hidden_dim, num_layers))


CLOSED_FORM = ClosedForm(
    params=dcnv2_params,
    flops=dcnv2_flops,
    output_dim=lambda T, d, hidden_dim, stacked=False, **_: (0 if stacked else T * d) + hidden_dim,
    configs=(
        {"rank": 2, "hidden_dim": 8},
        {"rank": None, "hidden_dim": 24, "num_layers": 1},
        {"rank": 6, "hidden_dim": 24, "num_experts": 4, "num_cross_layers": 3},
        {"rank": 160, "hidden_dim": 640, "num_layers": 2, "stacked": True},
    ),
)


RANKS = [None, 2, 5]


@pytest.fixture(scope="module")
def crossnet():
    """TorchRec's cross networks, written by others."""
    return pytest.importorskip("torchrec.modules.crossnet", reason="SKIPPED: torchrec is not installed")


def matrix_and_bias(layer):
    """W and b of a cross layer, as lists, whether it has one matrix or two."""
    if isinstance(layer.map, nn.Linear):
        return layer.map.weight.tolist(), layer.map.bias.tolist()
    down, up = layer.map
    columns = loops.transpose(down.weight.tolist())
    product = [[loops.dot(row, column) for column in columns] for row in up.weight.tolist()]
    return product, up.bias.tolist()


def cross_in_loops(x0, x, matrix, bias):
    mapped = loops.linear(x, matrix, bias)
    return [x0[i] * mapped[i] + x[i] for i in range(len(x0))]


def mixture_in_loops(x0, x, layer, gate):
    """The sum over experts as the paper writes it, each with its own V, C, U and gate."""
    num_experts, rank, _ = layer.inner.shape
    gates = loops.softmax(loops.linear(x, gate))
    down, up, bias = layer.down.weight.tolist(), layer.up.weight.tolist(), layer.up.bias.tolist()
    output = list(x)
    for i in range(num_experts):
        part = slice(i * rank, (i + 1) * rank)
        low = [math.tanh(v) for v in loops.linear(x, down[part])]
        low = [math.tanh(v) for v in loops.linear(low, loops.transpose(layer.inner[i].tolist()))]
        expert = loops.linear(low, [row[part] for row in up], bias)
        output = [output[j] + gates[i] * x0[j] * expert[j] for j in range(len(x))]
    return output


def deep_weights(model):
    return [(m.weight.tolist(), m.bias.tolist()) for m in model.deep if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("config", [{"rank": None}, {"rank": 2}, {"rank": 2, "num_experts": 3}], ids=str)
def test_equals_the_equations_written_as_loops(config, stacked):
    settings = DCNv2.Config(**config, hidden_dim=5, num_layers=2, num_cross_layers=3, stacked=stacked)
    model = scrambled(DCNv2(4, 3, settings))
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        x0 = [v for token in row for v in token]
        x = x0
        for layer in model.cross.layers:
            if isinstance(layer, MixtureCrossLayer):
                x = mixture_in_loops(x0, x, layer, model.cross.gate.weight.tolist())
            else:
                x = cross_in_loops(x0, x, *matrix_and_bias(layer))
        deep = loops.mlp(x if stacked else x0, deep_weights(model))
        expected.append(deep if stacked else x + deep)
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def test_full_rank_equals_torchrec(crossnet):
    ours, theirs = scrambled(CrossNetwork(6, None, 3)), crossnet.CrossNet(6, 3).double()
    with torch.no_grad():
        for layer, kernel, bias in zip(ours.layers, theirs.kernels, theirs.bias, strict=True):
            kernel.copy_(layer.map.weight)
            bias.copy_(layer.map.bias[:, None])
    x0 = random_tokens(5, 6)
    torch.testing.assert_close(ours(x0), theirs(x0))


def test_low_rank_equals_torchrec(crossnet):
    ours, theirs = scrambled(CrossNetwork(6, 2, 3)), crossnet.LowRankCrossNet(6, 3, low_rank=2).double()
    with torch.no_grad():
        for i, layer in enumerate(ours.layers):
            theirs.V_kernels[i].copy_(layer.map[0].weight)
            theirs.W_kernels[i].copy_(layer.map[1].weight)
            theirs.bias[i].copy_(layer.map[1].bias)
    x0 = random_tokens(5, 6)
    torch.testing.assert_close(ours(x0), theirs(x0))


def test_mixture_equals_torchrec(crossnet):
    ours = scrambled(MixtureCrossNetwork(6, 2, 4, num_layers=3))
    theirs = crossnet.LowRankMixtureCrossNet(6, 3, num_experts=4, low_rank=2, activation=torch.tanh).double()
    with torch.no_grad():
        for expert, gate in enumerate(theirs.gates):
            gate.weight.copy_(ours.gate.weight[expert : expert + 1])
        for i, layer in enumerate(ours.layers):
            theirs.V_kernels[i].copy_(layer.down.weight.unflatten(0, (4, 2)))
            theirs.C_kernels[i].copy_(layer.inner.transpose(1, 2))
            theirs.U_kernels[i].copy_(layer.up.weight.unflatten(1, (4, 2)).transpose(0, 1))
            theirs.bias[i].copy_(layer.up.bias[:, None])
    x0 = random_tokens(5, 6)
    torch.testing.assert_close(ours(x0), theirs(x0))


@pytest.mark.parametrize("rank", RANKS)
def test_zero_weight_and_bias_give_the_identity(rank):
    layer = CrossLayer(6, rank).double()
    last = layer.map if rank is None else layer.map[1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    torch.testing.assert_close(layer(x0, x), x, rtol=0, atol=0)


def test_low_rank_with_as_many_columns_as_features_and_u_the_identity_equals_full_rank():
    low, full = scrambled(CrossLayer(6, 6)), scrambled(CrossLayer(6, None), seed=3)
    with torch.no_grad():
        low.map[1].weight.copy_(torch.eye(6))
        full.map.weight.copy_(low.map[0].weight)
        full.map.bias.copy_(low.map[1].bias)
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    torch.testing.assert_close(low(x0, x), full(x0, x))


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_layer_of_rank_r_multiplies_by_a_matrix_of_rank_r(rank):
    layer = scrambled(CrossLayer(6, rank))
    nn.init.zeros_(layer.map[1].bias)
    images = layer(torch.ones(6, 6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)) - torch.eye(6)
    assert torch.linalg.matrix_rank(images) == rank


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_l_layers_are_a_polynomial_of_degree_l_plus_one_without_a_constant_term(num_layers, rank):
    network = scrambled(CrossNetwork(4, rank, num_layers))
    direction = random_tokens(1, 4)

    def difference(order):  # the order-th finite difference of a polynomial of lower degree is zero
        return sum(
            (-1) ** (order - k) * math.comb(order, k) * network(k * direction) for k in range(order + 1)
        )

    assert difference(num_layers + 2).abs().max() < 1e-9
    assert difference(num_layers + 1).abs().max() > 1e-3
    assert torch.equal(network(0 * direction), torch.zeros(1, 4, dtype=torch.float64))


@pytest.mark.parametrize("rank", [None, 3])
def test_every_feature_crosses_with_every_other(rank):
    network = scrambled(CrossNetwork(5, rank, 1))
    second = torch.autograd.functional.hessian(lambda x: network(x[None]).sum(), random_tokens(5))
    assert (second.abs() > 1e-6).all()


def test_a_mixture_of_identical_experts_is_that_expert_for_any_gates():
    single, mixture = scrambled(MixtureCrossLayer(6, 2, 1)), scrambled(MixtureCrossLayer(6, 2, 3), seed=3)
    with torch.no_grad():
        mixture.down.weight.copy_(single.down.weight.repeat(3, 1))
        mixture.inner.copy_(single.inner.expand(3, 2, 2))
        mixture.up.weight.copy_(single.up.weight.repeat(1, 3))
        mixture.up.bias.copy_(single.up.bias)
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    expected = single(x0, x, torch.ones(5, 1, dtype=torch.float64))
    for seed in (4, 5):
        gates = (3 * random_tokens(5, 3, seed=seed)).softmax(dim=1)
        torch.testing.assert_close(mixture(x0, x, gates), expected)


def test_gates_that_pick_one_expert_leave_the_others_out():
    layer = scrambled(MixtureCrossLayer(6, 2, 3))
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    gates = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(5, 3)
    before = layer(x0, x, gates)
    with torch.no_grad():
        layer.down.weight[:2] += 1
        layer.inner[2] += 1
    torch.testing.assert_close(layer(x0, x, gates), before, rtol=0, atol=0)


def test_the_gates_of_a_mixture_sum_to_one_in_every_layer():
    network = scrambled(MixtureCrossNetwork(6, 2, 3, num_layers=3))
    seen = []
    for layer in network.layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    network(random_tokens(5, 6))
    assert len(seen) == 3
    for gates in seen:
        torch.testing.assert_close(gates.sum(dim=1), torch.ones(5, dtype=torch.float64))
    assert not torch.allclose(seen[0], seen[1]), "a layer's gates ignore what the layers before it did"


def test_every_expert_starts_within_the_bounds_of_a_linear_layer_of_its_rank():
    layer = MixtureCrossLayer(64, 16, 4)
    for parameter, fan_in in ((layer.down.weight, 64), (layer.inner, 16), (layer.up.weight, 16)):
        assert parameter.abs().max() <= fan_in**-0.5
        assert parameter.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.1)


def test_experts_of_full_rank_are_refused():
    with pytest.raises(ValueError, match=r"num_experts .* set rank to a number"):
        DCNv2(4, 3, DCNv2.Config(rank=None, hidden_dim=5, num_experts=2))
