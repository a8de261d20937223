"""The table for a paper's column against the comparisons that it shows, and the command that writes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import bench
from harness.records.store import read_runs
from reports.sections import load_sections
from reports.tables.compact import compact_table, write_compact_tables
from reports.tables.markup import latex_table
from tests.reports.made_up import NAMES, comparison_rows, record, write_out
from tests.reports.tables.test_markup import complaints_of_latex

DAGGER = "\N{DAGGER}"


@pytest.fixture(scope="module")
def table(quick_out):
    [section] = load_sections(read_runs(quick_out))
    return compact_table(section)


def test_a_cell_is_the_difference_in_points_and_marked_where_it_is_resolved(table, quick_out):
    compared = pd.read_csv(quick_out / "comparisons.csv")
    assert table.header[:5] == ["model", "finish AUC", "finish UAUC", "skip AUC", "skip UAUC"]
    rows = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert set(rows) == set(NAMES.values()) - {"Wukong"}  # no references
    for row in compared[compared["metric"].isin(["auc", "uauc"])].to_dict("records"):
        cell = rows[NAMES[row["architecture"]]][f"{row['task']} {row['metric'].upper()}"]
        assert float(cell.replace("\N{MINUS SIGN}", "-").rstrip(DAGGER)) == pytest.approx(
            100 * row["diff"], abs=5e-3
        )
        assert cell.endswith(DAGGER) == (row["resolved"] == "yes")


def test_the_highest_is_bold_and_the_second_underlined_and_the_rule_is_said(table, quick_out):
    compared = pd.read_csv(quick_out / "comparisons.csv").query("task == 'skip' and metric == 'uauc'")
    best = compared.sort_values("diff", ascending=False)["architecture"].map(NAMES).tolist()
    text = latex_table(table)
    rows = {line.split(" & ")[0]: line.split(" & ")[4] for line in text.splitlines() if line.count(" & ") > 5}
    assert [name for name, cell in rows.items() if cell.startswith(r"\textbf")] == best[:1]
    assert [name for name, cell in rows.items() if cell.startswith(r"\underline")] == best[1:2]
    assert "Bold: the highest difference of its column, underlined: the second" in text
    assert r"\multicolumn{2}{c}{finish} & \multicolumn{2}{c}{skip}" in text
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}" in text
    assert r"\label{tab:compact-shortvideo}" in text


def test_it_compiles_in_two_columns(quick_out, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: THE LATEX TABLES WERE NOT COMPILED")
    shutil.copytree(quick_out, tmp_path / "out")
    write_compact_tables(read_runs(tmp_path / "out"))
    assert complaints_of_latex(tmp_path / "out" / "tables", "paper.tex") == ""


def test_a_report_for_a_paper_has_the_table_and_pdfs_and_the_next_plain_one_none(tmp_path):
    records = [record(name, seed, tasks=("finish",)) for name in ("dlrm_mlp", "dcn") for seed in (0, 1)]
    out = write_out(tmp_path, records, comparison_rows(records))

    def pdfs() -> set[str]:
        return {Path(path).stem for path in out.glob("figures/*.pdf")}

    bench.report(out, style="paper")
    assert "differences-shortvideo" in pdfs()
    assert pdfs() == {path.stem for path in out.glob("figures/*.png")}
    assert (out / "tables" / "compact-shortvideo.tex").is_file()
    assert r"\input{compact-shortvideo.tex}" in (out / "tables" / "paper.tex").read_text()
    bench.report(out)
    assert pdfs() == set()
