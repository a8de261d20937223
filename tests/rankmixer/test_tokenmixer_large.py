"""TokenMixer-Large against loops over numbers in float64, and the identities that its parts must keep."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from baselines.contract import Output
from harness.model.assembly import build_backbone
from rankmixer.mixing import mix_tokens, revert_tokens
from rankmixer.swiglu import PerTokenSwiGLU, SparseSwiGLU
from rankmixer.tokenmixer_large import EPS, Block, TokenMixerLarge
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm
from tests.baselines.scrambled import random_tokens, scrambled
from tests.threads import threads_at_work


def tokenmixer_large_hidden(T, ffn_dim, num_heads=None, num_layers=2):
    """Sum over all blocks and both stages of tokens * their width / D * their hidden width."""
    heads = num_heads or T
    return num_layers * T * (math.ceil(ffn_dim * T / heads) + ffn_dim)


CLOSED_FORM = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=None, global_token=True: (
        (T + (T - 1) * global_token) * d * model_dim
        + T * model_dim
        + 3 * model_dim * tokenmixer_large_hidden(T, ffn_dim, num_heads, num_layers)
        + (2 * num_layers + 1) * model_dim
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=None, global_token=True: (
        2 * (T + (T - 1) * global_token) * d * model_dim
        + 6 * model_dim * tokenmixer_large_hidden(T, ffn_dim, num_heads, num_layers)
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2, num_heads=None, global_token=True: model_dim,
    configs=(
        {"model_dim": 16, "ffn_dim": 30},
        {"model_dim": 48, "ffn_dim": 96, "num_layers": 1, "num_heads": 4},
        {"model_dim": 32, "ffn_dim": 7, "num_heads": 32},
        {"model_dim": 256, "ffn_dim": 300, "num_layers": 3, "num_heads": 8},
    ),
)


Config = TokenMixerLarge.Config
Experts = SparseSwiGLU.Config


def model_of(num_tokens=4, token_dim=3, **config):
    return scrambled(
        TokenMixerLarge(num_tokens, token_dim, Config(**{"model_dim": 8, "ffn_dim": 6} | config))
    )


# The equations as loops: a token is a list of floats.


def rms_norm(token, norm):
    size = math.sqrt(math.fsum(v * v for v in token) / len(token) + EPS)
    return [v / size * w for v, w in zip(token, norm.weight.tolist(), strict=True)]


def mixed(tokens, num_heads):
    """Head h of every token, one after another."""
    width = len(tokens[0]) // num_heads
    return [[v for token in tokens for v in token[h * width : (h + 1) * width]] for h in range(num_heads)]


def reverted(heads, num_tokens):
    """Token t takes the t-th slice of every head, where `mixed` put the slices of token t."""
    width = len(heads[0]) // num_tokens
    return [[v for head in heads for v in head[t * width : (t + 1) * width]] for t in range(num_tokens)]


def linear(token, weight, bias, t):
    return loops.linear(
        token, loops.transpose(weight[t].tolist()), bias[t, 0].tolist() if bias is not None else None
    )


def swiglu(token, t, network):
    gate = linear(token, network.gate_weight, network.gate_bias, t)
    up = linear(token, network.up_weight, network.up_bias, t)
    hidden = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
    return linear(hidden, network.down_weight, network.down_bias, t)


def experts(token, t, network, num_routed, scale):
    """The experts of a token one after another: the first always, then those with the largest logits."""
    router, inner = network.router.linear, network.experts
    width = inner.gate_weight.shape[2] // network.num_experts
    outputs = []
    for e in range(network.num_experts):
        own = slice(e * width, (e + 1) * width)
        gate = linear(token, inner.gate_weight[:, :, own], None, t)
        up = linear(token, inner.up_weight[:, :, own], None, t)
        hidden = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
        outputs.append(linear(hidden, inner.down_weight[:, own], None, t))
    logits = linear(token, router.weight, router.bias, t)
    kept = sorted(range(len(logits)), key=lambda e: -logits[e])[:num_routed]
    total = outputs[0]
    for e, gate in zip(kept, loops.softmax([logits[e] for e in kept]), strict=True):
        total = loops.add(total, [scale * gate * v for v in outputs[e + 1]])
    return total


def added(a, b):
    return [loops.add(x, y) for x, y in zip(a, b, strict=True)]


def block_loop(x, block, network=swiglu):
    normed = [rms_norm(token, block.mix_norm) for token in x]
    step = [network(head, h, block.mix_network) for h, head in enumerate(mixed(normed, block.num_heads))]
    z = added(x, reverted(step, len(x)))
    normed = [rms_norm(token, block.token_norm) for token in z]
    return added(z, [network(token, t, block.token_network) for t, token in enumerate(normed)])


def block_loop_with_mixed_residuals(x, block):
    heads = mixed(x, block.num_heads)
    normed = [rms_norm(head, block.mix_norm) for head in heads]
    heads = added(heads, [swiglu(head, h, block.mix_network) for h, head in enumerate(normed)])
    normed = [rms_norm(token, block.token_norm) for token in reverted(heads, len(x))]
    return added(x, [swiglu(token, t, block.token_network) for t, token in enumerate(normed)])


def pooled(x, model):
    return loops.mean_of([rms_norm(token, model.final_norm) for token in x])


def projected(row, model):
    own, everything = model.projection.own, model.projection.everything
    x = [linear(token, own.weight, own.bias, t) for t, token in enumerate(row[:-1])]
    flat = [v for token in row for v in token]
    return [*x, loops.linear(flat, everything.weight.tolist(), everything.bias.tolist())]


def outputs_of_loop(tokens, model, network=swiglu):
    expected = []
    for row in tokens.tolist():
        x = projected(row, model)
        for block in model.blocks:
            x = block_loop(x, block, network)
        expected.append(pooled(x, model))
    return torch.tensor(expected, dtype=torch.float64)


@pytest.mark.parametrize("num_heads", [None, 2, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_the_equations_written_as_loops(num_heads, bias):
    model, tokens = model_of(num_heads=num_heads, bias=bias), random_tokens(3, 4, 3)
    torch.testing.assert_close(model(tokens), outputs_of_loop(tokens, model))


@pytest.mark.parametrize("num_heads", [None, 2, 8])
def test_mixed_residuals_equal_the_other_reading_written_as_loops(num_heads):
    config = Config(model_dim=8, ffn_dim=6, num_heads=num_heads, residuals="mixed")
    block, x = scrambled(Block(4, config)), random_tokens(3, 4, 8)
    expected = [block_loop_with_mixed_residuals(row, block) for row in x.tolist()]
    torch.testing.assert_close(block(x)[0], torch.tensor(expected, dtype=torch.float64))


def test_with_experts_equals_loops_over_tokens_and_experts_in_training_and_evaluation():
    model = model_of(ffn_dim=10, moe=Experts(num_experts=5, active_ratio=0.6, gate_scale=1.5))
    tokens = random_tokens(3, 4, 3)
    expected = outputs_of_loop(tokens, model, partial(experts, num_routed=2, scale=1.5))
    torch.testing.assert_close(model(tokens).representation, expected)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(tokens).representation, expected)


def test_without_the_global_token_every_token_is_projected_by_itself():
    model = model_of(global_token=False)
    tokens = random_tokens(2, 4, 3)
    changed = tokens.clone()
    changed[:, 1] += 1
    moved = (model.projection(changed) != model.projection(tokens)).any(-1)
    assert moved.tolist() == [[False, True, False, False]] * 2
    with_global = model_of(global_token=True)
    moved = (with_global.projection(changed) != with_global.projection(tokens)).any(-1)
    assert moved.tolist() == [[False, True, False, True]] * 2


def test_the_global_token_can_be_the_last_token_s_own_projection():
    plain, with_global = model_of(global_token=False), model_of()
    with torch.no_grad():
        own, everything = with_global.projection.own, with_global.projection.everything
        own.weight.copy_(plain.projection.weight[:-1])
        own.bias.copy_(plain.projection.bias[:-1])
        everything.weight.zero_()[:, -3:] = plain.projection.weight[-1].T
        everything.bias.copy_(plain.projection.bias[-1, 0])
    tokens = random_tokens(2, 4, 3)
    torch.testing.assert_close(with_global.projection(tokens), plain.projection(tokens))


def test_with_one_token_there_is_only_the_global_one():
    assert TokenMixerLarge(1, 3, Config(model_dim=4, ffn_dim=4))(torch.randn(2, 1, 3)).shape == (2, 4)


# Mixing and reverting.


@settings(max_examples=40, deadline=None)
@given(num_tokens=st.integers(1, 6), num_heads=st.integers(1, 6), slice_dim=st.integers(1, 4))
def test_revert_undoes_mix_for_any_number_of_heads(num_tokens, num_heads, slice_dim):
    x = torch.arange(2 * num_tokens * num_heads * slice_dim).view(2, num_tokens, -1)
    heads = mix_tokens(x, num_heads).view(2, num_heads, -1)
    assert heads.tolist() == [mixed(row, num_heads) for row in x.tolist()]
    assert torch.equal(revert_tokens(heads.reshape(x.shape), num_heads), x)


def test_a_token_of_the_step_consists_of_its_own_slices():
    """With networks that multiply by ten, reverting gives every token ten times itself."""
    block = Block(4, Config(model_dim=8, ffn_dim=6, num_heads=2)).double()
    block.mix_network.forward = lambda s: 10 * s
    block.token_network.forward = torch.zeros_like
    x = random_tokens(3, 4, 8)
    torch.testing.assert_close(block(x)[0], x + 10 * block.mix_norm(x))


@pytest.mark.parametrize("num_heads", [None, 2, 8])
@pytest.mark.parametrize("moe", [None, Experts(num_experts=3, active_ratio=2 / 3)])
def test_a_block_with_zero_last_layers_is_the_identity(num_heads, moe):
    config = Config(model_dim=8, ffn_dim=6, down_scale=0.0, num_heads=None if moe else num_heads, moe=moe)
    x = torch.randn(3, 4, 8)
    assert torch.equal(Block(4, config)(x)[0], x)


def test_scaling_the_input_of_a_block_does_not_change_its_first_step():
    block = scrambled(Block(4, Config(model_dim=8, ffn_dim=6)))
    block.token_network.forward = torch.zeros_like
    x = random_tokens(3, 4, 8)
    steps = [block(scale * x)[0] - scale * x for scale in (1.0, 1e3)]
    assert steps[0].abs().max() > 0.1
    torch.testing.assert_close(steps[1], steps[0], rtol=1e-4, atol=1e-6)


# Initialisation.


@pytest.mark.parametrize("num_heads", [None, 4])
def test_weights_start_uniform_by_the_fan_in_of_one_token_and_the_last_layer_at_a_hundredth(num_heads):
    torch.manual_seed(0)
    block = Block(16, Config(model_dim=64, ffn_dim=96, num_heads=num_heads))
    for network, width in ((block.mix_network, 16 * 64 // block.num_heads), (block.token_network, 64)):
        hidden = width * 96 // 64
        for weight, fan_in, scale in (
            (network.gate_weight, width, 1.0),
            (network.up_weight, width, 1.0),
            (network.down_weight, hidden, 0.01),
        ):
            assert weight.shape[1] == fan_in
            assert weight.abs().max() <= scale / math.sqrt(fan_in)
            for token in weight:
                assert token.std().item() == pytest.approx(scale / math.sqrt(3 * fan_in), rel=0.05)


# Residuals between blocks, and the auxiliary loss.


def blocks_input_to_output(num_layers, **config):
    """How often the input of the last norm contains the projection if every block is the identity."""
    model = TokenMixerLarge(
        4, 3, Config(model_dim=8, ffn_dim=6, num_layers=num_layers, down_scale=0.0, **config)
    )
    seen = []
    model.final_norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokens = torch.randn(2, 4, 3)
    model(tokens)
    ratio = seen[-1] / model.projection(tokens)
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
    return ratio.mean().item()


@pytest.mark.parametrize(
    ("num_layers", "every", "times"),
    [(2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 2, 4), (6, 3, 2), (7, 3, 4), (3, 1, 4), (5, None, 1), (2, 5, 1)],
)
def test_an_inter_residual_follows_every_nth_block_except_the_last(num_layers, every, times):
    assert blocks_input_to_output(num_layers, inter_residual_every=every) == pytest.approx(times)


def test_an_inter_residual_adds_the_input_of_its_first_block():
    model = model_of(num_layers=5, inter_residual_every=2)
    tokens = random_tokens(2, 4, 3)
    with torch.no_grad():
        blocks = [lambda x, block=block: block(x)[0] for block in model.blocks]
        start = model.projection(tokens)
        second = blocks[1](blocks[0](start)) + start
        fourth = blocks[3](blocks[2](second)) + second
        expected = model.final_norm(blocks[4](fourth)).mean(1)
        torch.testing.assert_close(model(tokens), expected)


def test_the_auxiliary_view_is_the_mean_of_the_middle_block_and_does_not_change_the_representation():
    model, plain = model_of(num_layers=5, auxiliary_loss=0.25), model_of(num_layers=5)
    tokens = random_tokens(2, 4, 3)
    output = model(tokens)
    assert isinstance(output, Output)
    torch.testing.assert_close(output.representation, plain(tokens))
    [view] = output.views.values()
    assert view.weight == 0.25
    x = model.projection(tokens)
    lower = model.blocks[1](model.blocks[0](x)[0])[0] + x
    torch.testing.assert_close(view.representation, model.final_norm(lower).mean(1))


def test_the_auxiliary_view_trains_only_lower_blocks():
    model = model_of(num_layers=4, auxiliary_loss=1.0)
    model(random_tokens(2, 4, 3)).views["lower_layer"].representation.square().sum().backward()
    taught = [block.token_network.down_weight.grad is not None for block in model.blocks]
    assert taught == [True, True, False, False]


def test_evaluation_has_no_auxiliary_view():
    assert isinstance(model_of(auxiliary_loss=0.25).eval()(random_tokens(2, 4, 3)), torch.Tensor)


# Experts.


def experts_layer(num_tokens=4, dim=6, hidden_dim=20, **config):
    return scrambled(SparseSwiGLU(num_tokens, dim, hidden_dim, Experts(**config)))


def test_all_routed_experts_at_equal_logits_give_their_average():
    layer = experts_layer(num_experts=5, active_ratio=1.0, gate_scale=1.0)
    s = random_tokens(3, 4, 6)
    inner = layer.experts
    with torch.no_grad():
        layer.router.linear.weight.zero_()
        layer.router.linear.bias.zero_()
        inner.down_weight[:, :4] = 0  # the shared expert's
        output, _ = layer(s)
        each = []
        for e in range(1, 5):
            alone = PerTokenSwiGLU(4, 6, 4).double()
            own = slice(4 * e, 4 * e + 4)
            alone.gate_weight.copy_(inner.gate_weight[:, :, own])
            alone.up_weight.copy_(inner.up_weight[:, :, own])
            alone.down_weight.copy_(inner.down_weight[:, own])
            each.append(alone(s))
    torch.testing.assert_close(output, torch.stack(each).mean(0))


def test_gates_that_are_all_one_give_the_dense_network():
    layer, s = experts_layer(num_experts=2, active_ratio=1.0), random_tokens(3, 4, 6)
    torch.testing.assert_close(layer(s)[0], layer.experts(s))  # one routed expert, whose softmax is 1


@pytest.mark.parametrize(
    ("num_experts", "active_ratio", "alpha"), [(4, 0.5, 2.0), (8, 0.25, 4.0), (5, 0.6, 5 / 3)]
)
def test_gates_are_one_for_the_shared_expert_and_sum_to_alpha_over_k_minus_one_others(
    num_experts, active_ratio, alpha
):
    layer = experts_layer(hidden_dim=40, num_experts=num_experts, active_ratio=active_ratio)
    _, gates = layer(random_tokens(50, 4, 6))
    assert (gates[..., 0] == 1).all()
    assert ((gates > 0).sum(-1) == round(active_ratio * num_experts)).all()
    torch.testing.assert_close(gates[..., 1:].sum(-1), torch.full((50, 4), alpha, dtype=torch.float64))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("num_experts", "active_ratio"), [(2, 1.0), (4, 0.5), (10, 0.2), (4, 1.0)])
def test_sparse_evaluation_is_dense_evaluation_with_the_same_gates(num_experts, active_ratio, threads):
    layer = experts_layer(num_experts=num_experts, active_ratio=active_ratio).eval()
    s = random_tokens(70, 4, 6)
    dense, gates = layer(s)  # gradients are wanted, so all experts are computed
    with threads_at_work(threads), torch.no_grad():
        sparse, same = layer(s)
    assert torch.equal(gates, same)
    torch.testing.assert_close(sparse, dense, rtol=1e-12, atol=1e-12)


def test_evaluation_computes_the_active_share_of_the_experts_flops_and_training_all():
    model = TokenMixerLarge(
        4, 3, Config(model_dim=16, ffn_dim=32, moe=Experts(num_experts=8, active_ratio=0.25))
    )
    rows, tokens = 50, torch.randn(50, 4, 3)

    def flops():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(tokens)
        return counter.get_total_flops()

    stages = 2 * 2
    other = 2 * (2 * 4 - 1) * 3 * 16 + stages * 2 * 4 * 16 * 7
    assert model.expert_flops == stages * 6 * 4 * 16 * 32
    assert flops() == rows * (other + model.expert_flops)
    model.eval()
    assert flops() == rows * (other + model.expert_flops * model.active_ratio)


def test_counts_every_expert_on_the_meta_device_and_one_graph_under_compile():
    config = Config(model_dim=16, ffn_dim=32, moe=Experts())
    with torch.device("meta"):
        model, tokens = TokenMixerLarge(4, 3, config).eval(), torch.empty(8, 4, 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens)
    assert counter.get_total_flops() == 8 * (2 * 7 * 3 * 16 + 4 * 2 * 4 * 16 * 7 + model.expert_flops)
    real = TokenMixerLarge(4, 3, config).eval()
    compiled = torch.compile(real, fullgraph=True, backend="eager")
    tokens = torch.randn(5, 4, 3)
    with torch.no_grad():
        torch.testing.assert_close(compiled(tokens).representation, real(tokens).representation)


def test_active_experts_are_two_stages_a_block_mixing_first_and_the_shared_expert_always():
    model = model_of(num_layers=3, ffn_dim=8, moe=Experts(num_experts=4, active_ratio=0.5))
    seen = {}
    for label, module in model.named_modules():
        if isinstance(module, SparseSwiGLU):
            module.register_forward_hook(
                lambda _, __, out, label=label: seen.update({label: out[1].tolist()})
            )
    active = model(random_tokens(40, 4, 3)).statistics["active_experts"]
    stages = [f"blocks.{i}.{stage}_network" for i in range(3) for stage in ("mix", "token")]
    expected = [
        [[sum(row[t][e] > 0 for row in seen[stage]) / 40 for e in range(4)] for t in range(4)]
        for stage in stages
    ]
    torch.testing.assert_close(active, torch.tensor(expected))
    assert len({str(stage) for stage in expected}) == 6  # each stage has routers of its own
    assert not active.requires_grad
    assert (active[..., 0] == 1).all()
    torch.testing.assert_close(active.mean(-1), torch.full((6, 4), model.active_ratio))


def test_gradients_with_experts_agree_with_finite_differences():
    model = model_of(ffn_dim=8, auxiliary_loss=0.5, moe=Experts(num_experts=4, active_ratio=0.75))
    names = [label for label, _ in model.named_parameters()]

    def outputs(tokens, *parameters):
        output = functional_call(model, dict(zip(names, parameters, strict=True)), (tokens,))
        return output.representation, output.views["lower_layer"].representation

    inputs = (random_tokens(2, 4, 3).requires_grad_(), *model.parameters())
    assert torch.autograd.gradcheck(outputs, inputs, fast_mode=True)


def test_every_router_learns_if_more_than_one_expert_is_routed():
    model = model_of(ffn_dim=8, moe=Experts(num_experts=4, active_ratio=0.75))
    model(random_tokens(30, 4, 3)).representation.square().sum().backward()
    for network in (n for block in model.blocks for n in (block.mix_network, block.token_network)):
        assert (network.router.linear.weight.grad.abs().amax((1, 2)) > 0).all()


# Cost.


@pytest.mark.parametrize(("num_tokens", "model_dim", "n"), [(16, 768, 1), (32, 512, 2)])
@pytest.mark.parametrize("divisor", [1, 2, 4])
def test_a_block_costs_its_formula_and_mixing_in_fewer_heads_more(num_tokens, model_dim, n, divisor):
    num_heads = num_tokens // divisor
    config = Config(model_dim=model_dim, ffn_dim=n * model_dim, num_heads=num_heads)
    with torch.device("meta"):
        block, x = Block(num_tokens, config), torch.empty(8, num_tokens, model_dim)
    mix_params = sum(p.numel() for p in block.mix_network.parameters())
    token_params = sum(p.numel() for p in block.token_network.parameters())
    assert mix_params == 3 * n * num_tokens**2 * model_dim**2 // num_heads
    assert token_params == 3 * n * num_tokens * model_dim**2
    if divisor == 1:
        assert mix_params + token_params == 6 * n * num_tokens * model_dim**2
    with FlopCounterMode(display=False) as counter:
        block(x)
    assert counter.get_total_flops() == 8 * 2 * (mix_params + token_params)


# What is refused, and how a suite's mapping becomes a model.


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_dim": 10}, "model_dim 10 .*4 tokens.* set it to 8 or 12"),
        ({"num_heads": 3}, r"model_dim 8 .*3 heads \(num_heads\); set it to 6 or 9"),
        ({"down_scale": -1.0}, "down_scale is -1.0; set it to 0 or more"),
        ({"auxiliary_loss": -1.0}, "auxiliary_loss is -1.0; set it to 0 or more"),
        ({"auxiliary_loss": 0.1, "num_layers": 1}, "auxiliary_loss .* set num_layers to 2 or more"),
        ({"inter_residual_every": 0}, "inter_residual_every is 0; set it to 1 or more"),
        ({"moe": Experts(), "bias": True}, "set bias to false, or leave moe out"),
        ({"moe": Experts(), "num_heads": 2}, "num_heads 2 .*; set num_heads to 4 or leave it out"),
        ({"moe": Experts(), "ffn_dim": 6}, "ffn_dim 6 .* 8 experts .*; set ffn_dim to a multiple"),
        (
            {"moe": Experts(num_experts=4, active_ratio=0.25)},
            "moe.active_ratio 0.25 of 4 experts is 1 .*; change one of them",
        ),
        (
            {"moe": Experts(num_experts=4, active_ratio=0.6)},
            "moe.active_ratio 0.6 of 4 experts is 2.4 .*; change one of them",
        ),
        ({"moe": Experts(active_ratio=1.5)}, "moe.active_ratio is 1.5; set it above 0 and at most 1"),
        ({"moe": Experts(num_experts=0)}, "num_experts is 0; set it to 1 or more"),
        ({"moe": Experts(gate_scale=0.0)}, "moe.gate_scale is 0.0; set it above 0 or leave it out"),
    ],
)
def test_an_invalid_config_is_refused_with_advice(config, message):
    with pytest.raises(ValueError, match=message):
        TokenMixerLarge(4, 3, Config(**{"model_dim": 8, "ffn_dim": 8} | config))


def test_a_mapping_with_experts_is_a_model_with_experts():
    moe = {"num_experts": 8, "active_ratio": 0.25}
    model = build_backbone("tokenmixer_large", 4, 3, {"model_dim": 8, "ffn_dim": 16, "moe": moe})
    assert model.active_ratio == 0.25
    assert model(torch.randn(2, 4, 3)).statistics["active_experts"].shape == (4, 4, 8)


@pytest.mark.parametrize(("experts", "active"), [(22, 15), (23, 13), (25, 7), (3, 2)])
def test_every_ratio_that_means_a_whole_number_of_experts_is_accepted(experts, active):
    config = SparseSwiGLU.Config(num_experts=experts, active_ratio=active / experts)
    _, gates = SparseSwiGLU(1, 2, experts, config)(torch.randn(9, 1, 2))
    assert set((gates > 0).sum(-1).flatten().tolist()) == {active}
