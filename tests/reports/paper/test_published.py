"""The published comparisons as data: values typed from them, what follows from them, and wrong files."""

from __future__ import annotations

from typing import get_args

import pytest
import yaml

from files.errors import InputError
from harness.records.listed import LISTED
from harness.records.suite import PublishedName
from reports.paper.printed import PUBLISHED, load_published, read_paper

BASELINE_OF_BARS = "AutoInt on KuaiVideo and TaobaoAd"


@pytest.mark.parametrize(
    ("paper", "table", "row", "column", "value"),
    [
        ("rankelastor", "public", "MLP", "criteo_auc", 0.81307),
        ("rankelastor", "public", BASELINE_OF_BARS, "taobaoad_gauc", 0.5744),
        ("rankelastor", "public", "RankElastor", "kuaivideo_auc", 0.7514),
        ("rankelastor", "public", "xDeepFM", "avazu_auc", 0.79242),
        ("unimixer", "ads", "Heterogeneous attention", "auc", 0.744577),
        ("unimixer", "ads", "FAT as UniMixer has it", "params", 138.4e6),
        ("unimixer", "ads", "TokenMixer-Large", "uauc", 0.737940),
        ("unimixer", "ads", "UniMixing-Lite, 4 blocks, wide", "flops_per_batch", 4.24e12),
        ("tokenmixer_large", "ecommerce", "HiFormer", "ctcvr_auc", 0.44),
        ("tokenmixer_large", "ecommerce", "DHEN", "flops_per_batch_2048", 103.4e12),
        ("tokenmixer_large", "ecommerce", "TokenMixer-Large 7B", "params", 7600e6),
        ("onetrans", "offline", "DCNv2 + DIN", "cvr_uauc", 0.71955),
        ("onetrans", "offline", "HiFormer + DIN", "cvr_uauc", -0.20),
        ("onetrans", "offline", "RankMixer + StackDIN", "cvr_uauc", -1.28),
        ("onetrans", "offline", "OneTrans-L", "ctr_uauc", 2.79),
        ("hyformer", "search", "LONGER + Wukong", "query_auc", 0.6465),
        ("hyformer", "search", "OneTrans with full transformer", "flops_per_batch_2048", 21.9e12),
        ("mixformer", "offline", "target attention + DLRM", "skip_auc", 0.8124),
        ("mixformer", "offline", "STCA + RankMixer", "flops", 6736e9),
        ("mixformer", "offline", "MixFormer-M", "finish_uauc", 1.60),
        ("interformer", "public", "DMIN", "taobaoad_gauc", 0.5723),
        ("interformer", "public", "Wukong", "kuaivideo_auc", 0.7423),
        ("unirank", "click", "HeMix", "taobao_auc", 0.6523),
        ("unirank", "click", "TokenFormer", "kuairand_auc", 0.7990),
        ("bars", "frappe_x1", "DCNv2", "auc_max", 0.98448),
        ("bars", "movielenslatest_x1", "xDeepFM", "auc_sd", 0.00090),
        ("bars", "kuaivideo_x1", "DMIN", "gauc", 0.672621),
        ("bars", "taobaoad_x1", "DeepFM", "logloss", 0.196501),
        ("bars", "criteo_x1", "DNN", "auc_mean", 0.81368),
        ("bars", "criteo_x4_001", "FinalNet", "params", 18_153_050),
        ("bars", "criteo_x4_002", "DCN", "auc", 0.814073),
        ("bars", "avazu_x1", "DCNv2", "auc_mean", 0.76364),
        ("bars", "avazu_x4_001", "MaskNet", "auc", 0.794382),
        ("bars", "avazu_x4_002", "xDeepFM", "logloss", 0.369703),
    ],
)
def test_a_value_is_the_one_that_was_published(paper, table, row, column, value):
    [found] = [r for r in load_published()[paper].tables[table].rows if r.name == row]
    assert found.numbers[column] == pytest.approx(value, rel=1e-12)


def test_number_of_values_is_that_of_the_published_tables():
    counts = {name: len(paper.frame()) for name, paper in load_published().items()}
    del counts["rankmixer"]  # counted table by table in test_printed.py
    assert counts == {
        "rankelastor": 2 + 5 * 6,  # the MLP on two data sets alone
        "unimixer": 11 * 4,
        "tokenmixer_large": 13 * 3 - 1,  # the base's own difference is not printed
        "onetrans": 9 * 6,
        "hyformer": 9 * 4 - 1,
        "mixformer": 4 * 6 - 2 + 4,  # one row lacks UAUC; the base has four AUCs alone
        "interformer": 13 * 4,
        "unirank": 10 * 3 - 1,
        "bars": 476,
    }


def test_suites_can_name_every_file_and_no_other():
    assert set(get_args(PublishedName)) == {path.stem for path in PUBLISHED.glob("*.yaml")}
    assert list(load_published()) == list(get_args(PublishedName))


def test_an_architecture_has_one_name_in_all_files():
    """Rows that papers call alike are one architecture; those of our table are called as it calls them."""
    names = {}
    for paper in load_published().values():
        for row in (row for _, table in paper.compared() for row in table.rows if not row.sequence):
            if row.architecture and not row.variant:
                assert names.setdefault(row.name, row.architecture) == row.architecture
    for name, listed in LISTED.items():
        assert names.get(listed.name, name) == name


