"""The tables of kept results, cell by cell against the records and comparisons that the commands wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ROOT / "reports/measured"
PAPER = {  # Table 1, gains in AUC
    "finish": {
        **{"dcnv2": 0.13, "rdcn": 0.09, "moe": 0.09, "autoint": 0.10, "dhen": 0.18, "hiformer": 0.48},
        **{"wukong": 0.29, "rankmixer": 0.64},
    },
    "skip": {
        **{"dcnv2": 0.15, "rdcn": 0.10, "moe": 0.08, "autoint": 0.12, "dhen": 0.36, "wukong": 0.49},
        **{"rankmixer": 0.86},
    },
}
NAMES = {  # of the rows, by architecture
    "DLRM-MLP": "dlrm_mlp",
    "DeepFM": "deepfm",
    "DCN": "dcn",
    "DCNv2": "dcnv2",
    "RDCN": "rdcn",
    "GDCN": "gdcn",
    "AutoInt": "autoint",
    "Transformer": "transformer",
    "HiFormer": "hiformer",
    "MaskNet": "masknet",
    "Wukong": "wukong",
    "HSTU": "hstu",
    "FinalMLP": "finalmlp",
    "xDeepFM": "xdeepfm",
    "MoE": "moe",
    "UniMixer": "unimixer",
    "DHEN": "dhen",
    "RankMixer": "rankmixer",
    "TokenMixer-Large": "tokenmixer_large",
}
KEPT = FOLDERS / "README.md"


class Difference(NamedTuple):
    """What a column shows: differences of one folder in one task and metric."""

    folder: str
    task: str
    metric: str = "auc"


class Table(NamedTuple):
    """The first table after ``words`` in ``file``: which of its columns hold which differences."""

    file: Path
    words: str
    columns: dict[int, Difference]
    is_of_variants: bool = False
    is_whole: bool = False  # the metric stands before each difference, p99 and MFU in the last two columns


def tables() -> Iterator[Table]:
    logs = ("{}-kuairand-pure", "{}")
    measures = (("finish", "auc"), ("skip", "auc"), ("skip", "uauc"))
    differences = [Difference("table1-kuairand-pure", *measure) for measure in measures]
    yield Table(KEPT, "At 1 MFLOP a sample, on KuaiRand-Pure:", dict(enumerate(differences, 2)))
    built_in = {1: Difference("table1", "finish"), 3: Difference("table1", "skip")}
    yield Table(KEPT, "On ten draws of the built-in log,", built_in)
    matched = ("quick", "quick-latency", "quick-kuairand-pure", "quick-latency-kuairand-pure")
    both = [Difference(folder, task) for folder in matched for task in ("finish", "skip")]
    at_one_latency = dict(zip((1, 2, 3, 4, 6, 7, 8, 9), both, strict=True))
    yield Table(KEPT, "### The same six at one latency", at_one_latency)
    beside_values = {2: "auc", 4: "uauc", 6: "auc", 8: "uauc"}
    for file, words, folder, tasks in (
        (KEPT, "### Six architectures, untuned", "quick", ("finish", "skip")),
        (KEPT, "### `quick` on real logs", "quick-kuairand-pure", ("finish", "skip")),
    ):
        columns = {at: Difference(folder, tasks[at > 4], metric) for at, metric in beside_values.items()}
        yield Table(file, words, columns, is_whole=True)
    for words, suite, at in (
        ("run table2`, `run table3`, and both", "table2", (2, 3, 4, 5)),
        ("and with `--dataset kuairand-pure --seeds 5`: 8 experts", "figure3", (3, 4, 5, 6)),
    ):
        differences = [
            Difference(log.format(suite), task) for log in logs[::-1] for task in ("finish", "skip")
        ]
        yield Table(KEPT, words, dict(zip(at, differences, strict=True)), is_of_variants=True)


def select_model(table: Table) -> list[list[str]]:
    _, found, after = table.file.read_text().partition(table.words)
    assert found, f"{table.file.name} has no words {table.words!r}"
    lines = after[after.index("\n|") + 1 :].splitlines()
    rows = [line.strip("|").split("|") for line in lines[: lines.index("")]][2:]
    return [[cell.strip() for cell in row] for row in rows]


def name_of(row: list[str]) -> str:
    """The contestant of a row: its architecture, its variant, or of figure 3's its series and share."""
    name, second = row[0].strip("*"), row[1]
    return f"{name}-{second}" if second in ("1", "1/2", "1/4", "1/8") else NAMES.get(name, name)


