from __future__ import annotations

import sys

import pytest

from harness.model.architectures import source_hash

MODEL = """
from dataclasses import dataclass
from {package}.layers import Layer

class Model(Layer):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A user's package of a model, a file it imports, and one it does not."""
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "layers.py").write_text("class Layer:\n    pass\n")
    (folder / "other.py").write_text("class Other:\n    pass\n")
    for kernels in ("layers.cpp", "other.cpp"):
        (folder / kernels).write_text("// kernels\n")
    (folder / "model.py").write_text(MODEL.format(package=name))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


@pytest.mark.parametrize(
    ("edited", "is_other"),
    [
        ("model.py", True),
        ("layers.py", True),
        ("layers.cpp", True),
        ("other.py", False),
        ("other.cpp", False),
    ],
)
def test_a_hash_changes_with_the_files_that_an_architecture_uses_and_no_other(package, edited, is_other):
    before = source_hash(f"{package.name}.model:Model")
    file = package / edited
    file.write_text(file.read_text() + "\n")
    assert (source_hash(f"{package.name}.model:Model") != before) == is_other


@pytest.mark.parametrize(
    "statement",
    [
        "from {package} import sizes",
        "from {package}.sizes import WIDTH",
        "import {package}.sizes",
        "from . import sizes",
        "from .sizes import WIDTH as DEFAULT",
        "from {package}.other import sizes",
        "try:\n    from .sizes import WIDTH\nexcept ImportError:\n    WIDTH = 1",
    ],
)
def test_a_hash_changes_with_an_imported_file_of_numbers_however_it_is_imported(package, statement):
    (package / "sizes.py").write_text("WIDTH = 8\n")
    (package / "other.py").write_text("from . import sizes\n")
    model = package / "model.py"
    model.write_text(f"{statement.format(package=package.name)}\n{model.read_text()}")
    before = source_hash(f"{package.name}.model:Model")
    (package / "sizes.py").write_text("WIDTH = 9\n")
    assert source_hash(f"{package.name}.model:Model") != before


def test_the_hash_of_a_file_in_no_package_changes_with_the_files_beside_it(tmp_path, monkeypatch):
    name = f"lone_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}_sizes.py").write_text("WIDTH = 8\n")
    model = MODEL.replace("from {package}.layers import Layer", f"from {name}_sizes import WIDTH")
    (tmp_path / f"{name}.py").write_text(model.replace("(Layer)", ""))
    monkeypatch.syspath_prepend(tmp_path)
    before = source_hash(f"{name}:Model")
    (tmp_path / f"{name}_sizes.py").write_text("WIDTH = 9\n")
    assert source_hash(f"{name}:Model") != before


def test_rankmixer_and_a_baseline_have_hashes_of_their_own():
    assert len({source_hash(name) for name in ("rankmixer", "dcn", "deepfm")}) == 3
