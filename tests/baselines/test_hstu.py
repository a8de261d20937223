from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from baselines.hstu import EPSILON, HSTU, HSTULayer, pointwise_attention
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, model_dim, value_dim, num_layers=2, num_heads=2: (
        T * (d * model_dim + model_dim)
        + num_layers * (2 * model_dim**2 + 3 * model_dim * value_dim + 5 * model_dim + 4 * value_dim)
        + 2 * model_dim
    ),
    flops=lambda T, d, model_dim, value_dim, num_layers=2, num_heads=2: (
        2 * T * d * model_dim
        + num_layers
        * (4 * T * model_dim**2 + 6 * T * model_dim * value_dim + 2 * T**2 * (model_dim + value_dim))
    ),
    output_dim=lambda T, d, model_dim, value_dim, num_layers=2, num_heads=2: model_dim,
    configs=(
        {"model_dim": 8, "value_dim": 6},
        {"model_dim": 24, "value_dim": 40, "num_layers": 1, "num_heads": 8},
        {"model_dim": 640, "value_dim": 512, "num_layers": 3},
    ),
)


def silu(x):
    return [v / (1 + math.exp(-v)) for v in x]


def normalised(x, norm):
    return loops.layer_norm(x, norm.weight.tolist(), norm.bias.tolist(), EPSILON)


def attended(query, key, value, num_heads):
    qk_dim, v_dim = len(query[0]) // num_heads, len(value[0]) // num_heads
    outputs = [[] for _ in query]
    for head in range(num_heads):
        part = slice(head * qk_dim, (head + 1) * qk_dim)
        for i, q in enumerate(query):
            scores = [loops.dot(q[part], k[part]) / math.sqrt(qk_dim) for k in key]
            weights = [w / len(key) for w in silu(scores)]
            outputs[i] += [
                math.fsum(w * v[head * v_dim + c] for w, v in zip(weights, value, strict=True))
                for c in range(v_dim)
            ]
    return outputs


def layer_as_loops(tokens, layer):
    weight, bias = layer.project.weight.tolist(), layer.project.bias.tolist()
    rows = [silu(loops.linear(normalised(x, layer.norm), weight, bias)) for x in tokens]
    model_dim, value_dim = len(tokens[0]), layer.output.in_features
    ends = [0, value_dim, 2 * value_dim, 2 * value_dim + model_dim, 2 * value_dim + 2 * model_dim]
    gate, value, query, key = ([row[start:end] for row in rows] for start, end in pairwise(ends))
    outputs = []
    for x, u, a in zip(tokens, gate, attended(query, key, value, layer.num_heads), strict=True):
        gated = [n * g for n, g in zip(normalised(a, layer.attended_norm), u, strict=True)]
        mapped = loops.linear(gated, layer.output.weight.tolist(), layer.output.bias.tolist())
        outputs.append(loops.add(x, mapped))
    return outputs


def test_equals_the_equations_written_as_loops():
    model = scrambled(HSTU(5, 3, HSTU.Config(model_dim=4, value_dim=6, num_layers=2, num_heads=2)))
    tokens = random_tokens(3, 5, 3)
    weight, bias = model.projection.weight.tolist(), model.projection.bias.tolist()
    expected = []
    for row in tokens.tolist():
        x = [loops.linear(row[t], loops.transpose(weight[t]), bias[t][0]) for t in range(5)]
        for layer in model.layers:
            x = layer_as_loops(x, layer)
        expected.append(loops.mean_of([normalised(token, model.final_norm) for token in x]))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def queries_keys_values(num_keys=5):
    return (
        random_tokens(3, 4),
        random_tokens(num_keys, 4, seed=2),
        random_tokens(num_keys, 6, seed=3),
    )


def test_attention_weights_do_not_sum_to_one():
    query, key, _ = queries_keys_values()
    sums = pointwise_attention(query, key, torch.ones(5, 1, dtype=torch.float64))
    assert (sums - 1).abs().min() > 0.1


def test_a_repeated_key_and_value_counts_twice():
    query, key, value = queries_keys_values()
    once = 5 * pointwise_attention(query, key, value)
    twice = 6 * pointwise_attention(query, torch.cat([key, key[2:3]]), torch.cat([value, value[2:3]]))
    torch.testing.assert_close(twice - once, pointwise_attention(query, key[2:3], value[2:3]))


def test_a_key_of_zero_has_no_weight():
    query, key, value = queries_keys_values()
    key[1] = 0
    without = torch.tensor([0, 2, 3, 4])
    torch.testing.assert_close(
        5 * pointwise_attention(query, key, value),
        4 * pointwise_attention(query, key[without], value[without]),
    )


def test_a_zero_output_projection_gives_the_identity():
    layer = scrambled(HSTULayer(model_dim=4, value_dim=6, num_heads=2))
    nn.init.zeros_(layer.output.weight)
    nn.init.zeros_(layer.output.bias)
    x = random_tokens(2, 5, 4)
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0)


def test_permuting_tokens_permutes_the_layers():
    model = scrambled(HSTU(5, 3, HSTU.Config(model_dim=4, value_dim=6)))
    x, order = random_tokens(2, 5, 4), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model.layers(x[:, order]), model.layers(x)[:, order])


def test_the_whole_model_is_not_permutation_invariant_because_of_its_token_projections():
    model = scrambled(HSTU(5, 3, HSTU.Config(model_dim=4, value_dim=6)))
    tokens = random_tokens(2, 5, 3)
    assert not torch.allclose(model(tokens.flip(1)), model(tokens))


def test_attention_is_not_causal():
    layer = scrambled(HSTULayer(model_dim=4, value_dim=6, num_heads=2))
    x = random_tokens(1, 5, 4)
    jacobian = torch.autograd.functional.jacobian(layer, x).abs().amax(dim=(0, 2, 3, 5))  # (T, T)
    assert (jacobian > 0).all()


def test_epsilon_does_not_dominate_the_norm_of_attended_values_at_initialisation():
    torch.manual_seed(0)
    layer = HSTULayer(model_dim=64, value_dim=64, num_heads=2)
    seen = []
    layer.attended_norm.register_forward_hook(lambda _, __, output: seen.append(output))
    layer(torch.randn(32, 16, 64))
    assert seen[0].var(dim=-1, unbiased=False).median() > 0.9


@pytest.mark.parametrize(("field", "width"), [("model_dim", 5), ("value_dim", 7)])
def test_a_width_that_heads_do_not_divide_is_refused_by_name(field, width):
    config = HSTU.Config(**({"model_dim": 4, "value_dim": 4} | {field: width}))
    with pytest.raises(ValueError, match=rf"{field} {width} .* set it to {width - 1} or {width + 1}"):
        HSTU(4, 3, config)