def written(difference: Difference, name: str, is_variant: bool) -> str:
    """The cell for ``name`` as `comparisons.csv` has it; table 3's variants share a table with table 2's."""
    files = [FOLDERS / difference.folder / "comparisons.csv"]
    if difference.folder.startswith("table2"):
        files.append(FOLDERS / difference.folder.replace("table2", "table3") / "comparisons.csv")
    kept = pd.concat([pd.read_csv(file, keep_default_na=False) for file in files])
    kept = kept[(kept["task"] == difference.task) & (kept["metric"] == difference.metric)]
    [row] = kept[kept["variant" if is_variant else "architecture"] == name].to_dict("records")
    return shown(row)


def shown(row: dict) -> str:
    """A difference in points, bold where it is resolved."""
    cell = f"{100 * row['diff']:+.2f}".replace("-", "\N{MINUS SIGN}")
    return f"**{cell}**" if row["resolved"] == "yes" else cell


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.words)
def test_a_table_s_differences_are_those_that_its_command_wrote(table):
    rows = [row for row in select_model(table) if "base" not in row[1:3]]
    assert len(rows) >= 5
    for row in rows:
        for at, difference in table.columns.items():
            assert row[at] == written(difference, name_of(row), table.is_of_variants), name_of(row)


def test_the_base_of_quick_varies_more_than_the_others_in_skip_and_makes_means_larger_than_medians():
    auc = {}
    for name in ("dlrm_mlp", "deepfm", "dcn", "autoint", "transformer", "rankmixer"):
        runs = pd.DataFrame(records_of("quick", name))
        runs["auc"] = [100 * metrics["skip"]["auc"] for metrics in runs["metrics"]]
        auc[name] = runs.pivot_table("auc", "world", "seed")
    spreads = {name: np.sqrt(values.var(axis=1).mean()) for name, values in auc.items()}
    rankmixer = (auc["rankmixer"] - auc["dlrm_mlp"]).to_numpy()
    others = sorted(f"{spread:.2f}" for name, spread in spreads.items() if name != "dlrm_mlp")
    words = " ".join(KEPT.read_text(encoding="utf-8").split())
    assert f"its AUC varies by {spreads['dlrm_mlp']:.2f} points" in words
    assert f"those of the others by {others[0]} to {others[-1]}" in words
    assert f"RankMixer's {rankmixer.mean():+.2f} is {np.median(rankmixer):+.2f} in the median" in words


def test_the_intervals_that_are_said_of_the_six_models_are_theirs():
    words = " ".join(KEPT.read_text(encoding="utf-8").split())
    said = {
        ("quick", "finish", "auc"): ("rankmixer", "dcn", "deepfm", "autoint"),
        ("quick-latency", "finish", "auc"): ("rankmixer", "dcn", "transformer", "autoint"),
        ("quick-latency", "skip", "auc"): ("rankmixer", "transformer"),
        ("quick-latency", "skip", "uauc"): ("rankmixer", "dcn"),
        ("quick-splits", "skip", "uauc"): ("rankmixer", "dcn", "transformer"),
        ("quick-splits", "finish", "uauc"): ("transformer",),
        ("quick-splits", "finish", "auc"): ("autoint",),
    }
    for (folder, task, metric), models in said.items():
        kept = pd.read_csv(FOLDERS / folder / "comparisons.csv", keep_default_na=False)
        kept = kept[(kept["task"] == task) & (kept["metric"] == metric)].set_index("architecture")
        for name in models:
            interval = f"{100 * kept.loc[name, 'low']:+.2f} to {100 * kept.loc[name, 'high']:+.2f}"
            assert interval.replace("-", "\N{MINUS SIGN}") in words, (folder, task, metric, name)


def test_the_pairs_of_quick_that_are_resolved_are_those_of_its_runs():
    """Student's t over the means of worlds from scipy, Holm's steps by hand."""
    models = ("deepfm", "dcn", "autoint", "transformer", "rankmixer")
    found = set()
    for task in ("finish", "skip"):
        auc = {}
        for name in models:
            runs = pd.DataFrame(records_of("quick", name))
            auc[name] = (
                runs.assign(auc=[m[task]["auc"] for m in runs["metrics"]]).groupby("world")["auc"].mean()
            )
        p_values = {
            (one, other): stats.ttest_rel(auc[one], auc[other]).pvalue
            for one, other in combinations(models, 2)
        }
        for at, (one, other) in enumerate(sorted(p_values, key=p_values.__getitem__)):
            if p_values[one, other] * (len(p_values) - at) > 0.05:
                break
            higher, lower = (one, other) if auc[one].mean() > auc[other].mean() else (other, one)
            found.add((task, higher, lower))
    assert found == {
        *(("finish", "rankmixer", lower) for lower in ("autoint", "transformer")),
        *(("skip", "rankmixer", lower) for lower in ("autoint", "transformer", "deepfm")),
        *(("finish", higher, "autoint") for higher in ("dcn", "deepfm")),
    }
    words = " ".join(KEPT.read_text(encoding="utf-8").split())
    assert (
        "RankMixer is above AutoInt and the Transformer in AUC of both tasks and above DeepFM in `skip`"
        in words
    )
    assert "DCN and DeepFM are above AutoInt in `finish`" in words


