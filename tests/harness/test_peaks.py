"""The peak that MFU is measured against."""

import pytest
import torch

from harness import peaks


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
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
    ],
)
def test_a_known_card_has_its_datasheets_dense_peak(card, precision, teraflops, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: card)
    found = peaks.peak(torch.device("cuda"), precision)
    assert found.flops_per_second == pytest.approx(teraflops * 1e12)
    assert card in found.source


def test_an_unknown_card_is_measured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some Card 9000")
    monkeypatch.setattr(peaks, "measured_peak", lambda device, precision: peaks.Peak(1.0, "measured"))
    assert peaks.peak(torch.device("cuda"), "fp32").source == "measured"
