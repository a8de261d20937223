from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = {"baselines", "datasets", "harness", "rankmixer", "reports", "suites", "run_bench"}
SHARED = ("baselines.contract", "baselines.layers", "baselines.kernels")


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            of_package = node.module in HOUSE  # what is imported from a package is a module of it
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if of_package else {node.module}
    return {module for module in found if module.split(".")[0] in HOUSE}


@pytest.mark.parametrize("path", sorted((ROOT / "rankmixer").glob("*.py")), ids=lambda path: path.name)
def test_rankmixer_imports_shared_layers_and_no_baseline(path):
    assert [m for m in imported_modules(path) if not m.startswith((*SHARED, "rankmixer."))] == []


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").glob("*.py")), ids=lambda path: path.name)
def test_baselines_share_layers_and_import_nothing_else_of_the_house(path):
    assert [m for m in imported_modules(path) if not m.startswith(SHARED)] == []
