"""Packed runs come back byte for byte, comparisons are made of packed scores, damage is one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from files.checksums import sealed, sha256_of
from files.errors import InputError
from harness.evaluation.comparisons import compare
from harness.records import archive, kept_predictions
from harness.records.archive import pack, packed_runs, unpack
from harness.runs.run import write_predictions
from harness.training.prediction import Predictions

ROWS, USERS = 600, 60
FORMULA = "=2+2\u2028\u00e9"  # what a spreadsheet or an encoding would spoil


def finish(out: Path, architecture: str, seed: int, *, with_scores: bool = True) -> None:
    """One finished run on a test split that all runs share."""
    rng = np.random.default_rng(7)
    users, labels = rng.integers(0, USERS, ROWS), rng.integers(0, 2, (ROWS, 2)).astype(np.float64)
    labels[::9, 1] = np.nan
    noise = np.random.default_rng([seed, len(architecture)]).normal(size=(ROWS, 2))
    scores = 1 / (1 + np.exp(-(np.nan_to_num(labels) + noise)))
    if architecture != "oracle":
        scores = scores.astype(np.float32)
    folder = out / "runs" / f"d-{architecture}-s{seed}"
    folder.mkdir(parents=True)
    files = {}
    if with_scores:
        write_predictions(folder, predictions(labels, scores, users), ["finish", "skip"])
        files = {"predictions.parquet": sha256_of(folder / "predictions.parquet")}
    record = sealed(
        {
            **{"kind": "reference" if architecture == "oracle" else "model", "status": "finished"},
            **{"suite": "s", "architecture": architecture, "variant": "", "dataset": "d", "seed": seed},
            **{"spec_hash": f"{seed:012x}", "spec": {"seed": seed}, "started_at": "2026-01-01"},
            "metrics": {"finish": {"auc": 0.1 + 0.2, "uauc": None}, "skip": {"auc": 1e-17}},
            "note": FORMULA,
            "files": files,
        }
    )
    (folder / "record.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def predictions(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> Predictions:
    return Predictions(labels=labels, scores=scores, user=users, tier=users % 3, samples_per_second=None)


def suite(out: Path, *, with_scores: bool = True) -> Path:
    """A suite of two models of two seeds and a reference row."""
    for architecture, seed in (("base", 0), ("base", 1), ("mine", 0), ("mine", 1), ("oracle", 0)):
        finish(out, architecture, seed, with_scores=with_scores)
    rows = [{"architecture": name, "variant": ""} for name in ("base", "mine", "oracle")]
    described = {"name": "s", "base": "base", "architectures": rows, "datasets": ["d"]}
    (out / "suite.json").write_bytes(json.dumps(described).encode() + b"\r\n")
    (out / "comparisons.csv").write_bytes(b"suite,dataset\r\ns,d\n")
    return out


@pytest.fixture
def out(tmp_path) -> Path:
    return suite(tmp_path / "out")


@pytest.fixture
def kept(tmp_path) -> Path:
    """The suite without scores, packed."""
    pack(suite(tmp_path / "source", with_scores=False), tmp_path / "kept")
    return tmp_path / "kept"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite(kept: Path, **columns: list) -> None:
    """The archive with some columns replaced, as a whole and valid parquet file."""
    table = pq.read_table(kept / "records.parquet")
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, kept / "records.parquet")


# ----------------------------------------------------------------------------------------------- records


def test_records_suite_and_comparisons_come_back_with_the_same_bytes(out, tmp_path):
    (out / "runs/unfinished.partial").mkdir()
    (out / "runs/unfinished.partial/record.json").write_text("{", encoding="utf-8")
    before = {name: content for name, content in files(out).items() if not name.endswith(".parquet")}
    before.pop("runs/unfinished.partial/record.json")
    pack(out, tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        *("records.parquet", "suite.json", "comparisons.csv"),
    }
    unpack(tmp_path / "kept", tmp_path / "again")
    assert files(tmp_path / "again") == before


def test_the_index_says_of_each_run_what_its_record_says(kept):
    table = pq.read_table(kept / "records.parquet").to_pylist()
    assert [row["folder"] for row in table] == [
        *("d-base-s0", "d-base-s1", "d-mine-s0", "d-mine-s1", "d-oracle-s0"),
    ]
    assert [(row["suite"], row["dataset"], row["architecture"], row["seed"]) for row in table] == [
        *(("s", "d", "base", 0), ("s", "d", "base", 1), ("s", "d", "mine", 0), ("s", "d", "mine", 1)),
        ("s", "d", "oracle", 0),
    ]
    assert [json.loads(row["record"]) for row in table] == [run.record for run in packed_runs(kept)]
    assert packed_runs(kept)[0].record["note"] == FORMULA


def test_the_same_runs_give_the_same_bytes_and_what_no_longer_is_goes(out, tmp_path):
    (out / "variants.csv").write_text("a\n", encoding="utf-8")
    pack(out, tmp_path / "kept", predictions=True)
    assert (tmp_path / "kept/variants.csv").is_file()
    assert len(kept_predictions.files(tmp_path / "kept")) == 1
    (tmp_path / "kept/figures").mkdir()
    (tmp_path / "kept/figures/a.png").write_bytes(b"kept")
    (out / "variants.csv").unlink()
    pack(out, tmp_path / "kept")
    pack(out, tmp_path / "other")
    assert files(tmp_path / "kept") == files(tmp_path / "other") | {"figures/a.png": b"kept"}


def test_only_finished_runs_of_a_described_suite_are_packed(out, tmp_path):
    (tmp_path / "empty/runs/a.partial").mkdir(parents=True)
    with pytest.raises(InputError, match=r"empty/runs: holds no finished run; name a folder"):
        pack(tmp_path / "empty", tmp_path / "kept")
    record = out / "runs/d-mine-s0/record.json"
    whole = record.read_bytes()
    record.write_bytes(whole.replace(b'"seed": 0', b'"seed": 3'))
    with pytest.raises(InputError, match=r"d-mine-s0/record\.json: was changed"):
        pack(out, tmp_path / "kept")
    record.write_bytes(whole)
    (out / "suite.json").unlink()
    with pytest.raises(InputError, match=r"suite\.json: is missing; run the suite again"):
        pack(out, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_with_a_changed_byte_an_archive_gives_the_same_runs_or_none(kept):
    path = kept / "records.parquet"
    whole, before = path.read_bytes(), packed_runs(kept)
    refused = []
    for at in range(0, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            assert packed_runs(kept) == before  # of what names the writer or orders pages, nothing is read
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > len(whole) // 11 // 3
    for message in refused:
        assert message.startswith(f"{path}: ")
        assert message.endswith("; restore it, or pack the runs again")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet" * 100])
def test_a_file_that_is_no_archive_is_named(kept, tmp_path, content):
    (kept / "records.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"records\.parquet: cannot be read as an archive of runs"):
        unpack(kept, tmp_path / "again")


def test_another_table_or_one_without_rows_is_no_archive(kept, tmp_path):
    table = pq.read_table(kept / "records.parquet")
    for other in (table.drop_columns(["seed"]), table.slice(0, 0), pa.table({"a": [1]})):
        pq.write_table(other, kept / "records.parquet")
        with pytest.raises(InputError, match=r"is no archive of runs \(its columns or rows are others\)"):
            unpack(kept, tmp_path / "again")


@pytest.mark.parametrize(
    ("column", "change", "problem"),
    [
        ("folder", lambda v: ["../out", *v[1:]], r"'\.\./out' is no name of a run's folder"),
        ("folder", lambda v: [".", *v[1:]], r"'\.' is no name"),
        ("folder", lambda v: [v[1], *v[1:]], "two of its runs have one name"),
        ("seed", lambda v: [5, *v[1:]], "the record of d-base-s0 is not the one that its row describes"),
        ("record", lambda v: [v[0][:-3], *v[1:]], "the record of d-base-s0 is no JSON"),
        ("record", lambda v: ["[" * 100_000, *v[1:]], "the record of d-base-s0 is no JSON"),
        ("record", lambda v: ["[]", *v[1:]], "is not the one that its row describes"),
        ("record", lambda v: [v[0].replace("1e-17", "0.75"), *v[1:]], "d-base-s0 was changed since"),
    ],
)
def test_an_archive_whose_rows_were_edited_is_refused(kept, tmp_path, column, change, problem):
    rewrite(kept, **{column: change(pq.read_table(kept / "records.parquet")[column].to_pylist())})
    with pytest.raises(InputError, match=rf"records\.parquet: is damaged \(.*{problem}"):
        unpack(kept, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_runs_are_unpacked_into_a_new_folder_alone(kept, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"taken: is not empty; name a new folder"):
        unpack(kept, tmp_path / "taken")
    with pytest.raises(InputError, match=r"mine\.txt: is not empty"):
        unpack(kept, tmp_path / "taken/mine.txt")
    assert files(tmp_path / "taken") == {"mine.txt": b"mine"}
    (tmp_path / "new").mkdir()
    assert unpack(kept, tmp_path / "new") == tmp_path / "new"
    with pytest.raises(InputError, match=r"absent/records\.parquet: is missing"):
        unpack(tmp_path / "absent", tmp_path / "again")
    (kept / "suite.json").unlink()
    with pytest.raises(InputError, match=r"kept/suite\.json: is missing"):
        unpack(kept, tmp_path / "again")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "kept", "taken", "new"}


# ------------------------------------------------------------------------------------------------ scores


def test_comparisons_made_of_packed_scores_are_those_of_the_written_ones(out, tmp_path):
    pack(out, tmp_path / "kept", predictions=True)
    unpack(tmp_path / "kept", tmp_path / "again")
    written = {name: content for name, content in files(out).items() if not name.startswith("runs/.")}
    assert files(tmp_path / "again") == written
    before = compare(out, replicates=20)
    assert len(before) == 12  # two rows, two tasks, three metrics
    assert compare(tmp_path / "again", replicates=20).equals(before)


def test_users_and_labels_are_kept_once(out, tmp_path):
    pack(out, tmp_path / "kept", predictions=True)
    [path] = kept_predictions.files(tmp_path / "kept")
    schema = pq.read_schema(path)
    assert schema.names[:4] == ["user", "tier", "label_finish", "label_skip"]
    assert len(schema.names) == 4 + 5 * 2
    assert schema.field("d-mine-s0/score_skip").type == pa.float32()
    assert schema.field("d-oracle-s0/score_skip").type == pa.float64()
    written = sum(len(content) for name, content in files(out).items() if name.endswith(".parquet"))
    assert path.stat().st_size < 0.75 * written


def test_another_test_split_has_a_file_of_its_own(out, tmp_path):
    path = out / "runs/d-mine-s1/predictions.parquet"
    pq.write_table(pq.read_table(path).slice(1), path, compression="zstd")
    contents = kept_predictions.pack(sorted((out / "runs").glob("d-*")))
    assert len(contents) == 2


def test_scores_that_are_large_or_cannot_be_restored_are_refused(out, tmp_path, monkeypatch):
    path = out / "runs/d-mine-s1/predictions.parquet"
    whole = path.read_bytes()
    pq.write_table(pq.read_table(path), path, compression="snappy")
    with pytest.raises(InputError, match=r"d-mine-s1/predictions\.parquet: another version of pyarrow"):
        pack(out, tmp_path / "kept", predictions=True)
    path.write_bytes(whole)
    monkeypatch.setattr(kept_predictions, "LARGEST", 10_000)
    with pytest.raises(InputError, match=r"would take \d\d,\d\d\d bytes, more than the 10,000"):
        pack(out, tmp_path / "kept", predictions=True)
    assert not (tmp_path / "kept").exists()


def test_damaged_or_foreign_scores_are_named(out, tmp_path):
    pack(out, tmp_path / "kept", predictions=True)
    [path] = kept_predictions.files(tmp_path / "kept")
    table = pq.read_table(path)
    at = table.column_names.index("d-mine-s0/score_skip")
    other = table.set_column(at, "d-mine-s0/score_skip", table["d-mine-s1/score_skip"])
    foreign = table.rename_columns([name.replace("d-mine-s0", "absent") for name in table.column_names])
    for changed, problem in (
        (other, "d-mine-s0 are not those that its record names"),
        (foreign, "absent, which"),
    ):
        pq.write_table(changed, path)
        with pytest.raises(InputError, match=rf"predictions-\w+\.parquet: .*{problem}"):
            unpack(tmp_path / "kept", tmp_path / "again")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"predictions-\w+\.parquet: cannot be read"):
        unpack(tmp_path / "kept", tmp_path / "again")
    assert not (tmp_path / "again").exists()


# ------------------------------------------------------------------------------------------ command line


def test_the_command_packs_and_unpacks_and_says_what_is_wrong_in_a_sentence(
    out, tmp_path, monkeypatch, capsys
):
    def called(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["archive", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            archive.main()
        return ended.value.code

    assert called("pack", out, tmp_path / "kept") == 0
    assert "kept/records.parquet: 5 runs, " in capsys.readouterr().out
    assert called("unpack", tmp_path / "kept", tmp_path / "again") == 0
    assert (tmp_path / "again/runs/d-mine-s0/record.json").is_file()
    assert called("unpack", tmp_path / "kept", tmp_path / "again") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_records_are_packed_without_torch():
    loaded = "import sys, harness.records.archive; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
