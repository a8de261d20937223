"""Drafted schemas: each role and kind on small tables, and every draft prepares as it is."""

from __future__ import annotations

import gzip
import json
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from datasets.catalog import prepare_dataset
from datasets.draft.choices import Wishes
from datasets.draft.draft import draft, write
from datasets.schema import Schema, load_schema
from files.errors import InputError

ROWS, USERS, ITEMS = 600, 40, 60
START = datetime(2024, 3, 1, tzinfo=UTC)


def rows(count: int = ROWS, seed: int = 0) -> list[dict]:
    """A log of twenty days: every kind of column that the drafts below use, in time order."""
    rng = random.Random(seed)
    table = []
    for number in range(count):
        user, item = rng.randrange(USERS), 1000 + int(ITEMS * rng.random() ** 2)
        moment = START + timedelta(days=20 * number / count)
        table.append({
            "event_time": moment,
            "user_id": user,
            "item_id": item,
            "price": round((item % 17) * 1.5 + 0.25, 2),
            "hist_items": [1000 + rng.randrange(ITEMS) for _ in range(rng.randrange(1, 6))],
            "device": rng.choice(["phone", "tablet", "tv"]),
            "click": int(rng.random() < 0.3 + 0.2 * (item % 2)),
        })  # fmt: skip
    return table


def drafted(
    folder: Path, table: pl.DataFrame, name: str = "log.csv", prepares: bool = True, **wishes: object
) -> Schema:
    """The draft of one file; with ``prepares``, the dataset is prepared from it without a change."""
    if name.endswith(".parquet"):
        table.write_parquet(folder / name)
    else:
        table.write_csv(folder / name)
    return drafted_files(folder, [name], prepares, **wishes)


def drafted_files(folder: Path, files: list[str], prepares: bool = True, **wishes: object) -> Schema:
    path = folder / "schema.yaml"
    write(draft([str(folder / file) for file in files], path, Wishes(**wishes)), path, force=True)  # type: ignore[arg-type]
    if prepares:
        prepare_dataset(str(path), {}, None, folder / "cache")
    return load_schema(path)


def frame(table: list[dict], **columns: object) -> pl.DataFrame:
    """The rows with lists as text and times in ISO form, unless ``columns`` replaces them."""
    plain = [
        row
        | {
            "hist_items": "|".join(map(str, row["hist_items"])),
            "event_time": row["event_time"].isoformat()[:19],
        }
        for row in table
    ]
    return pl.DataFrame(plain).with_columns(**{
        name: pl.Series(values, strict=False) for name, values in columns.items()
    })  # fmt: skip


def kinds(schema: Schema) -> dict[str, str]:
    return {feature.source_column: feature.kind for feature in schema.features}


def test_a_plain_log_is_drafted_with_its_roles_kinds_and_shared_vocabulary(tmp_path):
    schema = drafted(tmp_path, frame(rows()))
    assert (schema.user_id, schema.time, [task.name for task in schema.tasks]) == (
        *("user_id", "event_time"),
        ["click"],
    )
    assert kinds(schema) == {
        "user_id": "categorical", "item_id": "categorical", "price": "numeric",
        "hist_items": "sequence", "device": "categorical",
    }  # fmt: skip
    history = schema.feature("hist_items")
    assert (history.vocabulary, history.separator, history.max_length) == ("item_id", "|", 5)
    assert {f.name: f.group for f in schema.features} == {
        "user_id": "user", "item_id": "item", "price": "item", "hist_items": "history", "device": "context",
    }  # fmt: skip
    assert schema.split.model_dump() == {"by": "time", "valid_from": "2024-03-17", "test_from": "2024-03-19"}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_an_epoch_gets_its_unit_and_dates_as_bounds(tmp_path, unit, name):
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    table = rows()
    times = [int(row["event_time"].timestamp()) * per_second + 7 % per_second for row in table]
    schema = drafted(tmp_path, frame(table, event_time=times), name, prepares=name == "log.csv")
    assert (schema.time, schema.time_unit) == ("event_time", unit)
    assert schema.split.model_dump() == {"by": "time", "valid_from": "2024-03-17", "test_from": "2024-03-19"}


