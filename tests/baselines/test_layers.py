from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.contract import require_divisible
from baselines.layers import MLP, MultiHeadSelfAttention, PerTokenLinear
from tests.baselines import loops
from tests.baselines.scrambled import random_tokens, scrambled


def test_mlp_equals_loops_with_a_relu_after_every_layer():
    layer = scrambled(MLP(in_dim=5, hidden_dim=4, num_layers=3))
    weights = [(m.weight.tolist(), m.bias.tolist()) for m in layer if isinstance(m, nn.Linear)]
    x = random_tokens(3, 5)
    expected = torch.tensor([loops.mlp(row, weights) for row in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(layer(x), expected)
    assert (layer(x) == 0).any(), "no unit is off: the last ReLU was not seen"


def test_per_token_linear_equals_one_nn_linear_for_each_token():
    layer = scrambled(PerTokenLinear(num_tokens=4, in_dim=3, out_dim=5))
    x = random_tokens(6, 4, 3)
    for t in range(4):
        alone = nn.Linear(3, 5).double()
        alone.load_state_dict({"weight": layer.weight[t].T, "bias": layer.bias[t, 0]})
        torch.testing.assert_close(layer(x)[:, t], alone(x[:, t]))


def test_each_slice_of_per_token_linear_starts_at_the_scale_of_a_lone_nn_linear():
    torch.manual_seed(0)
    layer, alone = PerTokenLinear(num_tokens=16, in_dim=200, out_dim=300), nn.Linear(200, 300)
    for ours, theirs in ((layer.weight, alone.weight), (layer.bias, alone.bias)):
        for token in ours.detach():
            assert token.abs().max() == pytest.approx(theirs.abs().max().item(), rel=0.05)
            assert token.std() == pytest.approx(theirs.std().item(), rel=0.1)


def test_per_token_linear_draws_different_weights_for_different_tokens():
    layer = PerTokenLinear(num_tokens=2, in_dim=8, out_dim=8)
    assert not torch.equal(layer.weight[0], layer.weight[1])


@pytest.mark.parametrize(("bias", "scaled"), [(False, True), (True, True), (False, False)])
def test_attention_equals_loops_over_heads_and_pairs_of_tokens(bias, scaled):
    layer = scrambled(MultiHeadSelfAttention(in_dim=3, out_dim=6, num_heads=2, bias=bias, scaled=scaled))
    projection = layer.query_key_value
    x = random_tokens(2, 5, 3)
    expected = []
    for tokens in x.tolist():
        rows = [
            loops.linear(token, projection.weight.tolist(), projection.bias.tolist() if bias else None)
            for token in tokens
        ]
        query, key, value = ([row[i * 6 : (i + 1) * 6] for row in rows] for i in range(3))
        expected.append(loops.attention(tokens, query, key, value, num_heads=2, scaled=scaled))
    torch.testing.assert_close(layer(x), torch.tensor(expected, dtype=torch.float64))


def test_attention_weights_sum_to_one():
    layer = scrambled(MultiHeadSelfAttention(in_dim=3, out_dim=4, num_heads=2, bias=True))
    with torch.no_grad():
        layer.query_key_value.weight[8:] = 0  # all values are 1, whatever the token
        layer.query_key_value.bias[8:] = 1
    torch.testing.assert_close(layer(random_tokens(2, 5, 3)), torch.ones(2, 5, 4, dtype=torch.float64))


def test_permuting_tokens_permutes_attention():
    layer = scrambled(MultiHeadSelfAttention(in_dim=3, out_dim=4, num_heads=2, bias=True))
    x, order = random_tokens(2, 5, 3), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


@pytest.mark.parametrize(
    ("width", "nearest"), [(100, "set it to 96 or 112"), (15, "set it to 16"), (17, "set it to 16 or 32")]
)
def test_a_width_that_does_not_divide_is_refused_with_the_nearest_valid_ones(width, nearest):
    with pytest.raises(ValueError, match=f"model_dim {width} is not divisible by the 16 tokens; {nearest}$"):
        require_divisible("model_dim", width, 16, "tokens")


def test_a_width_is_refused_exactly_where_the_parts_do_not_divide_it():
    refused = set()
    for width in range(1, 65):
        try:
            require_divisible("model_dim", width, 16, "tokens")
        except ValueError:
            refused.add(width)
    assert refused == set(range(1, 65)) - {16, 32, 48, 64}
