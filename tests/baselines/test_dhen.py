from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from baselines.deepfm import pairwise_dot_sum
from baselines.dhen import DHEN, CrossInteraction, DHENLayer, GramInteraction, PairwiseInteraction
from baselines.layers import LinearCompression
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm
from tests.baselines.scrambled import random_tokens, scrambled
from tests.baselines.test_transformer import encode, weights
from tests.baselines.test_wukong import over_tokens, silence


def dhen_cross(T, D, N, cross):
    """Parameters and FLOPs of the cross module, from T tokens to N."""
    if cross == "gram":
        return (D + 1) * N, 2 * T * D**2 + 2 * N * D**2
    return 2 * T * D**2 + T * D + T * N * (N != T), 4 * T * D**2 + 2 * T * N * D * (N != T)


def dhen_params(T, d, model_dim, hidden_dim, num_layers=2, num_heads=4, ensemble="sum", cross="low_rank"):
    D, M, N = model_dim, hidden_dim, T if ensemble == "sum" else T // 4
    encoder = 4 * D**2 + 2 * D * M + M + 9 * D
    pairwise = math.comb(T, 2) * M + M + M * N * D + N * D
    layer = 2 * T * N + encoder + pairwise + dhen_cross(T, D, N, cross)[0] + 2 * D
    return T * (d * D + D) + num_layers * layer


def dhen_flops(T, d, model_dim, hidden_dim, num_layers=2, num_heads=4, ensemble="sum", cross="low_rank"):
    D, M, N = model_dim, hidden_dim, T if ensemble == "sum" else T // 4
    encoder = 8 * T * D**2 + 4 * T**2 * D + 4 * T * D * M
    pairwise = 2 * T**2 * D + 2 * math.comb(T, 2) * M + 2 * M * N * D
    layer = 4 * T * N * D + encoder + pairwise + dhen_cross(T, D, N, cross)[1]
    return 2 * T * d * D + num_layers * layer


CLOSED_FORM = ClosedForm(
    params=dhen_params,
    flops=dhen_flops,
    output_dim=lambda T, d, model_dim, hidden_dim, **others: T * model_dim,
    configs=(
        {"model_dim": 8, "hidden_dim": 30},
        {"model_dim": 24, "hidden_dim": 96, "num_layers": 1, "num_heads": 8, "ensemble": "concat"},
        {"model_dim": 12, "hidden_dim": 50, "cross": "gram"},
        {"model_dim": 256, "hidden_dim": 600, "num_layers": 3},
    ),
)


def pairwise(tokens, module):
    first, _, second, _ = module.network
    products = [loops.dot(a, b) for i, a in enumerate(tokens) for b in tokens[i + 1 :]]
    flat = loops.linear(loops.relu(loops.linear(products, *weights(first))), *weights(second))
    dim = len(tokens[0])
    return [flat[i : i + dim] for i in range(0, len(flat), dim)]


def cross(tokens, module):
    down, up = module.map
    dim, x = len(tokens[0]), [v for token in tokens for v in token]
    scores = loops.linear(loops.linear(x, down.weight.tolist()), *weights(up))
    crossed = [a * b for a, b in zip(x, scores, strict=True)]
    crossed = [crossed[i : i + dim] for i in range(0, len(crossed), dim)]
    is_identity = isinstance(module.compress, nn.Identity)
    return crossed if is_identity else over_tokens(crossed, module.compress.weight.tolist())


def gram(tokens, module):
    columns = loops.transpose(tokens)
    matrix = [[loops.dot(a, b) for b in columns] for a in columns]
    weight, bias = weights(module.map)
    return [[loops.dot(row, column) + b for column in matrix] for row, b in zip(weight, bias, strict=True)]


def dhen_layer(tokens, layer):
    linear, (encoder, compress), pairs, last = layer.interactions
    outputs = [
        over_tokens(tokens, linear.weight.tolist()),
        over_tokens(encode(tokens, encoder), compress.weight.tolist()),
        pairwise(tokens, pairs),
        gram(tokens, last) if isinstance(last, GramInteraction) else cross(tokens, last),
    ]
    if layer.concat:
        together = [token for output in outputs for token in output]
    else:
        together = outputs[0]
        for output in outputs[1:]:
            together = [loops.add(a, b) for a, b in zip(together, output, strict=True)]
    summed = [loops.add(a, b) for a, b in zip(together, tokens, strict=True)]
    return [loops.layer_norm(x, *weights(layer.norm)) for x in summed]


@pytest.mark.parametrize("ensemble", ["sum", "concat"])
@pytest.mark.parametrize("cross", ["low_rank", "gram"])
def test_equals_the_equations_written_as_loops(ensemble, cross):
    config = DHEN.Config(model_dim=4, hidden_dim=5, num_heads=2, ensemble=ensemble, cross=cross)
    model = scrambled(DHEN(8, 3, config))
    tokens = random_tokens(2, 8, 3)
    weight, bias = model.projection.weight.tolist(), model.projection.bias.tolist()
    expected = []
    for row in tokens.tolist():
        x = [loops.linear(row[t], loops.transpose(weight[t]), bias[t][0]) for t in range(8)]
        for layer in model.layers:
            x = dhen_layer(x, layer)
        expected.append([v for token in x for v in token])
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def modules_of_six_tokens():
    return [
        scrambled(LinearCompression(6, 6), seed=1),
        scrambled(PairwiseInteraction(in_tokens=6, dim=4, out_tokens=6, hidden_dim=5), seed=2),
        scrambled(CrossInteraction(in_tokens=6, dim=4, out_tokens=6, rank=3), seed=3),
    ]


