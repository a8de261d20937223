"""The guide: links lead somewhere, blocks run as written, an architecture is added as its page says."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import run_bench
from datasets.prepared import open_prepared
from docs.command_line import helps, site_page
from harness.model.architectures import ARCHITECTURES
from tests.forked import Forked, forked_command
from tests.test_cli import Outcome, ended
from tests.test_examples import blocks

ROOT = Path(__file__).resolve().parents[1]
GUIDE = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*GUIDE, *sorted([*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")])]
ADDING = (ROOT / "docs/adding_an_architecture.md").read_text()
OWN = "my_module:GatedMLP"
# Runs a page's blocks of Python in the module ``page``, where dataclasses look their annotations up.
RUN_BLOCKS = """
import json, sys, types
sys.path.insert(0, "")
page = sys.modules["page"] = types.ModuleType("page")
for block in json.load(open("blocks.json", encoding="utf-8")):
    exec(compile(block, sys.argv[0], "exec"), vars(page))
"""
LESS_AFTER_THE_SEARCH = """
import suites.tuning.confirm as confirm
confirm.RESCORED_SEEDS, confirm.RATE_FACTORS = (1001, 1002), (1.0,)
"""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---------------------------------------------------------------------------------------------- the pages


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures outside its fenced blocks."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings have on a code host: lower case, no punctuation, hyphens."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead(path: Path) -> list[str]:
    """Links of a page that lead to no file, or to no heading of one."""
    found = []
    for link in links(path.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_no_link_of_a_page_is_dead(path):
    assert dead(path) == []


def test_a_dead_link_or_anchor_would_be_noticed(tmp_path):
    (tmp_path / "other.md").write_text("# A `b.c`, d\n```text\n# no heading\n```\n")
    path = tmp_path / "page.md"
    good = "[a](other.md#a-bc-d) [b](https://example.org/x) [c](#here)\n# Here\n```text\n[d](gone.md)\n```\n"
    path.write_text(good + "[e](absent.md) [f](other.md#no-heading) ![g](absent.png)")
    assert dead(path) == ["absent.md", "other.md#no-heading", "absent.png"]


def test_the_guide_s_first_page_and_the_site_name_every_page_of_it():
    index = links((ROOT / "docs/index.md").read_text())
    site = (ROOT / "mkdocs.yml").read_text()
    for path in GUIDE:
        assert path.name == "index.md" or path.name in index
        assert f"docs/{path.name}" in site


def test_the_page_of_the_command_line_names_every_command_and_the_site_has_their_help():
    written = (ROOT / "docs/command_line.md").read_text()
    shown = site_page("docs/command_line.md", written)
    commands = dict(helps(run_bench.app))
    assert re.findall(r"^\| `([a-z -]+)` \|", written, re.MULTILINE) == list(commands)
    assert set(re.findall(r"^## (.+)$", shown, re.MULTILINE)) == set(commands)
    assert all(text in shown for text in commands.values())
    assert {"run", "tune", "cost", "data prepare"} <= set(commands)
    assert site_page("docs/tuning.md", "text") == "text"


WRITTEN = {"OUT", "out", "cache", "data", "runs", "report", "tables", "figures", "tuned", "my_module.py"}


def lost_paths(page: Path) -> list[str]:
    """Paths in backticks that are neither in the repository nor in the page's own folder.

    A path is what ends in ``.py`` or begins with a folder of the repository. Places that a command writes to
    and names with a part left open (``<name>``, ``*``) are none.
    """
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = []
    for span in re.findall(r"`([^`\n]+)`", text):
        path = re.sub(r":[\w.]+$", "", span)  # the function of a ``file:function``
        is_path = re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", path) and (
            path.endswith(".py") or ("/" in path and (path.split("/")[0] in folders or path.endswith("/")))
        )
        is_written = path.split("/")[0] in WRITTEN
        if is_path and not is_written and not any((base / path).exists() for base in (ROOT, page.parent)):
            found.append(span)
    return found


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_file_and_folder_that_a_page_names_exists(path):
    assert lost_paths(path) == []


def test_a_path_that_is_gone_would_be_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "`harness/gone.py` `harness/` `bench.py` `gone/` `out/x/` `tests/gone/<name>` `gone.py:f`"
    )
    assert lost_paths(page) == ["harness/gone.py", "gone/", "gone.py:f"]


def defined(file: Path) -> set[str]:
    """Functions and classes of a module, methods after their class: ``Trainer.train``."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
    return names


WALK = (ROOT / "docs/walk.md").read_text()


