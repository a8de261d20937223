"""Runs the notebooks and stores what comes out in them: ``python notebooks/outputs.py [NAME ...]``.

Each runs in a copy of the checkout without results, in a kernel of its own with one thread. Of a cell with
the tag ``progress`` nothing is stored; one with the tag ``timing`` shows times, which differ from run to run.
Pictures are stored in few colours, which makes them a third of their size.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = {"notebooks", "examples"}  # written to, or asked for their own place
LEFT_OUT = {"out", "cache", "data", "site"}
PROGRESS, TIMING = "progress", "timing"
COLORS = 96  # of a stored picture
PNG = "image/png"


def main(names: list[str]) -> None:
    """Store the outputs of the notebooks whose names begin with one of ``names``; of all if there is none."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if path.name.startswith(tuple(names or [""])):
            start, computed = time.monotonic(), seconds_of_children()
            with tempfile.TemporaryDirectory() as folder:
                write(path, executed(path, checkout(Path(folder)), "notebooks"))
            taken, computed = time.monotonic() - start, seconds_of_children() - computed
            size = path.stat().st_size / 1e3
            print(f"{path.name}: {taken:.0f} s, {computed:.0f} s of CPU, {size:.0f} kB", flush=True)


def seconds_of_children() -> float:
    """CPU time of the processes that have ended, with those that they waited for."""
    spent = os.times()
    return spent.children_user + spent.children_system


def checkout(folder: Path) -> Path:
    """A checkout in ``folder`` whose ``out`` and ``cache`` are its own, and not there yet."""
    for path in ROOT.iterdir():
        if path.name in COPIED:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("*.csv", *LEFT_OUT))
        elif path.name not in LEFT_OUT and not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return folder


def executed(path: Path, where: Path, folder: str) -> dict:
    """The notebook with what its cells gave in a kernel, run from ``folder`` of the checkout ``where``.

    Raises nbclient's CellExecutionError where a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    own = {"OMP_NUM_THREADS": "1", "IPYTHONDIR": str(where / ".ipython"), "PYTHONPATH": str(where)}
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(where / folder)}},
        record_timing=False,
    )
    client.execute(env=os.environ | own)
    return json.loads(nbformat.writes(notebook))


def write(path: Path, notebook: dict) -> None:
    """Write the notebook without progress and without the version of Python."""
    notebook["metadata"]["language_info"] = {"name": "python"}
    for cell in code_cells(notebook):
        is_progress = PROGRESS in cell["metadata"].get("tags", ())
        shown = [] if is_progress else cell["outputs"]
        cell["outputs"] = [output for output in shown if output.get("name") != "stderr"]
        for output in cell["outputs"]:
            if PNG in output.get("data", {}):
                output["data"][PNG] = in_few_colors(output["data"][PNG])
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def in_few_colors(png: str) -> str:
    """A PNG in base64 with a palette of its own."""
    from PIL import Image

    image, small = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


if __name__ == "__main__":
    main(sys.argv[1:])
