"""Every notebook runs, from its folder or the checkout, shows a figure or a table last, and is kept bare.

The first runs in a kernel, as a user runs it; the others' cells in IPython within a process that has imported
everything, since a kernel and its workers take many seconds to import it.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from tests.forked import Forked

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COPIED = {"notebooks", "examples"}  # written to, or asked for their own place
LEFT_OUT = {"out", "cache", "data", "site"}
# Runs the cells of a file in their order, and writes which kinds of output the last one shows.
CELLS = """
import json, sys
from IPython.core.displayhook import CapturingDisplayHook
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

class Shell(InteractiveShell):
    def enable_gui(self, gui=None):
        pass  # as in a kernel: figures are shown where they are drawn

_, checkout, cells, shown = sys.argv
sys.path[:0] = ["", checkout]
shell = Shell.instance()
shell.history_manager.enabled = False
shell.display_pub = CapturingDisplayPublisher()
for cell in json.load(open(cells, encoding="utf-8")):
    results = []
    shell.display_trap.hook = CapturingDisplayHook(shell=shell, outputs=results)
    shell.display_pub.outputs.clear()
    shell.run_cell(cell, store_history=True).raise_error()
kinds = {kind for output in results + shell.display_pub.outputs for kind in output["data"]}
with open(shown, "w", encoding="utf-8") as file:
    json.dump(sorted(kinds), file)
"""
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


def in_a_kernel(path: Path, where: Path, folder: str) -> tuple[list[str], set[str]]:
    """What its cells print, and the kinds of output that the last one shows."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("IPYTHONDIR", str(where.parent / "ipython"))
        patch.setenv("PYTHONPATH", str(where))  # as an editable install has it
        place = {"metadata": {"path": str(where / folder)}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    said = [output.text for output in outputs if output.output_type == "stream"]
    return said, {kind for output in cells[-1].outputs for kind in output.get("data", {})}


def in_a_forked_process(path: Path, where: Path, folder: str) -> tuple[list[str], set[str]]:
    """The same, where everything has been imported."""
    cells, shown = where / "cells.json", where / "shown.json"
    cells.write_text(json.dumps(["".join(cell["source"]) for cell in code_cells(path)]), encoding="utf-8")
    environment = {"OMP_NUM_THREADS": "1", "IPYTHONDIR": str(where.parent / "ipython")}
    process = Forked(CELLS, where / folder, "cells", where, cells, shown, **environment)
    said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return list(said), set(json.loads(shown.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("path", "folder"), RUN_FROM, ids=[f"{path.stem} from {folder}" for path, folder in RUN_FROM]
)
def test_a_notebook_runs_and_ends_with_something_to_look_at(path, folder, tmp_path):
    if not all(importlib.util.find_spec(name) for name in ("nbclient", "nbformat", "ipykernel")):
        pytest.skip("SKIPPED: no notebook can be run; pip install -c requirements/lock.txt -e '.[notebooks]'")
    where = tmp_path / "checkout"
    where.mkdir()
    run = in_a_kernel if path == NOTEBOOKS[0] else in_a_forked_process
    said, kinds = run(path, checkout(where), folder)
    assert not any(text.startswith("error: ") or "\nerror: " in text for text in said), said
    assert kinds & {"image/png", "text/html"}, kinds


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
