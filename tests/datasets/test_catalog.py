"""Datasets by name or by schema file, and the cache of prepared folders."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
import yaml

from datasets import catalog
from datasets.catalog import DATASETS, DESCRIPTIONS, prepare_dataset
from datasets.source import Source
from files.errors import InputError
from tests.datasets.conftest import EXAMPLE_SCHEMA, example_frame, example_rows, example_source


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A dataset ``toy`` with an option, and the options of every source made of it."""
    made: list[dict] = []
    module = ModuleType("toy_dataset")

    def identity(options: dict, data_root: Path | None) -> dict:
        return {"dataset": "toy", "options": options}

    def source(options: dict, data_root: Path | None, scratch: Path) -> Source:
        made.append(options)
        example_frame(example_rows(seed=options.get("seed", 0))).write_parquet(scratch / "raw.parquet")
        frame = pl.scan_parquet(scratch / "raw.parquet")
        return Source(example_source([]).schema, frame, identity(options, data_root))

    module.identity, module.source = identity, source  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_dataset", module)
    monkeypatch.setitem(catalog.DATASETS, "toy", "toy_dataset")
    return made


def test_a_dataset_is_prepared_once_for_each_choice_of_options(made, tmp_path):
    first = prepare_dataset("toy", {}, None, tmp_path)
    assert prepare_dataset("toy", {}, None, tmp_path).path == first.path
    other = prepare_dataset("toy", {"seed": 1}, None, tmp_path)
    assert made == [{}, {"seed": 1}]
    assert other.path != first.path
    assert first.path.parent == tmp_path
    name, _, digest = first.path.name.rpartition("-")
    assert name == "toy"
    assert len(digest) == 12
    assert not list(tmp_path.glob(".*.partial"))


def test_a_dataset_that_is_read_by_other_rules_is_prepared_again(made, tmp_path, monkeypatch):
    first = prepare_dataset("toy", {}, None, tmp_path)
    assert first.manifest["identity"] == {"dataset": "toy", "options": {}}
    monkeypatch.setitem(catalog.RULES, "toy", 2)
    second = prepare_dataset("toy", {}, None, tmp_path)
    assert second.manifest["identity"] == {"dataset": "toy", "options": {}, "rules": 2}
    assert (second.path != first.path, second.fingerprint != first.fingerprint) == (True, True)
    assert prepare_dataset("toy", {}, None, tmp_path).path == second.path
    assert made == [{}, {}]


def test_a_truncated_shard_is_refused_until_rebuilt(made, tmp_path):
    prepared = prepare_dataset("toy", {}, None, tmp_path)
    (prepared.path / "train-00000.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"train-00000\.parquet.*--rebuild"):
        prepare_dataset("toy", {}, None, tmp_path)
    prepare_dataset("toy", {}, None, tmp_path, rebuild=True)
    assert made == [{}, {}]


def test_an_unknown_name_lists_the_names_and_the_way_to_own_data(tmp_path):
    with pytest.raises(InputError) as error:
        prepare_dataset("kuairand", {}, None, tmp_path)
    assert all(name in str(error.value) for name in DATASETS)
    assert ".yaml" in str(error.value)


def test_a_schema_file_is_a_dataset(tmp_path):
    example_frame(example_rows()).write_parquet(tmp_path / "rows.parquet")
    path = tmp_path / "schema.yaml"
    path.write_text(yaml.safe_dump(EXAMPLE_SCHEMA))
    prepared = prepare_dataset(str(path), {}, None, tmp_path / "cache")
    assert prepared.path.name.startswith("example-")
    assert sum(prepared.rows.values()) == 120
    with pytest.raises(InputError, match="'seed'"):
        prepare_dataset(path, {"seed": 1}, None, tmp_path / "cache")


def test_every_dataset_has_a_line_of_description_and_the_built_in_one_needs_no_files():
    assert set(DATASETS) == set(DESCRIPTIONS)
    name, identity, _ = catalog.find_dataset("shortvideo", {}, None)
    assert name == "shortvideo"
    assert identity["dataset"] == "shortvideo"
