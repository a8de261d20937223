"""The installed package: layers that need torch alone, architectures by their class, one version."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import rankmixer
from harness.model.architectures import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("baselines", "rankmixer", "pyproject.toml", "README.md", "LICENSE")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(
    line.split("==")
    for line in (ROOT / "requirements/lock.txt").read_text().splitlines()
    if not line.startswith("#")
)
CLASSES = [path.partition(":") for path in ARCHITECTURES.values()]
LOADS_EVERY_CLASS = """
import importlib, importlib.util, json, sys
import baselines, rankmixer
assert "torch" not in sys.modules, "importing a package loads torch"
for package, name in json.loads(sys.argv[1]):
    getattr(importlib.import_module(package), name)
print(*map(importlib.util.find_spec, ["datasets", "harness", "numpy"]))
print(importlib.metadata.version("rankmixer-bench"), rankmixer.__file__)
"""


def needed_by(name: str) -> set[str]:
    """The distribution and all that it needs, as it is installed here."""
    found, waiting = set(), [name]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            needs = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate()]
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of an environment that has torch, what torch needs, and what ``pip install .`` installs."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    [packages] = (folder / "venv").glob("lib/python*/site-packages")
    for name in needed_by("torch"):
        files = importlib.metadata.files(name) or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            place = Path(str(importlib.metadata.distribution(name).locate_file(top)))
            (packages / top).symlink_to(place)
    source = folder / "source"  # building writes beside the sources
    source.mkdir()
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--no-build-isolation", "--target", packages, source], check=True)
    return folder / "venv/bin/python"


def printed(python: Path, *arguments: str) -> str:
    command = [python, "-I", "-W", "ignore", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=python.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_architecture_is_there_with_torch_alone_and_nothing_else_of_the_project(python):
    classes = [[module.split(".")[0], name] for module, _, name in CLASSES]
    found, version = printed(python, "-c", LOADS_EVERY_CLASS, json.dumps(classes)).splitlines()
    assert found == "None None None"
    assert version.split()[0] == rankmixer.__version__
    assert Path(version.split()[1]).is_relative_to(python.parents[1])


def test_the_readme_s_layers_run_with_torch_alone(python, tmp_path):
    section = (ROOT / "README.md").read_text().partition("## Use a layer in your own model")[2]
    [block] = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    assert len(block.splitlines()) <= 12
    (tmp_path / "own.py").write_text(block + "print(*click.shape, tokens.shape[0], mixer.output_dim)\n")
    assert printed(python, str(tmp_path / "own.py")).split() == ["32", "1", "32", "64"]


def test_the_source_of_the_kernels_is_installed(python):
    code = "import importlib.util as u; print(*u.find_spec('baselines.kernels').submodule_search_locations)"
    folder = Path(printed(python, "-c", code).strip())
    assert (folder / "cpu.cpp").read_bytes() == (ROOT / "baselines/kernels/cpu.cpp").read_bytes()


@pytest.mark.parametrize(("module", "_", "name"), CLASSES, ids=[name for _, _, name in CLASSES])
def test_a_class_of_the_table_is_had_from_its_package(module, _, name):
    package = importlib.import_module(module.split(".")[0])
    assert getattr(package, name) is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("package", ["baselines", "rankmixer"])
@pytest.mark.parametrize("name", ["NoSuchModel", "Layers", "no_such_module", "__wrapped__"])
def test_what_a_package_does_not_have_is_an_attribute_error_that_names_it(package, name):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute '{name}'"):
        getattr(importlib.import_module(package), name)


def test_torch_is_the_one_dependency_and_every_requirement_has_its_version_in_the_lock():
    assert PROJECT["dependencies"] == ["torch"]
    extras = [name for names in PROJECT["optional-dependencies"].values() for name in names]
    assert len(extras) == len(set(extras))
    locked = {canonicalize_name(name) for name in LOCK}
    assert [name for name in extras if canonicalize_name(Requirement(name).name) not in locked] == []
    assert [name for name in extras if Requirement(name).specifier] == []  # versions are in the lock alone
    assert {"torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu"} <= set(LOCK)


def test_what_is_installed_here_has_the_lock_s_versions():
    installed = {}
    for name in LOCK:
        try:
            installed[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    assert installed == {name: LOCK[name] for name in installed}
    assert len(installed) > 50


def test_the_version_is_stated_once_and_repeated_truly():
    assert "version" in PROJECT["dynamic"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert citation["version"] == newest[1] == rankmixer.__version__
