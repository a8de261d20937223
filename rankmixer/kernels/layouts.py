"""Times a RankMixer block in every memory layout: the reason for those of `PerTokenLinear` and
`rankmixer.kernels.fast`.

    python -m rankmixer.kernels.layouts [cpu|cuda]

prints the time of one block in each layout, forward alone and forward with backward: as a ratio to the time
of the einsum, and as a share of the GEMM peak, which is measured by a square product in the same round. All
layouts use the weights of one block and must agree on its output. A time is the median over repeats. The
repeats of all layouts are interleaved, so that other load on the machine affects all of them alike.
On CUDA, `torch.compile` and the Triton kernels are timed too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.benchmark import Timer

from rankmixer.mixing import mix_tokens
from rankmixer.model import Block, RankMixer

SIZES = ((16, 64, 2, 4096), (16, 128, 2, 2048), (16, 768, 2, 512))  # T, D, k, B
ROWS = 256
REPEATS = 11
GEMM_SIZE = 2048
PerTokenMap = Callable[[Tensor, Tensor, Tensor], Tensor]  # x, weight (T, in, out), bias (T, 1, out)


def einsum(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, T, in), weight (T, in, out), bias (T, 1, out) -> (B, T, out)."""
    return torch.einsum("bti,tio->bto", x, weight) + bias.squeeze(1)


def bmm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (T, B, in) -> (T, B, out); the bias is added afterwards."""
    return torch.bmm(x, weight) + bias


def baddbmm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (T, B, in) -> (T, B, out); the product adds the bias."""
    return torch.baddbmm(bias, x, weight)


def loop(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (T, B, in) -> (T, B, out), one product for each token."""
    slices = zip(x.unbind(), weight.unbind(), bias.unbind(), strict=True)
    return torch.stack([torch.addmm(b, token, w) for token, w, b in slices])


def mix_tokens_first(x: Tensor) -> Tensor:
    """`mix_tokens` on (T, B, D)."""
    return x.unflatten(2, (x.shape[0], -1)).transpose(0, 2).flatten(2)


def run_block(block: Block, x: Tensor, mix: Callable[[Tensor], Tensor], linear: PerTokenMap) -> Tensor:
    """The equations of a block with another mixing and per-token map. x and the result have their layout."""
    assert block.mixing_norm is not None, "this times the paper's block"
    up, down = block.ffn.up, block.ffn.down
    s = block.mixing_norm(mix(x) + x)
    hidden = functional.gelu(linear(s, up.weight, up.bias))
    return block.ffn_norm(linear(hidden, down.weight, down.bias) + s)


LAYOUTS: dict[str, Callable[[Block, Tensor], Tensor]] = {
    "einsum on (B, T, D)": lambda block, x: run_block(block, x, mix_tokens, einsum),
    "baddbmm on views of (B, T, D), plain": lambda block, x: block.plain(x)[0],
    "baddbmm on (T, B, D)": lambda block, x: run_block(block, x, mix_tokens_first, baddbmm),
    "bmm on (T, B, D)": lambda block, x: run_block(block, x, mix_tokens_first, bmm),
    "loop over tokens on (T, B, D)": lambda block, x: run_block(block, x, mix_tokens_first, loop),
    "chosen by rankmixer.kernels.fast": lambda block, x: block(x)[0],
    "chosen, in blocks of rows": lambda block, x: torch.cat([block(rows)[0] for rows in x.split(ROWS)]),
}


def add_gpu_layouts() -> None:
    """Add what is available only on CUDA."""
    from rankmixer.kernels.fused_gemm import block_of_fused_gemm
    from rankmixer.kernels.triton_kernels import block_of_kernels

    compiled = torch.compile(lambda block, x: block.plain(x)[0])
    LAYOUTS["plain, torch.compile"] = compiled
    LAYOUTS["Triton, PyTorch's products"] = block_of_kernels
    LAYOUTS["Triton, bias and GELU in the product"] = block_of_fused_gemm


def seconds(layout: str, block: Block, x: Tensor, backward: bool) -> float:
    """Time of one pass."""

    def run() -> None:
        block.zero_grad()
        with torch.set_grad_enabled(backward):
            output = LAYOUTS[layout](block, x)
        if backward:
            output.backward(x.detach())

    return seconds_of(run)


def gemm_seconds(device: torch.device) -> float:
    """Time of one square product, which runs close to the peak."""
    left, right = torch.randn(2, GEMM_SIZE, GEMM_SIZE, device=device)
    return seconds_of(lambda: left @ right)


def seconds_of(call: Callable[[], object]) -> float:
    """Time of one call after two for warm-up, by PyTorch's timer, which waits for the device."""
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return timer.timeit(1).median


def main(device: str) -> None:
    """Check that all layouts agree, time them, and print ratios to the einsum and to the peak."""
    if device == "cuda":
        add_gpu_layouts()
    for T, D, k, B in SIZES:
        block = Block(T, RankMixer.Config(model_dim=D, ffn_dim=k * D)).to(device)
        tokens = torch.randn(B, T, D, device=device)
        inputs = {
            name: (tokens.transpose(0, 1).contiguous() if "(T, B, D)" in name else tokens).requires_grad_()
            for name in LAYOUTS
        }
        for name, x in inputs.items():
            output = LAYOUTS[name](block, x)
            output = output.transpose(0, 1) if "(T, B, D)" in name else output
            torch.testing.assert_close(output, block(tokens)[0], rtol=1e-3, atol=1e-3)
        for backward in (False, True):
            times: dict[str, list[float]] = {name: [] for name in LAYOUTS}
            peaks: list[float] = []
            for _ in range(REPEATS):
                peaks.append(2 * GEMM_SIZE**3 / gemm_seconds(tokens.device))
                for name in LAYOUTS:
                    times[name].append(seconds(name, block, inputs[name], backward))
            base = median(next(iter(times.values())))
            flops = (3 if backward else 1) * 4 * k * T * D**2 * B
            print(f"T={T} D={D} k={k} B={B}, {'forward + backward' if backward else 'forward'}")
            for name, values in times.items():
                share = flops / median(values) / median(peaks)
                print(
                    f"  {name:38} {1e3 * median(values):8.1f} ms  x{median(values) / base:.2f}  "
                    f"{share:.0%} of the peak"
                )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cpu")