@pytest.mark.parametrize("suffix", ["Z", "+08:00"])
def test_times_with_a_zone_get_bounds_with_a_zone(tmp_path, suffix):
    table = rows()
    times = [row["event_time"].isoformat()[:19] + suffix for row in table]
    schema = drafted(tmp_path, frame(table, event_time=times))
    assert schema.split.valid_from.endswith("+00:00")  # type: ignore[union-attr]


def test_a_log_of_one_day_is_split_within_the_day(tmp_path):
    table = rows()
    times = [START + (row["event_time"] - START) / 40 for row in table]
    schema = drafted(tmp_path, frame(table, event_time=[time.isoformat()[:19] for time in times]))
    assert schema.split.model_dump()["valid_from"].startswith("2024-03-01T0")


def test_a_column_that_holds_the_split_is_used(tmp_path):
    table = rows()
    split = ["Train"] * 400 + ["dev"] * 100 + ["TEST"] * 100
    schema = drafted(tmp_path, frame(table, fold=split).drop("event_time"))
    assert schema.split.model_dump() == {
        "by": "column", "column": "fold", "train": "Train", "valid": "dev", "test": "TEST",
    }  # fmt: skip
    assert "fold" not in kinds(schema)


def test_columns_of_no_use_are_left_out_with_the_reason(tmp_path):
    table = rows()
    odd = frame(
        table,
        request_id=[f"r{number:05d}" for number in range(ROWS)],
        picture=[f"https://example.org/{number % 50}.jpg" for number in range(ROWS)],
        title=[
            f"A title of number {number % 9} that goes on and on for more than sixty letters"
            for number in range(ROWS)
        ],
        version=["v1"] * ROWS,
        nothing=[None] * ROWS,
        upload_time=[1_700_000_000 + row["item_id"] for row in table],
    )
    schema = drafted(tmp_path, odd)
    assert set(kinds(schema)) == {"user_id", "item_id", "price", "hist_items", "device"}
    text = (tmp_path / "schema.yaml").read_text()
    for name, why in {
        "request_id": "differs in nearly every row", "picture": "addresses", "title": "free text",
        "version": "one value", "nothing": "is empty", "upload_time": "is a moment",
    }.items():  # fmt: skip
        [line] = [line for line in text.splitlines() if line.startswith(f"#   {name}: ")]
        assert why in line


def test_outcomes_are_no_features_and_are_offered_as_a_computed_label(tmp_path):
    rng = random.Random(1)
    table = rows()
    duration = [5000 + row["item_id"] % 13 * 1000 for row in table]
    watched = [int(length * rng.uniform(0.2, 1.5)) for length in duration]
    both = frame(table, duration_ms=duration, watch_ms=watched)
    schema = drafted(tmp_path, both)
    assert kinds(schema).keys() >= {"duration_ms"}
    assert "watch_ms" not in kinds(schema)
    assert (
        '# - {name: finish, expression: "watch_ms >= duration_ms"}' in (tmp_path / "schema.yaml").read_text()
    )
    without_labels = drafted(tmp_path, both.drop("click"))
    assert [task.expression for task in without_labels.tasks] == ["watch_ms >= duration_ms"]


def test_a_rating_makes_a_label(tmp_path):
    table = rows()
    schema = drafted(tmp_path, frame(table, rating=[1 + n * 7 % 5 for n in range(ROWS)]).drop("click"))
    assert [(task.name, task.expression) for task in schema.tasks] == [("like", "rating >= 4")]
    assert "rating" not in kinds(schema)


def test_a_column_that_gives_a_label_away_is_commented_out(tmp_path):
    table = rows()
    rng = random.Random(3)
    noise = [row["click"] + rng.gauss(0, 0.2) for row in table]
    code = [f"c{row['click'] * 3 + rng.randrange(3)}" for row in table]
    gap = [None if row["click"] else 1.5 + rng.random() for row in table]
    schema = drafted(tmp_path, frame(table, quality=noise, outcome_code=code, refund=gap))
    assert not {"quality", "outcome_code", "refund"} & set(kinds(schema))
    text = (tmp_path / "schema.yaml").read_text()
    for name in ("quality", "outcome_code", "refund"):
        assert f"# - {{name: {name}, " in text
        assert f"feature {name}: ranks the label click with AUC" in text


