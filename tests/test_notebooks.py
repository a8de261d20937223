"""Every notebook runs, from its folder or the checkout, and gives the outputs that are stored in it.

The second runs in a kernel, as a user runs it; the others' cells in IPython within a process that has
imported everything, since a kernel and its workers take many seconds to import it. Words and whole numbers
must be those that are stored, other numbers nearly so, since processors round differently; a picture must be
one.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from notebooks.outputs import PNG, PROGRESS, TIMING, checkout, code_cells, executed, write
from tests.forked import Forked

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Runs the cells of a file in their order, and writes what each shows: printed text and outputs by kind.
CELLS = """
import contextlib, io, json, sys
import pandas
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
shell.display_trap.hook = CapturingDisplayHook(shell=shell, outputs=shell.display_pub.outputs)
pandas.set_option("display.max_columns", 20)  # as in a kernel
given = []
for cell in json.load(open(cells, encoding="utf-8")):
    shell.display_pub.outputs.clear()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = shell.run_cell(cell, store_history=True)
    result.raise_error()
    said = printed.getvalue()
    outputs = [{"data": output["data"]} for output in shell.display_pub.outputs]
    given.append([{"name": "stdout", "text": said}] * bool(said) + outputs)
with open(shown, "w", encoding="utf-8") as file:
    json.dump(given, file, default=lambda data: "(a picture)")
"""
RUN_FROM = [(path, "." if path.stem.startswith("2") else "notebooks") for path in NOTEBOOKS]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
ROUNDING = 0.004  # of an AUC where training added up in another order


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def in_a_forked_process(path: Path, where: Path, folder: str) -> list[list[dict]]:
    """What each of its cells shows, run where everything has been imported."""
    cells, shown = where / "cells.json", where / "shown.json"
    cells.write_text(
        json.dumps(["".join(cell["source"]) for cell in code_cells(read(path))]), encoding="utf-8"
    )
    environment = {"OMP_NUM_THREADS": "1", "IPYTHONDIR": str(where / ".ipython")}
    process = Forked(CELLS, where / folder, "cells", where, cells, shown, **environment)
    said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return json.loads(shown.read_text(encoding="utf-8"))


def in_a_kernel(path: Path, where: Path, folder: str) -> list[list[dict]]:
    """The same as a user runs it."""
    return [cell["outputs"] for cell in code_cells(executed(path, where, folder))]


def words(outputs: list[dict]) -> list[str]:
    """What a cell shows: its text, and ``picture`` in place of one."""
    found = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        data = output.get("data", {})
        found.append("picture" if PNG in data else "".join(data.get("text/plain", output.get("text", ""))))
    return [text.strip() for text in found]


def differs(stored: str, given: str) -> bool:
    """Whether two texts differ in more than spaces and the rounding of their numbers."""
    if " ".join(NUMBER.sub("#", stored).split()) != " ".join(NUMBER.sub("#", given).split()):
        return True
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(given), strict=True)
    return any(_is_other(one, other) for one, other in pairs)


def _is_other(one: str, other: str) -> bool:
    if one == other:
        return False
    is_whole = not {".", "e"} & set(one + other)
    return is_whole or abs(float(one) - float(other)) > ROUNDING * max(1.0, abs(float(one)))


def check_stored(path: Path, given: list[list[dict]]) -> None:
    """Raises AssertionError where a cell's stored outputs are not those that came out."""
    for cell, outputs in zip(code_cells(read(path)), given, strict=True):
        tags = set(cell["metadata"].get("tags", ()))
        if PROGRESS in tags:
            continue
        stored, came = words(cell["outputs"]), words(outputs)
        if TIMING in tags:
            assert [text == "picture" for text in stored] == [text == "picture" for text in came], cell["id"]
        else:
            same = len(stored) == len(came) and not any(map(differs, stored, came))
            assert same, f"{cell['id']}: {stored} is stored, {came} came out; python notebooks/outputs.py"


@pytest.mark.parametrize(
    ("path", "folder"), RUN_FROM, ids=[f"{path.stem} from {folder}" for path, folder in RUN_FROM]
)
def test_a_notebook_gives_the_outputs_that_are_stored_in_it(path, folder, tmp_path):
    if not all(importlib.util.find_spec(name) for name in ("nbclient", "nbformat", "ipykernel")):
        pytest.skip("SKIPPED: no notebook can be run; pip install -c requirements/lock.txt -e '.[notebooks]'")
    where = tmp_path / "checkout"
    where.mkdir()
    run = in_a_kernel if path == NOTEBOOKS[1] else in_a_forked_process
    given = run(path, checkout(where), folder)
    check_stored(path, given)
    kinds = {kind for output in given[-1] for kind in output.get("data", {})}
    assert kinds & {PNG, "text/html"}, kinds


def test_outputs_that_changed_are_told_from_rounding():
    frame = "rankmixer  0.7218  299136"
    assert not differs(frame, "rankmixer   0.7219   299136")
    for other in (
        "rankmixer 0.7318 299136",
        "rankmixer 0.7218 299137",
        "dcn 0.7218 299136",
        "rankmixer 0.7218",
    ):
        assert differs(frame, other), other
    [path] = [path for path in NOTEBOOKS if path.stem.startswith("2")]
    stored = [cell["outputs"] for cell in code_cells(read(path))]
    check_stored(path, stored)
    shown = next(number for number, outputs in enumerate(stored) if outputs)
    with pytest.raises(AssertionError, match=r"came out; python notebooks/outputs\.py"):
        check_stored(path, [[] if number == shown else outputs for number, outputs in enumerate(stored)])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_whole_small_and_with_ids_that_stay(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    number = path.stem.partition("_")[0]
    assert [cell["id"] for cell in notebook["cells"]] == [
        f"{number}-{position:02d}" for position in range(len(notebook["cells"]))
    ]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}  # no version of the one who saved it
    assert path.stat().st_size < 300_000
    assert "%pip install" in "".join(cells[0]["source"])
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any(PNG in output.get("data", {}) for output in outputs)
    assert not any(output.get("name") == "stderr" or output["output_type"] == "error" for output in outputs)
    assert not re.search(
        r"/tmp/|/home/|/root/",
        json.dumps([output.get("data", {}).get("text/plain", "") for output in outputs]),
    )


def test_what_is_written_has_neither_progress_nor_warnings(tmp_path):
    stream = {"output_type": "stream", "name": "stdout", "text": "x"}
    cells = [
        {"cell_type": "code", "metadata": {"tags": tags}, "outputs": [stream, stream | {"name": "stderr"}]}
        for tags in ([], [PROGRESS])
    ]
    write(tmp_path / "a.ipynb", {"metadata": {}, "cells": cells})
    assert [cell["outputs"] for cell in read(tmp_path / "a.ipynb")["cells"]] == [[stream], []]


def test_the_readme_names_every_notebook():
    text = (ROOT / "notebooks/README.md").read_text()
    assert all(f"]({path.name})" in text for path in NOTEBOOKS)
    assert len(NOTEBOOKS) == 6
