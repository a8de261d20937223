"""Whole reports from made-up folders: what the page says, and that it can be redrawn."""

from __future__ import annotations

import csv
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import bench
from files.errors import InputError
from reports.comparisons import load_inferred
from reports.render import render
from reports.results import COLUMNS
from tests.reports.made_up import failed, quick_records, record, reference, write_out
from tests.reports.reading import contents_of, report_text

README = Path(__file__).parents[2] / "reports" / "README.md"


def page(out: Path) -> str:
    return (out / "report.md").read_text()


def prose(out: Path) -> str:
    """The page as a reader sees it: escapes undone."""
    return re.sub(r"\\(.)", r"\1", page(out))


def test_rendering_twice_gives_the_same_bytes(quick_out, tmp_path):
    out = shutil.copytree(quick_out, tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert render(out) == out / "report.md"
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert set(after) == set(before)
    assert [path.name for path in after if after[path] != before[path]] == []


def test_every_link_of_the_page_leads_to_a_file(quick_out, mixed_out):
    for out in (quick_out, mixed_out):
        links = re.findall(r"\]\(((?:figures|tables|results)[^)]*)\)", page(out))
        assert len(links) > 5
        for link in links:
            assert (out / link).stat().st_size > 0, link


def test_figures_are_real_pngs_and_svgs(quick_out):
    pngs, svgs = (sorted((quick_out / "figures").glob(f"*.{kind}")) for kind in ("png", "svg"))
    assert [path.stem for path in pngs] == [path.stem for path in svgs if not path.stem.startswith("front-")]
    assert len(pngs) == 3
    assert len(svgs) == 5
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pngs)
    assert all("<svg" in path.read_text() for path in svgs)


def test_the_page_says_what_was_compared_and_on_what(quick_out):
    text = page(quick_out)
    assert "6 models: DLRM-MLP, DeepFM, DCN, AutoInt, Transformer, RankMixer; 2 seeds each" in text
    assert "120,000 train, 15,000 valid, 15,000 test; 1,275 users" in text
    assert "Budget: 1.00 M forward FLOPs per sample" in text
    assert "run_bench.py run quick --out out" in text
    assert "are not the paper's" in text
    assert "Its interactions are products of low rank, which is what cross networks (DCN) compute" in text
    assert "This is one draw of such a world" in text
    assert "torch 2.13.0" in text


def test_failed_runs_are_listed_with_step_and_reason(mixed_out):
    assert "RankMixer, seed 0: failed at step 117: the loss is NaN" in page(mixed_out)


def test_each_dataset_has_a_section_and_kuairand_its_warning(mixed_out):
    text = page(mixed_out)
    assert "## kuairand-pure (quick)" in text
    assert "## movielens-100k (quick)" in text
    assert text.count("largely an effect of the video's duration") == 1


def test_users_text_is_shown_and_never_markup(mixed_out):
    text = page(mixed_out)
    assert "<b>" not in text
    assert "[a](b)" not in text
    assert "no_skip|<b>$x$_{}%&#~^" in prose(mixed_out).replace("&lt;", "<").replace("&gt;", ">").replace(
        "&amp;", "&"
    )
    tables = [line for line in text.splitlines() if line.startswith("| RankMixer (")]
    assert tables
    svg = (mixed_out / "figures" / "differences-kuairand-pure.svg").read_text()
    assert "<b>" not in svg
    assert "no_skip|&lt;b&gt;$x$" in svg


def test_control_characters_and_formulas_of_older_records_reach_no_page_figure_or_spreadsheet(tmp_path):
    variants = ("", "\x1b]0;owned\x07\x1b[31mred", "=1+1", "@x", "\u202etxet")
    records = [
        record("rankmixer", seed, variant=variant, tasks=("finish",))
        for variant in variants
        for seed in (0, 1)
    ]
    for made in records:
        made["environment"]["cpu"] = "\x9b2J"
    records += [record("dlrm_mlp", seed, tasks=("finish",)) for seed in (0, 1)]
    out = write_out(tmp_path, records, description="bell \x07")
    text = (out / "comparisons.csv").read_text(encoding="utf-8")
    (out / "comparisons.csv").write_text(
        text.replace(",=1+1,", ",'=1+1,").replace(",@x,", ",'@x,"), encoding="utf-8"
    )
    render(out)
    files = [path for path in out.rglob("*") if path.suffix in {".md", ".html", ".tex", ".svg", ".csv"}]
    assert {path.suffix for path in files} == {".md", ".html", ".tex", ".svg", ".csv"}
    for path in files:
        if path.name != "comparisons.csv":
            assert not set(path.read_text(encoding="utf-8")) & set("\x1b\x07\x9b\u202e"), path
        if path.suffix == ".svg":
            ElementTree.parse(path)
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                assert not any(c.startswith(("=", "@", "+")) for row in csv.reader(file) for c in row), path
    shown = prose(out)
    assert r"\x1b]0;owned\x07\x1b[31mred" in shown
    assert "RankMixer (=1+1)" in shown
    assert {"=1+1", "@x"} <= set(load_inferred(out, "comparisons")["variant"])


