from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.layers import PerTokenFFN
from rankmixer.mixing import mix_tokens
from rankmixer.model import Block, RankMixer
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2: (
        T * (d * model_dim + model_dim)
        + num_layers * (2 * T * model_dim * ffn_dim + T * (ffn_dim + model_dim) + 4 * model_dim)
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2: (
        2 * T * d * model_dim + num_layers * 4 * T * model_dim * ffn_dim
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2: model_dim,
    configs=(
        {"model_dim": 16, "ffn_dim": 30},
        {"model_dim": 48, "ffn_dim": 96, "num_layers": 1},
        {"model_dim": 768, "ffn_dim": 2160, "num_layers": 3},
    ),
)


sizes = {"num_tokens": st.integers(1, 8), "slice_dim": st.integers(1, 5)}


def mixed(tokens):
    """Equations 3 to 5 on one row: output token h is slice h of token 1, of token 2, and so on."""
    num_tokens, slice_dim = len(tokens), len(tokens[0]) // len(tokens)
    return [
        [v for token in tokens for v in token[h * slice_dim : (h + 1) * slice_dim]] for h in range(num_tokens)
    ]


def per_token_linear(tokens, layer):
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [loops.linear(token, loops.transpose(weight[t]), bias[t][0]) for t, token in enumerate(tokens)]


def normalised(tokens, norm):
    return [loops.layer_norm(token, norm.weight.tolist(), norm.bias.tolist()) for token in tokens]


def added(a, b):
    return [loops.add(x, y) for x, y in zip(a, b, strict=True)]


def test_equals_the_equations_written_as_loops():
    model = scrambled(RankMixer(4, 3, RankMixer.Config(model_dim=8, ffn_dim=5, num_layers=2)))
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        x = per_token_linear(row, model.projection)
        for block in model.blocks:
            s = normalised(added(mixed(x), x), block.mixing_norm)
            hidden = [loops.gelu(h) for h in per_token_linear(s, block.ffn.up)]
            x = normalised(added(per_token_linear(hidden, block.ffn.down), s), block.ffn_norm)
        expected.append(loops.mean_of(x))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


@settings(max_examples=30, deadline=None)
@given(**sizes)
def test_output_token_h_of_the_mixing_is_slice_h_of_every_token_in_order(num_tokens, slice_dim):
    x = torch.arange(2 * num_tokens**2 * slice_dim).view(2, num_tokens, num_tokens * slice_dim)
    assert mix_tokens(x).tolist() == [mixed(row) for row in x.tolist()]


@settings(max_examples=30, deadline=None)
@given(**sizes)
def test_mixing_is_its_own_inverse_and_moves_all_but_d_numbers(num_tokens, slice_dim):
    dim = num_tokens * slice_dim
    x = torch.arange(num_tokens * dim).view(1, num_tokens, dim)
    assert torch.equal(mix_tokens(mix_tokens(x)), x)
    assert (mix_tokens(x) == x).sum() == dim


@settings(max_examples=20, deadline=None)
@given(**sizes)
def test_mixing_is_the_commutation_matrix_times_an_identity_of_the_slice_width(num_tokens, slice_dim):
    dim = num_tokens * slice_dim
    units = torch.eye(num_tokens * dim).view(-1, num_tokens, dim)
    matrix = mix_tokens(units).flatten(1)
    commutation = torch.zeros(num_tokens**2, num_tokens**2)
    for i in range(num_tokens):
        for j in range(num_tokens):
            commutation[i * num_tokens + j, j * num_tokens + i] = 1
    assert torch.equal(matrix, torch.kron(commutation, torch.eye(slice_dim)))
    assert torch.equal(matrix, matrix.T)


@settings(max_examples=20, deadline=None)
@given(**sizes, seed=st.integers(0, 10**6))
def test_permuting_tokens_before_mixing_permutes_slices_inside_tokens_after_it(num_tokens, slice_dim, seed):
    x = random_tokens(2, num_tokens, num_tokens * slice_dim)
    order = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(seed))
    slices = mix_tokens(x).unflatten(2, (num_tokens, slice_dim))
    assert torch.equal(mix_tokens(x[:, order]), slices[:, :, order].flatten(2))


