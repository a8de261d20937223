from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from baselines.autoint import AutoInt, InteractingLayer
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm
from tests.baselines.scrambled import random_tokens, scrambled


def autoint_widths(d: int, model_dim: int, last_dim: int, num_layers: int) -> list[tuple[int, int]]:
    widths = [d] + [model_dim] * (num_layers - 1) + [last_dim]
    return list(pairwise(widths))


CLOSED_FORM = ClosedForm(
    params=lambda T, d, model_dim, last_dim, num_layers=3, num_heads=2, layer_norm=True, **_: sum(
        4 * a * b + 2 * b * layer_norm for a, b in autoint_widths(d, model_dim, last_dim, num_layers)
    ),
    flops=lambda T, d, model_dim, last_dim, num_layers=3, num_heads=2, **_: sum(
        8 * T * a * b + 4 * T**2 * b for a, b in autoint_widths(d, model_dim, last_dim, num_layers)
    ),
    output_dim=lambda T, d, model_dim, last_dim, num_layers=3, num_heads=2, **_: T * last_dim,
    configs=(
        {"model_dim": 8, "last_dim": 6},
        {"model_dim": 8, "last_dim": 6, "layer_norm": False, "scaled": False},
        {"model_dim": 8, "last_dim": 6, "norm_before_relu": True},
        {"model_dim": 24, "last_dim": 32, "num_layers": 2, "num_heads": 8},
        {"model_dim": 640, "last_dim": 512, "num_layers": 4},
    ),
)


def interact(tokens, layer, scaled):
    """Equations 5 to 8, scores over the root of the head width if ``scaled``, the norm if there is one."""
    weight = layer.attention.query_key_value.weight.tolist()
    dim = len(weight) // 3
    query, key, value = ([loops.linear(t, weight[i * dim : (i + 1) * dim]) for t in tokens] for i in range(3))
    attended = loops.attention(tokens, query, key, value, layer.attention.num_heads, scaled)
    residual = [loops.linear(t, layer.residual.weight.tolist()) for t in tokens]
    summed = [loops.add(a, r) for a, r in zip(attended, residual, strict=True)]
    norm, relu = (lambda x: normalised(x, layer.norm)), loops.relu
    return [relu(norm(x)) if layer.norm_before_relu else norm(relu(x)) for x in summed]


def normalised(x, norm):
    if isinstance(norm, nn.Identity):
        return x
    return loops.layer_norm(x, norm.weight.tolist(), norm.bias.tolist())


@pytest.mark.parametrize(
    ("layer_norm", "scaled", "first"),
    [(True, True, False), (False, True, False), (False, False, False), (True, True, True)],
)
def test_equals_the_equations_written_as_loops(layer_norm, scaled, first):
    options = {"layer_norm": layer_norm, "scaled": scaled, "norm_before_relu": first}
    config = AutoInt.Config(model_dim=4, last_dim=6, num_layers=3, num_heads=2, **options)
    model = scrambled(AutoInt(5, 3, config))
    tokens = random_tokens(3, 5, 3)
    expected = []
    for row in tokens.tolist():
        for layer in model.layers:
            row = interact(row, layer, scaled)
        expected.append([v for token in row for v in token])
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def test_permuting_tokens_permutes_the_interacting_layers():
    model = scrambled(AutoInt(5, 3, AutoInt.Config(model_dim=4, last_dim=6)))
    tokens, order = random_tokens(2, 5, 3), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model.layers(tokens[:, order]), model.layers(tokens)[:, order])


def test_the_flattened_output_distinguishes_the_tokens():
    model = scrambled(AutoInt(5, 3, AutoInt.Config(model_dim=4, last_dim=6)))
    tokens = random_tokens(2, 5, 3)
    assert not torch.allclose(model(tokens.flip(1)), model(tokens))


def test_zero_values_leave_only_the_residual_projection():
    layer = scrambled(InteractingLayer(in_dim=3, out_dim=4, num_heads=2, layer_norm=False))
    nn.init.zeros_(layer.attention.query_key_value.weight[8:])
    tokens = random_tokens(2, 5, 3)
    torch.testing.assert_close(layer(tokens), torch.relu(tokens @ layer.residual.weight.T))


@pytest.mark.parametrize(("field", "width"), [("model_dim", 5), ("last_dim", 7)])
def test_a_width_that_heads_do_not_divide_is_refused_by_name(field, width):
    config = AutoInt.Config(**({"model_dim": 4, "last_dim": 4} | {field: width}))
    with pytest.raises(ValueError, match=rf"{field} {width} .* set it to {width - 1} or {width + 1}"):
        AutoInt(4, 3, config)


def test_a_single_layer_is_refused_because_its_knob_would_have_no_effect():
    with pytest.raises(ValueError, match="num_layers is 1"):
        AutoInt(4, 3, AutoInt.Config(model_dim=4, last_dim=4, num_layers=1))


def test_a_norm_before_the_relu_leaves_nothing_below_zero_and_needs_a_norm():
    layer = InteractingLayer(in_dim=3, out_dim=4, num_heads=2, norm_before_relu=True)
    assert float(layer(torch.randn(6, 5, 3)).detach().min()) == 0
    config = AutoInt.Config(model_dim=4, last_dim=4, layer_norm=False, norm_before_relu=True)
    with pytest.raises(ValueError, match="norm_before_relu moves the norm, and layer_norm is off"):
        AutoInt(4, 3, config)
