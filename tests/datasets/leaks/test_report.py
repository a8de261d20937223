"""Leaks planted in small tables are found, and tables without any raise no alarm."""

from __future__ import annotations

import os
import re
import tracemalloc
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from datasets.describe import describe, render
from datasets.leaks import own_items
from datasets.leaks import report as leaks_module
from datasets.leaks import scores as leak_scores
from datasets.leaks.report import Leaks, find_leaks, warnings
from datasets.leaks.scores import auc
from datasets.prepare.pipeline import prepare
from datasets.prepared import PreparedDataset, dataset_fingerprint, schema_fingerprint
from datasets.schema import Schema, load_schema
from datasets.source import Source
from files.errors import InputError

ROWS = 4000
KIND = {pl.String: "categorical", pl.Int64: "categorical", pl.Float64: "numeric", pl.List: "sequence"}


def table(seed: int = 0, rows: int = ROWS) -> dict[str, np.ndarray]:
    """Columns of noise: user, item, when, watched and duration in seconds, and the labels finish and like."""
    rng = np.random.default_rng(seed)
    duration = rng.uniform(5, 60, rows)
    watched = duration * rng.uniform(0, 1.5, rows)
    return {
        "user": rng.integers(0, 200, rows),
        "item": rng.integers(0, 300, rows),
        "when": np.arange(rows),
        "duration": duration,
        "watched": watched,
        "finish": (watched >= duration).astype(np.int64),
        "like": rng.integers(0, 2, rows),
    }


def prepared_with(
    folder: Path, features: dict[str, tuple[str, object]], leak_ok: tuple[str, ...] = (), **columns: object
) -> PreparedDataset:
    """A prepared table with these features, each a kind (or a feature's fields) and its values."""
    made = table() | columns
    described = []
    for name, (kind, values) in features.items():
        made[name] = values
        fields = kind if isinstance(kind, dict) else {"kind": kind}
        described.append({"name": name, "group": "item"} | fields)
    schema = Schema.model_validate({
        "name": "planted",
        "features": described,
        "tasks": [{"name": "finish"}, {"name": "like"}],
        "user_id": "user",
        "time": "when",
        "split": {"by": "fraction"},
        "leak_ok": list(leak_ok),
    })  # fmt: skip
    frame = pl.DataFrame({name: pl.Series(values, strict=False) for name, values in made.items()})
    return prepare(Source(schema, frame.lazy(), {"table": str(folder)}), folder / "prepared")


def kinds(found: Leaks) -> set[tuple[str, str, str | None]]:
    return {(leak.feature, leak.kind, leak.task) for leak in found.found}


# --- the AUC --------------------------------------------------------------------------------------