def test_lists_of_every_notation_and_vectors_are_recognised(tmp_path):
    table = rows()
    rng = random.Random(4)
    vectors = [[round(rng.gauss(0, 1), 4) for _ in range(8)] for _ in table]
    schema = drafted(tmp_path, frame(
        table,
        tags=[";".join(rng.sample(["a", "b", "c", "d"], rng.randrange(1, 4))) for _ in table],
        genres=[json.dumps(rng.sample(["x", "y", "z"], rng.randrange(1, 3))) for _ in table],
        last_items=[str(row["hist_items"]) for row in table],
        text_vector=[json.dumps(vector) for vector in vectors],
        cut_vector=["|".join(map(str, vector)) for vector in vectors],
    ))  # fmt: skip
    assert kinds(schema) | {"tags": "multi_hot", "genres": "multi_hot"} == kinds(schema)
    assert {f.source_column: f.separator for f in schema.features if f.kind in ("multi_hot", "sequence")} == {
        "tags": ";", "genres": None, "last_items": None, "hist_items": "|",
    }  # fmt: skip
    assert {f.source_column: (f.length, f.separator) for f in schema.vector_features} == {
        "text_vector": (8, None), "cut_vector": (8, "|"),
    }  # fmt: skip
    assert schema.feature("last_items").vocabulary == "item_id"


def test_parquet_with_typed_columns_gives_the_same_draft(tmp_path):
    table = pl.DataFrame(rows()).with_columns(
        vector=pl.Series([[0.5, float(n)] for n in range(ROWS)], dtype=pl.Array(pl.Float32, 2)),
        flag=pl.Series([n % 3 == 0 for n in range(ROWS)]),
        kind=pl.Series([f"k{n % 4}" for n in range(ROWS)], dtype=pl.Categorical),
        odd=pl.Series([{"a": 1}] * ROWS),
    )
    schema = drafted(tmp_path, table, "log.parquet")
    assert kinds(schema) == {
        "user_id": "categorical", "item_id": "categorical", "price": "numeric", "hist_items": "sequence",
        "device": "categorical", "vector": "vector", "flag": "categorical", "kind": "categorical",
    }  # fmt: skip
    assert "odd: it holds Struct" in (tmp_path / "schema.yaml").read_text()


