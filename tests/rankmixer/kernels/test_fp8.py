"""Feed-forward networks in 8 bits: against numpy's own e4m3 in float64, and against error bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf
from torch import nn

from baselines.layers import PerTokenFFN, PerTokenLinear
from rankmixer.kernels.fp8 import E4M3, PerTokenFFNFp8, PerTokenLinearFp8, obstacle, quantised, use_fp8
from rankmixer.model import RankMixer
from tests.baselines.scrambled import random_tokens, scrambled

# Every non-negative e4m3 number, by the format's definition: 4 exponent bits of bias 7, 3 bits of mantissa,
# no infinity; the highest pattern is NaN.
SUBNORMALS = [m / 8 * 2**-6 for m in range(8)]
NORMALS = [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8)][:-1]
NUMBERS = np.array(SUBNORMALS + NORMALS)


def to_e4m3(x):
    """The nearest number, found by search; of two equally near ones that with an even mantissa."""
    distance = np.abs(np.abs(x)[..., None] - NUMBERS)
    nearest = distance.min(-1, keepdims=True) == distance
    odd = np.arange(len(NUMBERS)) % 2
    return np.sign(x) * NUMBERS[np.argmax(nearest * (2 - odd), -1)]


def numpys(x):
    """A row's numbers after quantising and scaling back; scale and quotient in float32, so ties stay."""
    x = x.astype(np.float32)
    scale = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-12)) / np.float32(448)
    return to_e4m3((x / scale).astype(np.float64)) * scale


def gelu(x):
    return 0.5 * x * (1 + erf(x / 2**0.5))


def float64(tensor):
    return tensor.detach().double().numpy()


def test_quantised_numbers_are_numbers_of_the_format():
    patterns = torch.arange(127, dtype=torch.uint8).view(E4M3)
    assert patterns.float().tolist() == NUMBERS.tolist()
    assert NUMBERS.max() == 448


ROWS = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).normal(size=(4, 33)).astype(np.float32)
        * np.float32(10) ** np.random.default_rng(seed + 1).integers(-6, 6, (4, 33)).astype(np.float32)
    )
)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_quantising_rounds_to_the_nearest_and_its_error_is_bounded(x):
    numbers, scale = quantised(torch.from_numpy(x))
    got = float64(numbers) * float64(scale)
    # Half a unit of 3 bits of mantissa, or half of the smallest number; the scale itself is float32.
    bound = np.maximum(np.abs(x) * 2.0**-4, float64(scale) * 2.0**-10)
    assert (np.abs(got - x) <= bound * (1 + 1e-6)).all()
    assert np.abs(float64(numbers)).max() == 448
    np.testing.assert_array_equal(got, numpys(x))


def test_rows_of_zeros_and_empty_batches_are_quantised_exactly():
    numbers, scale = quantised(torch.zeros(2, 3, 16))
    assert not (numbers.float() * scale).any()
    numbers, scale = quantised(torch.zeros(0, 16))
    assert numbers.shape == (0, 16)
    assert scale.shape == (0, 1)


def network(num_tokens, model_dim, ffn_dim, seed=0):
    torch.manual_seed(seed)
    return scrambled(PerTokenFFN(num_tokens, model_dim, ffn_dim)).bfloat16()


@pytest.mark.parametrize(
    ("rows", "num_tokens", "width", "out"), [(5, 3, 16, 32), (33, 2, 48, 16), (1, 1, 64, 80)]
)
def test_a_layer_multiplies_what_numpy_quantises(rows, num_tokens, width, out):
    linear = scrambled(PerTokenLinear(num_tokens, width, out)).bfloat16()
    x = random_tokens(rows, num_tokens, width).bfloat16()
    layer = PerTokenLinearFp8(linear)
    activations, weights = numpys(float64(x)), numpys(float64(linear.weight).transpose(0, 2, 1))
    expected = np.einsum("bti,toi->bto", activations, weights) + float64(linear.bias)[:, 0]
    np.testing.assert_allclose(float64(layer.plain(x)), expected, rtol=1e-5, atol=1e-5)
    got = layer(x)
    assert got.dtype == torch.bfloat16
    np.testing.assert_allclose(float64(got), expected, rtol=2**-8, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 4))
