from __future__ import annotations

import sys

import pytest

from harness.architectures import source_hash

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
    (folder / "model.py").write_text(MODEL.format(package=name))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


@pytest.mark.parametrize(("edited", "is_other"), [("model", True), ("layers", True), ("other", False)])
def test_a_hash_changes_with_the_files_that_an_architecture_uses_and_no_other(package, edited, is_other):
    before = source_hash(f"{package.name}.model:Model")
    file = package / f"{edited}.py"
    file.write_text(file.read_text() + "# edited\n")
    assert (source_hash(f"{package.name}.model:Model") != before) == is_other


def test_rankmixer_and_a_baseline_have_hashes_of_their_own():
    assert len({source_hash(name) for name in ("rankmixer", "dcn", "deepfm")}) == 3
