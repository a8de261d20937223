from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.unimixer import LearnedMixing, UniMixer
from rankmixer.mixing import mix_tokens
from rankmixer.model import RankMixer
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, model_dim, ffn_dim, num_layers=2, global_mixing=False: (
        T * (d * model_dim + model_dim)
        + num_layers
        * (
            model_dim**2
            + (T**4 if global_mixing else T**3)
            + 2 * T * model_dim * ffn_dim
            + T * (ffn_dim + model_dim)
            + 4 * model_dim
        )
    ),
    flops=lambda T, d, model_dim, ffn_dim, num_layers=2, global_mixing=False: (
        2 * T * d * model_dim
        + num_layers
        * (2 * model_dim**2 + 2 * (T**3 if global_mixing else T**2) * model_dim + 4 * T * model_dim * ffn_dim)
    ),
    output_dim=lambda T, d, model_dim, ffn_dim, num_layers=2, global_mixing=False: model_dim,
    configs=(
        {"model_dim": 16, "ffn_dim": 30},
        {"model_dim": 48, "ffn_dim": 96, "num_layers": 1, "global_mixing": True},
        {"model_dim": 768, "ffn_dim": 2160, "num_layers": 3},
    ),
)


T, D = 3, 6
both = pytest.mark.parametrize("global_mixing", [False, True])


def combination(coefficients, vectors):
    return [loops.dot(coefficients, column) for column in zip(*vectors, strict=True)]


def mixed(tokens, mixing):
    """Output token by output token, slice by slice."""
    num_tokens = len(tokens)
    width = len(tokens[0]) // num_tokens
    local, mix = mixing.local.tolist(), mixing.mix.tolist()
    moved = {
        (t, s): loops.linear(
            tokens[t][s * width : (s + 1) * width], loops.transpose(local[t * num_tokens + s])
        )
        for t in range(num_tokens)
        for s in range(num_tokens)
    }
    outputs = [[] for _ in tokens]
    for h in range(num_tokens):
        for j in range(num_tokens):
            if mixing.global_mixing:
                outputs[h] += combination(mix[h * num_tokens + j], list(moved.values()))
            else:
                outputs[h] += combination(mix[h][j], [moved[t, h] for t in range(num_tokens)])
    return outputs


def per_token(tokens, layer):
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [loops.linear(x, loops.transpose(weight[t]), bias[t][0]) for t, x in enumerate(tokens)]


def added_and_normalised(tokens, others, norm):
    weight, bias = norm.weight.tolist(), norm.bias.tolist()
    return [loops.layer_norm(loops.add(a, b), weight, bias) for a, b in zip(tokens, others, strict=True)]


@both
def test_equals_the_equations_written_as_loops(global_mixing):
    model = scrambled(UniMixer(T, 4, UniMixer.Config(model_dim=D, ffn_dim=5, global_mixing=global_mixing)))
    tokens = random_tokens(2, T, 4)
    expected = []
    for row in tokens.tolist():
        x = per_token(row, model.projection)
        for block in model.blocks:
            s = added_and_normalised(x, mixed(x, block.mixing), block.mixing_norm)
            hidden = [loops.gelu(v) for v in per_token(s, block.ffn.up)]
            x = added_and_normalised(s, per_token(hidden, block.ffn.down), block.ffn_norm)
        expected.append(loops.mean_of(x))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))


@both
@pytest.mark.parametrize(("num_tokens", "model_dim"), [(3, 6), (4, 4), (5, 20)])
def test_mixing_starts_as_rankmixers_to_the_bit(num_tokens, model_dim, global_mixing):
    x = torch.randn(2, num_tokens, model_dim)
    mixing = LearnedMixing(num_tokens, model_dim, global_mixing)
    torch.testing.assert_close(mixing(x), mix_tokens(x), rtol=0, atol=0)


@both
def test_whole_model_starts_as_rankmixer_with_the_same_other_weights(global_mixing):
    theirs = scrambled(RankMixer(T, 4, RankMixer.Config(model_dim=D, ffn_dim=5)))
    ours = UniMixer(T, 4, UniMixer.Config(model_dim=D, ffn_dim=5, global_mixing=global_mixing)).double()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected
    assert all(name.endswith(("mixing.mix", "mixing.local")) for name in missing)
    tokens = random_tokens(3, T, 4)
    torch.testing.assert_close(ours(tokens), theirs(tokens))


def test_global_matrix_starts_as_the_commutation_matrix():
    start = LearnedMixing(T, D, global_mixing=True).mix.detach()
    matrix = torch.randn(T, T)
    torch.testing.assert_close(start @ matrix.flatten(), matrix.T.flatten(), rtol=0, atol=0)
    torch.testing.assert_close(start @ start, torch.eye(T * T), rtol=0, atol=0)
    assert start.diagonal().sum() == T


def test_global_mixing_is_a_kronecker_product_times_block_diagonal_matrices():
    mixing, width = scrambled(LearnedMixing(T, D, global_mixing=True)), D // T
    kronecker = torch.kron(mixing.mix, torch.eye(width, dtype=torch.float64))
    matrix = kronecker @ torch.block_diag(*mixing.local.mT)
    x = random_tokens(4, T, D)
    torch.testing.assert_close(mixing(x).flatten(1), x.flatten(1) @ matrix.T)


def test_global_mixing_without_weights_between_slices_is_mixing_by_slices():
    by_slice, whole = scrambled(LearnedMixing(T, D)), scrambled(LearnedMixing(T, D, global_mixing=True))
    with torch.no_grad():
        whole.local.copy_(by_slice.local)
        whole.mix.zero_()
        entries = whole.mix.view(T, T, T, T)  # (h, j, t, s)
        for h in range(T):
            entries[h, :, :, h] = by_slice.mix[h]
    x = random_tokens(2, T, D)
    torch.testing.assert_close(by_slice(x), whole(x))


@both
def test_a_training_step_changes_the_mixing_from_the_permutation(global_mixing):
    torch.manual_seed(0)
    model = UniMixer(T, 4, UniMixer.Config(model_dim=D, ffn_dim=5, global_mixing=global_mixing))
    before = [block.mixing.mix.clone() for block in model.blocks]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(16, T, 4))[:, 0].sum().backward()
    optimizer.step()
    assert all(
        (block.mixing.mix - old).abs().max() > 1e-6 for block, old in zip(model.blocks, before, strict=True)
    )


def test_zero_mixing_and_feed_forward_leave_only_the_two_norms():
    model = scrambled(UniMixer(T, 4, UniMixer.Config(model_dim=D, ffn_dim=5, num_layers=1)))
    block = model.blocks[0]
    for silenced in (block.mixing.mix, block.ffn.down.weight, block.ffn.down.bias):
        nn.init.zeros_(silenced)
    x = random_tokens(2, T, D)
    torch.testing.assert_close(block(x), block.ffn_norm(block.mixing_norm(x)))


def test_a_width_that_tokens_do_not_divide_is_refused_with_the_nearest_valid_ones():
    with pytest.raises(ValueError, match=r"model_dim 10 .* set it to 8 or 12"):
        UniMixer(4, 3, UniMixer.Config(model_dim=10, ffn_dim=4))
