"""Published comparisons beside ours: the same base alone, arithmetic by hand, what is said of the rest."""

from __future__ import annotations

import math

import pytest

from bench import open_results
from files.errors import InputError
from harness.records.store import read_runs
from reports.cells import MISSING
from reports.paper.beside import beside_frame, match
from reports.paper.orders import our_orders
from reports.sections import load_sections
from reports.tables.published import published_tables, published_words
from tests.reports.made_up import comparison_rows, quick_records, record, write_out
from tests.reports.reading import contents_of, report_text

MODELS = ["dlrm_mlp", "dcnv2", "autoint", "xdeepfm", "hiformer", "rankmixer"]


def section_of(out):
    [section] = load_sections(read_runs(out))
    return section


def section_with(tmp_path, *published, models=MODELS, dataset="shortvideo", **changes):
    """A section of these models that names these papers."""
    records = [record(name, seed, dataset) for seed in range(2) for name in models]
    return section_of(write_out(tmp_path, records, published=list(published), **changes))


def differences(section, paper, column):
    """Published differences by architecture."""
    frame = beside_frame(section)
    chosen = frame[(frame["paper"] == paper) & (frame["column"] == column) & (frame["source"] == "published")]
    return dict(zip(chosen["architecture"], chosen["diff_points"], strict=True))


def test_values_alone_become_differences_to_our_base_among_them(tmp_path):
    criteo = differences(section_with(tmp_path, "rankelastor"), "rankelastor", "Criteo AUC")
    expected = {"dcnv2": 81.365 - 81.307, "autoint": 81.331 - 81.307, "xdeepfm": 81.334 - 81.307}
    assert criteo == pytest.approx(expected | {"rankmixer": 81.375 - 81.307, "dlrm_mlp": 0})


def test_values_become_differences_to_our_base_where_the_paper_has_another(tmp_path):
    """UniMixer's own differences are to an attention that is not here."""
    found = differences(section_with(tmp_path, "unimixer", base="rankmixer"), "unimixer", "Ads AUC")
    assert found == pytest.approx({"hiformer": 74.1685 - 74.9329, "rankmixer": 0})


def test_differences_to_our_base_stand_as_they_are_printed(tmp_path):
    section = section_with(tmp_path, "tokenmixer_large", "rankmixer")
    assert differences(section, "tokenmixer_large", "CTCVR AUC") == {
        "dlrm_mlp": 0,
        "hiformer": 0.44,
        "dcnv2": 0.49,
        "autoint": 0.75,
        "rankmixer": 0.84,
    }
    skip = differences(section, "rankmixer", "Skip AUC")
    assert math.isnan(skip.pop("hiformer"))  # not printed
    assert skip == {"dlrm_mlp": 0, "dcnv2": 0.15, "autoint": 0.12, "rankmixer": 0.86}


def test_where_the_base_has_no_value_there_is_no_difference(tmp_path):
    """RankElastor prints no MLP on KuaiVideo and TaobaoAd."""
    [table] = published_tables(section_with(tmp_path / "a", "rankelastor"))
    assert table.header[-2:] == ["published: Criteo AUC", "published: Avazu AUC"]
    assert "gauc" not in set(beside_frame(section_with(tmp_path / "b", "rankelastor"))["metric"])
    section = section_with(tmp_path / "c", "rankelastor", dataset="kuaivideo-x1")
    assert published_words(section) == ["Not shown: RankElastor (it prints no MLP on these data)."]


def test_our_own_differences_stand_with_their_intervals(tmp_path):
    section = section_with(tmp_path, "tokenmixer_large")
    frame = beside_frame(section)
    ours = frame[(frame["source"] == "here") & (frame["architecture"] == "rankmixer")]
    compared = section.comparisons[
        (section.comparisons["architecture"] == "rankmixer") & (section.comparisons["metric"] == "auc")
    ]
    assert ours["task"].tolist() == compared["task"].tolist() == ["finish", "skip"]
    for shown, stored in (("diff_points", "diff"), ("low_points", "low"), ("high_points", "high")):
        assert ours[shown].tolist() == pytest.approx((100 * compared[stored]).tolist())