def records_of(folder: str, architecture: str) -> list[dict]:
    """The records of a kept folder's runs of one architecture, one a seed."""
    kept = pq.read_table(FOLDERS / folder / "records.parquet", filters=[("architecture", "=", architecture)])
    return [json.loads(text) for text in kept["record"].to_pylist()]


@pytest.mark.parametrize("table", [t for t in tables() if t.is_whole], ids=lambda table: table.words)
def test_a_table_s_values_are_means_over_the_runs_that_its_command_made(table):
    for row in select_model(table):
        for at, (folder, task, metric) in table.columns.items():
            records = records_of(folder, name_of(row))
            assert records, name_of(row)
            mean = pd.Series([record["metrics"][task][metric] for record in records]).mean()
            assert row[at - 1] == f"{mean:.4f}", name_of(row)


@pytest.mark.parametrize("table", [t for t in tables() if t.is_whole], ids=lambda table: table.words)
def test_a_table_s_speeds_are_those_measured_after_its_runs(table):
    folder = table.columns[2].folder
    [measured] = json.loads((FOLDERS / folder / "serving.json").read_text(encoding="utf-8"))["passes"]
    whole = {
        m["architecture"]: m for m in measured["models"] if (m["part"], m["batch_size"]) == ("whole", 512)
    }
    assert measured["threads"] == 1
    for row in select_model(table):
        name = name_of(row)
        if row[0].startswith("*"):
            assert row[9:] == ["–", "–"], name  # noqa: RUF001
            continue
        assert not whole[name]["noisy"]
        assert row[9:] == [f"{whole[name]['latency_ms_p99']:.1f}", f"{100 * whole[name]['mfu']:.0f}%"], name


@pytest.mark.parametrize("path", sorted(FOLDERS.glob("*/serving.json")), ids=lambda path: path.parent.name)
def test_kept_speeds_are_of_kept_runs(path):
    runs = pq.read_table(
        path.parent / "records.parquet", columns=["suite", "dataset", "architecture", "variant", "spec_hash"]
    )
    kept = set(zip(*runs.to_pydict().values(), strict=True))
    for measured in json.loads(path.read_text(encoding="utf-8"))["passes"]:
        for model in measured["models"]:
            names = (model["architecture"], model["variant"], model["spec_hash"])
            assert (measured["suite"], measured["dataset"], *names) in kept


SPEEDS = {
    "share of the peak, and milliseconds": ("profile-table1", 512, 2),
}


@pytest.mark.parametrize("words", SPEEDS)
def test_a_table_s_speeds_are_those_that_the_profile_holds(words):
    folder, batch, width = SPEEDS[words]
    profile = json.loads((FOLDERS / folder / "profile.json").read_text(encoding="utf-8"))
    dense = [r for r in profile["records"] if (r["part"], r["batch_size"]) == ("dense", batch)]
    rows = select_model(Table(KEPT, words, {}))
    assert len(rows) >= 5
    for row in rows:
        for mode, at in (("inference", 1), ("train", 1 + width)):
            [record] = [r for r in dense if (r["architecture"], r["mode"]) == (name_of(row), mode)]
            cells = [f"{100 * record['mfu']:.0f}%"]
            cells += [f"{record['latency_ms_p50']:.2f}"]
            assert row[at : at + width] == cells[:width], row[0]


def test_the_table_of_engines_and_its_words_are_those_of_the_profile():
    models = json.loads((FOLDERS / "serving-table1/serving_profile.json").read_text(encoding="utf-8"))[
        "models"
    ]
    found = {(model["architecture"], model["engine"]): model for model in models}
    for row in select_model(Table(KEPT, "random arrivals the loads", {})):
        for cell, engine in zip(row[1:], ("eager", "compile", "aoti", "onnx"), strict=True):
            assert cell == f"{found[name_of(row), engine]['candidates_per_second'] / 1e3:.1f}"
    ahead = [found.pop((name, "onnx")) for name in ("dlrm_mlp", "dcnv2")]
    ends = [(round(model["qps_low"]), round(model["qps_high"])) for model in ahead]
    assert ends == [(1061, 1112), (957, 1041)]
    assert max(model["qps_high"] for model in found.values()) < 957
    assert sum(model["qps_low"] == 0 for model in found.values()) == 11