def test_json_lines_give_the_same_draft(tmp_path):
    lines = [
        json.dumps(row | {"event_time": row["event_time"].isoformat(), "deep": {"a": 1}}) for row in rows()
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    schema = drafted_files(tmp_path, ["log.jsonl"])
    assert kinds(schema)["hist_items"] == "sequence"
    assert schema.feature("hist_items").vocabulary == "item_id"
    assert "deep: it holds objects" in (tmp_path / "schema.yaml").read_text()


def test_hive_folders_become_columns_and_one_pattern(tmp_path):
    table = frame(rows())
    for day in range(20):
        folder = tmp_path / "logs" / f"dt=2024-03-{day + 1:02d}" / "region=eu"
        folder.mkdir(parents=True)
        with gzip.open(folder / "part-0.csv.gz", "wb") as file:
            table[day * 30 : day * 30 + 30].write_csv(file)  # type: ignore[call-overload]
    schema = drafted_files(tmp_path, ["logs"])
    assert schema.files == ["logs/**/*.csv.gz"]
    assert schema.time == "event_time"  # finer than the folders' days
    text = (tmp_path / "schema.yaml").read_text()
    assert "#   dt: is a moment" in text
    assert "#   region: holds one value" in text


@pytest.mark.parametrize(("separator", "name"), [(";", "log.csv"), ("\t", "log.tsv"), ("\t", "log.csv")])
def test_the_separator_is_found(tmp_path, separator, name):
    frame(rows()).write_csv(tmp_path / name, separator=separator)
    schema = drafted_files(tmp_path, [name])
    assert (schema.csv.separator or {"csv": ",", "tsv": "\t"}[name[-3:]]) == separator
    assert len(schema.features) == 5


def test_a_file_without_a_header_gets_names_for_its_columns(tmp_path):
    frame(rows()).write_csv(tmp_path / "log.csv", include_header=False)
    wishes = {"user": "column_2", "time": "column_1", "labels": ("column_7",)}
    schema = drafted_files(tmp_path, ["log.csv"], **wishes)
    assert schema.csv.columns == [f"column_{number}" for number in range(1, 8)]
    assert schema.user_id == "column_2"


def test_quotes_escaped_by_a_backslash_set_escape(tmp_path):
    table = frame(rows()).with_columns(device=pl.lit('a "big" one'))
    lines = table.with_columns(device=pl.lit("@")).write_csv().replace("@", '"a \\"big\\" one"')
    (tmp_path / "log.csv").write_text(lines)
    assert drafted_files(tmp_path, ["log.csv"]).csv.escape == "backslash"


def test_words_for_missing_values_are_listed(tmp_path):
    table = frame(rows(), device=["NULL" if n % 5 == 0 else "tv" if n % 2 else "phone" for n in range(ROWS)])
    table = table.with_columns(
        price=pl.when(pl.int_range(ROWS) % 7 > 0)
        .then(pl.col("price").cast(pl.String))
        .otherwise(pl.lit("N/A"))
    )
    schema = drafted(tmp_path, table)
    assert schema.missing == ["N/A", "NULL"]
    assert kinds(schema)["price"] == "numeric"


def test_words_in_columns_that_only_a_label_reads_are_listed_too(tmp_path):
    table = frame(
        rows(),
        device=["NULL" if n % 5 == 0 else "tv" if n % 2 else "phone" for n in range(ROWS)],
        click_time=["NaN" if n % 3 else f"{n}" for n in range(ROWS)],
    )
    schema = drafted(tmp_path, table, labels=("clicked: not missing(click_time)",))
    assert schema.missing == ["NULL", "NaN"]


def test_words_in_brackets_between_spaces_get_their_separator(tmp_path):
    table = rows()
    tags = [f"[tag{n % 7} tag{n % 5}]" for n in range(ROWS)]
    near = [f"[{n % 7}  {n % 11}]" for n in range(ROWS)]
    schema = drafted(tmp_path, frame(table, tags=tags, near=near))
    assert {name: schema.feature(name).separator for name in ("tags", "near")} == {"tags": " ", "near": None}


def test_ids_with_leading_zeros_stay_categories(tmp_path):
    table = rows()
    schema = drafted(tmp_path, frame(table, shop_code=[f"{n % 30:05d}" for n in range(ROWS)]))
    assert kinds(schema)["shop_code"] == "categorical"


def test_odd_names_become_identifiers_and_keep_their_columns(tmp_path):
    table = frame(rows()).rename({"device": "Gerät Typ", "price": "time"})
    schema = drafted(tmp_path, table, time="event_time")
    assert schema.feature("Ger_t_Typ").column == "Gerät Typ"
    assert schema.feature("the_time").column == "time"


def test_small_numbers_in_common_are_no_shared_vocabulary(tmp_path):
    """Levels 0 to 7 also occur among the shelves, which does not mean that they are shelves."""
    table = rows()
    schema = drafted(tmp_path, frame(
        table,
        user_level_id=[row["user_id"] % 8 for row in table],
        shelf_id=[n % 200 for n in range(ROWS)],
        colors=["|".join(str((n + k) % 6) for k in range(2)) for n in range(ROWS)],
    ))  # fmt: skip
    assert {f.name: f.vocabulary for f in schema.features if f.vocabulary} == {"hist_items": "item_id"}


def test_min_count_leaves_out_the_rare_and_few_values(tmp_path):
    table = rows()
    brands = [f"b{n % 40}" if n % 100 else f"rare{n}" for n in range(ROWS)]
    many = [f"s{n % 250}" if n % 100 else f"rare{n}" for n in range(ROWS)]
    schema = drafted(tmp_path, frame(table, brand=brands, seller=many))
    assert schema.feature("brand").min_count == 1  # few categories
    assert schema.feature("seller").min_count == 2  # nine of 256 stand once, in 1.5 % of the rows


def test_roles_can_be_given(tmp_path):
    table = rows()
    renamed = frame(table, upvotes=[row["item_id"] % 5 for row in table]).rename(
        {"user_id": "who", "event_time": "column", "click": "gone"}
    )
    renamed.write_csv(tmp_path / "log.csv")
    schema = drafted_files(
        tmp_path, ["log.csv"], user="who", time="column", labels=("gone", "good: upvotes >= 3")
    )
    assert (schema.user_id, schema.time) == ("who", "column")
    assert [(t.name, t.column, t.expression) for t in schema.tasks] == [
        ("gone", None, None), ("good", None, "upvotes >= 3"),
    ]  # fmt: skip
    assert "upvotes" not in kinds(schema)


@pytest.mark.parametrize(
    ("changes", "wishes", "words"),
    [
        ({"user_id": "who"}, {}, ["--user", "perhaps who, item_id"]),
        ({"click": "gone"}, {}, ["--label COLUMN"]),
        ({"event_time": "words"}, {"time": "device"}, ["--time device", "holds String"]),
        ({}, {"user": "users"}, ["--user users", "no such column", "user_id"]),
        ({}, {"labels": ("price",)}, ["--label price", "other values than 0 and 1"]),
        ({}, {"labels": ("good: prise > 3",)}, ["--label good", "prise", "no such column"]),
        ({}, {"labels": ("good: price >",)}, ["--label good", "cannot be read"]),
        ({}, {"labels": ("good: device > 3",)}, ["--label good", "is text"]),
        ({}, {"labels": ("good: price > 1000",)}, ["only one value of 'good'"]),
    ],
)
def test_roles_that_cannot_be_guessed_or_were_given_wrongly_are_refused_naming_the_flag(
    tmp_path, changes, wishes, words
):
    frame(rows()).rename(changes).write_csv(tmp_path / "log.csv")
    with pytest.raises(InputError) as error:
        drafted_files(tmp_path, ["log.csv"], **wishes)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not (tmp_path / "schema.yaml").exists()


def test_without_times_and_a_split_it_is_refused(tmp_path):
    frame(rows()).drop("event_time").write_csv(tmp_path / "log.csv")
    with pytest.raises(InputError, match="--time"):
        drafted_files(tmp_path, ["log.csv"])


def test_an_existing_schema_is_kept(tmp_path):
    frame(rows()).write_csv(tmp_path / "log.csv")
    path = tmp_path / "schema.yaml"
    path.write_text("mine")
    made = draft([str(tmp_path / "log.csv")], path)
    with pytest.raises(InputError, match="--force"):
        write(made, path, force=False)
    assert path.read_text() == "mine"
    assert [child.name for child in tmp_path.iterdir()] != []


def test_columns_that_differ_between_files_are_left_out(tmp_path):
    table = frame(rows())
    table[:300].with_columns(extra=pl.lit(1), mixed=pl.lit(1)).write_parquet(tmp_path / "a.parquet")
    table[300:].with_columns(mixed=pl.lit("x")).write_parquet(tmp_path / "b.parquet")
    schema = drafted_files(tmp_path, ["*.parquet"])
    assert not {"extra", "mixed"} & set(kinds(schema))
    text = (tmp_path / "schema.yaml").read_text()
    assert "extra: b.parquet lacks it" in text
    assert "mixed: is Int" in text


def test_a_name_that_holds_a_newline_stays_within_its_comment(tmp_path):
    schema = drafted(
        tmp_path, frame(rows()).with_columns(pl.lit(1).alias("bad\nuser_id: evil")), "log.parquet"
    )
    assert schema.user_id == "user_id"


def test_a_large_table_is_sampled_and_counted_whole(tmp_path, monkeypatch):
    """Only a late row shows that one column is text and that another is no flag."""
    monkeypatch.setattr("datasets.draft.profile.SAMPLE_ROWS", 120)
    table = frame(
        rows(),
        amount=[str(n % 9) if n < 301 or n > 303 else f"x{n}" for n in range(ROWS)],
        rank_code=[n % 2 if n not in (301, 302) else 2 for n in range(ROWS)],
    )
    schema = drafted(tmp_path, table)
    assert kinds(schema)["amount"] == "categorical"
    assert kinds(schema)["rank_code"] == "categorical"


# ------------------------------------------------------------------ any table

NAMES = [
    "watch_ms",
    "duration_ms",
    "tags",
    "time",
    "split",
    "rating",
    "a b",
    "ключ",
    "x,y",
    "items",
    "true",
    "on",
    "1st",
]
NAMES += [
    "tier",
    "label_x",
    "url",
    "@line",
    "*",
    "^a$",
    'q"uote',
    "user_level_id",
    "last_item_id",
    "#hash",
    "[x]",
    "{y}",
]


def random_column(rng: random.Random) -> list:
    """A column of any kind, odd values among them."""
    makers = [
        lambda n: rng.randrange(20), lambda n: rng.randrange(2), lambda n: rng.choice(["a", "b", None]),
        lambda n: rng.gauss(0, 1), lambda n: 1_700_000_000 + rng.randrange(10**6), lambda n: f"u{n}",
        lambda n: (START + timedelta(minutes=rng.randrange(90_000))).isoformat()[:19], lambda n: None,
        lambda n: "|".join(str(rng.randrange(30)) for _ in range(rng.randrange(4))),
        lambda n: json.dumps([round(rng.random(), 3) for _ in range(4)]), lambda n: 2**62 + rng.randrange(50),
        lambda n: rng.choice(["NULL", "nan", "1", "2.5"]), lambda n: rng.choice([True, False, None]),
        lambda n: [rng.randrange(9) for _ in range(rng.randrange(4))], lambda n: [rng.random()] * 3,
        lambda n: float(rng.randrange(9)), lambda n: rng.choice(["007", "010", "3"]),
        lambda n: rng.choice([1.0, math.inf, math.nan, None, 2.0]),
        lambda n: rng.choice(["train", "valid", "test"]),
    ]  # fmt: skip
    make = rng.choice(makers)
    return [make(number) for number in range(200)]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("seed", range(3))
def test_a_draft_of_any_table_prepares_as_it_is(tmp_path, seed, kind):
    rng = random.Random(seed)
    columns = {
        "uid": [rng.randrange(15) for _ in range(200)],
        "event_time": [1_700_000_000 + 600 * number for number in range(200)],
        "click": [rng.randrange(2) for _ in range(200)],
    } | {name: random_column(rng) for name in rng.sample(NAMES, 9)}
    table = pl.DataFrame({name: pl.Series(values, strict=False) for name, values in columns.items()})
    if kind == "csv":
        lists = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.List)]
        as_text = [
            pl.nth(table.columns.index(name)).cast(pl.List(pl.String)).list.join(";") for name in lists
        ]
        table.with_columns(as_text).write_csv(tmp_path / "log.csv")
    elif kind == "jsonl":
        table.write_ndjson(tmp_path / "log.jsonl")
    else:
        table.write_parquet(tmp_path / "log.parquet")
    schema = drafted_files(tmp_path, [f"log.{kind}"])
    assert (schema.user_id, schema.tasks[0].source_column) == ("uid", "click")


def test_tables_with_a_leading_underscore_are_left_out_of_a_folder_and_told(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    for name in ("part.csv", "_part.csv"):
        pl.DataFrame(rows()).drop("hist_items").write_csv(folder / name)
    schema = drafted_files(tmp_path, ["log"], prepares=False)
    assert schema.files == ["log/part.csv"]
    text = " ".join((tmp_path / "schema.yaml").read_text(encoding="utf-8").replace("#", " ").split())
    assert "_part.csv left out for a leading underscore" in text
