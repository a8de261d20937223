"""Facts about the house that no single module can hold to."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

import run_bench
from harness.model.architectures import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("baselines", "datasets", "files", "harness", "rankmixer", "reports", "suites")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
SCRIPTS = [ROOT / "run_bench.py", ROOT / "bench.py"]
TEXT_READERS = [*MODULES, *SCRIPTS, *ROOT.glob("docs/*.py"), *ROOT.glob("examples/**/*.py")]
INSTALLED = ("baselines", "rankmixer")  # their classes can be imported from the packages themselves
SHARED = {"__init__", "contract", "layers"}  # of baselines: what is no architecture
TIMED = ["profile", "models", "--scale"]
NOT_RUN = {"paper": ["cost", "--scale"], "table6": TIMED, "table6-small": TIMED}
HEADINGS = ("Question", "Paper", "Command", "Time", "Data")  # of a shipped suite's opening comment


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def shipped(name: str) -> dict:
    return yaml.safe_load((ROOT / "suites" / f"{name}.yaml").read_text())


def lacks_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text in the encoding of whatever locale it runs under."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = {keyword.arg for keyword in call.keywords}
    literals = [node.value for node in [*call.args[:2], *(k.value for k in call.keywords if k.arg == "mode")]
                if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
    if name == "open":
        owner = getattr(getattr(call.func, "value", None), "id", "")
        is_binary = any("b" in mode and len(mode) <= 3 for mode in literals)
        return (
            owner not in ("os", "Image", "RowStudy", "tarfile", "zipfile")
            and not is_binary
            and "encoding" not in given
        )
    if name in ("read_text", "write_text"):  # reports.files.write_text(path, text) is UTF-8 itself
        return isinstance(call.func, ast.Attribute) and "encoding" not in given
    is_text = any(k.arg in ("text", "universal_newlines") for k in call.keywords)
    return name in ("run", "Popen", "check_output") and is_text and "encoding" not in given


@pytest.mark.parametrize("path", TEXT_READERS, ids=named)
def test_text_is_read_and_written_as_utf_8_whatever_the_locale(path):
    calls = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    assert [f"{named(path)}:{call.lineno}" for call in calls if lacks_encoding(call)] == []


def parse_command(words: list[str]) -> str:
    """The command that takes these words, which begin after ``run_bench.py``; raises if none does."""
    command = typer.main.get_command(run_bench.app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return command.make_context(command.name, words).command.name


def test_every_architecture_file_of_baselines_is_in_the_table():
    modules = {where.partition(":")[0] for where in ARCHITECTURES.values()}
    files = {path.stem for path in (ROOT / "baselines").glob("*.py")} - SHARED
    assert {module for module in modules if module.startswith("baselines.")} == {
        f"baselines.{name}" for name in files
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_of_the_table_is_a_class_with_its_source_and_shapes_written_down(name):
    module, _, class_name = ARCHITECTURES[name].partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    [found] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name]
    assert re.search(r"https?://", ast.get_docstring(tree) or "")
    assert "Shapes" in (ast.get_docstring(found) or "")


def test_list_architectures_prints_the_table(capsys):
    run_bench.list_("architectures")
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert printed == ARCHITECTURES


def test_table1_holds_every_architecture_and_quick_six_of_them():
    assert shipped("table1")["architectures"] == "all"
    assert len(set(shipped("quick")["architectures"])) == 6
    assert set(shipped("quick")["architectures"]) <= set(ARCHITECTURES)


@pytest.mark.parametrize("path", sorted((ROOT / "suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_suite_opens_with_its_question_and_a_command_that_runs_it(path):
    comment = dict(
        line.removeprefix("# ").split(maxsplit=1)
        for line in path.read_text().splitlines()
        if line.startswith(tuple(f"# {heading} " for heading in HEADINGS))
    )
    assert tuple(comment) == HEADINGS
    assert comment["Question"].endswith("?")
    words = shlex.split(re.sub(r"[\[(].*", "", comment["Command"]))  # without what is optional
    command = NOT_RUN.get(path.stem, ["run"])
    assert words[: 3 + len(command)] == ["python", "run_bench.py", *command, path.stem]
    parse_command(words[2:])


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=named)
def test_a_module_says_what_it_is_for(path):
    assert (ast.get_docstring(ast.parse(path.read_text())) or "").strip()


PLAIN_PACKAGES = [p for p in MODULES if p.name == "__init__.py" and named(p.parent) not in INSTALLED]


@pytest.mark.parametrize("path", PLAIN_PACKAGES, ids=named)
def test_an_init_file_holds_a_docstring_and_nothing_else(path):
    [only] = ast.parse(path.read_text()).body
    assert isinstance(only, ast.Expr)


def readme_commands() -> list[list[str]]:
    """The words after ``run_bench.py`` of every command in READMEs and the guide; 0 stands for a variable."""
    found = []
    for page in sorted([*ROOT.glob("README.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/*.md")]):
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                words = shlex.split(re.sub(r"\$\w+", "0", line), comments=True)
                calls = [place for place, word in enumerate(words) if Path(word).name == "run_bench.py"]
                found += [words[place + 1 :] for place in calls]
    return found


@pytest.mark.parametrize("words", readme_commands(), ids=" ".join)
def test_a_command_of_a_page_is_one_that_the_command_line_takes(words):
    assert parse_command(list(words)) in words[:2]


@pytest.mark.parametrize(
    ("words", "named"),
    [(["run", "quick", "--sead", "3"], "--sead"), (["profile", "nothing"], "nothing"), (["report"], "out")],
)
def test_a_command_that_the_command_line_does_not_take_would_be_noticed(words, named):
    with pytest.raises(Exception, match=named):
        parse_command(words)


def test_every_target_that_the_readme_names_is_in_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    readme = ROOT / "README.md"
    text = readme.read_text() if readme.exists() else ""
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_no_tracked_file_is_over_a_megabyte():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("SKIPPED: this is no git checkout, so there are no tracked files to weigh")
    sizes = {
        name: (ROOT / name).stat().st_size for name in listed.stdout.split("\0") if (ROOT / name).is_file()
    }
    assert sizes
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}
