"""The doctor names what is there, and what is missing with its mend; other machines are made up by probes."""

import importlib.metadata
import os
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from files.locks import locked
from harness.doctor import gpu, packages
from harness.doctor.examine import examine

ROOT = Path(__file__).resolve().parents[3]
CARD = "NVIDIA H200"


@pytest.fixture
def no_gpu(monkeypatch, tmp_path) -> None:
    """A machine whose system shows no GPU and whose PyTorch is a CPU build."""
    monkeypatch.setattr(gpu, "DEVICES", tmp_path / "dev")
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None if name == "nvidia-smi" else which(name))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)


which, version = shutil.which, importlib.metadata.version


@pytest.fixture
def without(monkeypatch):
    """Makes packages look as if they were not installed."""

    def leave_out(*names: str) -> None:
        def found(package: str) -> str:
            if package in names:
                raise importlib.metadata.PackageNotFoundError(package)
            return version(package)

        monkeypatch.setattr(importlib.metadata, "version", found)

    return leave_out


def missing(text: str) -> list[str]:
    return [line.removeprefix("missing: ") for line in text.splitlines() if line.startswith("missing:")]


def nvidia_smi(folder: Path, script: str) -> str:
    """A program in place of NVIDIA's."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return str(program)


def test_a_machine_that_runs_the_tests_lacks_nothing_but_perhaps_a_compiler(no_gpu):
    text, healthy = examine()
    assert f"torch          {version('torch')}" in text
    assert "cores" in text
    if shutil.which("g++"):
        assert (missing(text), healthy) == ([], True)
        assert text.endswith("\nnothing is missing")
    else:
        assert not healthy
        assert [("compiler" in line) for line in missing(text)] == [True]


def test_a_missing_package_and_compiler_come_with_their_mend(no_gpu, without, monkeypatch):
    without("polars")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    text, healthy = examine()
    assert not healthy
    assert missing(text)[0] == "polars; make setup"
    assert len(missing(text)) == 2  # each once
    assert missing(text)[1].startswith("a C++ compiler")
    assert "nothing is missing" not in text


# ------------------------------------------------------------------------------------------------- extras


def test_the_extras_are_those_of_the_project_and_their_names_those_of_packages():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(packages.extras()) == set(stated["optional-dependencies"])
    assert packages.extras()["docs"] == ["mkdocs-material", "mkdocstrings"]  # not mkdocstrings[python]


def test_extras_that_lack_packages_are_told_and_are_no_fault(no_gpu, without):
    without("onnxruntime", "onnx", "tensorboard")
    text, _ = examine()
    [extras] = [line for line in text.splitlines() if line.startswith("extras")]
    assert "export" not in extras
    assert "watch" not in extras
    assert "bench" in extras
    mend = "pip install -c requirements/lock.txt -e '.[export]'"
    assert f"export lacks onnx, onnxruntime: {mend}" in text
    assert "watch lacks tensorboard: " in text
    assert not any("onnx" in line or "tensorboard" in line for line in missing(text))


# ---------------------------------------------------------------------------------------------------- GPU


@pytest.mark.parametrize("probe", ["nvidia-smi", "nvidia-smi that fails", "device"])
def test_a_cpu_build_on_a_machine_with_a_gpu_is_what_is_missing(no_gpu, probe, monkeypatch, tmp_path):
    if probe == "device":
        (tmp_path / "dev").mkdir()
        for name in ("nvidia0", "nvidiactl", "null"):
            (tmp_path / "dev" / name).touch()
        shown = f"NVIDIA's {tmp_path}/dev/nvidia0: cannot be used"
    else:
        fails = "fails" in probe
        program = nvidia_smi(tmp_path, "exit 9" if fails else f"echo '{CARD}, 580.65.06'")
        monkeypatch.setattr(
            gpu.shutil, "which", lambda name: program if name == "nvidia-smi" else which(name)
        )
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/nvidia1").touch()
        shown = f"NVIDIA's {tmp_path}/dev/nvidia1" if fails else f"{CARD}, driver 580.65.06: cannot be used"
    text, healthy = examine()
    assert not healthy
    assert "nothing is missing" not in text
    assert shown in text
    [mend] = [line for line in missing(text) if "GPU" in line]
    assert mend.startswith("the CUDA build of torch")
    assert "make setup" in mend
    assert "make clean" not in mend  # which would remove results


@pytest.mark.parametrize("driver", [False, True])
def test_without_a_gpu_the_doctor_says_what_one_would_need(no_gpu, driver, monkeypatch, tmp_path):
    if driver:
        program = nvidia_smi(tmp_path, "echo No devices were found")
        monkeypatch.setattr(gpu.shutil, "which", {"nvidia-smi": program}.get)
    text, _ = examine()
    [line] = [line for line in text.splitlines() if line.startswith("GPU")]
    assert "none seen (torch is a CPU build)" in line
    assert all(need in line for need in ("driver", "CUDA builds of torch and fbgemm-gpu", "triton"))


@pytest.mark.parametrize(
    ("hidden", "mend"), [("", "CUDA_VISIBLE_DEVICES"), (None, "driver of the GPU for CUDA 13.0")]
)
def test_a_cuda_build_that_cannot_use_the_gpu_says_why(no_gpu, hidden, mend, monkeypatch, tmp_path):
    program = nvidia_smi(tmp_path, f"echo '{CARD}, 470.1'")
    monkeypatch.setattr(gpu.shutil, "which", lambda name: program if name == "nvidia-smi" else which(name))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    text, healthy = examine()
    assert not healthy
    assert [line for line in missing(text) if mend in line]


def test_a_gpu_without_triton_is_told_which_requirements_have_it(no_gpu, without, monkeypatch):
    without("triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    card = SimpleNamespace(name=CARD, total_memory=141 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    text, healthy = examine()
    assert f"{CARD}, 141 GiB" in text
    assert not healthy
    mend = "triton, for torch.compile and kernels on the GPU; pip install -c requirements/lock.txt triton"
    assert mend in missing(text)
    assert "triton==" in (ROOT / "requirements/lock.txt").read_text()


# ------------------------------------------------------------------------------------------------- places


def test_datasets_below_the_data_root_are_found_and_the_others_have_their_mend(no_gpu, tmp_path):
    folder = tmp_path / "raw/movielens-100k/ml-100k"  # as its archive unpacks
    folder.mkdir(parents=True)
    for name in ("u.data", "u.user", "u.item"):
        (folder / name).touch()
    text, _ = examine(tmp_path / "raw")
    assert f"data root      {tmp_path / 'raw'}" in text
    assert f"movielens-100k: in {folder}" in text
    assert f"kuairand-pure: {tmp_path}/raw/kuairand-pure/user_features_pure.csv: no such file" in text
    assert "data fetch kuairand-pure" in text
    (folder / "u.user").unlink()
    assert f"movielens-100k: {folder}/u.user: no such file" in examine(tmp_path / "raw")[0]


def test_a_data_root_that_is_no_folder_is_missing_and_none_is_told(no_gpu, tmp_path):
    text, healthy = examine(tmp_path / "nowhere")
    assert not healthy
    assert [line for line in missing(text) if str(tmp_path / "nowhere") in line]
    text, _ = examine(None)
    assert "data root      none (BENCH_DATA_ROOT" in text


def test_the_cache_is_counted_and_weighed(no_gpu, tmp_path):
    assert "none yet" in examine(cache=tmp_path / "cache")[0]
    for name in ("one-0123", "two-4567"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "manifest.json").write_text("{}")
    (tmp_path / "cache/one-0123/train.parquet").write_bytes(bytes(3_000_000))
    os.symlink(tmp_path, tmp_path / "cache/loop")  # is not followed
    text, _ = examine(cache=tmp_path / "cache")
    assert f"{tmp_path / 'cache'}: 2 prepared datasets, 3 MB" in text
    assert "killed" not in text


def test_what_killed_commands_left_in_the_cache_is_named_unless_it_is_in_use(no_gpu, tmp_path):
    for name in (".old.p[1].77-0123abcd.partial", ".now.78-0123abcd.partial", ".mine.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.parquet").write_bytes(bytes(2_000_000))
    before = {path.name for path in tmp_path.iterdir()} | {".now.lock"}
    with locked(tmp_path / ".now.lock", wait=True):
        text, healthy = examine(cache=tmp_path)
    assert ".old.p[1].77-0123abcd.partial: 2 MB that a killed command left; remove it unless" in text
    assert text.count("killed command") == 1
    assert {path.name for path in tmp_path.iterdir()} == before
    assert healthy
    assert ".now.78-0123abcd.partial: 2 MB that a killed" in examine(cache=tmp_path)[0]
