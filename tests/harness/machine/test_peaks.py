"""The peak that MFU is measured against."""

import pytest
import torch

from harness.machine import peaks


def test_a_measured_peak_is_measured_once_and_names_its_gemm():
    device = torch.device("cpu")
    first = peaks.measured_peak(device, "fp32", size=256)
    assert first.flops_per_second > 0
    assert peaks.measured_peak(device, "fp32", size=256) is first
    assert "256x256 GEMMs, fp32" in first.source


@pytest.mark.parametrize(
    ("card", "precision", "teraflops"),
    [
        ("NVIDIA H200", "bf16", 989.4),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "bf16", 756.0),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA A10", "bf16", 125.0),
        ("NVIDIA H200", "fp8", 1978.9),
        ("NVIDIA H100 PCIe", "fp8", 1513.0),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("NVIDIA H100 NVL", "bf16", 835.0),
        ("NVIDIA A100-PCIE-40GB", "bf16", 312.0),
        ("NVIDIA A100 80GB PCIe", "fp32", 19.5),
        ("Tesla V100-SXM2-16GB", "fp32", 15.7),
    ],
)
def test_a_known_card_has_its_datasheets_dense_peak(card, precision, teraflops, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: card)
    found = peaks.peak(torch.device("cuda"), precision)
    assert found.flops_per_second == pytest.approx(teraflops * 1e12)
    assert card in found.source


@pytest.mark.parametrize(
    "card",
    [
        "Some Card 9000",
        "NVIDIA H200 NVL",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA H100 PCIe MIG 1g.10gb",
        "Tesla V100-PCIE-16GB",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
    ],
)
def test_an_unknown_card_and_a_variant_of_a_known_one_are_measured(card, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: card)
    monkeypatch.setattr(peaks, "measured_peak", lambda device, precision: peaks.Peak(1.0, "measured"))
    assert peaks.peak(torch.device("cuda"), "fp32").source == "measured"


def test_fp8_is_twice_as_fast_as_bf16_on_the_cards_that_have_it():
    both = {card: rates for card, rates in peaks.DATASHEETS.items() if "fp8" in rates}
    assert {"H100", "H200"} <= set(both)
    assert not {"A100", "A10", "V100", "T4"} & set(both)  # compute capability below 8.9
    for card, rates in both.items():
        assert rates["fp8"] == pytest.approx(2 * rates["bf16"], rel=0.015), card


@pytest.mark.parametrize("precision", peaks.DTYPES)
def test_a_square_product_is_of_the_precision_and_of_its_matrices(precision, monkeypatch):
    made = []
    randn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *shape, **kind: made.append(randn(*shape, **kind)) or made[-1])
    product = peaks.square_product(torch.device("cpu"), precision, 32)()
    left, right = (matrix.to(peaks.DTYPES[precision]).double() for matrix in made)
    expected = left @ (right.T if precision == "fp8" else right)
    assert product.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)
    torch.testing.assert_close(product.double(), expected, rtol=1e-2, atol=1e-2)