@pytest.mark.parametrize("distinct", [2, 7, 5000])
def test_the_auc_is_sklearns(distinct):
    rng = np.random.default_rng(distinct)
    labels = rng.integers(0, 2, 1000).astype(np.float32)
    scores = (rng.integers(0, distinct, 1000) + labels * distinct // 4).astype(np.float32)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_a_number_is_measured_on_the_defined_rows_of_validation(tmp_path):
    made = table()
    undefined = np.arange(ROWS) % 5 == 0
    finish = [None if hidden else int(value) for hidden, value in zip(undefined, made["finish"], strict=True)]
    noisy = made["watched"] / made["duration"] + np.random.default_rng(3).normal(0, 0.5, ROWS)
    found = find_leaks(prepared_with(tmp_path, {"noisy": ("numeric", noisy)}, finish=finish))
    score = next(score for score in found.scores if score.task == "finish")
    valid = slice(int(ROWS * 0.8), int(ROWS * 0.9))
    kept = ~undefined[valid]
    assert score.by == "its value"
    assert score.rows == kept.sum()
    expected = roc_auc_score(made["finish"][valid][kept], noisy[valid][kept])
    assert score.auc == pytest.approx(expected, abs=1e-6)


# --- leaks of labels ------------------------------------------------------------------------------


def test_an_outcome_of_the_same_row_is_found_only_for_its_own_label(tmp_path):
    made = table()
    found = find_leaks(
        prepared_with(tmp_path, {"play_progress": ("numeric", made["watched"] / made["duration"])})
    )
    assert kinds(found) == {("play_progress", "auc", "finish")}
    (leak,) = found.found
    assert leak.number == 1.0
    assert "alone predicts 'finish' with AUC 1.0000 on validation" in leak.says


def test_a_label_written_as_text_equals_it(tmp_path):
    words = np.where(table()["like"] == 1, "yes", "no")
    found = find_leaks(prepared_with(tmp_path, {"answer": ("categorical", words)}))
    assert kinds(found) == {("answer", "equals", "like")}


def test_an_id_that_determines_the_label_is_found_though_half_of_validation_is_new_to_training(tmp_path):
    made = table()
    rng = np.random.default_rng(5)
    old = rng.integers(0, 200, ROWS)
    session = np.where((made["when"] > ROWS * 0.8) & (rng.random(ROWS) < 0.4), 1000 + made["when"], old)
    like = np.where(session < 1000, session % 2, made["like"])
    found = find_leaks(prepared_with(tmp_path, {"session": ("categorical", session)}, like=like))
    assert ("session", "determines", "like") in kinds(found)
    assert next(leak.number for leak in found.found) < 0.95  # the AUC alone would not have told


def test_a_number_whose_exact_value_determines_the_label_is_found(tmp_path):
    code = np.random.default_rng(6).integers(0, 150, ROWS).astype(float)
    found = find_leaks(prepared_with(tmp_path, {"code": ("numeric", code)}, like=(code % 2).astype(int)))
    assert kinds(found) == {("code", "determines", "like")}


def test_a_number_that_predicts_the_label_by_its_distance_from_a_value_is_found(tmp_path):
    hour = np.random.default_rng(7).uniform(0, 24, ROWS)
    like = (np.abs(hour - 12) < 6).astype(int)
    found = find_leaks(prepared_with(tmp_path, {"hour": ("numeric", hour)}, like=like))
    assert kinds(found) == {("hour", "auc", "like")}
    assert found.found[0].number > 0.98


@pytest.mark.parametrize("kind", ["numeric", "categorical", "sequence"])
def test_a_value_that_is_missing_exactly_where_the_label_is_negative_is_found(tmp_path, kind):
    rng = np.random.default_rng(8)
    values = {
        "numeric": rng.normal(5, 1, ROWS).tolist(),
        "categorical": rng.integers(0, 20, ROWS).tolist(),
        "sequence": [[int(item)] for item in rng.integers(0, 20, ROWS)],
    }[kind]
    gappy = [value if label else None for value, label in zip(values, table()["like"], strict=True)]
    found = find_leaks(prepared_with(tmp_path, {"gappy": (kind, gappy)}))
    assert {(leak.feature, leak.task) for leak in found.found} == {("gappy", "like")}
    assert found.found[0].number == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["sequence", "multi_hot"])
@pytest.mark.parametrize("mark", ["clicked", "ignored"])
def test_a_list_that_contains_the_label_is_found(tmp_path, kind, mark):
    rng = np.random.default_rng(9)
    lists = []
    for label in table()["like"]:
        words = [f"word{number}" for number in rng.integers(0, 50, rng.integers(1, 6))]
        if label == (mark == "clicked"):
            words.insert(int(rng.integers(0, len(words) + 1)), mark)
        lists.append(words)
    found = find_leaks(prepared_with(tmp_path, {"words": (kind, lists)}))
    assert {(leak.feature, leak.task) for leak in found.found} == {("words", "like")}


def leaking_history(made: dict[str, np.ndarray]) -> list[list[int]]:
    """Past items, of which the last is the row's own where it was liked."""
    rng = np.random.default_rng(10)
    history = []
    for item, label in zip(made["item"], made["like"], strict=True):
        past = rng.integers(0, 300, 5).tolist()
        history.append([*past[1:], int(item)] if label else past)
    return history


SEED_1 = {"hash_buckets": 5_000, "hash_seed": 1}


@pytest.mark.parametrize(
    ("item", "history"),
    [
        ({}, {"vocabulary": "item"}),
        ({}, {}),
        ({"hash_buckets": 5_000}, {"hash_buckets": 5_000}),
        ({}, SEED_1),
        (SEED_1, {}),
    ],
)
def test_a_history_that_already_holds_the_rows_own_item_where_it_was_liked_is_found(tmp_path, item, history):
    made = table()
    features = {
        "city": ("categorical", [f"city {number % 7}" for number in range(ROWS)]),
        "item": ({"kind": "categorical"} | item, made["item"]),
        "liked_items": ({"kind": "sequence"} | history, leaking_history(made)),
    }
    found = find_leaks(prepared_with(tmp_path, features))
    assert {(leak.feature, leak.task) for leak in found.found} == {("liked_items", "like")}
    assert "whether it holds the row's own item" in found.found[0].says
    assert not found.not_compared


def test_a_number_is_found_in_a_history_that_is_text_for_another_element(tmp_path):
    made = table()
    history = [[*map(str, past), "?"][::-1] for past in leaking_history(made)]
    features = {"item": ("categorical", made["item"]), "liked_items": ("sequence", history)}
    found = find_leaks(prepared_with(tmp_path, features))
    assert {(leak.feature, leak.task) for leak in found.found} == {("liked_items", "like")}


