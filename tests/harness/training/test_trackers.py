"""What TensorBoard and MLflow are told is what the record says, and telling them changes no record."""

from __future__ import annotations

import importlib.util
import json
import signal
import textwrap
import time
from collections import defaultdict
from pathlib import Path

import pytest

from files.errors import InputError
from harness.records.folder import RunFolder
from harness.training import trackers as watching
from harness.training.trackers import METRICS, Several, watchers
from tests.forked import ROOT, Forked
from tests.harness.small_runs import carry_out, small_spec
from tests.test_cli import bench, own, unreported  # noqa: F401 - fixtures

Points = dict[str, list[tuple[int, float]]]
STUCK_AT, LAST_SAVED = 110, 60
KILLED = """
    import sys, time
    from pathlib import Path
    import harness.training.loop, harness.training.trackers
    from datasets.prepared import open_prepared
    from tests.harness.small_runs import carry_out, small_spec

    from harness.training.loop import Trainer
    look, save = Trainer._look, harness.training.loop.checkpoint.save
    def stuck_look(self, losses, samples, seconds):
        if self.progress.step >= {stuck_at}:
            Path(sys.argv[2], "stuck").touch()
            time.sleep(600)
        look(self, losses, samples, seconds)
    def early_save(folder, step, *rest):
        if step <= {last_saved}:
            save(folder, step, *rest)
    Trainer._look, harness.training.loop.checkpoint.save = stuck_look, early_save
    harness.training.trackers.SECONDS_BETWEEN_BATCHES = 0.0
    prepared, out = open_prepared(Path(sys.argv[1])), Path(sys.argv[2])
    [watcher] = harness.training.trackers.watchers([sys.argv[3]], out)
    carry_out(small_spec(prepared), prepared, out, checkpoint_seconds=0.0, watcher=watcher)
"""


def needs(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"SKIPPED: {name} is not installed; pip install -c requirements/lock.txt -e '.[watch]'")


def tensorboard_points(out: Path, folder: str) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard" / folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def mlflow_runs(out: Path) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out.resolve()}/mlflow.db")
    return client.search_runs([each.experiment_id for each in client.search_experiments()])


def mlflow_points(out: Path, folder: str) -> Points:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out.resolve()}/mlflow.db")
    [run] = [run for run in mlflow_runs(out) if run.data.tags["folder"] == folder]
    return {
        name: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }


READERS = {"tensorboard": tensorboard_points, "mlflow": mlflow_points}


def expected(record: dict) -> Points:
    """What the record holds, as points; speeds are measured, so only their place can be told."""
    points: Points = defaultdict(list)
    points["train/loss"] = [tuple(point) for point in record["curve"]]
    for each in record["validation"]:
        for task, metrics in each["metrics"].items():
            for name in METRICS:
                points[f"valid/{task}/{name}"].append((each["samples"], metrics[name]))
    samples = record["training"]["train_samples"]
    for task, metrics in record["metrics"].items():
        for name in METRICS:
            points[f"test/{task}/{name}"] = [(samples, metrics[name])]
    for name in ("dense_params", "sparse_params", "flops_per_sample", "active_flops_per_sample"):
        points[f"cost/{name}"] = [(samples, record["cost"][name])]
    for name in ("train_samples_per_second", "eval_samples_per_second", "mfu_train"):
        if record["training"][name] is not None:  # a small test split is too quick to time
            points[f"speed/{name}"] = [(samples, record["training"][name])]
    return points


def check_points(found: Points, record: dict) -> None:
    wanted = expected(record)
    assert set(found) == {*wanted, "train/samples_per_second"}
    for name, points in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        values = [value for _, value in points]
        assert [value for _, value in found[name]] == pytest.approx(values, rel=1e-6), name
    rates = found["train/samples_per_second"]
    assert [step for step, _ in rates] == [step for step, _ in record["curve"]]
    assert all(rate > 0 for _, rate in rates)


