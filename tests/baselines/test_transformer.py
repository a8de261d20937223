from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.layers import EncoderLayer
from baselines.transformer import Transformer
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4: (
        T * (d * model_dim + model_dim)
        + num_layers * (4 * model_dim**2 + 2 * model_dim * ffn_dim + ffn_dim + 9 * model_dim)
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4: (
        2 * T * d * model_dim
        + num_layers * (8 * T * model_dim**2 + 4 * T**2 * model_dim + 4 * T * model_dim * ffn_dim)
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4: model_dim,
    configs=(
        {"model_dim": 8, "ffn_dim": 30},
        {"model_dim": 24, "ffn_dim": 96, "num_layers": 1, "num_heads": 8},
        {"model_dim": 640, "ffn_dim": 2000, "num_layers": 3},
    ),
)


def weights(layer):
    return layer.weight.tolist(), layer.bias.tolist()


def encode(tokens, layer):
    """One post-norm encoder layer on one row."""
    attention, output = layer.attention
    dim = len(tokens[0])
    rows = [loops.linear(t, *weights(attention.query_key_value)) for t in tokens]
    query, key, value = ([row[i * dim : (i + 1) * dim] for row in rows] for i in range(3))
    attended = loops.attention(tokens, query, key, value, attention.num_heads)
    encoded = []
    for token, gathered in zip(tokens, attended, strict=True):
        s = loops.add(token, loops.linear(gathered, *weights(output)))
        s = loops.layer_norm(s, *weights(layer.attention_norm))
        up, _, down = layer.ffn
        fed = loops.linear(loops.relu(loops.linear(s, *weights(up))), *weights(down))
        encoded.append(loops.layer_norm(loops.add(s, fed), *weights(layer.ffn_norm)))
    return encoded


def test_equals_the_equations_written_as_loops():
    config = Transformer.Config(model_dim=4, ffn_dim=7, num_layers=2, num_heads=2)
    model = scrambled(Transformer(5, 3, config))
    tokens = random_tokens(3, 5, 3)
    weight, bias = model.projection.weight.tolist(), model.projection.bias.tolist()
    expected = []
    for row in tokens.tolist():
        x = [loops.linear(row[t], loops.transpose(weight[t]), bias[t][0]) for t in range(5)]
        for layer in model.layers:
            x = encode(x, layer)
        expected.append(loops.mean_of(x))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def test_encoder_layer_equals_pytorchs_own_with_the_same_weights():
    ours = scrambled(EncoderLayer(model_dim=8, ffn_dim=12, num_heads=2))
    theirs = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).double()
    attention, output = ours.attention
    names = {
        "self_attn.in_proj_weight": attention.query_key_value.weight,
        "self_attn.in_proj_bias": attention.query_key_value.bias,
        "self_attn.out_proj.weight": output.weight,
        "self_attn.out_proj.bias": output.bias,
    }
    for their_name, our_part in (
        ("linear1", ours.ffn[0]),
        ("linear2", ours.ffn[2]),
        ("norm1", ours.attention_norm),
        ("norm2", ours.ffn_norm),
    ):
        names |= {f"{their_name}.weight": our_part.weight, f"{their_name}.bias": our_part.bias}
    theirs.load_state_dict(names)
    x = random_tokens(3, 5, 8)
    torch.testing.assert_close(ours(x), theirs(x))


def test_permuting_tokens_permutes_the_encoder_output_but_not_its_mean():
    model = scrambled(Transformer(5, 3, Transformer.Config(model_dim=8, ffn_dim=6)))
    x, order = random_tokens(2, 5, 8), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model.layers(x[:, order]), model.layers(x)[:, order])
    torch.testing.assert_close(model.layers(x[:, order]).mean(1), model.layers(x).mean(1))


def test_the_whole_model_is_not_permutation_invariant_because_of_its_token_projections():
    model = scrambled(Transformer(5, 3, Transformer.Config(model_dim=8, ffn_dim=6)))
    tokens = random_tokens(2, 5, 3)
    assert not torch.allclose(model(tokens.flip(1)), model(tokens))


def test_zero_output_projections_leave_only_the_two_norms():
    layer = scrambled(EncoderLayer(model_dim=8, ffn_dim=6, num_heads=2))
    for silenced in (layer.attention[1], layer.ffn[2]):
        nn.init.zeros_(silenced.weight)
        nn.init.zeros_(silenced.bias)
    x = random_tokens(2, 5, 8)
    torch.testing.assert_close(layer(x), layer.ffn_norm(layer.attention_norm(x)))


def test_a_width_that_heads_do_not_divide_is_refused_with_the_nearest_valid_ones():
    with pytest.raises(ValueError, match=r"model_dim 10 .* set it to 8 or 12"):
        Transformer(4, 3, Transformer.Config(model_dim=10, ffn_dim=4))
