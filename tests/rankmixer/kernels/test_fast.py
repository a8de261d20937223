from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rankmixer.kernels import fast
from rankmixer.model import RankMixer
from tests.baselines.scrambled import random_tokens, scrambled


def plain(model, tokens):
    """The whole batch at once through the equations of every block."""
    x = model.projection(tokens)
    for block in model.blocks:
        x, _ = block.plain(x)
    return x.mean(dim=1)


def rankmixer(num_tokens, token_dim, model_dim, **fields):
    config = RankMixer.Config(model_dim=model_dim, ffn_dim=2 * model_dim + 1, **fields)
    return scrambled(RankMixer(num_tokens, token_dim, config)).eval()


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize(("num_tokens", "model_dim"), [(4, 8), (3, 15), (1, 5)])
def test_inference_equals_the_plain_equations_at_every_number_of_rows(rows, num_tokens, model_dim):
    model, tokens = rankmixer(num_tokens, 3, model_dim), random_tokens(rows, num_tokens, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), plain(model, tokens))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("num_tokens", "slice_dim"), list(product((1, 3, 4), (1, 2, 3, 4, 6, 8, 12, 16))))
def test_slices_of_every_length_are_mixed_by_the_equation(dtype, num_tokens, slice_dim):
    x = random_tokens(5, num_tokens, num_tokens * slice_dim).to(dtype)
    mixed = fast._mixed(x)
    for token, slices in enumerate(mixed.unbind(1)):
        wanted = [each[:, token * slice_dim : (token + 1) * slice_dim] for each in x.unbind(1)]
        assert torch.equal(slices, torch.cat(wanted, dim=1))
    assert mixed.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inference_keeps_the_dtype_and_its_precision(dtype):
    model, tokens = rankmixer(4, 3, 32), random_tokens(300, 4, 3)
    exact = plain(model, tokens).detach()
    with torch.inference_mode():
        output = model.to(dtype)(tokens.to(dtype))
    assert output.dtype == dtype
    error = (output - exact).norm() / exact.norm()
    assert error < (1e-6 if dtype == torch.float32 else 2e-2)


def test_inference_under_autocast_equals_the_plain_equations_in_dtype_and_numbers():
    model, tokens = rankmixer(4, 3, 32).float(), random_tokens(300, 4, 3).float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output, expected = model(tokens), plain(model, tokens)
    assert output.dtype == expected.dtype
    torch.testing.assert_close(output, expected, rtol=2e-2, atol=2e-2)


def test_inference_writes_to_no_input_and_no_weight():
    model, tokens = rankmixer(4, 8, 8), random_tokens(5, 4, 8)
    block, x = model.blocks[0], random_tokens(5, 4, 8)
    before = [x.clone(), tokens.clone(), *(p.clone() for p in model.parameters())]
    with torch.no_grad():
        block(x), model(tokens)
    assert all(torch.equal(a, b) for a, b in zip(before, [x, tokens, *model.parameters()], strict=True))


def test_tokens_may_have_any_strides():
    block, stored = rankmixer(4, 3, 8).blocks[0], random_tokens(4, 6, 8)
    with torch.no_grad():
        views, copies = block(stored.transpose(0, 1)), block(stored.transpose(0, 1).contiguous())
    torch.testing.assert_close(views[0], copies[0])


def test_with_gradients_a_block_equals_the_plain_one():
    block, x = rankmixer(4, 3, 8).blocks[0], random_tokens(5, 4, 8)
    assert torch.equal(block(x)[0], block.plain(x)[0])


@pytest.mark.parametrize(
    "switch",
    [
        {"mixing": "none"},
        {"num_heads": 2},
        {"mixing": "self_attention"},
        {"mixing": "all_concat_mlp"},
        {"feed_forward": "shared"},
        {"residual": False},
        {"norm": "pre"},
        {"norm": "none"},
    ],
)
def test_variants_use_their_own_equations(switch):
    model, tokens = rankmixer(4, 3, 8, **switch), random_tokens(9, 4, 3)
    with torch.no_grad():
        x = model.projection(tokens)
        for block in model.blocks:
            assert not block.is_unmodified
            x, _ = block.plain(x)
        torch.testing.assert_close(model(tokens), model.final_norm(x).mean(dim=1))


def test_inference_computes_the_flops_that_the_meta_device_counts():
    config = RankMixer.Config(model_dim=8, ffn_dim=16)
    counts = []
    for device in ("meta", "cpu"):
        with torch.device(device):
            model, tokens = RankMixer(4, 3, config), torch.zeros(11, 4, 3)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(tokens)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_compiled_inference_is_one_graph():
    torch.compiler.reset()
    model = rankmixer(4, 3, 8)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    tokens = random_tokens(7, 4, 3)
    with torch.no_grad():
        torch.testing.assert_close(compiled(tokens), plain(model, tokens))


def test_only_inference_uses_the_fast_block(monkeypatch):
    used = []
    monkeypatch.setattr(fast, "block_in_place", lambda block, x: used.append(len(x)) or block.plain(x)[0])
    model, tokens = rankmixer(4, 3, 8), random_tokens(7, 4, 3)
    model(tokens)
    assert not used
    with torch.no_grad():
        model(tokens)
    assert used == [7, 7]