@pytest.mark.parametrize("name", READERS)
def test_what_is_read_back_is_what_the_record_holds(prepared, tmp_path, name):
    needs(name)
    spec = small_spec(prepared, validations_per_epoch=2)
    [watcher] = watchers([name], tmp_path)
    record = carry_out(spec, prepared, tmp_path, watcher=watcher)
    assert len(record["validation"]) == 4
    check_points(READERS[name](tmp_path, spec.folder_name), record)


@pytest.mark.parametrize("name", READERS)
def test_runs_at_once_are_told_apart(prepared, tmp_path, name):
    needs(name)
    specs = [small_spec(prepared, seed=seed) for seed in (0, 1)]
    [watcher] = watchers([name], tmp_path)
    beside = [Several([watcher]).beside_others() for _ in specs]
    for one, spec in zip(beside, specs, strict=True):
        one.start(spec, 0, 100)
    for samples in (10, 20):
        for seed, one in enumerate(beside):
            one.advance(samples, seed + samples / 100, 5.0)
    for one in beside:
        one.finish()
    for seed, spec in enumerate(specs):
        losses = READERS[name](tmp_path, spec.folder_name)["train/loss"]
        assert losses == [(10, pytest.approx(seed + 0.1)), (20, pytest.approx(seed + 0.2))]


def test_a_run_of_mlflow_says_which_run_it_is(prepared, tmp_path):
    needs("mlflow")
    spec = small_spec(prepared, seed=3, dense_lr=0.002)
    carry_out(spec, prepared, tmp_path, watcher=watchers(["mlflow"], tmp_path)[0])
    [run] = mlflow_runs(tmp_path)
    assert run.info.run_name == "small dlrm_mlp seed 3"
    assert run.info.status == "FINISHED"
    assert run.data.tags["spec_hash"] == spec.hash
    parameters = run.data.params
    assert (parameters["seed"], parameters["config.hidden_dim"], parameters["training.dense_lr"]) == (
        "3", "32", "0.002",
    )  # fmt: skip
    assert not (tmp_path / "mlruns").exists()


def test_a_watched_run_leaves_the_record_and_predictions_of_an_unwatched_one(prepared, tmp_path):
    needs("tensorboard")
    needs("mlflow")
    spec = small_spec(prepared, dropout=0.2)
    alone = carry_out(spec, prepared, tmp_path / "alone")
    watcher = Several(watchers(["mlflow", "tensorboard", "mlflow"], tmp_path / "watched"))
    watched = carry_out(spec, prepared, tmp_path / "watched", watcher=watcher)
    clock = {"started_at", "finished_at", "training"}
    assert {k: v for k, v in watched.items() if k not in clock} == {
        k: v for k, v in alone.items() if k not in clock
    }
    assert watched["training"].keys() == alone["training"].keys()
    folders = [RunFolder(tmp_path / name, spec.folder_name).final for name in ("alone", "watched")]
    assert [sorted(file.name for file in folder.iterdir()) for folder in folders] == [
        ["predictions.parquet", "record.json"]
    ] * 2
    first, second = ((folder / "predictions.parquet").read_bytes() for folder in folders)
    assert first == second


@pytest.mark.parametrize("name", READERS)
def test_a_killed_run_leaves_its_points_and_the_one_that_goes_on_writes_none_twice(prepared, tmp_path, name):
    needs(name)
    spec = small_spec(prepared)
    script = textwrap.dedent(KILLED.format(stuck_at=STUCK_AT, last_saved=LAST_SAVED))
    process = Forked(script, ROOT, "killed", prepared.path, tmp_path, name)
    deadline = time.monotonic() + 300
    while not (tmp_path / "stuck").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.1)  # TensorBoard reads a folder's files in the order of the seconds they were begun in

    left = READERS[name](tmp_path, spec.folder_name)["train/loss"]
    pointer = RunFolder(tmp_path, spec.folder_name).partial / "checkpoint.json"
    saved = json.loads(pointer.read_text())["tag"] * spec.training.batch_size
    assert [step for step, _ in left if step > saved], "nothing was written after the last checkpoint"

    [watcher] = watchers([name], tmp_path)
    record = carry_out(spec, prepared, tmp_path, watcher=watcher)
    assert [step for step, _ in left] == [samples for samples, _ in record["curve"][: len(left)]]
    check_points(READERS[name](tmp_path, spec.folder_name), record)
    if name == "mlflow":
        assert [run.info.status for run in mlflow_runs(tmp_path)] == ["FINISHED"]


