"""Escaping and the shapes of numbers."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.cells import MISSING, Shown, params, percent, short, short_tick, signed
from reports.tables.markup import (
    Table,
    code_block,
    latex,
    latex_document,
    latex_table,
    markdown,
    markdown_table,
    write_table,
)


def a_table(*names: str) -> Table:
    return Table("t", "caption", pd.DataFrame({"n": names}), ["model", "x"], [[name, "1"] for name in names])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dlrm_mlp", "dlrm_mlp"),
        ("_x_", r"\_x\_"),
        ("a|b", r"a\|b"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[t](http://x)", r"\[t\](http://x)"),
        ("*b* `c` $m$ ~s~", r"\*b\* \`c\` \$m\$ \~s\~"),
        ("two\nlines", "two lines"),
    ],
)
def test_markdown_shows_a_users_text_as_text(text, shown):
    assert markdown(text) == shown


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4))
def test_no_name_changes_the_number_of_cells_of_a_markdown_table(names):
    lines = markdown_table(a_table(*names)).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == len(names) + 2
    for row in rows:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3


def test_a_command_cannot_close_its_code_block():
    block = code_block("run ```\n# heading")
    assert block.startswith("````text\n")
    assert block.endswith("\n````")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b & 5% #1", r"a\_b \& 5\% \#1"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("$x^2$ ~", r"\$x\textasciicircum{}2\$ \textasciitilde{}"),
        ("--out", "-{}-out"),
        ("\N{MINUS SIGN}0.5 ± 1", r"$-$0.5 $\pm$ 1"),
        ("Ü\N{CJK UNIFIED IDEOGRAPH-7F51}", "U{[}U+7F51{]}"),
        ("bell\x07", "bell"),
    ],
)
def test_latex_prints_a_users_text_as_text(text, shown):
    assert latex(text) == shown


@given(st.text(max_size=40))
def test_escaped_latex_is_ascii_with_balanced_braces(text):
    shown = latex(text)
    assert shown.isascii()
    bare = re.sub(r"\\[{}]", "", shown)
    assert bare.count("{") == bare.count("}")


def test_a_latex_table_has_its_rows_between_rules_and_references_apart():
    table = Table("t", "a & b", pd.DataFrame(), ["model", "x_1", "x_1"], [["dlrm_mlp", "1", "2"]])
    body = latex_table(table).split(r"\begin{tabular}{lrr}")[1].split(r"\end{tabular}")[0].split("\n")
    assert body[1:-1] == [
        r"\toprule",
        r"model & x\_1 & x\_1 \\",
        r"\midrule",
        r"dlrm\_mlp & 1 & 2 \\",
        r"\bottomrule",
    ]
    apart = latex_table(dataclasses.replace(table, references=[["oracle", "$3", ""]], notes=["50%"]))
    assert r"\caption{a \& b}" in apart
    assert r"{\emph{no contestants, for reference:}} &  &  \\" + "\n" + r"oracle & \$3 &  \\" in apart
    assert r"\footnotesize 50\%\end{minipage}" in apart
    assert "minipage" not in latex_table(table)


def test_ranks_are_of_tested_values_and_a_tie_of_what_is_printed_does_not_hide_them():
    cells = [Shown("+1.0", 1.04), Shown("+9.0", 9.0, claimed=False), Shown("base", 0.0), "\N{EN DASH}"]
    cells += [Shown("+1.0", 1.01)]
    rows = [[f"m{number}", cell] for number, cell in enumerate(cells)]
    table = Table("t", "c", pd.DataFrame(), ["model", "x"], rows, ranked=["x"])
    body = latex_table(table).split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert [line for line in body.splitlines() if "{" in line] == [
        r"m0 & \textbf{+1.0} \\",
        r"m3 & \textendash{} \\",
        r"m4 & \underline{+1.0} \\",
    ]
    assert r"\label{tab:t}" in latex_table(table)


def test_latex_compiles_with_every_printable_character(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: THE LATEX TABLES WERE NOT COMPILED")
    everything = "".join(chr(code) for code in range(32, 0x180)) + "\N{GREEK SMALL LETTER ALPHA}\N{ROCKET}"
    table = a_table(everything, "dlrm_mlp", "[x]")
    write_table(table, tmp_path)
    (tmp_path / "tables.tex").write_text(latex_document([table]))
    assert complaints_of_latex(tmp_path) == ""


def test_latex_of_a_whole_report_compiles(mixed_out, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: THE LATEX TABLES WERE NOT COMPILED")
    shutil.copytree(mixed_out / "tables", tmp_path, dirs_exist_ok=True)
    assert complaints_of_latex(tmp_path) == ""


def complaints_of_latex(folder, file="tables.tex"):
    """What pdflatex says of a file if it does not compile."""
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", file]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    return done.stdout[-2000:] if done.returncode else ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (8.7e6, "8.70 M"),
        (523_000, "523 k"),
        (2.1e12, "2.10 T"),
        (999, "999"),
        (999.7, "1.00 k"),
        (999_600, "1.00 M"),
        (99_960, "100 k"),
        (0.5, "0.5"),
        (None, MISSING),
        (float("nan"), MISSING),
    ],
)
def test_short_numbers_have_three_digits(value, shown):
    assert short(value) == shown


@given(st.floats(1e3, 9e14))
def test_a_short_number_is_within_half_a_percent(value):
    number, prefix = short(value).split(" ")
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[prefix]
    assert float(number) * scale == pytest.approx(value, rel=0.00502)


def test_signs_and_percents():
    assert signed(-0.004, 2) == "\N{MINUS SIGN}0.00"
    assert signed(-0.0, 2) == signed(0, 2) == "+0.00"
    assert signed(-0.64, 2) == "\N{MINUS SIGN}0.64"
    assert percent(0.0204, 1, sign=True) == "+2.0%"
    assert params(1.1e9) == "1.10 B"
    assert (short_tick(5000), short_tick(1.02e6), short_tick(0)) == ("5 k", "1.02 M", "0")
