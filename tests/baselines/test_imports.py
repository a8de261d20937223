"""What the rules of import-linter in pyproject.toml leave open: no architecture imports another one.

Those rules are by packages and would have to name every file of `baselines`; this test finds the files.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

BASELINES = Path(__file__).resolve().parents[2] / "baselines"
SHARED = ("baselines.contract", "baselines.layers", "baselines.kernels")


def imported_modules(path: Path) -> set[str]:
    """Absolute names of what a file imports; a name imported from a package counts as a module of it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            is_package = node.module == "baselines"
            modules |= {f"baselines.{alias.name}" for alias in node.names} if is_package else {node.module}
    return modules


@pytest.mark.parametrize("path", sorted(BASELINES.glob("*.py")), ids=lambda path: path.name)
def test_an_architecture_imports_shared_layers_and_no_other_architecture(path):
    own = [module for module in imported_modules(path) if module.split(".")[0] in ("baselines", "run_bench")]
    assert [module for module in own if not module.startswith(SHARED)] == []