CHANGES = {
    "batch normalisation": "batch-norm",
    "dropout of 0.1": "dropout",
    "a rate that falls on plateaus": "plateau",
    "the best of five validations": "best-weights",
    "three passes, the best validation": "three-passes",
    "all rows shuffled at once": "whole-shuffle",
    "Adam on tables": "adam-tables",
    "SGD on tables": "sgd-tables",
    "L2 on whole tables": "table-l2",
    "tables from N(0, 10⁻⁴)": "small-tables",
    "Xavier normal": "xavier",
    "all of a published recipe": "published",
}


def test_each_change_of_a_recipe_is_the_one_that_was_measured():
    kept = pd.read_csv(FOLDERS / "recipes/variants.csv", keep_default_na=False)
    columns = [("finish", "auc"), ("skip", "auc"), ("skip", "uauc"), ("like", "auc"), ("like", "uauc")]
    rows = select_model(Table(KEPT, "### What parts of a recipe change", {}))
    assert [row[0] for row in rows] == list(CHANGES)
    for name, *cells in rows:
        of_change = kept[kept["variant"] == CHANGES[name]]
        for at, (task, metric) in enumerate(columns):
            found = of_change[(of_change["task"] == task) & (of_change["metric"] == metric)]
            for cell, architecture in zip(cells[2 * at :], ("dlrm_mlp", "rankmixer"), strict=False):
                of_model = found[found["architecture"] == architecture].to_dict("records")
                assert cell == (shown(of_model[0]) if of_model else "\N{EN DASH}"), (
                    name,
                    task,
                    metric,
                    architecture,
                )


def test_what_is_said_of_recipes_is_in_their_records():
    kept = pd.read_csv(FOLDERS / "recipes/variants.csv", keep_default_na=False)
    published = kept[(kept["variant"] == "published") & (kept["dataset"] == "kuairand-pure")]
    ends = {
        ("finish", "auc"): (-2.19, -1.42),
        ("skip", "auc"): (-3.46, -3.13),
        ("skip", "uauc"): (4.68, 6.72),
    }
    for (task, metric), (least, most) in ends.items():
        found = 100 * published[(published["task"] == task) & (published["metric"] == metric)]["diff"]
        assert (len(found), round(found.min(), 2), round(found.max(), 2)) == (3, least, most)
    not_resolved = published[published["metric"].isin(["auc", "uauc"]) & (published["resolved"] == "no")]
    assert set(zip(not_resolved["task"], not_resolved["architecture"], strict=True)) >= {
        ("finish", "rankmixer")
    }
    runs = pq.read_table(FOLDERS / "recipes/records.parquet").to_pylist()
    records = {(run["dataset"], run["architecture"], run["variant"], run["seed"]): run for run in runs}
    passes = [
        [sum(task["auc"] + task["gauc"] for task in one["metrics"].values()) for one in validation]
        for (dataset, _, variant, _), run in records.items()
        if (dataset, variant) == ("kuairand-pure", "published")
        for validation in [json.loads(run["record"])["validation"]]
    ]
    assert [(len(monitor), monitor.index(max(monitor))) for monitor in passes] == 15 * [(4, 1)]
    plateaus = [
        json.loads(run["record"])["metrics"]
        != json.loads(records[dataset, architecture, "", seed]["record"])["metrics"]
        for (dataset, architecture, variant, seed), run in records.items()
        if variant == "plateau"
    ]
    assert (sum(plateaus), len(plateaus)) == (1, 30)


def test_the_curves_over_rows_and_size_are_those_of_the_records():
    auc = {}
    for run in pq.read_table(FOLDERS / "curves/records.parquet").to_pylist():
        record = json.loads(run["record"])
        if record["size"]:
            points = [*(point["metrics"] for point in record["tested"]), record["metrics"]]
            auc[record["architecture"], record["size"]] = points
    rows = select_model(Table(KEPT, "Over sizes, in the first of these worlds alone", {}))
    assert len(rows) == 7
    for row in rows:
        shown = []
        for task in ("finish", "skip"):
            for size, points in (("1M", range(4)), ("0.3M", [3]), ("3M", [3])):
                ours, base = auc[NAMES[row[0]], size], auc["dlrm_mlp", size]
                shown += [100 * (ours[at][task]["auc"] - base[at][task]["auc"]) for at in points]
        assert row[1:] == [f"{diff:+.2f}".replace("-", "\N{MINUS SIGN}") for diff in shown]
    base = {size: [point["finish"]["auc"] for point in auc["dlrm_mlp", size]] for size in ("0.3M", "3M")}
    assert round(100 * (base["3M"][3] - base["0.3M"][3]), 2) == 0.19
    assert all(100 * (points[3] - points[1]) > 3 for points in base.values())


