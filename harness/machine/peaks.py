"""The peak that MFU is measured against, and where it comes from.

MFU = model FLOPs / (time x peak). The peak must be that of the arithmetic used: PyTorch multiplies
fp32 matrices in plain fp32 unless TF32 is allowed, and TF32 is off here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from harness.machine.timing import seconds_of

FEWEST_PRODUCTS, MOST_PRODUCTS = 5, 25
AGREEMENT = 0.03  # of the three fastest products
SMALL_SIZE = 1024  # of products between other work on a CPU: nearly a 2048's FLOP/s in an eighth of its time

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}

# Dense peaks in TFLOP/s at boost clocks, from the vendor's datasheets: no sparsity, bf16 and fp8 products
# summed in fp32, fp32 on the CUDA cores (TF32 is off here). Those of bf16 are SMs x FLOPs a clock and SM x
# clock, those of fp8 twice as many. A datasheet that prints figures with sparsity prints the double of these.
DATASHEETS: dict[str, dict[str, float]] = {
    "V100": {"fp32": 15.7},
    "T4": {"fp32": 8.1},
    "A10": {"fp32": 31.2, "bf16": 125.0},
    "A100": {"fp32": 19.5, "bf16": 312.0},
    "A100 PCIe": {"fp32": 19.5, "bf16": 312.0},
    "H100 PCIe": {"fp32": 51.2, "bf16": 756.0, "fp8": 1513.0},
    "H100 NVL": {"bf16": 835.0},
    "H100": {"fp32": 66.9, "bf16": 989.4, "fp8": 1978.9},
    "H200": {"fp32": 66.9, "bf16": 989.4, "fp8": 1978.9},
    "B200": {"fp32": 75.0, "bf16": 2250.0, "fp8": 4500.0},
    "L40S": {"fp32": 91.6, "bf16": 362.0, "fp8": 733.0},
    "RTX 4090": {"fp32": 82.6, "bf16": 165.2, "fp8": 330.3},
}
# A card whose name has one of these has other figures than the card without: a part of it, or slower clocks.
VARIANTS = {"mig", "laptop", "d", "nvl", "pcie"}


@dataclass(frozen=True)
class Peak:
    """FLOP/s, and a sentence that says where the figure comes from; ``measured``: not from a datasheet."""

    flops_per_second: float
    source: str
    measured: bool = False


def peak(device: torch.device, precision: str) -> Peak:
    """A known GPU's datasheet figure, else a GEMM measured on this machine."""
    return datasheet_peak(device, precision) or measured_peak(device, precision)


def datasheet_peak(device: torch.device, precision: str) -> Peak | None:
    """What the vendor of a known GPU states; None for a CPU and for a GPU that is not in `DATASHEETS`.

    A variant of a known GPU (`VARIANTS`) is another, unless it has an entry of its own.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    words = _words(name)
    for card in sorted(DATASHEETS, key=len, reverse=True):
        if _words(card) <= words and not (words - _words(card)) & VARIANTS:
            teraflops = DATASHEETS[card].get(precision)
            return Peak(teraflops * 1e12, f"datasheet of {name}, dense {precision}") if teraflops else None
    return None


def _words(name: str) -> set[str]:
    return set(name.lower().replace("-", " ").split())


@cache
def measured_peak(device: torch.device, precision: str, size: int = 2048) -> Peak:
    """The fastest of several square GEMMs of ``precision``, on PyTorch's own threads.

    Other work on the machine can only make a product slower, so the fastest is the nearest to the peak.
    Products are repeated until the three fastest agree, which takes few where nothing else runs. The peak is
    measured once a process, so that all rows of a table are compared with the same figure.
    """
    gemm = Gemm(device, precision, size)
    measured = sorted(gemm.flops_per_second() for _ in range(FEWEST_PRODUCTS))
    while measured[-3] < (1 - AGREEMENT) * measured[-1] and len(measured) < MOST_PRODUCTS:
        measured = sorted([*measured, gemm.flops_per_second()])
    source = f"measured: fastest of {len(measured)} {size}x{size} GEMMs, {gemm.name}"
    return Peak(measured[-1], source, measured=True)


def median_peak(rates: list[float], gemm: Gemm) -> Peak:
    """The peak of products that were timed between the work that is held against it."""
    source = f"measured: median of {len(rates)} {gemm.size}x{gemm.size} GEMMs between the work, {gemm.name}"
    return Peak(statistics.median(rates), source, measured=True)


class Gemm:
    """A square matrix product, large enough to reach the peak of its device and precision.

    ``name`` says the precision and, on a CPU, the threads.
    """

    def __init__(self, device: torch.device, precision: str, size: int | None = None) -> None:
        self.device, self.precision = device, precision
        self.size = size or (8192 if device.type == "cuda" else 2048)
        threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        self.name = f"{precision}{threads}"
        self._product = square_product(device, precision, self.size)
        self.flops_per_second()

    @classmethod
    def between(cls, device: torch.device, precision: str) -> Gemm:
        """One that is short enough to be timed again and again between other work."""
        return cls(device, precision, SMALL_SIZE if device.type == "cpu" else None)

    def flops_per_second(self) -> float:
        """FLOP/s of one product, timed now."""
        return 2 * self.size**3 / seconds_of(self._product, self.device)


def measured_bandwidth(device: torch.device, megabytes: int = 256, repeats: int = 10) -> float:
    """Bytes a second that the fastest of ``repeats`` copies of a tensor reads and writes together."""
    source = torch.ones(megabytes * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    fastest = min(seconds_of(lambda: target.copy_(source), device) for _ in range(repeats))
    return 2 * source.nbytes / fastest


def square_product(device: torch.device, precision: str, size: int) -> Callable[[], object]:
    """A function that multiplies two square matrices of ``precision`` at every call.

    fp8 is summed as the model's own products are (`rankmixer.kernels.fp8`), and rounded to bf16.
    """
    left, right = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
    if precision == "fp8":
        one, to = torch.ones((), device=device), torch.bfloat16
        return lambda: torch._scaled_mm(left, right.t(), one, one, out_dtype=to, use_fast_accum=True)
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)