@pytest.mark.parametrize(
    ("base", "paper", "why"),
    [
        ("dlrm_mlp", "unimixer", "UniMixer (it has no row of DLRM-MLP)"),  # its base is a row like others
        ("dlrm_mlp", "onetrans", "OneTrans (its differences are to DCNv2 + DIN)"),
        ("dcnv2", "onetrans", "OneTrans (its differences are to DCNv2 + DIN)"),  # ours reads no DIN
        ("dcnv2", "rankmixer", "RankMixer Table 1 (its differences are to DLRM-MLP)"),
        ("dlrm_mlp", "interformer", "InterFormer (it has no row of DLRM-MLP)"),
        ("hiformer", "unirank", ""),
        ("dlrm_mlp", "mixformer", "MixFormer (its differences are to target attention + DLRM)"),
        ("rankmixer", "hyformer", "HyFormer (it has no row of RankMixer)"),  # all read a sequence model
        ("", "rankelastor", "RankElastor (the suite compares its models with no base)"),
    ],
)
def test_bases_are_never_mixed(tmp_path, base, paper, why):
    section = section_with(tmp_path, paper, base=base)
    found, _ = match(section)
    assert bool(found) == (not why)
    assert len(published_tables(section)) == len(found)
    [sentence] = published_words(section)
    assert sentence.startswith("Not shown: " if why else "Beside our diff")
    assert why in sentence


def test_a_paper_that_shares_the_base_alone_is_not_shown(tmp_path):
    section = section_with(tmp_path, "rankelastor", models=["dlrm_mlp", "dcn"])
    assert published_words(section) == ["Not shown: RankElastor (none of our other models is in it)."]


def test_of_several_tables_those_on_our_own_data_alone_are_taken(tmp_path):
    everywhere, _ = match(section_with(tmp_path / "a", "bars", "rankelastor"))
    assert len(everywhere) == 10  # nine of BARS have a DNN, and RankElastor
    on_criteo, unmatched = match(section_with(tmp_path / "b", "bars", "rankelastor", dataset="criteo-x1"))
    assert [(one.name, one.key) for one in on_criteo] == [("bars", "criteo_x1"), ("rankelastor", "public")]
    assert unmatched == {}
    notes = " ".join(published_tables(section_with(tmp_path / "c", "bars", dataset="criteo-x1"))[0].notes)
    assert "the same dataset, in its own setting" in notes


def test_the_table_shows_ours_and_theirs_and_names_what_it_leaves_out(tmp_path):
    section = section_with(tmp_path, "tokenmixer_large")
    [table] = published_tables(section)
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert "xDeepFM" not in cells
    assert cells["RankMixer"]["published: CTCVR AUC"] == "+0.84"
    assert cells["DLRM-MLP"]["published: CTCVR AUC"] == "its base"
    assert cells["RankMixer"]["finish AUC vs base x100"].startswith("+0.6")
    notes = " ".join(table.notes)
    assert "ours that it has not: xDeepFM; its own that did not run here: DHEN, Wukong" in notes
    assert "third party's note" in notes
    assert "not credible" in notes


def test_the_page_has_the_table_its_source_and_the_paper_table_as_before(tmp_path):
    write_out(tmp_path / "a", quick_records())
    write_out(tmp_path / "b", quick_records(), published=["rankmixer", "tokenmixer_large", "unimixer"])
    without, named = contents_of(tmp_path / "a"), contents_of(tmp_path / "b")
    names = {table.name for table in named.tables} - {table.name for table in without.tables}
    assert names == {
        "published-rankmixer-table1-shortvideo",
        "published-tokenmixer_large-ecommerce-shortvideo",
        "paper-tokenmixer_large-ecommerce",  # Table 1 itself is there once, as the suite's paper_table
    }
    assert [table.name for table in without.printed] == ["paper-table1"]
    page = report_text(tmp_path / "b")
    assert "## The papers' own tables" in page
    assert "UniMixer (it has no row of DLRM-MLP)" in page
    kept = {table.name: table for table in named.tables}
    for table in without.tables:
        assert kept[table.name].rows == table.rows


def test_each_size_stands_beside_the_row_without_a_size(tmp_path):
    budget = {"kind": "flops_per_sample", "miss": 0.0}
    records = [record("dlrm_mlp", 0)] + [
        record("dcnv2", 0, variant=size, budget=budget | {"target": 1e6 * float(size[:-1])})
        for size in ("0.3M", "3M")
    ]
    section = section_of(write_out(tmp_path, records, published=["tokenmixer_large"]))
    [table] = published_tables(section)
    shown = {row[0]: row[-1] for row in table.rows}
    assert shown == {"DLRM-MLP": "its base", "DCNv2 (0.3M)": "+0.49", "DCNv2 (3M)": "+0.49"}