def test_the_curves_of_three_worlds_are_those_of_the_records():
    """Means and Student's t intervals over worlds, from scipy; and what the words beside them say."""
    auc = {}
    for run in pq.read_table(FOLDERS / "curves-worlds/records.parquet").to_pylist():
        record = json.loads(run["record"])
        if record["size"]:
            points = [*(point["metrics"] for point in record["tested"]), record["metrics"]]
            auc[record["architecture"], record["spec"]["world"]] = points
    rows = select_model(Table(KEPT, "### More rows, and more FLOPs (`curves`)", {}))
    assert len(rows) == 7
    p_values = []
    for row in rows:
        shown = []
        for task in ("finish", "skip"):
            for at in range(4):
                ours = [auc[NAMES[row[0]], world][at][task]["auc"] for world in range(3)]
                theirs = [auc["dlrm_mlp", world][at][task]["auc"] for world in range(3)]
                test, diffs = stats.ttest_rel(ours, theirs), 100 * np.subtract(ours, theirs)
                p_values.append(test.pvalue)
                shown.append(f"{diffs.mean():+.2f}")
                assert row[0] != "RankMixer" or (diffs > 0).all()
            low, high = (100 * end for end in test.confidence_interval(0.95))
            shown.append(f"({low:+.2f} to {high:+.2f})")
        assert row[1:] == [cell.replace("-", "\N{MINUS SIGN}") for cell in shown]
    assert round(28 * min(p_values), 2) == 0.12
    for task, change, half in (("finish", -0.05, 1.62), ("skip", -0.19, 1.61)):
        leads = [
            [
                auc["rankmixer", world][at][task]["auc"] - auc["dlrm_mlp", world][at][task]["auc"]
                for at in (0, 3)
            ]
            for world in range(3)
        ]
        changes = 100 * np.diff(leads)[:, 0]
        assert round(changes.mean(), 2) == change
        assert round(stats.sem(changes) * stats.t.ppf(0.975, 2), 2) == half


def test_the_models_that_are_resolved_at_equal_parameters_are_those_that_table1_params_wrote():
    words = " ".join(KEPT.read_text(encoding="utf-8").split())
    words = words[words.index("three are above") : words.index("None is below.")]
    kept = pd.read_csv(FOLDERS / "table1-params/comparisons.csv", keep_default_na=False)
    kept = kept[kept["architecture"].isin(NAMES.values()) & kept["metric"].isin(["auc", "uauc"])]
    display = {architecture: name for name, architecture in NAMES.items()}
    for row in kept.to_dict("records"):
        told = f"{100 * row['diff']:+.2f} ({100 * row['low']:.2f} to {100 * row['high']:.2f}"
        is_told = f"{display[row['architecture']]} {told})" in words
        assert is_told == (row["resolved"] == "yes"), row
        if row["architecture"] == "rankmixer" and row["metric"] == "auc":
            assert f"{told}, p .{100 * float(row['p_holm']):02.0f})" in words
    assert (kept.loc[kept["resolved"] == "yes", "diff"] > 0).all()


def test_the_lifts_by_activity_that_are_said_to_be_resolved_are_those_that_table4_wrote():
    words = " ".join(KEPT.read_text(encoding="utf-8").split())
    models = {"dcnv2": "DCNv2", "transformer": "Transformer", "wukong": "Wukong", "rankmixer": "RankMixer"}
    for folder, told, number in (("table4-kuairand-pure", "None of 16", 0), ("table4", "two of 16", 2)):
        kept = pd.read_csv(FOLDERS / folder / "tiers.csv", keep_default_na=False)
        kept = kept[(kept["tier"] == "low - high") & kept["architecture"].isin(models)]
        kept = kept[kept["metric"].isin(["auc", "uauc"])]
        resolved = kept[kept["resolved"] == "yes"]
        assert len(kept) == 16
        assert len(resolved) == number
        assert told in words
        auc = 100 * kept.loc[kept["metric"] == "auc", "diff"]
        assert f"{auc.min():+.2f} to {auc.max():+.2f}".replace("-", "\N{MINUS SIGN}") in words
        for row in resolved.to_dict("records"):
            assert (row["task"], row["metric"]) == ("finish", "uauc")
            found = f"{100 * row['diff']:.2f} ({100 * row['low']:.2f} to {100 * row['high']:.2f})"
            assert f"{models[row['architecture']]}'s {found}".replace("-", "\N{MINUS SIGN}") in words
    of_least = _uauc_of_finish(FOLDERS / "table4/tiers.csv", "low")
    assert set(of_least["users"]) == {525}
    assert "of whom only 525 have both labels" in words
    for name in ("rankmixer", "wukong"):
        ends = [f"{100 * of_least.loc[name, end]:.2f}" for end in ("diff", "low", "high")]
        assert "{}, {} to {}".format(*ends).replace("-", "\N{MINUS SIGN}") in words
    of_most = _uauc_of_finish(FOLDERS / "table4/tiers.csv", "high")
    assert set(of_most.loc[["rankmixer", "wukong"], "resolved"]) == {"no"}


