"""Worlds of a dataset: what a suite may say of them, and that all is run in each, in an order of pairs."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import product
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml

import suites.carrying_out
import suites.dataset_plan
import suites.run
from datasets.catalog import prepare_dataset
from files.errors import InputError
from harness.machine.facts import Machine
from harness.machine.peaks import Peak
from harness.records.archive import pack, unpack
from harness.records.record import Record
from harness.records.store import read_runs
from harness.training.progress import Silent
from suites.carrying_out import NoRecord
from suites.costs import cost_table
from suites.options import Options
from suites.run import run_suite
from suites.suite import Suite, load_suite
from suites.tuning.tuned import Tuned, identity_of, read_tuned, tuned_path, write_tuned

TINY = {"rows": 1200, "users": 100, "items": 100}
CONTENT = {
    "name": "mine",
    "description": "Two rows in two worlds.",
    "datasets": [{"name": "shortvideo", "options": TINY, "worlds": [0, 3]}],
    "budget": {"flops_per_sample": 30_000},
    "tokens": 16,
    "seeds": 2,
    "references": ["oracle", "constant"],
    "architectures": ["dlrm_mlp", "deepfm"],
    "training": {"batch_size": 256},
}
SHORT = {"name": "shortvideo", "options": TINY}


def written(folder: Path, **changes: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(CONTENT | changes))
    return str(path)


def worlds_of(suite: Suite) -> list[list[int] | None]:
    return [dataset.worlds for dataset in suite.datasets]


# ------------------------------------------------------------------------------------- what a suite may say


@pytest.mark.parametrize(("given", "worlds"), [(3, [0, 1, 2]), ([4, 2], [4, 2]), ([7], [7]), (None, None)])
def test_worlds_are_numbers_or_how_many(tmp_path, given, worlds):
    path = written(tmp_path, datasets=[SHORT | {"worlds": given}])
    assert worlds_of(load_suite(path, [])) == [worlds]


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (SHORT | {"worlds": 0}, "datasets.0.worlds"),
        (SHORT | {"worlds": []}, "datasets.0.worlds"),
        (SHORT | {"worlds": [0, -1]}, "datasets.0.worlds.1"),
        (SHORT | {"worlds": [1, 1]}, "names a world twice"),
        (SHORT | {"worlds": True}, "a list of numbers, or how many"),
        (SHORT | {"worlds": "two"}, "a list of numbers, or how many"),
        (
            {"name": "shortvideo", "options": {"seed": 0}, "worlds": 2},
            "option 'seed' of dataset 'shortvideo'",
        ),
        ({"name": "my/schema.yaml", "worlds": 2}, "has no worlds .*leave 'worlds' out"),
    ],
)
def test_worlds_that_cannot_be_are_refused_by_field(tmp_path, dataset, words):
    with pytest.raises(InputError, match=words) as error:
        load_suite(written(tmp_path, datasets=[dataset]), [])
    assert "datasets.0" in str(error.value)


def test_the_flag_sets_worlds_where_there_are_any_and_replaces_those_of_the_suite(tmp_path):
    assert worlds_of(load_suite(written(tmp_path), [], worlds=3)) == [[0, 1, 2]]
    both = written(tmp_path, datasets=["my.yaml", "shortvideo"])
    assert worlds_of(load_suite(both, [], worlds=2)) == [None, [0, 1]]
    chosen = load_suite(both, [], {"datasets": [{"name": "shortvideo"}]}, worlds=2)
    assert worlds_of(chosen) == [[0, 1]]
    real = written(tmp_path, datasets=["kuairand-pure", {"name": "movielens-100k", "worlds": [0, 4]}])
    assert worlds_of(load_suite(real, [])) == [None, [0, 4]]
    assert worlds_of(load_suite(real, [], worlds=2)) == [[0, 1], [0, 1]]
    with pytest.raises(InputError, match="--worlds 2: no dataset of the suite has worlds"):
        load_suite(both, [], {"datasets": [{"name": "my.yaml"}]}, worlds=2)
    by_hand = written(tmp_path, datasets=[{"name": "shortvideo", "options": {"seed": 1}}])
    with pytest.raises(InputError, match=r"option 'seed'.* is what worlds set; leave one of the two out"):
        load_suite(by_hand, [], worlds=2)


# --------------------------------------------------------------------------------------- what is run, and how


class Listening(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def carried_out(out: Path, cache: Path, **changes: object) -> tuple[list[Record], list[str]]:
    listening = Listening()
    options = Options(out, cache, None, torch.device("cpu"))
    records = run_suite(Suite.model_validate(CONTENT | changes), options, listening)
    return records, listening.said


def call_here(_, function, *arguments, watcher=None, hold=None):
    """Calls in this process, which takes a fraction of the time of a worker."""
    return function(*arguments, *([] if watcher is None else [watcher]))


@pytest.fixture(scope="module", autouse=True)
def machine():
    """No measuring of this machine and no workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites.run.Caller, "machine", lambda *_: Machine(Peak(1e11, "made up"), {}))
        patch.setattr(suites.run.Caller, "__call__", call_here)
        patch.setattr(suites.run, "_measure_speeds", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two rows and the references in two worlds, two seeds each: the folder, records and what was said."""
    out, cache = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("cache")
    return out, cache, *carried_out(out, cache)


def test_everything_is_run_in_every_world_with_every_seed_and_pairs_are_complete_early(finished):
    _, _, records, _ = finished
    models = [record for record in records if not record.is_reference]
    order = [(record.seed, record.world, record.architecture) for record in models]
    assert order == list(product((0, 1), (0, 3), ("dlrm_mlp", "deepfm")))
    references = Counter((record.architecture, record.world) for record in records if record.is_reference)
    assert references == Counter(product(("oracle", "constant"), (0, 3)))


def test_a_world_is_the_data_of_its_option_and_a_run_says_which_it_is_of(finished):
    out, cache, _, _ = finished
    for record in read_runs(out).records:
        alone = prepare_dataset("shortvideo", TINY | {"seed": record.world}, None, cache)
        assert record.dataset_info.fingerprint == alone.fingerprint == record.spec["dataset_fingerprint"]
        assert f"-w{record.world}-s{record.seed}-" in record.folder.name
        if record.cost is not None:
            sizes = {feature.table: feature.embedding_dim for feature in alone.schema.sparse_features}
            expected = sum(alone.table_sizes[table] * dim for table, dim in sizes.items())
            assert record.cost.sparse_params == expected
    assert len(list(cache.glob("shortvideo-*"))) == 2


def test_runs_of_all_worlds_count_together_and_older_data_do_not(finished):
    out, _, records, _ = finished
    stored = read_runs(out)
    assert stored.suite is not None
    assert stored.suite.worlds == {"shortvideo": [0, 3]}
    [selection] = stored.selections()
    assert len(selection.records) == len(records)
    assert not selection.superseded
    assert len({record.settings for record in records if record.architecture == "deepfm"}) == 1
    other = records[-1].model_copy(update={"spec": records[-1].spec | {"shared_fingerprint": "older"}})
    assert other.settings != records[-1].settings


def test_runs_of_worlds_are_kept_and_come_back(finished, tmp_path):
    out, _, records, _ = finished
    pack(out, tmp_path / "kept", predictions=True)
    assert len(list((tmp_path / "kept").glob("predictions-*.parquet"))) == 2  # a test split a world
    back = read_runs(unpack(tmp_path / "kept", tmp_path / "back"))
    named = Counter((record.contestant.key, record.world, record.seed) for record in back.records)
    assert named == Counter((record.contestant.key, record.world, record.seed) for record in records)
    for record in back.records:
        kept = record.folder / "predictions.parquet"
        assert kept.read_bytes() == (out / "runs" / record.folder.name / kept.name).read_bytes()


def test_nothing_is_repeated_and_a_third_world_is_added_to_two(finished, monkeypatch):
    out, cache, records, _ = finished
    carried: list[str] = []

    def carry_out(job, *_):
        carried.append(job.title)
        return suites.carrying_out.NoRecord.NONE

    monkeypatch.setattr(suites.carrying_out, "_carry_out", carry_out)
    again, said = carried_out(out, cache)
    assert len(again) == len(records)
    assert not carried
    assert "nothing to train: every run has its record" in said
    _, said = carried_out(out, cache, datasets=[SHORT | {"worlds": [0, 3, 1]}], references=False)
    assert carried == [
        f"shortvideo world 1 {name} seed {seed}" for seed in (0, 1) for name in ("dlrm_mlp", "deepfm")
    ]
    assert any(text.startswith("4 runs of dlrm_mlp, deepfm to train") for text in said)


def test_weights_are_kept_of_the_first_seed_in_the_first_world(finished):
    out, _, records, _ = finished
    kept = {path.parent.name.rpartition("-")[2] for path in out.glob("runs/*/weights.pt")}
    assert kept == {
        record.spec_hash
        for record in records
        if not record.is_reference and (record.seed, record.world) == (0, 0)
    }


def test_rows_whose_weights_are_too_large_to_be_kept_are_named(finished, tmp_path, monkeypatch):
    _, cache, _, _ = finished
    monkeypatch.setattr("harness.training.weights.SMALL_MEGABYTES", 0)
    planned: list = []
    monkeypatch.setattr(
        suites.carrying_out, "_carry_out", lambda job, *_: planned.append(job) or NoRecord.NONE
    )
    _, said = carried_out(tmp_path, cache, references=False)
    [note] = [text for text in said if "are not kept" in text]
    assert note.endswith("; --keep weights keeps them")
    assert note.count("shortvideo dlrm_mlp: ") == note.count("shortvideo deepfm: ") == 1
    assert len(planned) == 8
    assert not any(job.keeps_weights for job in planned)


def test_a_run_without_worlds_is_another_than_that_of_the_first_world(finished, monkeypatch):
    """Its spec holds no word of worlds, so that it has the hash that it had before there were any."""
    out, cache, records, _ = finished
    monkeypatch.setattr(suites.carrying_out, "_carry_out", lambda *_: suites.carrying_out.NoRecord.NONE)
    planned: list = []
    monkeypatch.setattr(suites.dataset_plan, "fit_jobs", lambda row, *_: planned.extend(row.jobs) or [])
    without, _ = carried_out(out.with_name("plain"), cache, datasets=[SHORT], references=False)
    hashes = {record.spec_hash for record in records}
    assert without == []
    assert len(planned) == 4
    for job in planned:
        assert not {"world", "shared_fingerprint"} & set(job.spec.as_json())
        assert job.spec.hash not in hashes


def test_papers_that_a_suite_names_change_no_run(finished, tmp_path, monkeypatch):
    out, cache, records, _ = finished
    monkeypatch.setattr(
        suites.carrying_out, "_carry_out", lambda *_: pytest.fail("a finished run is repeated")
    )
    shutil.copytree(out, tmp_path / "again")
    asked_for = {}
    for published in ([], ["rankelastor", "bars"]):
        again, _ = carried_out(tmp_path / "again", cache, published=published)
        assert [record.spec_hash for record in again] == [record.spec_hash for record in records]
        asked_for[len(published)] = json.loads((tmp_path / "again/suite.json").read_text())
    assert "published" not in asked_for[0]
    assert asked_for[2] == asked_for[0] | {"published": ["rankelastor", "bars"]}


# --------------------------------------------------------------------------------- leaks, costs and settings


def test_leaks_are_reported_once_a_world_and_each_is_recorded_once(finished, monkeypatch, tmp_path):
    _, cache, _, said = finished
    preparing = [text for text in said if "preparing" in text]
    assert [text.partition(":")[0] for text in preparing] == ["shortvideo world 0", "shortvideo world 3"]
    leak = {"feature": "age", "kind": "label", "task": "finish", "number": 0.9, "says": "knows"}
    found = {0: [leak], 3: [leak, leak | {"feature": "city"}]}

    def recorded(prepared) -> dict:
        return {"found": found[prepared.world], "leak_ok": []}

    monkeypatch.setattr(suites.dataset_plan, "leaks_as_recorded", recorded)
    monkeypatch.setattr(
        suites.dataset_plan, "leak_warnings", lambda prepared, _: [f"{len(found[prepared.world])}"]
    )
    monkeypatch.setattr(suites.dataset_plan, "fit_jobs", lambda *_: [])
    _, said = carried_out(tmp_path, cache, references=False)
    assert [text for text in said if text[-1].isdigit()] == ["shortvideo world 0: 1", "shortvideo world 3: 2"]
    stored = suites.dataset_plan.SuiteRecord.model_validate_json((tmp_path / "suite.json").read_text())
    says = [(leak.feature, leak.says) for leak in stored.leaks["shortvideo"].found]
    assert says == [("age", "knows (world 0)"), ("city", "knows (world 3)")]


def test_costs_say_how_many_runs_a_row_has(finished):
    _, cache, _, _ = finished
    table = cost_table(Suite.model_validate(CONTENT), None, cache)
    assert table.startswith("shortvideo world 0, 4 runs a row (2 worlds x 2 seeds): 16 tokens of width 24\n")


def test_tuned_settings_hold_in_every_world_of_a_dataset_and_on_no_other_data(finished, tmp_path):
    _, cache, _, _ = finished
    suite = Suite.model_validate(CONTENT | {"tuned": "mine"})
    suite._folder = tmp_path
    worlds = [prepare_dataset("shortvideo", TINY, None, cache, world=world) for world in (None, 0, 3)]
    identities = [identity_of(suite, prepared) for prepared in worlds]
    assert identities[0] == identities[1] == identities[2]
    assert len({prepared.fingerprint for prepared in worlds}) == 2
    found = {"suite": "mine", "dataset": "shortvideo", "fingerprint": "", "command": "", "metric": "auc"}
    tuned = Tuned(**found, trials=1, seed=0, identity=identities[0], rows={})
    write_tuned(tuned_path(tmp_path, "mine", "shortvideo"), tuned)
    assert all(read_tuned(suite, prepared) == tuned for prepared in worlds)
    for other in (TINY | {"seed": 3}, TINY | {"rows": 1300}):
        with pytest.raises(InputError, match="another version of the data"):
            read_tuned(suite, prepare_dataset("shortvideo", other, None, cache))


# ---------------------------------------------------------------------------------------- records in git


def test_kept_records_are_of_no_world_and_their_runs_count_as_before(tmp_path):
    stored = read_runs(unpack(Path("reports/measured/quick-kuairand-pure"), tmp_path / "quick"))
    [selection] = stored.selections()
    assert {record.world for record in stored.records} == {None}
    models = [record for record in selection.records if not record.is_reference]
    assert len(models) == 30
    assert not selection.superseded
    assert pl.Series([record.spec_hash for record in models]).is_unique().all()