def test_a_model_below_one_feature_or_chance_or_a_constant_is_called_untrained(tmp_path):
    records = [record(name, 0, "kuairand-pure", tasks=("finish",)) for name in ("dlrm_mlp", "dcn", "autoint")]
    records[0]["metrics"]["finish"] |= {"auc": 0.541}
    records[1]["metrics"]["finish"] |= {"normalized_entropy": 1.02}
    records[2]["metrics"]["finish"] |= {"auc": 0.80}
    records.append(reference("duration_only", "kuairand-pure", tasks=("finish",), lift=0.01))
    out = write_out(tmp_path, records)
    text = report_text(out)
    lines = [line for line in text.splitlines() if "did not train well" in line]
    assert len(lines) == 2
    assert "AUC 0.5410 is near chance" in lines[0]
    assert "This is the base" in lines[0]
    assert "normalized entropy 1.020" in lines[1]
    assert "below duration_only's 0.7412" in lines[1]


def test_one_seed_claims_nothing(mixed_out):
    text = page(mixed_out)
    assert "untested (one seed)" in text
    assert not re.search(r"^- .*against DLRM-MLP: .*(higher|lower|no difference)", text, re.MULTILINE)


def test_only_references_still_make_a_report(tmp_path):
    out = write_out(tmp_path, [reference("oracle"), reference("constant")], [])
    render(out)
    assert "Only reference rows ran" in page(out)
    assert "| oracle |" in page(out)
    assert not (out / "figures").exists()


def test_only_failures_still_make_a_report(tmp_path):
    out = write_out(tmp_path, [failed("dlrm_mlp"), failed("dcn")], [])
    text = report_text(out)
    assert "the base DLRM-MLP has no finished run" in text
    assert text.count("failed at step 117") == 2


def test_one_model_one_task_one_seed_still_makes_a_report(tmp_path):
    out = write_out(tmp_path, [record("dlrm_mlp", tasks=("like",))], [])
    text = report_text(out)
    assert "1 model: DLRM-MLP; 1 seed each; tasks: like" in text


def test_records_alone_are_enough(tmp_path):
    out = write_out(tmp_path, quick_records(seeds=1))
    (out / "suite.json").unlink()
    (out / "comparisons.csv").unlink()
    text = report_text(out)
    assert "holds no comparisons" in text
    assert "| RankMixer |" in text


def test_two_suites_in_one_folder_do_not_overwrite_each_other(tmp_path):
    others = [record(name, 0, suite="table1") for name in ("dlrm_mlp", "rankmixer")]
    out = write_out(tmp_path, [record("dlrm_mlp"), record("dcn"), *others])
    contents = contents_of(out)
    names = [table.name for table in contents.tables]
    names += [name for part in contents.parts for name in part.figures]
    assert {"quality-quick-shortvideo-finish", "quality-table1-shortvideo-finish"} <= set(names)
    assert len(set(names)) == len(names)


def test_a_damaged_record_stops_the_report_and_is_named(tmp_path):
    out = write_out(tmp_path, quick_records(seeds=1))
    (out / "runs" / "run-003" / "record.json").write_text('{"kind": "mod')
    with pytest.raises(InputError, match=r"run-003/record\.json"):
        render(out)
    assert not (out / "report.md").exists()


def test_no_temporary_file_is_left_behind(quick_out):
    assert [path for path in quick_out.rglob(".*") if path.is_file()] == []


def test_the_readme_explains_every_column():
    explained = set(re.findall(r"`([a-z0-9_]+)`", README.read_text()))
    assert set(COLUMNS) <= explained


def test_results_that_were_kept_without_predictions_are_drawn_with_their_comparisons(tmp_path):
    out = write_out(tmp_path, [record("dlrm_mlp"), record("dcn")])
    kept = (out / "comparisons.csv").read_bytes()
    assert bench.report(out).stored.lacks_predictions
    assert (out / "comparisons.csv").read_bytes() == kept
    (out / "comparisons.csv").unlink()
    with pytest.raises(InputError, match=r"predictions.parquet cannot be read"):
        bench.report(out)