def _uauc_of_finish(path: Path, tier: str) -> pd.DataFrame:
    kept = pd.read_csv(path, keep_default_na=False).query("task == 'finish' and metric == 'uauc'")
    return kept[kept["tier"] == tier].set_index("architecture")


def test_what_the_found_settings_are_worth_is_what_tuning_wrote():
    words = " ".join(KEPT.read_text(encoding="utf-8").split())
    for folder, name, sign in (("tuning-kuairand-pure", "autoint", -1), ("tuning", "moe", 1)):
        kept = pd.read_csv(FOLDERS / folder / "variants.csv", keep_default_na=False)
        kept = kept[kept["metric"].isin(["auc", "uauc"]) & (kept["diff"] != 0)]
        [row] = kept[kept["resolved"] == "yes"].to_dict("records")
        low, high = sorted(sign * 100 * row[end] for end in ("low", "high"))
        assert row["architecture"] == name
        assert f"one of their {len(kept)} differences is resolved" in words
        p = f"p .{1000 * float(row['p_holm']):03.0f}"
        assert f"{sign * 100 * row['diff']:.2f} ({low:.2f} to {high:.2f}, {p}" in words
        rest = 100 * kept.loc[kept["resolved"] != "yes", "diff"]
        ends = f"{rest.min():+.2f} to {rest.max():+.2f}".replace("-", "\N{MINUS SIGN}")
        assert f"the others are {ends}" in words


def test_what_the_order_of_histories_is_worth_to_trees_is_in_their_runs():
    auc = {}
    for run in pq.read_table(FOLDERS / "table1/records.parquet").to_pylist():
        record = json.loads(run["record"])
        auc[run["architecture"], record["spec"]["world"]] = record["metrics"]
    words = " ".join(KEPT.read_text(encoding="utf-8").split())
    told = []
    for task in ("finish", "skip"):
        with_it, without = (
            [100 * auc[name, world][task]["auc"] for world in range(10)]
            for name in ("gbdt", "gbdt_unordered")
        )
        test = stats.ttest_rel(with_it, without)
        low, high = test.confidence_interval(0.95)
        told.append(f"{np.subtract(with_it, without).mean():.2f} ({low:.2f} to {high:.2f})")
    assert f"it loses {' and '.join(told)}, and is not told" in words
    kept = pd.read_csv(FOLDERS / "table1/comparisons.csv")
    rows = kept[(kept["architecture"] == "gbdt_unordered") & (kept["metric"] == "uauc")].to_dict("records")
    uauc = [f"+{100 * row['diff']:.2f}, {100 * row['low']:.2f} to {100 * row['high']:.2f}" for row in rows]
    assert f"the GBDT without the order is ({'; '.join(uauc)}, uncorrected)" in words


def test_the_pairs_that_are_resolved_in_table1_are_those_of_its_runs():
    """Student's t over worlds from scipy, Holm's steps by hand, the paper's gains as it prints them."""
    auc = {}
    for run in pq.read_table(FOLDERS / "table1/records.parquet").to_pylist():
        record = json.loads(run["record"])
        if record["kind"] == "model":
            auc[run["architecture"], record["spec"]["world"]] = record["metrics"]
    found = {}
    for task, gains in PAPER.items():
        pairs = {}
        for one, other in combinations(gains, 2):
            if gains[one] != gains[other]:
                ours, theirs = (
                    [auc[name, world][task]["auc"] for world in range(10)] for name in (one, other)
                )
                pairs[one, other] = (stats.ttest_rel(ours, theirs).pvalue, np.mean(ours) - np.mean(theirs))
        found[task, "pairs"] = len(pairs)
        for at, (one, other) in enumerate(sorted(pairs, key=pairs.__getitem__)):
            p_value, diff = pairs[one, other]
            if p_value * (len(pairs) - at) >= 0.05:
                break
            higher, lower = (one, other) if diff > 0 else (other, one)
            found.setdefault((task, gains[higher] > gains[lower]), set()).add((higher, lower))
    over = {"moe": ("rankmixer", "wukong", "dhen", "dcnv2"), "autoint": ("rankmixer", "wukong", "dcnv2")}
    expected = {(higher, lower) for lower in over for higher in over[lower]} | {("rankmixer", "hiformer")}
    assert found == {
        ("finish", "pairs"): 27,
        ("finish", True): expected,
        ("finish", False): {("rdcn", "autoint"), ("wukong", "hiformer")},
        ("skip", "pairs"): 21,
        ("skip", True): {(name, "moe") for name in (*over["moe"], "rdcn")},
    }