@pytest.mark.parametrize("why", ["hashed in two ways", "too many"])
def test_what_cannot_be_compared_is_told(tmp_path, monkeypatch, why):
    made, buckets = table(), {"hash_buckets": 5_000} if why == "hashed in two ways" else {}
    if why == "too many":
        monkeypatch.setattr(own_items, "MOST_COMPARED", 500)
    features = {
        "item": ({"kind": "categorical"} | buckets, made["item"]),
        "liked_items": ({"kind": "sequence"} | (SEED_1 if buckets else {}), leaking_history(made)),
    }
    prepared = prepared_with(tmp_path, features)
    assert find_leaks(prepared).not_compared == {"liked_items": ["item"]}
    assert "Whether liked_items holds its own row's item was not looked for" in " ".join(
        render(describe(prepared)).split()
    )


def test_of_one_column_hashed_twice_the_comparable_one_is_enough(tmp_path):
    made = table()
    features = {
        "item": ({"kind": "categorical", "hash_buckets": 5_000}, made["item"]),
        "again": ({"kind": "categorical", "column": "item"} | SEED_1, made["item"]),
        "liked_items": ({"kind": "sequence", "hash_buckets": 5_000}, leaking_history(made)),
    }
    found = find_leaks(prepared_with(tmp_path, features))
    assert {leak.feature for leak in found.found} == {"liked_items"}
    assert not found.not_compared


def test_a_feature_of_many_more_buckets_than_rows_is_judged_alike_without_memory_for_each(tmp_path):
    ids, found = table()["item"], {}
    for name, fields in (("few", {}), ("many", {"hash_buckets": 20_000_000})):
        features = {"item": ({"kind": "categorical"} | fields, ids)}
        prepared = prepared_with(tmp_path / name, features)
        tracemalloc.start()
        found[name] = find_leaks(prepared).scores
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000_000  # a number for each bucket would be 160 MB
    assert found["few"] == found["many"]
    assert {score.by for score in found["many"]} == {"its category"}


def test_with_too_few_rows_of_a_class_in_validation_the_later_half_of_training_is_used(tmp_path):
    made = table()
    like = np.where(made["when"] > ROWS * 0.75, 0, made["like"])
    found = find_leaks(
        prepared_with(tmp_path, {"answer": ("categorical", np.where(like, "y", "n"))}, like=like)
    )
    assert [(score.task, score.split) for score in found.scores] == [("finish", "valid"), ("like", "train")]
    assert kinds(found) == {("answer", "equals", "like")}
    assert "the later half of training" in found.found[0].says


# --- leaks of the split ---------------------------------------------------------------------------


def day(number: int) -> date:
    return date(2024, 1, 1) + timedelta(days=int(number))


