"""What the report says of Holm's correction; without p-values in the file it says nothing."""

from __future__ import annotations

import csv
import re

from harness.records.store import read_runs
from reports.comparisons import load_inferred
from reports.paper.printed import load_paper
from reports.render import markdown_page
from reports.sections import load_sections
from reports.tables.quality import quality_tables
from tests.reports.made_up import comparison_rows, quick_records, write_out
from tests.reports.reading import contents_of, report_text

ADDED = ("p_value", "p_holm", "effect_size")


def with_p_values(records, p_holm):
    """Every comparison resolved at p = 0.01, with these p-values after Holm's correction."""
    rows = comparison_rows(records, half_width=0.0001)
    return [
        row | {"p_value": 0.01, "p_holm": p_holm.get(row["architecture"], 0.3), "effect_size": -1.26}
        for row in rows
    ]


def finish_tables(out):
    [section] = load_sections(read_runs(out))
    return {table.name.split("-")[0]: table for table in quality_tables(section, "finish", load_paper())}


def test_only_differences_that_hold_after_holm_are_marked(tmp_path):
    records = quick_records()
    out = write_out(tmp_path, records, with_p_values(records, {"dcn": 0.049, "rankmixer": 0.05}))
    cells = {row[0]: row[3] for row in finish_tables(out)["quality"].rows}
    assert cells["dcn"].endswith(" higher †")
    assert cells["rankmixer"].endswith(" higher")
    assert cells["dlrm_mlp"] == "base"
    table = finish_tables(out)["significance"]
    rows = {row[0]: row[1:4] for row in table.rows}
    assert rows["dcn"] == ["0.01", "0.049 †", "\N{MINUS SIGN}1.3"]
    assert rows["rankmixer"] == ["0.01", "0.05", "\N{MINUS SIGN}1.3"]
    assert "dlrm_mlp" not in rows
    assert "oracle" not in rows


def test_the_report_counts_what_is_resolved_and_what_holds(tmp_path):
    records = quick_records()
    out = write_out(tmp_path, records, with_p_values(records, {"dcn": 0.001}))
    text = report_text(out)
    rows = [row for row in comparison_rows(records, half_width=0.0001) if row["metric"] != "gauc"]
    resolved = sum(row["resolved"] == "yes" for row in rows)
    assert "20 AUC and UAUC differences were tested, each at the 95% level: about 1.0 would" in text
    assert f"{resolved} are resolved, 4 of them also after Holm's correction" in text
    [found] = [line for line in text.splitlines() if line.startswith("- finish, AUC against dlrm")]
    assert re.search(r"dcn \+0\.\d\d \([^)]*\) †", found)
    assert found.count("†") == 1


def test_where_none_holds_it_is_said(tmp_path):
    records = quick_records()
    out = write_out(tmp_path, records, with_p_values(records, {}))
    text = report_text(out)
    assert "none of them also after Holm's correction" in text
    assert "(marked †)" not in text


def test_files_older_than_the_columns_load_and_show_nothing(tmp_path):
    records = quick_records()
    out = write_out(tmp_path, records)
    rows = list(csv.DictReader((out / "comparisons.csv").open()))
    old = [name for name in rows[0] if name not in ADDED]
    with (out / "comparisons.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, old, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert load_inferred(out, "comparisons")[list(ADDED)].isna().all(axis=None)
    contents = contents_of(out)
    text = markdown_page(contents)
    assert "each at the 95% level and without correction" in text
    assert not [table.name for table in contents.tables if table.name.startswith("significance-")]
    assert "†" not in text.partition("## How the numbers are defined")[0]