def test_what_feature_groups_that_share_little_change_is_what_was_measured():
    """Each contrast from its file; what lies between both kinds of worlds from the runs, world by world."""
    rows = select_model(Table(KEPT, "### Feature groups that share nothing, or much", {}))
    others = {
        "Transformer": ("transformer", ""),
        "RankMixer with one network for all tokens": ("rankmixer", "shared-ffn"),
    }
    kinds = ("apart", "shared")
    kept = {
        kind: pd.read_csv(FOLDERS / f"heterogeneity-{kind}/contrasts.csv", keep_default_na=False)
        for kind in kinds
    }
    auc = {}
    for kind in kinds:
        for run in pq.read_table(FOLDERS / f"heterogeneity-{kind}/records.parquet").to_pylist():
            record = json.loads(run["record"])
            for task, metrics in record["metrics"].items():
                auc[kind, task, run["architecture"], run["variant"], record["spec"]["world"]] = metrics["auc"]
    assert [row[0] for row in rows] == list(others)
    p_values = {}
    for name, *cells in rows:
        base, variant = others[name]
        for at, task in ((0, "finish"), (3, "skip")):
            points = []
            for kind, cell in zip(kinds, cells[at:], strict=False):
                found = kept[kind]
                found = found[(found["task"] == task) & (found["metric"] == "auc") & (found["base"] == base)]
                [row] = found[found["base_variant"] == variant].to_dict("records")
                assert cell == shown(row)
                ours = np.array([auc[kind, task, "rankmixer", "", world] for world in range(5)])
                theirs = np.array([auc[kind, task, base, variant, world] for world in range(5)])
                points.append(ours - theirs)
                assert row["diff"] == pytest.approx(points[-1].mean())
            p_values[name, task] = stats.ttest_rel(*points).pvalue
            difference = f"{100 * (points[0].mean() - points[1].mean()):+.2f}"
            assert cells[at + 2].strip("*") == difference
    for task, corrected in (("finish", 0.123), ("skip", 0.162)):
        least = min(p_values[name, task] for name in others)
        assert p_values["RankMixer with one network for all tokens", task] == least
        assert round(2 * least, 3) == corrected


def test_what_experts_are_worth_is_in_their_runs():
    """Means and Student's t intervals over worlds, from scipy; and what the words beside them say."""
    runs = {}
    for run in pq.read_table(FOLDERS / "experts-at-scale/records.parquet").to_pylist():
        record = json.loads(run["record"])
        if record["kind"] == "model":
            runs[record["series"], record["spec"]["world"]] = record

    def differences(series: str, base: str, task: str, at: int) -> np.ndarray:
        ours, theirs = (
            [[*(p["metrics"] for p in runs[name, w]["tested"]), runs[name, w]["metrics"]] for w in range(3)]
            for name in (series, base)
        )
        pairs = zip(ours, theirs, strict=True)
        return np.array([100 * (one[at][task]["auc"] - other[at][task]["auc"]) for one, other in pairs])

    rows = select_model(Table(KEPT, "### Experts, where there is more to learn (`experts-at-scale`)", {}))
    names = {"dense, an eighth as wide": "dense", "an eighth of the experts": "dtsi-relu"}
    p_values, most = [], []
    for row in rows:
        shown = []
        for task in ("finish", "skip"):
            for at in range(3):
                diffs = differences(names[row[0]], "", task, at)
                p_values.append(stats.ttest_1samp(diffs, 0).pvalue)
                shown.append(f"{diffs.mean():+.2f}")
            low, high = stats.ttest_1samp(diffs, 0).confidence_interval(0.95)
            most.append(round(-low, 2))
            shown.append(f"({low:+.2f} to {high:+.2f})")
        assert row[1:] == [cell.replace("-", "\N{MINUS SIGN}") for cell in shown]
    assert len(rows) == 2
    assert min(p_values) > 0.05
    assert most[:2] == [0.12, 0.08]
    contrasts = pd.read_csv(FOLDERS / "experts-at-scale/contrasts.csv")
    words = []
    for task in ("finish", "skip"):
        test = stats.ttest_1samp(differences("dtsi-relu", "dense", task, 2), 0)
        low, high = test.confidence_interval(0.95)
        [kept] = contrasts[(contrasts["task"] == task) & (contrasts["metric"] == "auc")].to_dict("records")
        assert kept["p_value"] == pytest.approx(test.pvalue, rel=1e-3)
        assert [100 * kept["low"], 100 * kept["high"]] == pytest.approx([low, high], abs=1e-3)
        words.append((round(low, 2), round(high, 2), round(test.pvalue, 2), bool(3 * test.pvalue < 0.05)))
    assert words == [(0.01, 0.04, 0.03, False), (-0.08, 0.07, 0.93, False)]
    slower = [
        runs["dtsi-relu", w]["training"]["train_seconds"] / runs["dense", w]["training"]["train_seconds"]
        for w in range(3)
    ]
    assert 9 < min(slower) < max(slower) < 10.5