def test_every_step_of_the_walk_is_a_function_of_its_file():
    steps = re.findall(r"`([\w/]+\.py):([\w.]+)`", WALK)
    assert len(steps) > 20
    assert [f"{file}:{name}" for file, name in steps if name not in defined(ROOT / file)] == []


@pytest.mark.parametrize("path", [p for p in GUIDE if blocks(p.read_text(), "python")], ids=named)
def test_the_python_blocks_of_a_page_run_in_their_order(path, tmp_path):
    (tmp_path / "my_module.py").write_text(blocks(ADDING, "python")[0])
    shown = blocks(path.read_text(), "python")
    (tmp_path / "blocks.json").write_text(json.dumps(shown))
    outcome = ended(Forked(RUN_BLOCKS, tmp_path, named(path)))
    assert outcome.code == 0, outcome.err
    assert re.search(r"^ *assert ", "\n".join(shown), re.MULTILINE), (
        "the page itself should say what comes out"
    )


def test_the_suite_of_the_guide_is_one_that_loads(tmp_path):
    from suites.suite import load_suite

    [block] = blocks((ROOT / "docs/own_suite.md").read_text(), "yaml")
    (tmp_path / "depth.yaml").write_text(block)
    suite = load_suite(str(tmp_path / "depth.yaml"), [], {})
    assert [row.variant for row in suite.architectures] == ["", "deep"]


def test_the_site_builds_without_a_warning(tmp_path):
    if not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings")):
        pytest.skip("SKIPPED: the site is not built; pip install -c requirements/lock.txt -e '.[docs]'")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    adding = (tmp_path / "site/docs/adding_an_architecture.html").read_text()
    assert 'href="../baselines/index.html#adding-one"' in adding
    layers = (tmp_path / "site/docs/api/layers.html").read_text()
    assert all(f'id="{where.replace(":", ".")}"' in layers for where in ARCHITECTURES.values())
    assert 'id="bench.Results.figure"' in (tmp_path / "site/docs/api/bench.html").read_text()
    assert (tmp_path / "site/reports/measured/quick/figures/quality-latency-shortvideo.png").is_file()
    check_search(tmp_path / "site")
    pages = list((tmp_path / "site").rglob("*.html"))
    lost = [
        (path.name, link)
        for path in pages
        for link in re.findall(r'<(?:a|link|script|img)[^>]* (?:href|src)="([^"]+)"', path.read_text())
        if path.name != "404.html" and not opens_from_disk(path, link)
    ]
    assert len(pages) > 20
    assert lost == []


def check_search(site: Path) -> None:
    """Raises AssertionError where a word that readers look for leads nowhere, or to a drawn report."""
    sections = json.loads((site / "search/search_index.json").read_text())["docs"]
    texts = {section["location"]: f"{section['title']} {section['text']}".lower() for section in sections}
    for words, page in (
        ("latency budget", "docs/serving.html#a-latency-budget"),
        ("latency budget", "notebooks/6_choose_for_a_latency_budget.html"),
        ("onnx", "docs/exporting.html"),
        ("slurm", "docs/clusters.html"),
        ("cite", "index.html#where-to-go-next"),
        ("open_results", "docs/api/bench.html#bench.open_results"),
    ):
        assert words in texts[page], page
    assert not [page for page in texts if re.match(r"reports/measured/[^/]+/", page)]
    home = (site / "index.html").read_text()
    pictures = re.findall(r'<img[^>]* src="(?!https?:)([^"]+)"', home)
    assert "docs/pictures/rankmixer_block.svg" in pictures
    assert len(pictures) == 2


def opens_from_disk(page: Path, link: str) -> bool:
    """Whether a link of the site leads to a file, not to a folder and not to a place that is not there."""
    name, _, anchor = link.partition("#")
    if re.match(r"https?:|data:|mailto:", name):
        return True
    target = (page.parent / name) if name else page
    return target.is_file() and (not anchor or f'id="{anchor}"' in target.read_text())


# ---------------------------------------------------------------------------------- adding an architecture


