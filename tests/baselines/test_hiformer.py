from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.hiformer import CompositeProjection, HeterogeneousProjection, HiFormer, HiFormerLayer
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm
from tests.baselines.scrambled import random_tokens, scrambled


def hiformer_rank(model_dim, composite, rank):
    """Weights of the projections: 6*T*D*r, or 3*T*D**2 if they are heterogeneous."""
    return rank or max(1, model_dim // 2) if composite else model_dim / 2


CLOSED_FORM = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4, composite=True, rank=None: (
        T * (d * model_dim + model_dim)
        + num_layers
        * (
            6 * T * model_dim * hiformer_rank(model_dim, composite, rank)
            + T * model_dim**2
            + 2 * T * model_dim * ffn_dim
            + T * (5 * model_dim + ffn_dim)
            + 4 * model_dim
        )
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4, composite=True, rank=None: (
        2 * T * d * model_dim
        + num_layers
        * (
            12 * T * model_dim * hiformer_rank(model_dim, composite, rank)
            + 2 * T * model_dim**2
            + 4 * T**2 * model_dim
            + 4 * T * model_dim * ffn_dim
        )
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=4, composite=True, rank=None: (
        model_dim
    ),
    configs=(
        {"model_dim": 8, "ffn_dim": 30},
        {"model_dim": 24, "ffn_dim": 96, "num_layers": 1, "num_heads": 8, "composite": False},
        {"model_dim": 24, "ffn_dim": 50, "rank": 7},
        {"model_dim": 640, "ffn_dim": 2000, "num_layers": 3},
    ),
)


T, D, M = 5, 4, 7


def per_token(tokens, layer):
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [loops.linear(x, loops.transpose(weight[t]), bias[t][0]) for t, x in enumerate(tokens)]


def composite_part(tokens, projection, part):
    """Query (0), key (1) or value (2) of every token."""
    rank = projection.up.weight.shape[1]
    flat = [v for token in tokens for v in token]
    reduced = loops.linear(flat, projection.down.weight[part * rank : (part + 1) * rank].tolist())
    up = loops.transpose(projection.up.weight[part].tolist())
    flat = loops.linear(reduced, up, projection.up.bias[part, 0].tolist())
    width = len(tokens[0])
    return [flat[i : i + width] for i in range(0, len(flat), width)]


def heterogeneous_part(tokens, projection, part):
    width = len(tokens[0])
    return [row[part * width : (part + 1) * width] for row in per_token(tokens, projection.linear)]


def normalised(tokens, norm):
    return [loops.layer_norm(x, norm.weight.tolist(), norm.bias.tolist()) for x in tokens]


def summed(tokens, others):
    return [loops.add(a, b) for a, b in zip(tokens, others, strict=True)]


def attended(tokens, layer):
    composite = isinstance(layer.project, CompositeProjection)
    part_of = composite_part if composite else heterogeneous_part
    query, key, value = (part_of(tokens, layer.project, part) for part in range(3))
    return per_token(loops.attention(tokens, query, key, value, layer.num_heads), layer.output)


def fed(tokens, layer):
    hidden = [loops.gelu(x) for x in per_token(tokens, layer.ffn.up)]
    return per_token(hidden, layer.ffn.down)


def layer_as_loops(x, layer, pre_norm):
    if pre_norm:
        s = summed(x, attended(normalised(x, layer.attention_norm), layer))
        return summed(s, fed(normalised(s, layer.ffn_norm), layer))
    s = normalised(summed(x, attended(x, layer)), layer.attention_norm)
    return normalised(summed(s, fed(s, layer)), layer.ffn_norm)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("composite", [False, True])
def test_equals_the_equations_written_as_loops(composite, pre_norm):
    config = HiFormer.Config(
        model_dim=D, ffn_dim=M, num_heads=2, composite=composite, rank=3 if composite else None,
        pre_norm=pre_norm,
    )  # fmt: skip
    model = scrambled(HiFormer(T, 3, config))
    tokens = random_tokens(3, T, 3)
    expected = []
    for row in tokens.tolist():
        x = per_token(row, model.projection)
        for layer in model.layers:
            x = layer_as_loops(x, layer, pre_norm)
        expected.append(loops.mean_of(normalised(x, model.final_norm) if pre_norm else x))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


def tied(layer):
    """``layer`` with every token's weights set to the first token's."""
    with torch.no_grad():
        for linear in (layer.project.linear, layer.output, layer.ffn.up, layer.ffn.down):
            linear.weight.copy_(linear.weight[:1].expand_as(linear.weight))
            linear.bias.copy_(linear.bias[:1].expand_as(linear.bias))
    return layer


def heterogeneous_layer(pre_norm=False):
    config = HiFormer.Config(model_dim=8, ffn_dim=M, num_heads=2, composite=False, pre_norm=pre_norm)
    return scrambled(HiFormerLayer(T, config))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_heterogeneous_layer_with_tied_tokens_equals_pytorchs_vanilla_encoder_layer(pre_norm):
    ours = tied(heterogeneous_layer(pre_norm))
    theirs = nn.TransformerEncoderLayer(
        8, 2, M, dropout=0.0, activation="gelu", batch_first=True, norm_first=pre_norm
    ).double()
    parts = {
        "self_attn.in_proj_": ours.project.linear,
        "self_attn.out_proj.": ours.output,
        "linear1.": ours.ffn.up,
        "linear2.": ours.ffn.down,
    }
    state = {prefix + "weight": linear.weight[0].T for prefix, linear in parts.items()}
    state |= {prefix + "bias": linear.bias[0, 0] for prefix, linear in parts.items()}
    for name, norm in (("norm1", ours.attention_norm), ("norm2", ours.ffn_norm)):
        state |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
    theirs.load_state_dict(state)
    x = random_tokens(3, T, 8)
    torch.testing.assert_close(ours(x), theirs(x))


def test_with_different_weights_for_tokens_it_is_another_layer():
    layer, x = heterogeneous_layer(), random_tokens(3, T, 8)
    assert not torch.allclose(layer(x.flip(1)), layer(x).flip(1))


def full_rank_composite():
    """A composite projection with r = T*D and L = I, so that R is the whole matrix."""
    projection = scrambled(CompositeProjection(T, D, rank=T * D))
    with torch.no_grad():
        projection.down.weight.copy_(torch.eye(T * D).repeat(3, 1))
    return projection


def test_composite_projection_of_full_rank_is_one_matrix_on_the_flattened_tokens():
    projection, x = full_rank_composite(), random_tokens(2, T, D)
    parts = [x.flatten(1) @ projection.up.weight[i] + projection.up.bias[i] for i in range(3)]
    torch.testing.assert_close(projection(x), torch.stack(parts, dim=1).view(2, 3, T, D))


def test_composite_projection_with_block_diagonal_matrices_equals_the_heterogeneous_one():
    composite, own = full_rank_composite(), scrambled(HeterogeneousProjection(T, D), seed=3)
    weight = own.linear.weight.view(T, D, 3, D)  # (T, in, part, out)
    with torch.no_grad():
        for part in range(3):
            composite.up.weight[part].copy_(torch.block_diag(*weight[:, :, part]))
            composite.up.bias[part, 0].copy_(own.linear.bias.view(T, 3, D)[:, part].flatten())
    x = random_tokens(2, T, D)
    torch.testing.assert_close(composite(x), own(x))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_projection_reads_other_tokens_only_if_it_is_composite(part):
    def reach(projection):
        """(T, T): how strongly part i of the output depends on token j."""
        x = random_tokens(1, T, D)
        jacobian = torch.autograd.functional.jacobian(lambda x: projection(x)[0, part], x)  # (T, D, 1, T, D)
        return jacobian.abs().amax(dim=(1, 2, 4))

    own = reach(scrambled(HeterogeneousProjection(T, D)))
    composite = reach(scrambled(CompositeProjection(T, D, rank=2)))
    elsewhere = ~torch.eye(T, dtype=torch.bool)
    assert (own.diagonal() > 0).all()
    assert (own[elsewhere] == 0).all()
    assert (composite > 0).all()


def test_rank_bounds_the_rank_of_the_projections():
    projection = scrambled(CompositeProjection(T, D, rank=2))
    x = random_tokens(30, T, D)
    queries = projection(x)[:, 0].flatten(1) - projection.up.bias[0]
    assert torch.linalg.matrix_rank(queries) == 2


def test_zero_output_projections_leave_only_the_two_norms():
    layer = heterogeneous_layer()
    for silenced in (layer.output, layer.ffn.down):
        nn.init.zeros_(silenced.weight)
        nn.init.zeros_(silenced.bias)
    x = random_tokens(2, T, 8)
    torch.testing.assert_close(layer(x), layer.ffn_norm(layer.attention_norm(x)))


def test_a_rank_without_composite_projections_is_refused():
    with pytest.raises(ValueError, match="rank is 2"):
        HiFormer(4, 3, HiFormer.Config(model_dim=8, ffn_dim=8, composite=False, rank=2))


def test_a_width_that_heads_do_not_divide_is_refused_with_the_nearest_valid_ones():
    with pytest.raises(ValueError, match=r"model_dim 10 .* set it to 8 or 12"):
        HiFormer(4, 3, HiFormer.Config(model_dim=10, ffn_dim=4))