def test_where_no_verdict_is_given_none_stands_beside_published_differences(tmp_path):
    records = [record(name, seed) for seed in range(2) for name in MODELS]
    for run in records:
        run["metrics"]["finish"]["auc"] = 0.999
    section = section_of(write_out(tmp_path, records, published=["tokenmixer_large"]))
    [table] = published_tables(section)
    cells = [cell for row in table.rows[1:] for cell in row[1:-1]]
    assert cells
    assert all(cell.endswith("no verdict") for cell in cells)
    assert "Beside our differences stand those of TokenMixer-Large" in report_text(tmp_path)


def test_a_log_without_users_has_no_uauc_beside_the_published(tmp_path):
    records = [record(name, seed) for seed in range(2) for name in MODELS]
    for run in records:
        for measured in run["metrics"].values():
            measured |= {"uauc": None, "gauc": None, "users": None}
    compared = comparison_rows_of_auc(records)
    section = section_of(write_out(tmp_path, records, compared, published=["rankmixer"]))
    [table] = published_tables(section)
    column = table.header.index("finish UAUC vs base x100")
    assert {row[column] for row in table.rows[1:]} == {MISSING}
    assert table.rows[-1][table.header.index("published: Finish UAUC")] == "+0.72"
    assert [order.kind for order in our_orders(section)] == ["AUC", "AUC"]


def comparison_rows_of_auc(records):
    whole = [record(run["architecture"], run["seed"]) for run in records]
    return [row for row in comparison_rows(whole) if row["metric"] == "auc"]


def test_python_gives_the_same_rows_as_a_frame(tmp_path):
    section = section_with(tmp_path / "named", "tokenmixer_large", "bars")
    named = open_results(tmp_path / "named").published
    assert named.drop(columns="log").equals(beside_frame(section))
    assert set(named["log"]) == {"shortvideo"}
    write_out(tmp_path / "plain", quick_records())
    assert open_results(tmp_path / "plain").published.empty


def test_a_suite_record_that_names_an_unknown_paper_is_refused(tmp_path):
    out = write_out(tmp_path, quick_records(), published=["my_paper"])
    with pytest.raises(InputError, match=r"suite\.json.*published\.0"):
        read_runs(out)


def with_auc(tmp_path, dataset, aucs, *published, **changes):
    """A section whose models have these AUCs, of the only task, in both seeds."""
    records = []
    for seed in range(2):
        for name, auc in aucs.items():
            made = record(name, seed, dataset)
            made["metrics"] = {"finish": made["metrics"]["finish"] | {"auc": auc}}
            made["spec"]["tasks"] = ["finish"]
            records.append(made)
    return section_of(write_out(tmp_path, records, published=list(published), **changes))


def test_each_row_says_whether_ours_is_inside_the_published_range_or_outside_by_how_much(tmp_path):
    """On criteo_x1: DNN .81360 to .81379, DCNv2 .81362 to .81420, DCN .81369 to .81383, AutoInt one."""
    ours = {"dlrm_mlp": 0.81361, "dcnv2": 0.8090, "dcn": 0.8140, "autoint": 0.8120}
    [table] = published_tables(with_auc(tmp_path, "criteo-x1", ours, "bars"))
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    verdicts = {model: row["AUC verdict"] for model, row in cells.items()}
    assert verdicts == {
        "DLRM-MLP": "inside",
        "DCNv2": "outside, below by 0.00462",
        "DCN": "outside, above by 0.00017",
        "AutoInt": "below the one value by 0.00059",  # .812593 less .8120
    }
    assert cells["DCNv2"]["AUC published (range)"] == "0.81394 (0.81362 to 0.81420)"
    assert cells["AutoInt"]["AUC published (range)"] == "0.81259 (no range)"
    frame = beside_frame(with_auc(tmp_path / "b", "criteo-x1", ours, "bars"))
    means = frame[(frame["architecture"] == "dcn") & frame["column"].str.contains("mean", na=False)]
    assert means[["least", "greatest"]].to_numpy().tolist() == [[0.81369, 0.81383]]


def test_there_is_no_verdict_on_other_data(tmp_path):
    for table in published_tables(section_with(tmp_path, "bars", "rankelastor", "tokenmixer_large")):
        assert not [title for title in table.header if "verdict" in title]