def called(folder: Path, line: str) -> Outcome:
    """A line of the page, ``python $BENCH/run_bench.py ...``, run in ``folder``."""
    python, script, *arguments = shlex.split(line)
    assert (python, script) == ("python", "$BENCH/run_bench.py")
    arguments += ["--no-speed"] if arguments[0] == "run" else []  # shown elsewhere
    return ended(forked_command(folder, *arguments, before=LESS_AFTER_THE_SEARCH))


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Path:
    """A reader's own folder after every command of the page, in order, and what they said."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "my_module.py").write_text(blocks(ADDING, "python")[0])
    no_fits = "references: [constant]\n"  # gbdt's and logistic's, of which the page says nothing
    (folder / "my_suite.yaml").write_text(blocks(ADDING, "yaml")[0] + no_fits)
    said = {}
    for line in (line for block in blocks(ADDING, "bash") for line in block.splitlines()):
        outcome = called(folder, line)
        assert outcome.code == 0, f"{line}: {outcome.err}"
        said[line] = outcome.out
    (folder / "said.json").write_text(json.dumps(said))
    return folder


def on_the_page(F: int, M: int, L: int, G: int) -> int:
    """The page's formula for the FLOPs, worked out."""
    [formula] = [block for block in blocks(ADDING, "text") if block.startswith("4FM")]
    spelt = re.sub(r"(?<=[\w)])(?=[A-Z(])", "*", formula.strip()).replace("²", "**2")
    return eval(spelt, {"F": F, "M": M, "L": L, "G": G})


def records(folder: Path, out: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / out).glob("runs/*/record.json"))]


def numbers_of(folder: Path) -> int:
    """What numeric features contribute to the tokens: two parameters each."""
    [prepared] = [path for path in (folder / "cache").iterdir() if path.is_dir()]
    return sum(feature.embedding_dim for feature in open_prepared(prepared).schema.numeric_features)


def test_the_page_s_commands_are_those_that_a_reader_needs():
    commands = [shlex.split(line)[2] for block in blocks(ADDING, "bash") for line in block.splitlines()]
    assert commands == ["cost", "run", "tune", "run"]


def test_the_architecture_of_the_page_is_trained_beside_the_shipped_one(followed):
    results = pd.read_csv(followed / "out/mine/results.csv")
    own = results[results["architecture"] == OWN]
    assert set(zip(own["seed"], own["task"], strict=True)) == {
        (seed, task) for seed in (0, 1) for task in ("finish", "skip")
    }
    assert set(own["status"]) == {"finished"}
    assert (own["budget_miss"].abs() < 0.03).all()
    assert "| GatedMLP |" in (followed / "out/mine/report.md").read_text()


def test_its_cost_is_the_closed_form_of_the_page(followed):
    own = [record for record in records(followed, "out/mine") if record["architecture"] == OWN]
    assert len(own) == 2
    for record in own:
        M, F, G, L = record["spec"]["config"]["hidden_dim"], 16 * 24, 2, 2
        assert (record["spec"]["num_tokens"], record["spec"]["token_dim"]) == (16, 24)
        assert record["cost"]["flops_per_sample"] == on_the_page(F, M, L, G)
        params = 2 * (F + 1) * M + 2 * (L - 1) * (M + 1) * M + G * (32 * (M + 1) + 33)
        assert record["cost"]["dense_params"] == params + 2 * numbers_of(followed)


def test_cost_prints_the_same_on_the_command_line(followed):
    [printed] = [
        said for line, said in json.loads((followed / "said.json").read_text()).items() if "cost" in line
    ]
    [row] = [line for line in printed.splitlines() if line.startswith(OWN)]
    M = int(re.search(r"hidden_dim=(\d+)", row)[1])  # type: ignore[index]
    assert f"{on_the_page(16 * 24, M, 2, 2):,}" in row.split()


def test_it_is_tuned_like_the_others_and_runs_with_what_was_found(followed):
    rows = yaml.safe_load((followed / "tuned/mine-shortvideo.yaml").read_text())["rows"]
    assert {name: row["trained"] for name, row in rows.items()} == {"dlrm_mlp": 2, OWN: 2}
    assert rows[OWN]["config"]["num_layers"] in (1, 2, 3)
    for record in records(followed, "out/mine-tuned"):
        if record["architecture"] == OWN:
            assert rows[OWN]["config"].items() <= record["spec"]["config"].items()
            assert rows[OWN]["training"].items() <= record["spec"]["training"].items()


def test_a_fault_in_it_is_the_sentence_that_the_page_shows(followed, tmp_path):
    module = (followed / "my_module.py").read_text()
    without = "".join(line for line in module.splitlines(keepends=True) if "self.output_dim" not in line)
    assert len(without.splitlines()) == len(module.splitlines()) - 1
    (tmp_path / "my_module.py").write_text(without)
    (tmp_path / "cache").symlink_to(followed / "cache")
    outcome = called(tmp_path, blocks(ADDING, "bash")[0])
    assert outcome.code == 2
    assert outcome.err in blocks(ADDING, "text")
