"""Schemas written by hand: what is wrong is named with file, field and mend."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from datasets.prepared import schema_fingerprint
from datasets.schema import Schema, load_schema
from files.errors import InputError
from tests.datasets.conftest import EXAMPLE_SCHEMA

CITY = {"name": "city", "kind": "categorical", "group": "user"}


def changed(path: str, value: object) -> dict:
    """The example schema with one field, given as a dotted path, set (or removed, if None)."""
    content: dict = copy.deepcopy(EXAMPLE_SCHEMA)
    *parents, last = path.split(".")
    target = content
    for step in parents:
        target = target[int(step)] if isinstance(target, list) else target[step]
    if value is None:
        del target[last]
    else:
        target[int(last) if isinstance(target, list) else last] = value
    return content


def load(tmp_path: Path, content: object):
    path = tmp_path / "schema.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_schema(path)


def test_the_example_loads_with_its_groups_and_tables(tmp_path):
    schema = load(tmp_path, EXAMPLE_SCHEMA)
    assert schema.groups == ["user", "sequence", "item", "context"]
    assert [feature.table for feature in schema.sparse_features] == ["member", "item", "item", "city", "tags"]
    assert [feature.name for feature in schema.numeric_features] == ["price", "balance", "raw"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed("featurs", []), ["featurs", "spelling"]),
        (changed("features.0.embeding_dim", 8), ["features.0", "embeding_dim", "spelling"]),
        (changed("features.3.kind", "number"), ["features.3.kind", "numeric"]),
        (changed("features.1.embedding_dim", 8), ["'history'", "'item'", "embedding_dim", "equal"]),
        (changed("features.0.separator", "|"), ["features.0", "separator", "'categorical'", "another kind"]),
        (changed("features.0.max_length", 3), ["features.0", "max_length", "'categorical'"]),
        (changed("features.0.normalization", "log1p"), ["features.0", "normalization", "'categorical'"]),
        (changed("features.3.length", 3), ["features.3", "length", "'numeric'"]),
        (changed("features.3.kind", "vector"), ["features.3", "length", "add"]),
        (
            changed("features.3", {"name": "e", "kind": "vector", "group": "g", "length": 2, "min_count": 2}),
            ["features.3", "min_count", "'vector'"],
        ),
        (changed("features.3.hash_buckets", 8), ["features.3", "hash_buckets", "'numeric'"]),
        (changed("features.4.hash_buckets", 0), ["features.4.hash_buckets", "greater than or equal to 1"]),
        (changed("features.4.hash_buckets", 2**31), ["features.4.hash_buckets", "2147483645"]),
        (changed("features.4.hash_seed", 1), ["features.4", "hash_seed", "without hash_buckets", "add"]),
        (
            changed("features.2.hash_buckets", 8),
            ["'history'", "'item'", "hash_buckets (none and 8)", "equal"],
        ),
        (
            changed("features.4", {**CITY, "hash_buckets": 8, "min_count": 2}),
            ["features.4", "hash_buckets", "min_count", "remove one"],
        ),
        (
            changed("features.4", {**CITY, "hash_buckets": 8, "max_size": 2}),
            ["features.4", "hash_buckets", "max_size", "remove one"],
        ),
        (changed("features.2.name", "history"), ["'history'", "twice"]),
        (changed("features.3.column", "click"), ["'price'", "'click'", "label"]),
        (changed("features.3.column", "chance"), ["'price'", "'chance'", "label"]),
        (changed("default_tasks", ["like"]), ["default_tasks", "'like'", "click, skip"]),
        (changed("default_tasks", ["click", "click"]), ["default_tasks", "'click' twice", "remove one"]),
        (changed("baseline", {"name": "cheat", "column": "click"}), ["baseline 'cheat'", "'click'", "label"]),
        (
            changed("baseline", {"name": "cheat", "column": "chance"}),
            ["baseline 'cheat'", "'chance'", "label"],
        ),
        (changed("tasks.1.expression", "price > 1"), ["tasks.1", "column", "expression", "remove one"]),
        (changed("tasks.1", {"name": "skip", "expression": "price >"}), ["tasks.1", "'price >'", "read"]),
        (changed("tasks.1", {"name": "skip", "expression": "price > 1"}), ["features read price", "'skip'"]),
        (changed("tasks.1", {"name": "s", "expression": "price > raw"}), ["features read price, raw", "'s'"]),
        (changed("time", None), ["split by time", "time"]),
        (changed("time_unit", "hours"), ["time_unit", "'ms'", "hours"]),
        ({**EXAMPLE_SCHEMA, "missing": ["NA"], "not_missing": ["NA"]}, ["both name 'NA'", "from one"]),
        (changed("split.by", "moon"), ["split", "moon"]),
        (changed("user_id", None), ["user_id"]),
        (changed("split", {"by": "fraction", "valid": 0.6, "test": 0.6}), ["split", "below 1"]),
        (changed("split", {"by": "column", "column": "part", "valid": "test"}), ["split", "different"]),
        (changed("features.0.column", "a\x1b[31m"), ["features.0.column", r"\x1b", "remove it"]),
        (changed("user_id", "\u202eresu"), ["user_id", r"\u202e"]),
        (changed("description", "\x07"), ["description", r"\x07"]),
        (changed("name", "n" * 65), ["name", "at most 64"]),
        (changed("features.0.group", "g" * 300), ["features.0.group", "at most 64"]),
        (changed("features.0.max_size", 2**63), ["line 9", "too large"]),
        (changed("features.1.max_length", 10**6), ["features.1.max_length", "65536"]),
        ({**EXAMPLE_SCHEMA, "k" * 300: 1}, ["kkk... (300 characters)", "spelling"]),
        ("features: [", ["line", "not valid YAML"]),
        ("- a list", ["mapping"]),
    ],
)
def test_a_wrong_schema_is_refused_naming_file_field_and_mend(tmp_path, content, words):
    with pytest.raises(InputError) as error:
        load(tmp_path, content)
    message = str(error.value)
    assert all(word in message for word in ["schema.yaml", *words]), message


def test_a_missing_schema_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.yaml: no such file"):
        load_schema(tmp_path / "nothing.yaml")


def test_fields_that_are_not_set_do_not_change_a_fingerprint():
    """The value is that of the schema before expression, length, hash_buckets and time_unit were added."""
    assert schema_fingerprint(Schema.model_validate(EXAMPLE_SCHEMA)) == "769f963bbf023f28"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("time_unit", "ms"),
        ("not_missing", ["NA"]),
        ("features.4.hash_buckets", 8),
        ("features.4", {**CITY, "hash_buckets": 8, "hash_seed": 1}),
        ("tasks.1", {"name": "skip", "expression": "watch_ms < 3000"}),
        ("features.3", {"name": "price", "kind": "vector", "group": "context", "length": 4}),
    ],
)
def test_fields_that_are_set_are_written_and_read_back(path, value):
    schema = Schema.model_validate(changed(path, value))
    assert schema_fingerprint(schema) != schema_fingerprint(Schema.model_validate(EXAMPLE_SCHEMA))
    assert Schema.model_validate_json(schema.model_dump_json()) == schema


def test_a_label_may_be_computed_from_an_input_and_an_outcome():
    """A duration is known before the outcome; the watch time is not, and so is no feature."""
    schema = Schema.model_validate(changed("tasks.1", {"name": "finish", "expression": "watched >= price"}))
    assert schema.tasks[1].columns == ["watched", "price"]


def test_a_baseline_may_not_read_the_one_column_of_a_label():
    content = changed("tasks.1", {"name": "skip", "expression": "watched < 3"})
    content["baseline"] = {"name": "cheat", "column": "watched"}
    with pytest.raises(ValueError, match="the baseline reads watched"):
        Schema.model_validate(content)
