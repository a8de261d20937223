"""The doctor names what is there, and what is missing with its mend."""

import importlib.metadata
import shutil
from pathlib import Path
from types import SimpleNamespace

import torch

from harness.speed import doctor

ROOT = Path(__file__).resolve().parents[3]


def test_a_machine_that_runs_the_tests_lacks_nothing_but_perhaps_a_compiler():
    text, healthy = doctor.examine()
    assert f"torch         {importlib.metadata.version('torch')}" in text
    assert "cores" in text
    missing = [line for line in text.splitlines() if line.startswith("missing:")]
    if shutil.which("g++"):
        assert (missing, healthy) == ([], True)
    else:
        assert not healthy
        assert [("compiler" in line) for line in missing] == [True]


def test_a_missing_package_and_compiler_come_with_their_mend(monkeypatch):
    version = importlib.metadata.version

    def without_polars(package: str) -> str:
        if package == "polars":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", without_polars)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    text, healthy = doctor.examine()
    assert not healthy
    assert "missing: polars; make setup" in text
    assert "missing: a C++ compiler" in text


def test_a_gpu_without_triton_is_told_which_requirements_have_it(monkeypatch):
    version = importlib.metadata.version

    def without_triton(package: str) -> str:
        if package == "triton":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", without_triton)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    card = SimpleNamespace(name="NVIDIA H200", total_memory=141 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    text, healthy = doctor.examine()
    assert "NVIDIA H200, 141 GiB" in text
    assert not healthy
    missing = "missing: triton, for torch.compile and kernels on the GPU"
    assert f"{missing}; pip install -c requirements/lock.txt triton" in text
    assert "triton==" in (ROOT / "requirements/lock.txt").read_text()