def rows(paper: str, table: str) -> dict[str, dict[str, float]]:
    return {row.name: row.numbers for row in load_published()[paper].tables[table].rows}


def test_hyformers_gains_are_relative():
    base, *others = rows("hyformer", "search").values()
    for numbers in others:
        relative = 100 * (numbers["query_auc"] / base["query_auc"] - 1)
        assert relative == pytest.approx(numbers["gain"], abs=0.0051)


def test_mixformers_base_has_the_values_of_rankmixers():
    [ours] = [row.numbers for row in load_published()["rankmixer"].tables["table1"].rows if row.base]
    theirs = rows("mixformer", "offline")["target attention + DLRM"]
    assert theirs == {name: ours[name] for name in theirs}


def test_rankelastors_baselines_repeat_the_leaderboard():
    theirs = rows("rankelastor", "public")
    for data in ("kuaivideo", "taobaoad"):
        leaderboard = rows("bars", f"{data}_x1")
        for name, original in ((BASELINE_OF_BARS, "AutoInt+"), ("DCNv2", "DCNv2"), ("xDeepFM", "xDeepFM")):
            for metric in ("auc", "gauc"):
                assert theirs[name][f"{data}_{metric}"] == round(leaderboard[original][metric], 4)


def test_means_of_seeds_lie_within_their_range_and_leaderboards_too():
    seeded = 0
    for key, table in load_published()["bars"].compared():
        for row in (row for row in table.rows if "auc_min" in row.numbers):
            low, high = row.numbers["auc_min"], row.numbers["auc_max"]
            assert low < row.numbers["auc_mean"] < high
            assert low - 5e-5 <= row.numbers["auc"] <= high + 5e-5, (
                key,
                row.name,
            )  # printed with four digits
            assert row.numbers["seeds"] == 5
            assert row.numbers["auc_sd"] < (high - low) / 2
            seeded += 1
    assert seeded == 18


def test_leaderboards_and_means_have_the_orders_that_are_published():
    ranked = {}
    for data in ("frappe_x1", "movielenslatest_x1", "avazu_x1"):
        seeded = {name: n for name, n in rows("bars", data).items() if "auc_mean" in n and name != "WideDeep"}
        ranked[data] = sorted(seeded, key=lambda name: -seeded[name]["auc_mean"])
    assert ranked == {
        "frappe_x1": ["xDeepFM", "DNN", "DeepFM", "DCNv2", "DCN"],
        "movielenslatest_x1": ["DCNv2", "DCN", "DeepFM", "xDeepFM", "DNN"],
        "avazu_x1": ["DeepFM", "xDeepFM", "DCN", "DCNv2"],
    }


def test_what_is_said_of_parameters_and_tuning_runs_holds():
    frappe, movies = rows("bars", "frappe_x1"), rows("bars", "movielenslatest_x1")
    assert frappe["DNN"]["params"] - frappe["DLRM"]["params"] == 364_001
    assert movies["DNN"]["params"] - movies["DLRM"]["params"] == 336_001
    assert set(movies["FinalNet_2B"]) == {"logloss", "params"}


MINIMAL = {
    "citation": {"name": "Mine"},
    "evidence": "paper",
    "comparisons": ["main"],
    "tables": {
        "main": {
            "label": "Table 1",
            "about": "Two rows",
            "columns": {"auc": {"label": "AUC", "unit": "AUC", "metric": "auc"}},
            "rows": [
                {"name": "MLP", "architecture": "dlrm_mlp", "numbers": {"auc": 0.7}},
                {"name": "DCN", "architecture": "dcn", "numbers": {"auc": 0.71}},
            ],
        }
    },
    "notes": [],
}


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("tables.main.rows.0.numbers", {"auk": 0.7}, "'auk', which is no column; mend its name"),
        ("tables.main.rows.0.numbers", {"auc": 70.0}, "auc 70.0 is no auc; mend it"),
        ("tables.main.rows.1.architecture", "dlrm_mlp", "repeats ('dlrm_mlp', '', ''); give it a variant"),
        ("tables.main.columns.auc.metrik", "auc", "metrik: is not a known field; check its spelling"),
        ("tables.main.rows.0.numbers.auc", "high", "numbers.auc: Input should be a valid number"),
        ("evidence", "hearsay", "evidence: Input should be 'paper', 'note' or 'files'; mend it"),
        ("comparisons", ["other"], "names 'other', which is none of its tables; mend the name"),
        ("notes", [{"tables": ["other"], "text": "Odd."}], "names 'other', which is none of its tables"),
        ("citation.name", "", "citation.name: String should have at least 1 character; mend it"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_the_field_and_the_mend(tmp_path, where, value, message):
    content = yaml.safe_load(yaml.safe_dump(MINIMAL))
    *parents, last = where.split(".")
    place = content
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as error:
        read_paper(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_two_bases_are_refused_and_an_absent_file_too(tmp_path):
    content = yaml.safe_load(yaml.safe_dump(MINIMAL))
    for row in content["tables"]["main"]["rows"]:
        row["base"] = True
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="two base rows; mark the one"):
        read_paper(path)
    with pytest.raises(InputError, match="no such file"):
        read_paper(tmp_path / "absent.yaml")
    path.write_text(yaml.safe_dump(MINIMAL))
    assert read_paper(path).tables["main"].base is None