def test_what_parts_are_worth_with_more_rows_is_in_their_runs():
    """Means and Student's t intervals over worlds, from scipy; verdicts and p-values as the comparisons'."""
    tested = {}
    for run in pq.read_table(FOLDERS / "parts-at-scale/records.parquet").to_pylist():
        record = json.loads(run["record"])
        if record["kind"] == "model":
            points = [*(point["metrics"] for point in record["tested"]), record["metrics"]]
            tested[record["variant"], record["spec"]["world"]] = points

    def differences(variant: str, task: str, at: int) -> np.ndarray:
        worlds = [world for world in range(3) if (variant, world) in tested]
        pairs = [(tested[variant, w][at], tested["", w][at]) for w in worlds]
        return np.array([100 * (one[task]["auc"] - whole[task]["auc"]) for one, whole in pairs])

    judged = pd.read_csv(FOLDERS / "parts-at-scale/comparisons.csv").query("architecture == 'rankmixer'")
    assert set(judged[judged["metric"] == "auc"]["resolved"]) == {"no", "few worlds"}
    [alone] = judged[judged["resolved"] == "yes"].to_dict("records")
    assert (alone["variant"], alone["task"], alone["metric"]) == ("self-attention-4-heads", "finish", "uauc")
    assert [round(100 * alone[name], 2) for name in ("diff", "low", "high")] == [-0.79, -1.01, -0.57]

    section = "### RankMixer's parts, where there is more to learn (`parts-at-scale`)"
    apart = "`run table2`, `run table3`, and both with `--dataset kuairand-pure --seeds 5`:"
    printed = {row[0]: row[1] for row in select_model(Table(KEPT, apart, {}))}
    rows = select_model(Table(KEPT, section, {}))
    for variant, *cells in rows:
        expected = [printed[variant.removesuffix("-4-heads")]]
        for task in ("finish", "skip"):
            last = differences(variant, task, 2)
            low, high = stats.ttest_1samp(last, 0).confidence_interval(0.95)
            expected += [f"{differences(variant, task, at).mean():+.2f}" for at in range(3)]
            expected.append(f"({low:+.2f} to {high:+.2f})")
            assert last.mean() < 0
        assert cells == [cell.replace("-", "\N{MINUS SIGN}") for cell in expected]
    assert len(rows) == 7

    for variant, digits, words in (
        ("no-mixing", 2, [(0.04, 0.22), (0.03, 0.17)]),
        ("self-attention-4-heads", 3, [(0.008, 0.054), (0.008, 0.053)]),
    ):
        of_row = judged[(judged["variant"] == variant) & (judged["metric"] == "auc")].set_index("task")
        found = [(of_row["p_value"][task], of_row["p_holm"][task]) for task in ("finish", "skip")]
        assert [(round(one, digits), round(corrected, digits)) for one, corrected in found] == words
    changes = []
    for task in ("finish", "skip"):
        change = differences("no-mixing", task, 2) - differences("no-mixing", task, 0)
        test = stats.ttest_1samp(change, 0)
        values = (change.mean(), *test.confidence_interval(0.95), test.pvalue)
        changes.append([round(float(value), 2) for value in values])
    assert changes == [[-0.43, -0.85, 0, 0.05], [-0.7, -1.32, -0.08, 0.04]]
    with_heads = [
        round(float(differences(variant, task, 2)[0]), 2)
        for variant in ("self-attention", "self-attention-4-heads")
        for task in ("finish", "skip")
    ]
    assert with_heads == [-0.51, -0.57, -0.55, -0.51]


def test_runs_of_several_worlds_had_a_seed_of_their_own_in_each():
    """Were it one for all, what it does to all worlds alike would be in none of the kept intervals."""
    shared = set()
    for path in FOLDERS.glob("*/records.parquet"):
        records = [json.loads(text) for text in pq.read_table(path)["record"].to_pylist()]
        specs = [record["spec"] for record in records if record.get("world") is not None]
        if not all(spec.get("seed_per_world") for spec in specs):
            shared.add(path.parent.name)
    assert shared == set()


def test_what_is_kept_is_small_and_every_folder_and_figure_is_shown():
    files = [path for path in FOLDERS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    text = KEPT.read_text(encoding="utf-8") + (ROOT / "README.md").read_text(encoding="utf-8")
    for path in FOLDERS.iterdir():
        assert f"({path.name})" in text or path == KEPT, path.name
    pictures = [path for path in files if path.suffix in (".png", ".svg")]
    assert 3 <= len(pictures) <= 5
    for path in pictures:
        assert str(path.relative_to(FOLDERS)) in text