def test_the_error_of_a_layer_is_bounded(seed, rows, num_tokens):
    torch.manual_seed(seed)
    linear = PerTokenLinear(num_tokens, 32, 16).bfloat16()
    x = torch.randn(rows, num_tokens, 32).bfloat16()
    w, b, exact = float64(linear.weight), float64(linear.bias)[:, 0], float64(x)
    scale_x = np.abs(exact).max(-1, keepdims=True) / 448
    scale_w = np.abs(w).max(1, keepdims=True) / 448
    error_x = np.maximum(np.abs(exact) / 16, scale_x / 1024)
    error_w = np.maximum(np.abs(w) / 16, scale_w / 1024)
    times = lambda left, right: np.einsum("bti,tio->bto", left, right)  # noqa: E731
    bound = times(error_x, np.abs(w)) + times(np.abs(exact) + error_x, error_w)
    expected = times(exact, w) + b
    slack = np.abs(expected) * 2**-7 + 1e-5
    assert (np.abs(float64(PerTokenLinearFp8(linear)(x)) - expected) <= bound * (1 + 2**-7) + slack).all()


def test_a_network_is_two_layers_with_gelu_in_between():
    ffn, x = network(3, 32, 48), random_tokens(7, 3, 32).bfloat16()
    layers = PerTokenFFNFp8(ffn)
    hidden = torch.from_numpy(gelu(float64(layers.up(x)))).bfloat16()
    expected = float64(layers.down(hidden))
    np.testing.assert_allclose(float64(layers(x)), expected, rtol=0.1, atol=0.05 * np.abs(expected).max())
    exact = float64(ffn.float()(x.float()))
    error = np.linalg.norm(float64(layers(x)) - exact) / np.linalg.norm(exact)
    assert 0.005 < error < 0.06  # 8 bits are seen, and are no more than 8 bits


def ranker(**changes):
    config = {"model_dim": 64, "ffn_dim": 128} | changes
    return RankMixer(4, 8, RankMixer.Config(**config)).eval()


def test_every_network_of_a_model_is_replaced_and_predicts_nearly_the_same():
    model, tokens = scrambled(ranker()).bfloat16(), random_tokens(9, 4, 8).bfloat16()
    with torch.no_grad():
        before = model(tokens)
        use_fp8(model)
        after = model(tokens)
    kinds = [type(block.ffn) for block in model.blocks]
    assert kinds == [PerTokenFFNFp8] * 2
    weights = [buffer for name, buffer in model.named_buffers() if name.endswith("weight")]
    assert [weight.dtype for weight in weights] == [E4M3] * 4
    assert after.dtype == torch.bfloat16
    distance = (after.float() - before.float()).norm() / before.float().norm()
    assert 0 < distance < 0.1


def test_it_works_on_the_meta_device_and_under_the_compiler():
    model = ranker().to("meta").bfloat16()
    use_fp8(model)
    with torch.no_grad():
        assert model(torch.empty(5, 4, 8, device="meta", dtype=torch.bfloat16)).shape == (5, 64)
    layer = PerTokenFFNFp8(network(2, 16, 32))
    x = random_tokens(3, 2, 16).bfloat16()
    torch.compiler.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(16, 16), "none of RankMixer's per-token feed-forward networks"),
        (ranker(feed_forward="shared"), "none of RankMixer's per-token feed-forward networks"),
        (ranker(ffn_dim=100), "widths 64 and 100, but fp8 needs multiples of 16"),
    ],
    ids=["linear", "shared", "width"],
)
def test_a_model_that_cannot_run_in_fp8_is_refused_with_a_reason(model, words):
    assert words in obstacle(model)
    with pytest.raises(ValueError, match=words):
        use_fp8(model)
    assert obstacle(ranker()) is None
