"""The CPU kernels against their equations in float64, values and gradients, and how they are stored."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from baselines.kernels import compiled as cpu_library
from baselines.kernels import cpu as cpu_kernels
from baselines.kernels import operators
from baselines.layers import AddNorm, PerTokenFFN, ffn_add_norm
from rankmixer.mixing import mix_tokens
from tests.threads import threads_at_work

pytestmark = pytest.mark.skipif(
    cpu_library.compiled_functions() is None, reason="NO COMPILER (g++): kernels untested"
)
NUMBERS = {torch.float32: 3e-6, torch.bfloat16: 2e-2}  # of the largest number of a result
BOTH = pytest.mark.parametrize("dtype", NUMBERS)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads_at_work(1):
        yield


def assert_near(got: list[Tensor], wanted: list[Tensor], dtype: torch.dtype, times: float = 1.0) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape
        error = (one.double() - other.double()).abs().max() / other.abs().max()
        assert error.item() < times * NUMBERS[dtype]


def random_norm(width: int) -> AddNorm:
    norm = AddNorm(width)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def exact(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).double()


def exactly(x: Tensor) -> Tensor:
    return x.detach().double().requires_grad_()


@BOTH
@pytest.mark.parametrize("tokens_first", [False, True])
@given(batch=st.integers(1, 5), tokens=st.integers(1, 4), width=st.integers(1, 70))
def test_the_norm_of_a_sum_equals_float64(dtype, tokens_first, batch, tokens, width):
    torch.manual_seed(batch * tokens * width)
    norm, x = random_norm(width), torch.randn(batch, tokens, width).to(dtype).requires_grad_()
    shape = (tokens, batch, width) if tokens_first else x.shape
    step = 3 + torch.randn(shape).to(dtype)
    step = (step.transpose(0, 1) if tokens_first else step).detach().requires_grad_()
    along = torch.randn_like(x)
    assert cpu_kernels.suits(x, step)
    y = cpu_kernels.add_norm(x, step, norm)
    got = [y, *torch.autograd.grad(y, [x, step, *norm.parameters()], along)]
    reference, both = exact(norm), [exactly(x), exactly(step)]
    z = functional.layer_norm(sum(both), (width,), reference.weight, reference.bias, norm.eps)
    wanted = [z, *torch.autograd.grad(z, [*both, *reference.parameters()], along.double())]
    if width >= 16:  # a short row may have next to no variance, and gradients without bound
        assert_near(got, wanted, dtype, 20)
    if width > 2:
        assert_near([y], [z], dtype, 20)


@BOTH
@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (2, 2, 3, 6)])
def test_rows_of_any_number_of_dimensions_are_normalised_with_and_without_a_step(dtype, shape):
    norm, x, step = random_norm(6), torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    with torch.no_grad():
        assert_near([norm(x, step)], [exact(norm)(x.double(), step.double())], dtype)
        assert_near([norm(x)], [exact(norm)(x.double())], dtype)


@BOTH
@pytest.mark.parametrize("tokens", [1, 3, 4])
@pytest.mark.parametrize("slice_dim", [*range(1, 14), 16, 17])
def test_the_norm_with_mixing_equals_the_equation(dtype, tokens, slice_dim):
    width = tokens * slice_dim
    norm, x = random_norm(width), torch.randn(5, tokens, width).to(dtype).requires_grad_()
    along = torch.randn_like(x)
    y = cpu_kernels.mix_add_norm(x, norm)
    got = [y, *torch.autograd.grad(y, [x, *norm.parameters()], along)]
    reference, z = exact(norm), exactly(x)
    out = functional.layer_norm(mix_tokens(z) + z, (width,), reference.weight, reference.bias, norm.eps)
    wanted = [out, *torch.autograd.grad(out, [z, *reference.parameters()], along.double())]
    if width >= 16:
        assert_near(got, wanted, dtype, 10)
    if width > 2:
        assert_near([y], [out], dtype, 10)


def networks_one_by_one(network: PerTokenFFN, s: Tensor) -> Tensor:
    """Token by token, so that the reference does not use the batched product that is tested."""
    rows = []
    for t in range(s.shape[1]):
        hidden = functional.gelu(s[:, t] @ network.up.weight[t] + network.up.bias[t])
        rows.append(hidden @ network.down.weight[t] + network.down.bias[t])
    return torch.stack(rows, dim=1)


@BOTH
@pytest.mark.parametrize("flops", [1, 5e3, 1e9])
def test_networks_equal_the_equations_for_any_number_computed_at_once(dtype, flops, monkeypatch):
    monkeypatch.setattr(operators, "FLOPS_A_CALL", dict.fromkeys(NUMBERS, flops))
    network, s = PerTokenFFN(5, 12, 20).to(dtype), torch.randn(7, 5, 12).to(dtype).requires_grad_()
    along = torch.randn_like(s)
    y = network(s)
    assert y.grad_fn.name() == "_PerTokenFFNBackward"
    got = [y, *torch.autograd.grad(y, [s, *network.parameters()], along)]
    reference, x = exact(network), exactly(s)
    z = networks_one_by_one(reference, x)
    wanted = [z, *torch.autograd.grad(z, [x, *reference.parameters()], along.double())]
    assert_near(got, wanted, dtype)
    with torch.no_grad():
        assert_near([network(s)], [z], dtype)


@BOTH
@pytest.mark.parametrize("tokens", [1, 5])
def test_the_norm_after_the_networks_adds_their_last_bias(dtype, tokens):
    network, norm = PerTokenFFN(tokens, 24, 20).to(dtype), random_norm(24)
    nn.init.normal_(network.down.bias)
    s = torch.randn(7, tokens, 24).to(dtype).requires_grad_()
    along = torch.randn_like(s)
    y = ffn_add_norm(s, network, norm)
    assert y.grad_fn.name() == "_SumNormBackward"
    got = [y, *torch.autograd.grad(y, [s, *network.parameters(), *norm.parameters()], along)]
    reference, exact_norm, x = exact(network), exact(norm), exactly(s)
    total = x + networks_one_by_one(reference, x)
    z = functional.layer_norm(total, (24,), exact_norm.weight, exact_norm.bias, norm.eps)
    parameters = [*reference.parameters(), *exact_norm.parameters()]
    assert_near(got, [z, *torch.autograd.grad(z, [x, *parameters], along.double())], dtype, 5)
    with torch.no_grad():
        assert_near([ffn_add_norm(s, network, norm)], [z], dtype, 5)


def test_under_autocast_the_norm_after_the_networks_has_the_dtype_of_its_input():
    network, norm, s = PerTokenFFN(3, 8, 16), random_norm(8), torch.randn(6, 3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ffn_add_norm(s, network, norm)
    assert y.dtype == torch.float32
    assert_near([y], [exact(norm)(s.double() + exact(network)(s.double()))], torch.bfloat16, 2)


def gelu(hidden: Tensor, bias: Tensor, slope: Tensor | None) -> None:
    """Replace ``hidden`` (T, B, M) by GELU(hidden + bias), and fill ``slope`` with its derivative."""
    tokens, rows, width = hidden.shape
    sizes = {"tokens": tokens, "rows": rows, "width": width}
    cpu_library.call("gelu", hidden.dtype, hidden=hidden, bias=bias, slope=slope, **sizes)


def test_gelu_and_its_slope_are_those_of_the_normal_distribution():
    x = np.linspace(-12, 12, 200_001)
    hidden, slope = torch.tensor(x, dtype=torch.float32).view(1, 1, -1), torch.empty(1, 1, len(x))
    gelu(hidden, torch.zeros(len(x)), slope)
    x = x.astype(np.float32).astype(np.float64)
    assert np.abs(hidden.numpy().ravel() - x * ndtr(x)).max() < 2e-6
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    assert np.abs(slope.numpy().ravel() - (ndtr(x) + x * density)).max() < 1e-6


@pytest.mark.parametrize("width", [4000, 15])  # whole vectors, and what is left over after them
def test_a_sum_in_bfloat16_is_rounded_to_the_nearest_and_ties_to_even(width):
    x = (torch.randn(1, width) * 10.0 ** torch.randint(-8, 8, (width,))).bfloat16()
    step = (x * torch.rand(width)).bfloat16()
    x[0, :3], step[0, :3] = torch.tensor([1.0, 1 + 2**-7, -1.0]), torch.tensor([2**-8, 2**-8, -(2**-8)])
    norm = AddNorm(width)
    _, total, _ = operators.OPERATORS.sum_norm_saved(x, step, None, norm.weight, norm.bias, 1e-5, False)
    assert torch.equal(total, (x.float() + step.float()).bfloat16())
    assert total[0, :3].tolist() == [1.0, 1 + 2**-6, -1.0]


@BOTH
def test_nan_and_infinity_are_not_hidden(dtype):
    norm, network = AddNorm(8), PerTokenFFN(2, 8, 8).to(dtype)
    for bad in (float("nan"), float("inf")):
        x = torch.randn(3, 2, 8).to(dtype)
        x[1, 0, 3] = bad
        with torch.no_grad():
            for y in (norm(x, x), cpu_kernels.mix_add_norm(x, norm), network(x)):
                assert not y[1, 0].isfinite().any()
                assert y[0].isfinite().all()


@BOTH
def test_the_same_numbers_give_the_same_bits_at_any_address(dtype):
    norm, memory = random_norm(37), torch.randn(4000).to(dtype)
    results = []
    for offset in range(9):
        x = torch.empty(4000, dtype=dtype)[offset : offset + 5 * 2 * 37].view(5, 2, 37)
        x.copy_(memory[:370].view(5, 2, 37))
        with torch.no_grad():
            results.append(norm(x, x))
    assert all(torch.equal(result, results[0]) for result in results)


@BOTH
@pytest.mark.parametrize("number", [2, 3])
def test_the_number_of_threads_does_not_change_the_numbers(dtype, number):
    norm, x = random_norm(64), torch.randn(45, 16, 64).to(dtype).requires_grad_()
    bias, along = torch.randn(3, 64), torch.randn_like(x)

    def results() -> list[Tensor]:
        found = [x.detach().clone()]
        gelu(found[0].view(3, 15 * 16, 64), bias, None)
        for y in (norm(x, x), cpu_kernels.mix_add_norm(x, norm)):
            found += [y, *torch.autograd.grad(y, [x, *norm.parameters()], along)]
        return found

    alone = results()
    with threads_at_work(number):
        together = results()
    sums = (3, 4, 7, 8)  # over rows: the gradients of weight and bias
    assert all(
        torch.equal(a, b) for k, (a, b) in enumerate(zip(alone, together, strict=True)) if k not in sums
    )
    assert_near([together[k] for k in sums], [alone[k] for k in sums], torch.float32)


@BOTH
def test_networks_on_several_threads_equal_those_on_one(dtype):
    network, s = PerTokenFFN(16, 32, 64).to(dtype), torch.randn(70, 16, 32).to(dtype).requires_grad_()

    def results() -> list[Tensor]:
        y = network(s)
        return [y, *torch.autograd.grad(y.square().sum(), [s, *network.parameters()])]

    alone = results()
    with threads_at_work(2):
        assert cpu_kernels.suits(s)
        assert_near(results(), alone, dtype)


@pytest.mark.parametrize("far", [3e3, -3e3])
def test_a_row_far_from_zero_or_whose_first_number_is_far_from_the_others_is_normalised(far):
    norm, x = random_norm(128), torch.randn(2, 3, 128)
    x[0] += far
    x[1, :, 0] = far
    with torch.no_grad():
        for got, wanted in zip(norm(x), exact(norm)(x.double()), strict=True):
            assert_near([got], [wanted], torch.float32, 100)


def test_under_autocast_products_have_its_dtype_and_gradients_that_of_the_weights():
    network, s = PerTokenFFN(3, 8, 16), torch.randn(6, 3, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(s)
    assert y.dtype == torch.bfloat16
    gradients = torch.autograd.grad(y.float().square().sum(), [s, *network.parameters()])
    assert {g.dtype for g in gradients} == {torch.float32}
    z = exact(network)(exactly(s))
    assert_near([y], [z], torch.bfloat16)


def test_flops_equal_those_of_the_plain_products():
    counts, network = [], PerTokenFFN(3, 8, 16)
    for dtype in (torch.float32, torch.float64):
        s = torch.randn(6, 3, 8, dtype=dtype, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            network.to(dtype)(s).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 4 * 6 * 3 * 8 * 16


def test_unsupported_tensors_use_the_plain_equations():
    x = torch.randn(2, 3, 4)
    assert cpu_kernels.suits(x)
    assert not cpu_kernels.suits(x.double())
    assert not cpu_kernels.suits(x, x[:, :1])
    assert not cpu_kernels.suits(x, x.bfloat16())
    assert not cpu_kernels.suits(x.to("meta"))
    with FakeTensorMode() as mode:
        assert not cpu_kernels.suits(mode.from_tensor(x))
    with torch.autocast("cpu", dtype=torch.float16):
        assert not cpu_kernels.suits(x)


def test_an_empty_batch_gives_an_empty_result():
    x = torch.randn(0, 3, 9, requires_grad=True)
    y = cpu_kernels.mix_add_norm(PerTokenFFN(3, 9, 16)(AddNorm(9)(x, x)), AddNorm(9))
    y.sum().backward()
    assert y.shape == x.grad.shape == (0, 3, 9)


load = cpu_library.compiled_functions.__wrapped__


@pytest.fixture(scope="module")
def library():
    """What g++ makes, compiled once for all the tests of how it is stored."""
    made = cpu_library._compile("g++")
    assert made is not None
    return made


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rankmixer-bench"


@pytest.fixture
def compilations(library, monkeypatch):
    """Every use of the compiler, which only returns ``library``."""
    found = []
    monkeypatch.setattr(cpu_library, "_compile", lambda compiler: found.append(compiler) or library)
    return found


def test_functions_are_compiled_once_and_do_not_exist_without_a_compiler(
    cache, compilations, monkeypatch, capfd
):
    assert load() is not None
    assert load() is not None
    assert len(compilations) == 1
    assert cache.stat().st_mode & 0o777 == 0o700
    assert [path.suffix for path in cache.iterdir()] == [".so"]
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(cpu_library.shutil, "which", lambda _: None)
    assert load() is None
    assert "no g++" in capfd.readouterr().err


def flip_a_bit(stored):
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)


def give_to_another_user(stored):
    """As if another user had put it there: the name is right, but the owner or the mode is not."""
    if os.geteuid() == 0:
        os.chown(stored, 65534, 65534)
    else:
        stored.chmod(0o666)


def replace_by_a_link(stored):
    stored.rename(stored.parents[1] / "elsewhere.so")
    stored.symlink_to(stored.parents[1] / "elsewhere.so")


DAMAGES = {
    "truncated": lambda stored: stored.write_bytes(stored.read_bytes()[: stored.stat().st_size // 2]),
    "a bit": flip_a_bit,
    "of another system": lambda stored: stored.write_bytes(b"of another system"),
    "of another user": give_to_another_user,
    "others may write to it": lambda stored: stored.chmod(0o622),
    "a link": replace_by_a_link,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_stored_library_that_is_damaged_or_foreign_is_not_loaded_but_compiled_again(
    damage, cache, compilations, library
):
    assert load() is not None
    [stored] = cache.iterdir()
    damage(stored)
    assert load() is not None
    assert len(compilations) == 2
    assert [path.name for path in cache.iterdir()] == [stored.name]
    assert stored.read_bytes() == library
    assert not stored.is_symlink()


def test_write_permission_for_others_is_removed_from_the_folder(cache, compilations):
    cache.mkdir()
    cache.chmod(0o777)
    assert load() is not None
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trouble", ["another user's", "a file", "a link"])
def test_a_folder_of_another_owner_or_kind_is_not_used_and_a_note_says_so(
    trouble, cache, compilations, monkeypatch, capfd
):
    elsewhere = cache.with_name("elsewhere")
    if trouble == "another user's":
        cache.mkdir()
        if os.geteuid() == 0:
            os.chown(cache, 65534, 65534)
        else:
            monkeypatch.setattr(cpu_library.os, "geteuid", lambda: 12345)
    elif trouble == "a file":
        cache.write_text("")
    else:
        elsewhere.mkdir()
        cache.symlink_to(elsewhere)
    assert load() is not None
    assert not list(elsewhere.glob("*"))
    assert trouble == "a file" or not list(cache.iterdir())
    [note] = capfd.readouterr().err.splitlines()
    assert f"{cache} cannot be used (" in note
    assert "XDG_CACHE_HOME" in note


def test_a_source_that_cannot_be_compiled_leaves_no_file(cache, tmp_path, monkeypatch, capfd):
    broken = tmp_path / "broken.cpp"
    broken.write_text("int main( {")
    monkeypatch.setattr(cpu_library, "SOURCE", broken)
    assert load() is None
    assert not list(cache.iterdir())
    assert "cannot compile" in capfd.readouterr().err


def test_with_a_full_disk_functions_work_but_are_not_stored(cache, compilations, monkeypatch, capfd):
    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        assert load() is not None
    assert "cannot be stored" in capfd.readouterr().err
    assert not list(cache.glob("*.so"))


def test_one_of_eight_processes_compiles_and_all_load_the_whole_library(
    cache, library, tmp_path, monkeypatch
):
    def slow_compiler(compiler: str) -> bytes:
        (tmp_path / f"compiled-by-{os.getpid()}").touch()
        time.sleep(0.2)  # the others are waiting by now
        return library

    monkeypatch.setattr(cpu_library, "_compile", slow_compiler)
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            os._exit(0 if load() is not None else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert len(list(tmp_path.glob("compiled-by-*"))) == 1
    assert [path.suffix for path in cache.iterdir()] == [".so"]
