"""Every notebook runs, from its folder or the checkout, shows a figure or a table last, and is kept bare."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COPIED = {"notebooks", "examples"}  # written to, or asked for their own place
LEFT_OUT = {"out", "cache", "data", "site"}
RUN_FROM = [(path, "." if path.stem.startswith("2") else "notebooks") for path in NOTEBOOKS]


def checkout(folder: Path) -> Path:
    """A checkout whose ``out`` and ``cache`` are its own."""
    for path in ROOT.iterdir():
        if path.name in COPIED:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("*.csv"))
        elif path.name not in LEFT_OUT and not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return folder


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize(
    ("path", "folder"), RUN_FROM, ids=[f"{path.stem} from {folder}" for path, folder in RUN_FROM]
)
def test_a_notebook_runs_and_ends_with_something_to_look_at(path, folder, tmp_path, monkeypatch):
    if not all(importlib.util.find_spec(name) for name in ("nbclient", "nbformat", "ipykernel")):
        pytest.skip("SKIPPED: no notebook can be run; pip install -c requirements/lock.txt -e '.[notebooks]'")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    where = tmp_path / "checkout"
    where.mkdir()
    notebook = nbformat.read(path, as_version=4)
    monkeypatch.setenv("PYTHONPATH", str(where))  # as an editable install has it
    place = {"metadata": {"path": str(checkout(where) / folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    said = [output.text for output in outputs if output.output_type == "stream"]
    assert not any(text.startswith("error: ") or "\nerror: " in text for text in said), said
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    kinds = {kind for output in last.outputs for kind in output.get("data", {})}
    assert kinds & {"image/png", "text/html"}, last.outputs


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_with_ids_that_stay(path):
    notebook = json.loads(path.read_text())
    assert [cell["outputs"] for cell in code_cells(path)] == [[]] * len(code_cells(path))
    assert [cell["execution_count"] for cell in code_cells(path)] == [None] * len(code_cells(path))
    number = path.stem.partition("_")[0]
    assert [cell["id"] for cell in notebook["cells"]] == [
        f"{number}-{position:02d}" for position in range(len(notebook["cells"]))
    ]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}  # no version of the one who saved it


def test_the_readme_names_every_notebook():
    text = (ROOT / "notebooks/README.md").read_text()
    assert all(f"]({path.name})" in text for path in NOTEBOOKS)
    assert len(NOTEBOOKS) == 5
