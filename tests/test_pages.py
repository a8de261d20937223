"""The front page, and what the site makes of notebooks and pictures."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from docs import pictures
from docs.notebook_pages import notebook_page
from harness.doctor.packages import extras

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_s_badges_say_what_the_project_says():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    badges = re.findall(r"img\.shields\.io/badge/([\w.]+)-([\w.-]+?)-blue", README)
    said = {name: value.replace("--", "-") for name, value in badges}
    assert f'license = "{said["licence"]}"' in project
    assert f'requires-python = ">={said["python"]}"' in project
    assert len(said) == 2


def test_the_pictures_are_those_that_are_drawn(tmp_path):
    pictures.main(tmp_path)
    kept = sorted((ROOT / "docs/pictures").iterdir())
    assert [path.name for path in kept] == sorted([*pictures.DRAWN, "report.png"])
    assert all(path.stat().st_size < 100_000 for path in kept)
    for name in pictures.DRAWN:
        kept_bytes = (ROOT / "docs/pictures" / name).read_bytes()
        assert kept_bytes == (tmp_path / name).read_bytes(), f"{name}: python docs/pictures.py"


def test_a_mixed_token_is_drawn_with_a_slice_of_every_token():
    [axes] = pictures.rankmixer_block().axes
    cells = [patch for patch in axes.patches if type(patch).__name__ == "Rectangle"]
    assert len(cells) == 2 * 4 * 4
    left, right = cells[:16], cells[16:]
    rows = [
        {patch.get_facecolor() for patch in cells if patch.get_y() == row}
        for cells in (left, right)
        for row in range(4)
    ]
    assert [len(colors) for colors in rows] == [1, 1, 1, 1, 4, 4, 4, 4]


def test_a_notebook_s_page_has_its_words_code_tables_and_pictures(tmp_path):
    png = base64.b64encode(b"picture").decode()
    outputs = [
        {"output_type": "stream", "text": ["one\n", "two\n"]},
        {"output_type": "display_data", "data": {"image/png": png, "text/plain": "<Figure>"}},
        {
            "output_type": "execute_result",
            "data": {"text/html": ["<div>\n<style>x</style>\n", "  <b>7</b>\n</div>"]},
        },
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "words"]},
        {"cell_type": "code", "source": ["print(1)"], "outputs": outputs},
        {"cell_type": "code", "source": [], "outputs": []},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    page = notebook_page(tmp_path / "a.ipynb")
    assert page.startswith("# Title\n\n[This page as a notebook](a.ipynb)\n\nwords\n")
    assert "```python\nprint(1)\n```\n\n```text\none\ntwo\n```\n\n<img" in page
    assert f'src="data:image/png;base64,{png}">\n\n<div>\n<b>7</b>\n</div>\n' in page
    assert page.count("```") == 4


def test_torchrec_is_installed_after_what_it_depends_on():
    steps = re.findall(r"^\t\$\(PIP\) (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    [torchrec] = [number for number, step in enumerate(steps) if "torchrec" in step]
    [bench] = [number for number, step in enumerate(steps) if step.endswith('".[bench]"')]
    assert steps[0] == "torch"
    assert bench < torchrec  # else pip prints an error of the build of fbgemm-gpu that torchrec names
    assert {"tensordict", "torchmetrics", "tqdm", "pyre-extensions"} <= set(extras()["bench"])
