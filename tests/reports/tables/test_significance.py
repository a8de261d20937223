"""What the report says of Holm's correction; without p-values in the file it says nothing."""

from __future__ import annotations

import csv

from harness.records.store import read_runs
from reports.comparisons import load_inferred
from reports.render import markdown_page
from reports.sections import load_sections
from reports.tables.quality import quality_tables
from tests.reports.made_up import comparison_rows, quick_records, write_out
from tests.reports.reading import contents_of

ADDED = ("p_value", "p_holm", "effect_size", "detectable")


def with_p_values(records, p_holm):
    """Every comparison with p = 0.01, and these p-values after Holm's correction."""
    rows = []
    for row in comparison_rows(records, half_width=0.0001):
        corrected = p_holm.get(row["architecture"], 0.3)
        rows.append(
            row
            | {"p_value": 0.01, "p_holm": corrected, "effect_size": -1.26, "detectable": 0.0123}
            | {"resolved": "yes" if corrected < 0.05 else "no"}
        )
    return rows


def finish_tables(out):
    [section] = load_sections(read_runs(out))
    return {table.name.split("-")[0]: table for table in quality_tables(section, "finish")}


def test_higher_and_lower_are_what_survives_the_correction(tmp_path):
    records = quick_records()
    out = write_out(tmp_path, records, with_p_values(records, {"dcn": 0.049, "rankmixer": 0.05}))
    quality = finish_tables(out)["quality"]
    cells = {row[0]: row[3] for row in quality.rows}
    assert cells["DCN"].endswith(" higher")
    assert cells["RankMixer"].endswith(" not resolved")
    assert cells["DLRM-MLP"] == "base"
    assert any("Holm's correction over the 5 tested models of a column" in note for note in quality.notes)
    table = finish_tables(out)["significance"]
    rows = {row[0]: row[1:4] for row in table.rows}
    assert rows["DCN"] == ["0.01", "0.049", "\N{MINUS SIGN}1.3"]
    assert rows["RankMixer"] == ["0.01", "0.05", "\N{MINUS SIGN}1.3"]
    assert "DLRM-MLP" not in rows
    assert "oracle" not in rows


def test_every_table_says_how_small_a_difference_it_could_find(tmp_path):
    records = quick_records()
    out = write_out(tmp_path, records, with_p_values(records, {}))
    for name in ("quality", "more"):
        notes = finish_tables(out)[name].notes
        assert any("Smallest detectable difference, x100: AUC 1.23, UAUC 1.23." in note for note in notes)


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
    assert "differences were tested" not in text
    assert not [table.name for table in contents.tables if table.name.startswith("significance-")]
    assert "Smallest detectable" not in text