def test_mixing_works_on_a_view_that_is_not_contiguous():
    stored = random_tokens(4, 3, 8)  # tokens first, as a per-token layer leaves them
    assert torch.equal(mix_tokens(stored.transpose(0, 1)), mix_tokens(stored.transpose(0, 1).contiguous()))


def test_a_block_is_not_permutation_equivariant():
    block = scrambled(Block(4, RankMixer.Config(model_dim=8, ffn_dim=6)))
    x, order = random_tokens(2, 4, 8), torch.tensor([2, 0, 3, 1])
    assert not torch.allclose(block(x[:, order])[0], block(x)[0][:, order])


def test_a_block_is_normalised_after_its_residual_sums():
    torch.manual_seed(0)
    output, _ = Block(4, RankMixer.Config(model_dim=64, ffn_dim=128))(100 * torch.randn(3, 4, 64) + 5)
    torch.testing.assert_close(output.mean(-1), torch.zeros(3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.var(-1, correction=0), torch.ones(3, 4), atol=1e-3, rtol=0)


def test_per_token_ffn_equals_a_loop_over_linear_gelu_linear():
    ffn = scrambled(PerTokenFFN(num_tokens=4, model_dim=6, ffn_dim=10))
    s = random_tokens(5, 4, 6)
    for t in range(4):
        alone = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 6)).double()
        alone[0].load_state_dict({"weight": ffn.up.weight[t].T, "bias": ffn.up.bias[t, 0]})
        alone[2].load_state_dict({"weight": ffn.down.weight[t].T, "bias": ffn.down.bias[t, 0]})
        torch.testing.assert_close(ffn(s)[:, t], alone(s[:, t]))


def test_a_token_of_the_ffn_depends_only_on_its_own_weights_and_input():
    ffn = scrambled(PerTokenFFN(num_tokens=4, model_dim=6, ffn_dim=10))
    s = random_tokens(5, 4, 6).requires_grad_()
    ffn(s)[:, 2].square().sum().backward()
    touched = torch.tensor([False, False, True, False])
    for gradient in (p.grad for p in ffn.parameters()):
        assert torch.equal(gradient.abs().amax(dim=(1, 2)) > 0, touched)
    assert torch.equal(s.grad.abs().amax(dim=(0, 2)) > 0, touched)


def test_ffn_sliced_along_its_hidden_width_sums_to_the_whole():
    ffn = scrambled(PerTokenFFN(num_tokens=4, model_dim=6, ffn_dim=12))
    s = random_tokens(5, 4, 6)
    total = ffn.down.bias.transpose(0, 1).expand(5, 4, 6).clone()
    for part in (slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)):
        for t in range(4):
            hidden = nn.functional.gelu(s[:, t] @ ffn.up.weight[t, :, part] + ffn.up.bias[t, 0, part])
            total[:, t] += hidden @ ffn.down.weight[t, part]
    torch.testing.assert_close(ffn(s), total)


@pytest.mark.parametrize(("num_tokens", "model_dim", "k"), [(16, 768, 3), (32, 1536, 4), (4, 8, 1)])
def test_a_block_costs_4ktd2_flops_and_its_mixing_none(num_tokens, model_dim, k):
    with torch.device("meta"):
        block = Block(num_tokens, RankMixer.Config(model_dim=model_dim, ffn_dim=k * model_dim))
        x = torch.empty(8, num_tokens, model_dim)
    with FlopCounterMode(display=False) as counter:
        block(x)
    assert counter.get_total_flops() == 8 * 4 * k * num_tokens * model_dim**2
    with FlopCounterMode(display=False) as counter:
        mix_tokens(x)
    assert counter.get_total_flops() == 0


@pytest.mark.parametrize(("model_dim", "nearest"), [(100, "96 or 112"), (8, "16")])
def test_a_width_that_tokens_do_not_divide_is_refused_with_the_nearest_valid_ones(model_dim, nearest):
    with pytest.raises(ValueError, match=rf"model_dim {model_dim} .*16 tokens.* set it to {nearest}$"):
        RankMixer(16, 4, RankMixer.Config(model_dim=model_dim, ffn_dim=32))