@pytest.mark.parametrize("name", READERS)
def test_a_run_that_diverges_is_shown_as_failed_with_its_reason(prepared, tmp_path, name):
    needs(name)
    spec = small_spec(prepared, architecture="tests.harness.training.test_loop:Exploding")
    [watcher] = watchers([name], tmp_path)
    record = carry_out(spec, prepared, tmp_path, watcher=watcher)
    assert record["status"] == "failed"
    points = READERS[name](tmp_path, spec.folder_name)
    assert [tag for tag in points if tag.startswith("test/")] == []
    if name == "mlflow":
        [run] = mlflow_runs(tmp_path)
        assert (run.info.status, run.data.tags["failure"]) == ("FAILED", record["failure"]["reason"])


def test_a_store_that_fails_while_a_run_trains_ends_the_watching_and_not_the_run(
    prepared, tmp_path, monkeypatch
):
    needs("mlflow")
    [watcher] = watchers(["mlflow"], tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the server is gone")

    monkeypatch.setattr(watching, "SECONDS_BETWEEN_BATCHES", 0.0)
    monkeypatch.setattr(watcher._client, "log_batch", refuse)
    with pytest.warns(UserWarning, match="the server is gone; runs go on"):
        record = carry_out(small_spec(prepared), prepared, tmp_path, watcher=watcher)
    assert record["status"] == "finished"


def test_a_store_that_cannot_be_opened_is_named_with_the_mend(tmp_path, monkeypatch):
    needs("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://host")
    with pytest.raises(InputError, match=r"--watch mlflow: nonsense://host cannot.*set MLFLOW_TRACKING_URI"):
        watchers(["mlflow"], tmp_path / "out")


def test_every_watcher_is_told_everything_in_their_order():
    told: list[tuple] = []

    class Telling:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getattr__(self, call: str):
            return lambda *given: told.append((call, self.name, given))

    several = Several([Telling("a"), Telling("b")])
    calls = {"start": ("spec", 0, 9), "advance": (1, 0.5, 2.0), "validated": (1, {}), "finish": ()}
    calls |= {"ended": ({},), "note": ("text",)}
    for call, given in calls.items():
        getattr(several, call)(*given)
    assert told == [(call, name, given) for call, given in calls.items() for name in ("a", "b")]


@pytest.mark.parametrize("name", READERS)
def test_a_missing_package_is_named_with_the_mend_before_anything_is_prepared(own, bench, monkeypatch, name):  # noqa: F811
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == name else find(asked))
    outcome = bench("run", "tiny.yaml", "--watch", name, "--cache", "cache")
    assert outcome.code == 2
    [line] = outcome.err.splitlines()
    assert f"--watch {name}: the package {name} is not installed" in line
    assert "pip install -c requirements/lock.txt -e '.[watch]'" in line
    assert not (own / "cache").exists()
    assert not (own / "out").exists()


def test_the_command_line_writes_for_both(own, bench, unreported):  # noqa: F811
    needs("tensorboard")
    needs("mlflow")
    outcome = bench(
        "run", "tiny.yaml", "--cache", "cache", "--seeds", "1", "--no-speed",
        "--watch", "tensorboard", "--watch", "mlflow",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    out = own / "out/tiny"
    folders = {
        path.parent.name for path in out.glob("runs/*/record.json") if "constant" not in path.parent.name
    }
    assert {path.name for path in (out / "tensorboard").iterdir()} == folders
    assert {run.data.tags["folder"] for run in mlflow_runs(out)} == folders


def test_an_unknown_watcher_is_refused_with_those_there_are(own, bench):  # noqa: F811
    outcome = bench("run", "tiny.yaml", "--watch", "nobody")
    assert outcome.code == 2
    assert all(word in outcome.err for word in ("--watch", "nobody", "tensorboard", "mlflow"))