def test_a_layer_with_one_zero_linear_module_is_the_norm_of_its_input():
    layer = scrambled(DHENLayer([LinearCompression(6, 6)], 4, "sum"))
    silence(layer.interactions)
    x = random_tokens(2, 6, 4)
    torch.testing.assert_close(layer(x), layer.norm(x))


def test_the_order_of_modules_matters_only_for_concatenation():
    x, modules = random_tokens(2, 6, 4), modules_of_six_tokens()
    thirds = [LinearCompression(6, 2).double() for _ in range(3)]

    def output(interactions, ensemble):
        return DHENLayer(interactions, 4, ensemble).double()(x)

    torch.testing.assert_close(output(modules, "sum"), output(modules[::-1], "sum"))
    assert not torch.allclose(output(thirds, "concat"), output(thirds[::-1], "concat"))


@pytest.mark.parametrize("cross", ["low_rank", "gram"])
def test_each_concatenated_module_returns_a_quarter_of_the_tokens(cross):
    config = DHEN.Config(model_dim=4, hidden_dim=5, ensemble="concat", cross=cross)
    model = scrambled(DHEN(8, 3, config))
    x = random_tokens(2, 8, 4)
    for layer in model.layers:
        assert [module(x).shape[1] for module in layer.interactions] == [2, 2, 2, 2]
        assert layer(x).shape == x.shape


def test_concatenation_refuses_a_number_of_tokens_that_its_modules_do_not_divide():
    config = DHEN.Config(model_dim=4, hidden_dim=5, ensemble="concat")
    with pytest.raises(ValueError, match=r"num_tokens 6 .* set it to 4 or 8"):
        DHEN(6, 3, config)
    DHEN(6, 3, DHEN.Config(model_dim=4, hidden_dim=5))


def test_every_pair_of_tokens_is_there_once():
    module = PairwiseInteraction(in_tokens=6, dim=4, out_tokens=1, hidden_dim=1).double()
    x = random_tokens(3, 6, 4)
    products = (x @ x.transpose(1, 2)).flatten(1)[:, module.pairs]
    assert products.shape == (3, 15)
    torch.testing.assert_close(products.sum(dim=1, keepdim=True), pairwise_dot_sum(x))


def test_rotating_the_tokens_does_not_change_the_pairwise_module():
    module = scrambled(PairwiseInteraction(in_tokens=6, dim=4, out_tokens=6, hidden_dim=5))
    rotation, _ = torch.linalg.qr(random_tokens(4, 4))
    x = random_tokens(2, 6, 4)
    torch.testing.assert_close(module(x @ rotation), module(x))


def test_cross_module_has_no_residual_of_its_own():
    module = scrambled(CrossInteraction(in_tokens=6, dim=4, out_tokens=6, rank=3))
    silence(module.map)
    assert not module(random_tokens(2, 6, 4)).any()


def test_without_bias_the_cross_module_is_a_form_of_degree_two():
    module = scrambled(CrossInteraction(in_tokens=6, dim=4, out_tokens=2, rank=3))
    nn.init.zeros_(module.map[1].bias)
    x = random_tokens(2, 6, 4)
    torch.testing.assert_close(module(3 * x), 9 * module(x))


def test_the_order_of_tokens_changes_the_cross_module_but_not_the_gram_module():
    x, order = random_tokens(2, 6, 4), torch.tensor([3, 0, 5, 4, 1, 2])
    gram_module = scrambled(GramInteraction(dim=4, out_tokens=6))
    cross_module = scrambled(CrossInteraction(in_tokens=6, dim=4, out_tokens=6, rank=3))
    torch.testing.assert_close(gram_module(x[:, order]), gram_module(x))
    assert not torch.allclose(cross_module(x[:, order]), cross_module(x)[:, order])


def test_attention_module_alone_is_an_encoder_layer_mixed_over_the_tokens():
    model = scrambled(DHEN(6, 3, DHEN.Config(model_dim=4, hidden_dim=5)))
    layer = model.layers[0]
    linear, attention, pairs, last = layer.interactions
    silence(linear, pairs, last)
    x = random_tokens(2, 6, 4)
    mixed = torch.einsum("nt,btd->bnd", attention[1].weight, attention[0](x))
    torch.testing.assert_close(layer(x), layer.norm(mixed + x))


def test_a_width_that_heads_do_not_divide_is_refused_with_the_nearest_valid_ones():
    with pytest.raises(ValueError, match=r"model_dim 10 .* set it to 8 or 12"):
        DHEN(4, 3, DHEN.Config(model_dim=10, hidden_dim=4))
