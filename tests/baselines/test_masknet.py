from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.masknet import MaskBlock, MaskNet, PerTokenLayerNorm
from tests.baselines import loops
from tests.baselines.closed_forms import ClosedForm, mlp_weights
from tests.baselines.scrambled import random_tokens, scrambled

CLOSED_FORM = ClosedForm(
    params=lambda T, d, hidden_dim, mask_dim, num_blocks=3, num_layers=2: (
        2 * T * d
        + num_blocks * (2 * T * d * mask_dim + mask_dim + T * d + T * d * hidden_dim + 2 * hidden_dim)
        + mlp_weights(num_blocks * hidden_dim, hidden_dim, num_layers)
        + num_layers * hidden_dim
    ),
    flops=lambda T, d, hidden_dim, mask_dim, num_blocks=3, num_layers=2: (
        2 * num_blocks * T * d * (2 * mask_dim + hidden_dim)
        + 2 * mlp_weights(num_blocks * hidden_dim, hidden_dim, num_layers)
    ),
    output_dim=lambda T, d, hidden_dim, mask_dim, num_blocks=3, num_layers=2: hidden_dim,
    configs=(
        {"hidden_dim": 8, "mask_dim": 12},
        {"hidden_dim": 24, "mask_dim": 96, "num_blocks": 1, "num_layers": 1},
        {"hidden_dim": 640, "mask_dim": 500, "num_blocks": 2, "num_layers": 4},
    ),
)


def affine(layer):
    return layer.weight.tolist(), layer.bias.tolist()


def mask_block(block, raw, normalised):
    """The block's two equations on one row."""
    mask = loops.linear(loops.relu(loops.linear(raw, *affine(block.mask[0]))), *affine(block.mask[2]))
    masked = [m * v for m, v in zip(mask, normalised, strict=True)]
    return loops.relu(
        loops.layer_norm(loops.linear(masked, block.hidden.weight.tolist()), *affine(block.norm))
    )


def test_equals_the_equations_written_as_loops():
    config = MaskNet.Config(hidden_dim=5, mask_dim=7, num_blocks=2, num_layers=2)
    model = scrambled(MaskNet(4, 3, config))
    deep = [affine(m) for m in model.deep if isinstance(m, nn.Linear)]
    tokens = random_tokens(3, 4, 3)
    expected = []
    for row in tokens.tolist():
        raw = [v for token in row for v in token]
        scales = zip(row, model.norm.weight.tolist(), model.norm.bias.tolist(), strict=True)
        normalised = [v for token, w, b in scales for v in loops.layer_norm(token, w, b)]
        blocks = [v for block in model.blocks for v in mask_block(block, raw, normalised)]
        expected.append(loops.mlp(blocks, deep))
    torch.testing.assert_close(model(tokens), torch.tensor(expected, dtype=torch.float64))
    assert (model(tokens).amax(dim=1) > 0).all(), "a row has every unit off: nothing was compared"


def test_a_mask_of_ones_leaves_a_normalised_linear_layer():
    block = scrambled(MaskBlock(in_dim=6, mask_dim=5, hidden_dim=4))
    nn.init.zeros_(block.mask[2].weight)
    nn.init.ones_(block.mask[2].bias)
    raw, normalised = random_tokens(3, 6), random_tokens(3, 6, seed=2)
    expected = torch.relu(block.norm(normalised @ block.hidden.weight.T))
    torch.testing.assert_close(block(raw, normalised), expected)


def test_zero_weights_leave_the_bias_of_the_norm():
    block = scrambled(MaskBlock(in_dim=6, mask_dim=5, hidden_dim=4))
    nn.init.zeros_(block.hidden.weight)
    output = block(random_tokens(3, 6), random_tokens(3, 6, seed=2))
    torch.testing.assert_close(output, torch.relu(block.norm.bias).expand(3, 4))


def test_masks_read_the_raw_tokens_and_not_the_normalised_ones():
    model = scrambled(MaskNet(4, 3, MaskNet.Config(hidden_dim=8, mask_dim=7)))
    tokens = random_tokens(3, 4, 3)
    torch.testing.assert_close(model.norm(100 + tokens), model.norm(tokens))
    assert not torch.allclose(model(100 + tokens), model(tokens))


def test_every_token_is_normalised_separately_with_its_own_scale():
    norm = scrambled(PerTokenLayerNorm(num_tokens=4, token_dim=3))
    tokens = random_tokens(2, 4, 3)
    for t in range(4):
        alone = nn.LayerNorm(3).double()
        alone.load_state_dict({"weight": norm.weight[t], "bias": norm.bias[t]})
        torch.testing.assert_close(norm(tokens)[:, t], alone(tokens[:, t]))


def test_a_width_of_one_is_refused_because_its_norm_would_be_constant():
    with pytest.raises(ValueError, match=r"hidden_dim is 1, .* set it to 2 or more"):
        MaskNet(4, 3, MaskNet.Config(hidden_dim=1, mask_dim=2))


def test_training_drops_outputs_of_every_block_and_evaluation_none():
    config = MaskNet.Config(hidden_dim=200, mask_dim=7, dropout=0.4)
    model, tokens = scrambled(MaskNet(4, 3, config)), random_tokens(5, 4, 3)
    raw = tokens.flatten(1)
    for block in model.blocks:
        trained, evaluated = block.train()(raw, raw), block.eval()(raw, raw)
        kept = trained != 0
        torch.testing.assert_close(trained[kept], evaluated[kept] / 0.6)
        assert float(kept.sum() / (evaluated != 0).sum()) == pytest.approx(0.6, abs=0.1)


def test_without_dropout_training_draws_nothing():
    """So that a run without it is the run that it was."""
    model, tokens = (
        scrambled(MaskNet(4, 3, MaskNet.Config(hidden_dim=8, mask_dim=7))).train(),
        torch.ones(2, 4, 3),
    )
    before = torch.get_rng_state()
    model(tokens.double())
    assert torch.equal(torch.get_rng_state(), before)
