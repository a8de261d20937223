from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from baselines.layers import CrossLayer
from baselines.rdcn import RDCN, AttentionCrossLayer
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled


def rdcn_params(T, d, rank, hidden_dim, num_layers=3, num_cross_layers=2, sub_token_dim=1, plain_branch=True):
    dim = T * d
    attention, plain = 4 * dim * rank + dim + 1, (2 * dim * rank + dim) * plain_branch
    deep = mlp_weights((1 + plain_branch) * dim, hidden_dim, num_layers) + num_layers * hidden_dim
    return num_cross_layers * (attention + plain) + deep


def rdcn_flops(T, d, rank, hidden_dim, num_layers=3, num_cross_layers=2, sub_token_dim=1, plain_branch=True):
    dim = T * d
    attention, plain = 8 * dim * rank + 4 * rank**2 // sub_token_dim, 4 * dim * rank * plain_branch
    deep = 2 * mlp_weights((1 + plain_branch) * dim, hidden_dim, num_layers)
    return num_cross_layers * (attention + plain) + deep


CLOSED_FORM = ClosedForm(
    params=rdcn_params,
    flops=rdcn_flops,
    output_dim=lambda T, d, hidden_dim, **_: hidden_dim,
    configs=(
        {"rank": 2, "hidden_dim": 8},
        {"rank": 24, "hidden_dim": 24, "num_cross_layers": 3, "sub_token_dim": 4},
        {"rank": 160, "hidden_dim": 640, "num_layers": 2, "plain_branch": False},
    ),
)


def attention_cross_in_loops(x0, x, layer):
    rank, width = layer.up.in_features, layer.sub_token_dim
    projected = loops.linear(x, layer.query_key_value.weight.tolist())
    query, key, value = (projected[i * rank : (i + 1) * rank] for i in range(3))
    temperature = math.exp(layer.log_temperature.item())
    parts = [slice(i, i + width) for i in range(0, rank, width)]
    z = []
    for here in parts:
        weights = loops.softmax([loops.dot(query[here], key[there]) / temperature for there in parts])
        for j, own in enumerate(value[here]):
            z.append(own + math.fsum(w * value[there][j] for w, there in zip(weights, parts, strict=True)))
    mapped = loops.linear(z, layer.up.weight.tolist(), layer.up.bias.tolist())
    return [x0[i] * mapped[i] + x[i] for i in range(len(x0))]


def cross_in_loops(x0, x, layer):
    down, up = layer.map
    mapped = loops.linear(loops.linear(x, down.weight.tolist()), up.weight.tolist(), up.bias.tolist())
    return [x0[i] * mapped[i] + x[i] for i in range(len(x0))]


@pytest.mark.parametrize("plain_branch", [True, False])
@pytest.mark.parametrize("sub_token_dim", [1, 2])
def test_equals_the_equations_written_as_loops(sub_token_dim, plain_branch):
    config = RDCN.Config(
        rank=6, hidden_dim=5, num_layers=2, sub_token_dim=sub_token_dim, plain_branch=plain_branch
    )
    model = scrambled(RDCN(4, 3, config))
    deep = [(m.weight.tolist(), m.bias.tolist()) for m in model.deep if isinstance(m, nn.Linear)]
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        x0 = [v for token in row for v in token]
        crossed = []
        for branch in model.branches:
            x = x0
            for layer in branch.layers:
                step = cross_in_loops if isinstance(layer, CrossLayer) else attention_cross_in_loops
                x = step(x0, x, layer)
            crossed += x
        expected.append(loops.mlp(crossed, deep))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def test_identity_scores_give_the_low_rank_cross_layer_except_for_the_skip():
    """A single sub-token attends only to itself, so A = I; the skip then doubles v."""
    attention = scrambled(AttentionCrossLayer(6, 4, sub_token_dim=4))
    plain = CrossLayer(6, 4).double()
    with torch.no_grad():
        plain.map[0].weight.copy_(attention.query_key_value.weight[8:])
        plain.map[1].weight.copy_(2 * attention.up.weight)
        plain.map[1].bias.copy_(attention.up.bias)
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    torch.testing.assert_close(attention(x0, x), plain(x0, x))


def test_zero_u_and_bias_give_the_identity():
    layer = AttentionCrossLayer(6, 4).double()
    nn.init.zeros_(layer.up.weight)
    nn.init.zeros_(layer.up.bias)
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    torch.testing.assert_close(layer(x0, x), x, rtol=0, atol=0)


def test_rows_of_the_scores_sum_to_one():
    """Equal values are returned unchanged for any queries and keys, which do matter for other values."""
    layer = scrambled(AttentionCrossLayer(6, 4))
    other = scrambled(AttentionCrossLayer(6, 4))
    with torch.no_grad():
        other.query_key_value.weight[:4] *= -3  # the queries
    x0, x = random_tokens(5, 6), random_tokens(5, 6, seed=2)
    assert not torch.allclose(layer(x0, x), other(x0, x))
    with torch.no_grad():
        for each in (layer, other):
            each.query_key_value.weight[8:] = layer.query_key_value.weight[8].clone()
    torch.testing.assert_close(layer(x0, x), other(x0, x))


@pytest.mark.parametrize("sub_token_dim", [1, 2])
def test_a_high_temperature_averages_the_values_and_a_low_one_picks_the_best_match(sub_token_dim):
    layer = scrambled(AttentionCrossLayer(6, 4, sub_token_dim))
    layer.up = nn.Linear(4, 6).double()
    with torch.no_grad():
        layer.up.weight.copy_(torch.eye(6, 4))
        layer.up.bias.zero_()
    x0, x = torch.ones(5, 6, dtype=torch.float64), random_tokens(5, 6)
    query, key, value = (
        layer.query_key_value(x).unflatten(1, (3, -1, sub_token_dim)).unbind(1)
    )  # each (5, sub-tokens, sub_token_dim)
    best = torch.einsum("bis,bjs->bij", query, key).argmax(dim=2, keepdim=True)
    picked = value.gather(1, best.expand_as(value))
    for log_temperature, attended in ((20.0, value.mean(dim=1, keepdim=True)), (-20.0, picked)):
        nn.init.constant_(layer.log_temperature, log_temperature)
        z = (layer(x0, x) - x)[:, :4]
        torch.testing.assert_close(z, (attended + value).flatten(1), rtol=1e-6, atol=1e-6)


def test_the_temperature_starts_at_the_root_of_the_rank():
    for rank in (1, 16, 680):
        temperature = AttentionCrossLayer(4, rank).log_temperature.exp().item()
        assert temperature == pytest.approx(math.sqrt(rank), rel=1e-6)


def test_the_branches_share_no_weights():
    model = scrambled(RDCN(4, 3, RDCN.Config(rank=4, hidden_dim=8)))
    x0 = random_tokens(5, 12)
    attention, plain = model.branches
    before = plain(x0)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter += 1
    torch.testing.assert_close(plain(x0), before, rtol=0, atol=0)


def test_a_rank_that_sub_tokens_do_not_divide_is_refused_with_the_nearest_valid_ones():
    with pytest.raises(ValueError, match=r"rank 6 is not divisible by the 4 .*sub_token_dim.*4 or 8"):
        RDCN(4, 3, RDCN.Config(rank=6, hidden_dim=8, sub_token_dim=4))
