"""The ablations of RankMixer in the paper: mixings, networks, residuals, norms and projections."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from rankmixer.mixing import SelfAttention, mix_tokens, revert_tokens
from rankmixer.model import Block, RankMixer
from rankmixer.sparse_moe import SparseMoE
from tests.baselines import loops
from tests.baselines.scrambled import random_tokens, scrambled

T, d, D, M = 4, 3, 8, 10
MIXINGS = ("multi_head", "none", "self_attention", "all_concat_mlp", "all_share")
NORMS = ("post", "pre", "none")


def config(**fields) -> RankMixer.Config:
    return RankMixer.Config(**({"model_dim": D, "ffn_dim": M} | fields))


def model(**fields) -> RankMixer:
    return scrambled(RankMixer(T, d, config(**fields)))


def counted(module: nn.Module, *shape: int) -> int:
    """FLOPs for one row of ``shape``."""
    module = module.to("meta")
    with FlopCounterMode(display=False) as counter:
        module(torch.empty(8, *shape, device="meta"))
    assert counter.get_total_flops() % 8 == 0
    return counter.get_total_flops() // 8


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# Mixing ---------------------------------------------------------------------------------------

shapes = {"num_tokens": st.integers(1, 6), "num_heads": st.integers(1, 6), "slice_dim": st.integers(1, 3)}


def tokens_for(num_tokens: int, num_heads: int, slice_dim: int) -> torch.Tensor:
    """Different numbers everywhere, which show where they came from: (2, T, D) with D divisible by H."""
    dim = num_heads * slice_dim
    return torch.arange(2 * num_tokens * dim).view(2, num_tokens, dim)


@settings(max_examples=50, deadline=None)
@given(**shapes)
def test_heads_are_concatenated_in_order_and_cut_into_tokens(num_tokens, num_heads, slice_dim):
    x = tokens_for(num_tokens, num_heads, slice_dim)
    expected = []
    for row in x.tolist():
        flat = [
            v for h in range(num_heads) for token in row for v in token[h * slice_dim : (h + 1) * slice_dim]
        ]
        width = len(row[0])
        expected.append([flat[t * width : (t + 1) * width] for t in range(num_tokens)])
    assert mix_tokens(x, num_heads).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(**shapes)
def test_mixing_is_its_own_inverse_only_with_as_many_heads_as_tokens(num_tokens, num_heads, slice_dim):
    x = tokens_for(num_tokens, num_heads, slice_dim)
    comes_back = torch.equal(mix_tokens(mix_tokens(x, num_heads), num_heads), x)
    moves_nothing = num_tokens == 1 or num_heads == 1
    assert comes_back == (num_heads == num_tokens or moves_nothing)


@settings(max_examples=50, deadline=None)
@given(**shapes)
def test_reverting_undoes_mixing_from_both_sides_with_any_number_of_heads(num_tokens, num_heads, slice_dim):
    x = tokens_for(num_tokens, num_heads, slice_dim)
    assert torch.equal(revert_tokens(mix_tokens(x, num_heads), num_heads), x)
    assert torch.equal(mix_tokens(revert_tokens(x, num_heads), num_heads), x)


@pytest.mark.parametrize(("num_heads", "sources"), [(1, 1), (2, 2), (4, 4), (8, 4)])
def test_with_fewer_heads_than_tokens_a_token_reads_as_many_tokens_as_there_are_heads(num_heads, sources):
    origin = torch.arange(4).view(1, 4, 1).expand(1, 4, 8)
    mixed = mix_tokens(origin, num_heads)[0]
    assert [len(set(token)) for token in mixed.tolist()] == 4 * [sources]
    assert all(token.count(token[0]) == 8 // sources for token in mixed.tolist())


def influence(block: nn.Module) -> torch.Tensor:
    """(T, T): largest derivative of any number of output token i by any of input token j."""

    def output(x):
        result = block(x)
        return result[0] if isinstance(result, tuple) else result

    jacobian = torch.autograd.functional.jacobian(output, random_tokens(1, T, D))
    return jacobian[0, :, :, 0].abs().amax(dim=(1, 3))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("mixing", MIXINGS)
def test_tokens_influence_each_other_unless_there_is_no_mixing(mixing, norm):
    block = scrambled(Block(T, config(mixing=mixing, norm=norm)))
    between = influence(block)[~torch.eye(T, dtype=torch.bool)]
    assert (between == 0).all() if mixing == "none" else (between > 0).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("ffn", [{"feed_forward": "shared"}, {"moe": SparseMoE.Config(training="plain")}])
def test_without_mixing_no_feed_forward_network_mixes_tokens(ffn, training):
    block = scrambled(Block(T, config(mixing="none", ffn_dim=16, **ffn))).train(training)
    reach = influence(block)
    assert (reach[~torch.eye(T, dtype=torch.bool)] == 0).all()
    assert (reach.diagonal() > 0).all()


def test_self_attention_equals_loops():
    layer = scrambled(SelfAttention(T, D, num_heads=2))
    x = random_tokens(2, T, D)
    qkv, output = layer.attention.query_key_value, layer.output
    expected = [attended(row, qkv, output, num_heads=2) for row in x.tolist()]
    torch.testing.assert_close(layer(x), torch.tensor(expected, dtype=torch.float64))


def attended(row, qkv, output, num_heads):
    joined = [loops.linear(token, qkv.weight.tolist(), qkv.bias.tolist()) for token in row]
    query, key, value = ([token[i * D : (i + 1) * D] for token in joined] for i in range(3))
    heads = loops.attention(row, query, key, value, num_heads)
    return [loops.linear(token, output.weight.tolist(), output.bias.tolist()) for token in heads]


# Blocks as loops ------------------------------------------------------------------------------


def per_token(row, layer):
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [loops.linear(x, loops.transpose(weight[t]), bias[t][0]) for t, x in enumerate(row)]


def shared(row, layer):
    return [loops.linear(x, layer.weight.tolist(), layer.bias.tolist()) for x in row]


def mixed(row, num_heads):
    flat = [
        v for h in range(num_heads) for x in row for v in x[h * D // num_heads : (h + 1) * D // num_heads]
    ]
    return [flat[t * D : (t + 1) * D] for t in range(T)]


def ffn_in_loops(block, row, kind):
    flat = [v for x in row for v in x]
    ffn = block.ffn
    if kind == "all_concat_mlp":
        [hidden] = shared([flat], ffn.up)
        [whole] = shared([loops.gelu(hidden)], ffn.down)
        return [whole[t * D : (t + 1) * D] for t in range(T)]
    if kind == "all_share":
        [hidden] = shared([flat], ffn.up)  # T networks, one after the other
        width = len(hidden) // T
        own = [loops.gelu(hidden[t * width : (t + 1) * width]) for t in range(T)]
        return per_token(own, ffn.down)
    layer = per_token if kind == "per_token" else shared
    return layer([loops.gelu(h) for h in layer(row, ffn.up)], ffn.down)


def block_in_loops(block, row, cfg):
    def norm(x, layer):
        if isinstance(layer, nn.Identity):
            return x
        return [loops.layer_norm(v, layer.weight.tolist(), layer.bias.tolist()) for v in x]

    def step(x, transform, layer):
        result = transform(norm(x, layer) if cfg.norm == "pre" else x)
        if cfg.residual:
            result = [loops.add(a, b) for a, b in zip(x, result, strict=True)]
        return norm(result, layer) if cfg.norm == "post" else result

    def mixing(x):
        if cfg.mixing == "none":
            return x
        if cfg.mixing == "self_attention":
            qkv, output = block.mixing.attention.query_key_value, block.mixing.output
            return attended(x, qkv, output, cfg.num_heads or T)
        return mixed(x, cfg.num_heads or T)

    is_flat = cfg.mixing.startswith("all_")
    if not is_flat:
        row = step(row, mixing, block.mixing_norm)
    kind = cfg.mixing if is_flat else cfg.feed_forward
    return step(row, lambda x: ffn_in_loops(block, x, kind), block.ffn_norm)


KINDS = [
    *({"mixing": mixing} for mixing in MIXINGS),
    {"feed_forward": "shared"},
    {"num_heads": 2},
    {"num_heads": 8},
    {"mixing": "self_attention", "num_heads": 2},
]


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_model_of_every_kind_equals_the_equations_written_as_loops(kind, norm, residual):
    cfg = config(**kind, norm=norm, residual=residual, num_layers=2)
    net = scrambled(RankMixer(T, d, cfg))
    tokens = random_tokens(2, T, d)
    expected = []
    for row in tokens.tolist():
        x = per_token(row, net.projection)
        for block in net.blocks:
            x = block_in_loops(block, x, cfg)
        if norm == "pre":
            final = net.final_norm
            x = [loops.layer_norm(v, final.weight.tolist(), final.bias.tolist()) for v in x]
        expected.append(loops.mean_of(x))
    torch.testing.assert_close(net(tokens), torch.tensor(expected, dtype=torch.float64))


def test_post_norm_and_pre_norm_are_not_swapped():
    """A post-norm block returns normalised tokens; a pre-norm block only adds to its input."""
    torch.manual_seed(0)
    x = 100 * torch.randn(3, T, 64) + 5
    post, pre = (Block(T, config(model_dim=64, ffn_dim=32, norm=norm)) for norm in ("post", "pre"))
    after, _ = post(x)
    torch.testing.assert_close(after.mean(-1), torch.zeros(3, T), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.std(-1, correction=0), torch.ones(3, T), atol=1e-3, rtol=0)
    added = pre(x)[0] - x
    assert added.std() < 0.05 * x.std()
    larger = pre(1000 * x)[0] - 1000 * x  # what it adds is of the normalised input
    assert larger.std() < 2 * added.std()


def test_without_norm_the_output_depends_on_the_scale_of_the_input():
    block = scrambled(Block(T, config(norm="none", mixing="none")))
    small, large = (block(scale * random_tokens(2, T, D))[0].std() for scale in (1.0, 100.0))
    assert large > 50 * small


def test_without_residuals_nothing_goes_around_the_feed_forward_network():
    for residual in (True, False):
        block = Block(T, config(residual=residual, norm="none")).double()
        nn.init.zeros_(block.ffn.down.weight)
        nn.init.zeros_(block.ffn.down.bias)
        assert (block(random_tokens(2, T, D))[0].abs().max() > 0) == residual


# Who shares what ------------------------------------------------------------------------------


@pytest.mark.parametrize(("feed_forward", "commutes"), [("shared", True), ("per_token", False)])
def test_permuting_tokens_commutes_with_a_shared_network_but_not_with_per_token_ones(feed_forward, commutes):
    block = scrambled(Block(T, config(feed_forward=feed_forward, mixing="none")))
    x, order = random_tokens(2, T, D), torch.tensor([2, 0, 3, 1])
    assert torch.allclose(block(x[:, order])[0], block(x)[0][:, order], atol=1e-12) == commutes


@pytest.mark.parametrize("is_shared", [True, False])
def test_every_token_has_its_own_projection_unless_it_is_shared(is_shared):
    net = model(shared_projection=is_shared)
    x, order = random_tokens(2, T, d), torch.tensor([2, 0, 3, 1])
    commutes = torch.allclose(net.projection(x[:, order]), net.projection(x)[:, order], atol=1e-12)
    assert commutes == is_shared
    assert parameters(net.projection) == (1 if is_shared else T) * (d * D + D)


def test_a_network_of_all_share_reads_all_tokens_and_writes_one():
    block = scrambled(Block(T, config(mixing="all_share", residual=False, norm="none")))
    x = random_tokens(2, T, D)
    block(x)[0][:, 1].square().sum().backward()
    touched = [bool(g.abs().sum() > 0) for g in block.ffn.down.weight.grad]
    assert touched == [False, True, False, False]
    first_layers = block.ffn.up.weight.grad.unflatten(0, (T, -1)).abs().sum((1, 2)) > 0
    assert first_layers.tolist() == touched
    assert (influence(block) > 0).all()


# Costs ----------------------------------------------------------------------------------------

LARGE = {"num_tokens": 16, "model_dim": 64, "ffn_dim": 136}


def block_cost(num_tokens: int, **fields) -> tuple[int, int]:
    block = Block(num_tokens, config(**fields))
    return parameters(block), counted(block, num_tokens, fields["model_dim"])


CLOSED_FORMS = {
    "per token": ({}, lambda T, D, M: (2 * T * D * M + T * (M + D) + 4 * D, 4 * T * D * M)),
    "no mixing": ({"mixing": "none"}, lambda T, D, M: (2 * T * D * M + T * (M + D) + 4 * D, 4 * T * D * M)),
    "no norm": ({"norm": "none"}, lambda T, D, M: (2 * T * D * M + T * (M + D), 4 * T * D * M)),
    "shared": ({"feed_forward": "shared"}, lambda T, D, M: (2 * D * M + M + D + 4 * D, 4 * T * D * M)),
    "self-attention": (
        {"mixing": "self_attention"},
        lambda T, D, M: (
            4 * D**2 + 4 * D + 2 * T * D * M + T * (M + D) + 4 * D,
            8 * T * D**2 + 4 * T**2 * D + 4 * T * D * M,
        ),
    ),
    "all-concat": (
        {"mixing": "all_concat_mlp"},
        lambda T, D, M: (2 * T * D * M + M + T * D + 2 * D, 4 * T * D * M),
    ),
    "all-share": (
        {"mixing": "all_share"},
        lambda T, D, M: (
            T * round(2 * M / (T + 1)) * (T + 1) * D + T * (round(2 * M / (T + 1)) + D) + 2 * D,
            2 * T * round(2 * M / (T + 1)) * (T + 1) * D,
        ),
    ),
}


@pytest.mark.parametrize(("num_tokens", "D", "M"), [(16, 64, 136), (4, 8, 10), (6, 24, 7)])
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_a_block_costs_its_closed_form(name, num_tokens, D, M):
    fields, form = CLOSED_FORMS[name]
    assert block_cost(num_tokens, model_dim=D, ffn_dim=M, **fields) == form(num_tokens, D, M)


@pytest.mark.parametrize("mixing", ["all_concat_mlp", "all_share"])
def test_networks_on_all_tokens_have_as_many_weights_and_flops_as_per_token_ones(mixing):
    """Their hidden widths are whole numbers, and their biases and norms are fewer."""
    params, flops = block_cost(16, model_dim=256, ffn_dim=768, mixing=mixing)
    base_params, base_flops = block_cost(16, model_dim=256, ffn_dim=768)
    half_a_unit = 0.5 / (2 * 768 / 17)
    assert flops == pytest.approx(base_flops, rel=half_a_unit)
    assert params == pytest.approx(base_params, rel=half_a_unit + 0.003)


def test_self_attention_adds_four_square_matrices_for_any_number_of_tokens():
    for num_tokens in (4, 16):
        with_attention, base = (
            block_cost(num_tokens, model_dim=64, ffn_dim=136, **fields)[0]
            for fields in ({"mixing": "self_attention"}, {})
        )
        assert with_attention - base == 4 * 64**2 + 4 * 64


@pytest.mark.parametrize("heads", [2, 8, 64])
def test_the_number_of_heads_costs_nothing(heads):
    assert block_cost(16, model_dim=64, ffn_dim=136, num_heads=heads) == block_cost(
        16, model_dim=64, ffn_dim=136
    )


# Gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_equal_finite_differences(kind, norm):
    net = model(**kind, norm=norm, num_layers=1)
    names = list(dict(net.named_parameters()))

    def output(tokens, *values):
        return functional_call(net, dict(zip(names, values, strict=True)), tokens)

    inputs = random_tokens(2, T, d).requires_grad_(), *(p.detach().requires_grad_() for p in net.parameters())
    assert torch.autograd.gradcheck(output, inputs, fast_mode=True)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", [*KINDS, {"moe": SparseMoE.Config(), "ffn_dim": 16}], ids=str)
def test_every_parameter_of_every_kind_has_a_gradient(kind, norm, residual):
    net = model(**kind, norm=norm, residual=residual)
    result = net(random_tokens(16, T, d))
    if not isinstance(result, torch.Tensor):
        result = torch.cat([result.representation, result.views["training_router"].representation])
    result.square().sum().backward()
    without = {name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() == 0}
    assert without == set()


# What cannot be built -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model_dim": 10}, r"model_dim 10 .* 4 tokens.*set it to 8 or 12"),
        ({"num_heads": 3}, r"model_dim 8 .* 3 heads \(num_heads\).*set it to 6 or 9"),
        ({"mixing": "self_attention", "num_heads": 3}, r"model_dim 8 .*num_heads.*set it to 6 or 9"),
        ({"mixing": "self_attention", "model_dim": 10}, r"model_dim 10 .*set it to 8 or 12"),
        ({"num_heads": 0}, r"num_heads is 0; set it to 1 or more"),
        ({"num_layers": 0}, r"num_layers is 0; set it to 1 or more"),
        ({"ffn_dim": 0}, r"ffn_dim is 0; set it to 1 or more"),
        ({"model_dim": -8}, r"model_dim is -8; set it to 1 or more"),
        ({"mixing": "all_share", "feed_forward": "shared"}, r"feed_forward 'shared' .*mixing 'all_share'"),
        ({"mixing": "all_concat_mlp", "feed_forward": "shared"}, r"feed_forward 'shared'"),
        ({"mixing": "all_share", "moe": SparseMoE.Config()}, r"moe .*mixing .*or leave moe out"),
        ({"feed_forward": "shared", "moe": SparseMoE.Config()}, r"moe .*feed_forward .*or leave moe out"),
    ],
    ids=str,
)
def test_an_invalid_config_is_refused_with_the_field_and_advice(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        RankMixer(T, d, config(**fields))


@pytest.mark.parametrize("mixing", ["none", "all_concat_mlp", "all_share"])
def test_a_width_that_tokens_do_not_divide_is_refused_only_if_tokens_are_cut(mixing):
    assert RankMixer(T, d, config(model_dim=10, mixing=mixing))(torch.ones(2, T, d)).shape == (2, 10)


def test_every_switch_of_the_config_changes_the_model():
    """A switch without effect would make a record claim something that is not true."""
    changed = {
        "num_layers": 1, "mixing": "none", "num_heads": 2, "feed_forward": "shared", "residual": False,
        "norm": "pre", "shared_projection": True, "moe": SparseMoE.Config(num_experts=2),
        "model_dim": 16, "ffn_dim": 12,
    }  # fmt: skip
    assert set(changed) == {field.name for field in dataclasses.fields(RankMixer.Config)}
    tokens = random_tokens(2, T, d)
    base = model()(tokens)
    for name, value in changed.items():
        result = model(**{name: value}).eval()(tokens)
        result = result if isinstance(result, torch.Tensor) else result.representation
        assert result.shape != base.shape or not torch.allclose(result, base), name
        assert result.isfinite().all()
