"""Which runs count, asked by comparisons, tables and figures alike."""

from __future__ import annotations

import io
from collections import Counter

from harness.evaluation.inference import write_inference
from harness.records.store import read_runs
from reports.sections import load_sections
from tests.harness.evaluation.test_comparisons import BASE, MadeUp


def test_a_table_shows_no_model_that_no_comparison_holds(tmp_path):
    """A row is taken out of a suite that has run, another suite's settings are asked for and have not run."""
    made_up = MadeUp(tmp_path)
    for seed in range(2):
        for name, quality in ((BASE, 1.0), ("dcn", 1.5), ("rankmixer", 2.0)):
            made_up.run(name, seed, quality)
    made_up.suite["architectures"] = [{"architecture": BASE}, {"architecture": "rankmixer"}]
    made_up.suite["spec_hashes"] = ["not-run-0", "not-run-1"]
    made_up.write_suite()
    stored = read_runs(made_up.out)
    write_inference(stored)
    [section] = load_sections(stored)
    compared = set(section.comparisons["architecture"]) | {BASE}
    assert {contestant.architecture for contestant in section.contestants} == compared == {BASE, "rankmixer"}
    assert {record.architecture for record in section.superseded} == {"dcn"}


def test_a_report_opens_each_record_and_each_file_of_predictions_once(tmp_path, monkeypatch):
    made_up = MadeUp(tmp_path)
    made_up.suite["analyses"] = ["tiers"]
    made_up.write_suite()
    for name, quality in ((BASE, 1.0), ("dcn", 1.5)):
        made_up.run(name, 0, quality)
    opened: Counter[str] = Counter()
    plain_open = io.open

    def counting_open(file, *arguments, **named):
        opened[str(file)] += 1
        return plain_open(file, *arguments, **named)

    monkeypatch.setattr(io, "open", counting_open)  # what every reading method of a path calls
    stored = read_runs(made_up.out)
    write_inference(stored)
    assert [section.dataset for section in load_sections(stored)] == ["toy"]
    read = {name: count for name, count in opened.items() if name.endswith((".json", ".parquet"))}
    assert len(read) == 2 * 2 + 1  # records, predictions, suite.json
    assert set(read.values()) == {1}


def test_rows_that_a_suite_describes_by_their_fields_are_read_with_them(tmp_path):
    made_up = MadeUp(tmp_path)
    row = {"architecture": "dcn", "variant": "half", "series": "sparse", "size": "", "ratio": "1/2"}
    made_up.suite["architectures"] = [{"architecture": BASE}, row]
    made_up.write_suite()
    fields = {"series": "sparse", "size": "", "ratio": "1/2"}
    made_up.run(BASE, 0)
    made_up.run("dcn", 0, variant="half", **fields)
    stored = read_runs(made_up.out)
    [selection] = stored.selections()
    base, half = selection.contestants
    assert (half.series, half.size, str(half.ratio)) == ("sparse", "", "1/2")
    assert (base.series, base.size, base.ratio) == ("", "", None)
    assert selection.runs_of(half)[0].as_json().items() >= fields.items()
