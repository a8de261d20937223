"""The way of own data runs as docs/own_data.md says it, and the READMEs' tables are those of the code."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import MISSING, fields
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pydantic_core import PydanticUndefined

from datasets import schema
from datasets.catalog import DATASETS
from datasets.kuairand import large
from datasets.kuairand import source as kuairand
from datasets.movielens.source import MovieLensOptions
from datasets.shortvideo import source as shortvideo
from datasets.vk_lsvd.schema import VkLsvdOptions
from datasets.yambda.source import YambdaOptions
from harness.records.spec import Training
from suites import suite
from suites.tuning.search import DEFAULT_SEARCH
from tests.forked import forked_command

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = Path("examples/own_data")
README = {
    name: (ROOT / name / "README.md").read_text() for name in ("datasets", "harness", "suites", "tests")
}
GUIDE = (ROOT / "docs/own_data.md").read_text()
OWN = "examples.own_data.own_architecture:MLPMixer"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for block in blocks(text, "bash") for line in block.splitlines()]


# ------------------------------------------------------------------------------------- the way of own data


@pytest.fixture(scope="module")
def journey(tmp_path_factory) -> Path:
    """A folder in which the first block of commands of docs/own_data.md has been run."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(ROOT / EXAMPLE, folder / EXAMPLE, ignore=shutil.ignore_patterns("*.csv", "__pycache__"))
    for line in blocks(GUIDE, "bash")[0].splitlines():
        _, script, *arguments = shlex.split(line)
        if script == "run_bench.py":
            arguments += ["--no-speed"] if arguments[0] == "run" else []  # seconds, and shown elsewhere
            process = forked_command(folder, *arguments)
            said = process.communicate()
            assert process.returncode == 0, f"{line}: {said}"
        else:
            subprocess.run([sys.executable, script, *arguments], check=True, capture_output=True, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def rows(journey) -> list[dict[str, str]]:
    with (journey / EXAMPLE / "impressions.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_report_has_the_examples_own_architecture_beside_the_shipped_ones(journey):
    report = (journey / "out/own/report.md").read_text()
    table = report.partition("Quality on articles, task finished")[2].partition("- AUC over")[0]
    for name in ("DLRM-MLP", "RankMixer", "MLPMixer", "constant", "words_only"):
        assert re.search(rf"^\| {re.escape(name)} \|", table, re.MULTILINE), f"no row of {name}"


def test_the_drafted_schema_means_what_the_one_written_by_hand_does(journey):
    """But for what is a choice: names, widths, min_count, and the days on which the splits begin."""
    drafted, by_hand = (
        schema.load_schema(journey / EXAMPLE / f"{name}.yaml") for name in ("drafted", "schema")
    )

    def meaning(chosen: schema.Schema) -> dict:
        columns = {feature.table: feature.source_column for feature in reversed(chosen.sparse_features)}
        return {
            f.source_column: (
                *(f.kind, f.group, f.separator, f.normalization),
                columns[chosen.feature(f.vocabulary or f.name).name] if f.is_sparse else None,
                f.max_length if f.kind == "sequence" else None,
            )
            for f in chosen.features
        }

    assert meaning(drafted) == meaning(by_hand)
    assert [task.source_column for task in drafted.tasks] == [task.source_column for task in by_hand.tasks]
    assert (drafted.user_id, drafted.time, drafted.split.by) == (
        by_hand.user_id,
        by_hand.time,
        by_hand.split.by,
    )


def test_the_own_architecture_is_matched_and_learns(journey):
    results = pd.read_csv(journey / "out/own/results.csv")
    own = results[results["architecture"] == OWN]
    assert set(zip(own["seed"], own["task"], strict=True)) == {
        (seed, task) for seed in (0, 1) for task in ("opened", "finished")
    }
    assert set(own["status"]) == {"finished"}
    assert (own["budget_miss"].abs() < 0.03).all()
    assert (own["auc"] > 0.55).all()


def test_test_rows_and_users_are_those_counted_in_the_csv(journey, rows):
    results = pd.read_csv(journey / "out/own/results.csv")
    tested = [row for row in rows if row["shown_at"] >= "2024-03-13"]
    for task, column in (("opened", "opened"), ("finished", "read_to_end")):
        labels = defaultdict(set)
        for row in tested:
            if row[column]:
                labels[row["user"]].add(row[column])
        task_results = results[results["task"] == task]
        assert set(task_results["rows"]) == {sum(row[column] != "" for row in tested)}
        assert set(task_results["users"]) == {sum(seen == {"0", "1"} for seen in labels.values())}


def test_what_a_row_says_of_the_past_is_what_earlier_rows_show(rows):
    opened = defaultdict(list)
    for row in rows:
        past = opened[row["user"]]
        assert row["read_articles"] == "|".join(article for article, _ in past[-10:])
        assert row["read_topics"] == "|".join(topic for _, topic in past[-10:])
        assert int(row["topic_reads"]) == sum(topic == row["topic"] for _, topic in past)
        if row["opened"] == "1":
            past.append((row["article"], row["topic"]))
    times = [row["shown_at"] for row in rows]
    assert times == sorted(times)


LIBRARIES = {"torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "numpy", "polars", "pyarrow"} | {
    *("scikit-learn", "lightgbm"),
}


def test_the_readme_explains_every_field_of_a_record(journey):
    section = README["harness"].partition("## The run record")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`(\w+)`", section))
    for path in (journey / "out/own/runs").glob("*/record.json"):
        record = json.loads(path.read_text())
        held = {*record, *(record["cost"] or {}), *(record["budget"] or {}), *(record["training"] or {})}
        held |= {*record["metrics"]["opened"], *record["dataset_info"]}
        held |= {name for entry in record["validation"] for name in entry}
        held |= {name for name in record["environment"] if name not in LIBRARIES}
        assert held <= explained


# ------------------------------------------------------------------------------------------- the READMEs


def documented(text: str, of: str | None) -> dict[str, str]:
    """Field -> default: of the list below the line ``**of**``, or (None) of the rows of a table."""
    if of is None:
        return dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", text, re.MULTILINE))
    return listed(text.partition(f"\n**{of}**\n")[2].partition("\n**")[0].partition("\n#")[0])


def listed(text: str) -> dict[str, str]:
    """Name -> default of the lines that begin with ``- `name` (default)``."""
    return dict(re.findall(r"^- `(\w+)` \((.+?)\)(?=:|$)", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("readme", "of", "model"),
    [
        ("datasets", "schema", schema.Schema),
        ("datasets", "csv", schema.Csv),
        ("datasets", "feature", schema.Feature),
        ("datasets", "task", schema.Task),
        ("datasets", "baseline", schema.SingleFeatureBaseline),
        ("datasets", "split by time", schema.TimeSplit),
        ("datasets", "split by fraction", schema.FractionSplit),
        ("datasets", "split by column", schema.ColumnSplit),
        ("suites", "suite", suite.Suite),
        ("suites", "dataset", suite.Dataset),
        ("suites", "architecture", suite.SuiteRow),
        ("suites", "budget", suite.SuiteBudget),
        ("harness", None, Training),
    ],
)
def test_the_readme_states_every_field_with_its_default(readme, of, model):
    text = README[readme].partition("## Training")[2] if model is Training else README[readme]
    stated = documented(text, of)
    assert set(stated) == set(model.model_fields)
    for name, cell in stated.items():
        default = model.model_fields[name].get_default(call_default_factory=True)
        if default is PydanticUndefined:
            assert cell == "required", name
        elif isinstance(default, schema.Csv):
            assert cell == "plain CSV"  # whose fields have rows of their own
        elif default is None:
            assert cell in ("none", "the name"), name
        elif name == "search":
            assert cell == "see [tuning](../docs/tuning.md)"  # held to the code by the next test
        elif not isinstance(default, Training):
            assert cell == f"`{default}`".replace("``", '`""`'), name


def test_the_guide_states_what_tuning_chooses_from():
    text = (ROOT / "docs/tuning.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*) \|$", text, re.MULTILINE)
    stated: dict[str, list[float]] = {}
    for names, said in rows:
        numbers = [float(number) for number in re.findall(r"\d[\d.e-]*", said)]
        own = re.findall(r"\w+", names)
        is_range = "evenly in the logarithm" in said
        for position, name in enumerate(own):
            stated[name] = numbers[2 * position : 2 * position + 2] if is_range else numbers
    expected = {
        name: choices if isinstance(choices, list) else [choices.low, choices.high]
        for name, choices in DEFAULT_SEARCH.items()
    }
    assert stated == expected


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("shortvideo", {option.name: option.default for option in fields(shortvideo.Options)}),
        ("kuairand-pure", {n: f.default for n, f in kuairand.KuaiRandOptions.model_fields.items()}),
        ("kuairand-1k", {n: f.default for n, f in large.LargeOptions.model_fields.items()}),
        ("kuairand-27k", {n: f.default for n, f in large.LargeOptions.model_fields.items()}),
        ("movielens-100k", {n: f.default for n, f in MovieLensOptions.model_fields.items()}),
        ("movielens-1m", {n: f.default for n, f in MovieLensOptions.model_fields.items()}),
        ("vk-lsvd", {n: f.default for n, f in VkLsvdOptions.model_fields.items()}),
        ("yambda-50m", {n: f.default for n, f in YambdaOptions.model_fields.items()}),
        ("yambda-500m", {n: f.default for n, f in YambdaOptions.model_fields.items()}),
        ("yambda-5b", {n: f.default for n, f in YambdaOptions.model_fields.items()}),
    ],
)
def test_the_readme_states_every_option_of_a_dataset_with_its_default(dataset, options):
    assert MISSING not in options.values()
    stated = {name: yaml.safe_load(value) for name, value in stated_options(dataset).items()}
    assert stated == options


def linked_section(dataset: str) -> str:
    """The section that the dataset's row of the table links; empty where there is none."""
    row = re.search(rf"^\| \[[^]]*`{dataset}`[^]]*\]\(#([\w-]+)\) \|", README["datasets"], re.MULTILINE)
    parts = {part.partition("\n")[0].lower(): part for part in README["datasets"].split("\n## ")}
    return parts[row[1]] if row else ""


def stated_options(dataset: str) -> dict[str, str]:
    """Option -> default: those of the dataset's section, or of these those that a line names for it."""
    section = linked_section(dataset)
    stated = listed(section)
    named = re.search(rf"^Options of .*`{dataset}`.*: (`.*`)\.$", section, re.MULTILINE)
    return {name: stated[name] for name in re.findall(r"\w+", named[1])} if named else stated


def test_every_dataset_and_every_shipped_suite_has_its_place_in_a_readme():
    published = README["datasets"].partition("\n## Published splits\n")[2].partition("\n## ")[0]
    for name in DATASETS:
        assert linked_section(name) or f"`{name}`" in published, name
    rows = [line for line in README["suites"].splitlines() if line.startswith("| `")]
    for name in suite.shipped_suites():
        opening = (ROOT / "suites" / f"{name}.yaml").read_text()
        [command] = re.findall(r"^# Command +python run_bench\.py ([^[(\n]*[^[(\s])", opening, re.MULTILINE)
        [time] = re.findall(r"^# Time +(.*)$", opening, re.MULTILINE)
        [row] = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        *_, said, told, _ = (cell.strip() for cell in row.split("|"))
        assert (said.strip("`") or f"run {name}").replace("NAME", name) == command
        assert told == re.sub(r" at 60 GFLOP/s \(estimate: .*\)$", ", estimated", time), name


def test_the_guide_s_yaml_is_the_example_s():
    start = schema.Schema.model_validate(yaml.safe_load(blocks(GUIDE, "yaml")[0]))
    whole = schema.load_schema(ROOT / EXAMPLE / "schema.yaml")
    assert (start.name, start.files, start.tasks) == (whole.name, whole.files, whole.tasks)
    assert (start.user_id, start.time, start.split) == (whole.user_id, whole.time, whole.split)
    assert [whole.feature(feature.name) for feature in start.features] == start.features