SPLIT_NAMES = {
    "a row number": ("numeric", np.arange(ROWS, dtype=float)),
    "a row number that falls": ("numeric", -np.arange(ROWS, dtype=float)),
    "a date as a number of days": ("numeric", np.arange(ROWS) // 150 * 1.0),
    "a date as text": ("categorical", [str(day(number // 100)) for number in range(ROWS)]),
    "a file's name": ("categorical", ["a.csv" if n < ROWS * 0.8 else "b.csv" for n in range(ROWS)]),
    "a list of it": ("sequence", [["x", "a" if n < ROWS * 0.8 else "b"][1:] for n in range(ROWS)]),
    "present in training only": ("numeric", [n * 7.0 % 13 if n < ROWS * 0.8 else None for n in range(ROWS)]),
    "filled in only later": ("numeric", [None if n < ROWS * 0.8 - 9 else n * 7.0 % 13 for n in range(ROWS)]),
}


@pytest.fixture(scope="module")
def leaks_of_the_split(tmp_path_factory) -> set[tuple[str, str, str | None]]:
    features = {name.replace(" ", "_").replace("'", ""): feature for name, feature in SPLIT_NAMES.items()}
    return kinds(find_leaks(prepared_with(tmp_path_factory.mktemp("split"), features)))


@pytest.mark.parametrize("name", SPLIT_NAMES)
def test_a_feature_that_gives_the_split_away_is_found(leaks_of_the_split, name):
    feature = name.replace(" ", "_").replace("'", "")
    assert {leak for leak in leaks_of_the_split if leak[0] == feature} == {(feature, "split", None)}


def test_values_new_to_training_are_found_if_they_are_over_half(tmp_path):
    rng = np.random.default_rng(11)
    for share in (0.3, 0.7):
        is_new = (np.arange(ROWS) >= ROWS * 0.8) & (rng.random(ROWS) < share)
        article = np.where(is_new, 10_000 + np.arange(ROWS), rng.integers(0, 50, ROWS))
        found = find_leaks(prepared_with(tmp_path / str(share), {"article": ("categorical", article)}))
        assert kinds(found) == ({("article", "unseen", None)} if share > 0.5 else set())


def test_categories_left_out_by_min_count_are_not_new(tmp_path):
    rare = np.random.default_rng(12).integers(0, 3000, ROWS)
    fields = {"kind": "categorical", "min_count": 4}
    prepared = prepared_with(tmp_path, {"rare": (fields, rare)})
    assert prepared.manifest["coverage"]["valid"]["rare"]["unseen"] > 0.5 * prepared.rows["valid"]
    assert not find_leaks(prepared).found


def test_hashed_ids_that_are_new_are_found_by_their_buckets(tmp_path):
    fields = {"kind": "categorical", "hash_buckets": 100_000}
    found = find_leaks(prepared_with(tmp_path, {"session": (fields, np.arange(ROWS) // 4)}))
    assert kinds(found) == {("session", "split", None)}


# --- no alarm -------------------------------------------------------------------------------------


def test_noise_raises_no_alarm(tmp_path):
    rng = np.random.default_rng(13)
    rows = 30_000
    made = {
        "user": rng.permutation(np.repeat(np.arange(10_000), 3)),
        "when": np.arange(rows),
        "finish": (rng.random(rows) < 0.1).astype(int),
        "like": rng.integers(0, 2, rows),
        "item": rng.integers(0, 300, rows),
        "duration": np.zeros(rows),
        "watched": np.zeros(rows),
    }
    features = {
        "member": ("categorical", made["user"]),
        "number": ("numeric", rng.normal(0, 1, rows)),
        "constant": ("numeric", np.full(rows, 3.0)),
        "one_word": ("categorical", ["same"] * rows),
        "gaps": ("numeric", [value if value > 0.3 else None for value in rng.random(rows)]),
        "history": ("sequence", [list(past) for past in rng.integers(0, 300, (rows, 4))]),
        "empty": ("sequence", [[]] * (rows - 1) + [[1]]),
        "weekday": ("categorical", made["when"] * 14 // rows % 7),
    }
    found = find_leaks(prepared_with(tmp_path, features, **made))
    assert not found.found
    assert max(score.auc for score in found.scores) < 0.56


def test_the_simulation_raises_no_alarm(tmp_path):
    from datasets.shortvideo.source import source

    made = source({"rows": 20_000, "users": 1000, "items": 500}, None, tmp_path)
    found = find_leaks(prepare(made, tmp_path / "prepared"))
    assert not found.found
    assert {score.feature for score in found.scores} == set(made.schema.feature_names)
    assert 0.6 < max(score.auc for score in found.scores) < 0.85


# --- kept, shown, acknowledged --------------------------------------------------------------------


def leaking(folder: Path, leak_ok: tuple[str, ...] = ()) -> PreparedDataset:
    made = table()
    features = {
        "play_progress": ("numeric", made["watched"] / made["duration"]),
        "item": ("categorical", made["item"]),
    }
    return prepared_with(folder, features, leak_ok)


def test_leaks_are_measured_once_and_stored_with_the_shards(tmp_path, monkeypatch):
    prepared = leaking(tmp_path)
    first = find_leaks(prepared)
    monkeypatch.setattr(leaks_module, "_MEASURED", {})
    monkeypatch.setattr(leaks_module, "_measure", lambda prepared: pytest.fail("measured again"))
    assert find_leaks(leaking(tmp_path)) == first  # the folder is opened and verified with the file in it


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 0}', b"\xff"])
def test_leaks_are_measured_again_if_their_file_is_damaged(tmp_path, monkeypatch, content):
    prepared = leaking(tmp_path)
    first = find_leaks(prepared)
    (prepared.path / "leaks.json").write_bytes(content)
    monkeypatch.setattr(leaks_module, "_MEASURED", {})
    assert find_leaks(prepared) == first
    assert Leaks.model_validate_json((prepared.path / "leaks.json").read_bytes()) == first


def test_a_folder_that_cannot_be_written_is_measured_in_memory(tmp_path, monkeypatch):
    prepared = leaking(tmp_path)

    def refused(*paths: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", refused)
    assert len(find_leaks(prepared).found) == 1
    assert not list(prepared.path.glob("*leaks*"))


def test_evenly_spaced_shards_of_a_long_table_are_read_and_the_description_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(leaks_module, "MOST_ROWS", 1700)
    prepared = leaking(tmp_path)
    found = find_leaks(prepared)
    assert found.sampled == {"train": 1600}
    assert len(found.found) == 1
    assert "1,600 rows of train" in render(describe(prepared))


def test_the_description_begins_with_the_leaks_and_names_the_mend(tmp_path):
    text = render(describe(leaking(tmp_path)))
    assert text.index("LEAK") < text.index("Fields")
    assert "leak_ok: [play_progress]" in text
    assert re.search(r"above 0.95 +play_progress +1.0000 +0\.\d{4} ", text)
    acknowledged = render(describe(leaking(tmp_path, ("play_progress",))))
    assert "LEAK" not in acknowledged
    assert "acknowledged" in acknowledged


def test_leak_ok_of_a_feature_without_a_leak_is_reported(tmp_path):
    assert "leak_ok names item, but no leak was found there" in render(describe(leaking(tmp_path, ("item",))))


def test_a_run_warns_of_the_leaks_that_concern_its_tasks(tmp_path):
    (message,) = warnings(leaking(tmp_path), ["finish", "like"])
    assert message.startswith("LEAK: feature 'play_progress' alone predicts 'finish' with AUC 1.0000")
    assert "leak_ok: [play_progress]" in message
    assert warnings(leaking(tmp_path), ["like"]) == []
    (message,) = warnings(leaking(tmp_path, ("play_progress",)), ["finish"])
    assert message.endswith("acknowledged by leak_ok")


# --- leak_ok in the schema ------------------------------------------------------------------------

SCHEMA = """
name: own
features: [{name: a, kind: numeric, group: g}, {name: b, kind: numeric, group: g}]
tasks: [{name: y}]
user_id: u
split: {by: column, column: s}
"""


def schema_with(folder: Path, line: str) -> Schema:
    path = folder / "schema.yaml"
    path.write_text(SCHEMA + line)
    return load_schema(path)


def test_acknowledging_a_leak_changes_no_fingerprint(tmp_path):
    plain, acknowledged = schema_with(tmp_path, ""), schema_with(tmp_path, "leak_ok: [a]")
    assert acknowledged.leak_ok == ["a"]
    assert acknowledged.model_dump_json() == plain.model_dump_json()
    assert schema_fingerprint(acknowledged) == schema_fingerprint(plain)
    assert dataset_fingerprint({}, acknowledged) == dataset_fingerprint({}, plain)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("leak_ok: [c]", "leak_ok names 'c', which is no feature: choose from a, b"),
        ("leak_ok: [a, a]", "leak_ok names 'a' twice"),
        ("leak_ok: a", "leak_ok"),
    ],
)
def test_leak_ok_names_features(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        schema_with(tmp_path, line)


def test_what_the_yaml_acknowledges_now_holds_for_data_prepared_before(tmp_path):
    from datasets.catalog import prepare_dataset

    made = table()
    split = np.repeat(["train", "valid", "test"], [3200, 400, 400])
    columns = {"a": made["watched"], "b": made["duration"], "y": made["like"], "u": made["user"], "s": split}
    pl.DataFrame(columns).write_csv(tmp_path / "table.csv")
    schema_with(tmp_path, "")
    before = prepare_dataset(tmp_path / "schema.yaml", {}, None, tmp_path / "cache")
    schema_with(tmp_path, "leak_ok: [b]")
    after = prepare_dataset(tmp_path / "schema.yaml", {}, None, tmp_path / "cache")
    assert (before.schema.leak_ok, after.schema.leak_ok) == ([], ["b"])
    assert (after.path, after.fingerprint) == (before.path, before.fingerprint)


@pytest.mark.parametrize("rows_read", [50_000_000, 3 * ROWS // 2])
def test_a_vector_leaks_by_one_of_its_numbers(tmp_path, monkeypatch, rows_read):
    monkeypatch.setattr(leak_scores, "VECTOR_NUMBERS", rows_read)  # less: of every few rows
    made, rng = table(), np.random.default_rng(14)
    vectors = rng.normal(0, 1, (ROWS, 3))
    clean = prepared_with(tmp_path / "a", {"image": ({"kind": "vector", "length": 3}, vectors.tolist())})
    assert not find_leaks(clean).found
    vectors[:, 1] = made["like"] + rng.normal(0, 0.1, ROWS)
    leaky = prepared_with(tmp_path / "b", {"image": ({"kind": "vector", "length": 3}, vectors.tolist())})
    assert {(leak.feature, leak.task) for leak in find_leaks(leaky).found} == {("image", "like")}
    assert "number 2 of its 3" in find_leaks(leaky).found[0].says
