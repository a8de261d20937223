"""The weights beside a record are those that scored the test split, and change nothing else."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch

from files.errors import InputError
from harness.records.cost import Cost
from harness.records.folder import RunFolder
from harness.runs.run import build_model
from harness.training.batches import RankBatches
from harness.training.prediction import predict
from harness.training.weights import WEIGHTS_FILE, keeps_weights, read_weights
from tests.harness.small_runs import ONE_PROCESS, carry_out, small_spec

TIMES = ("started_at", "finished_at", "checksum", "training", "environment")


def scores_of(weights, spec, prepared):
    model = build_model(spec, prepared, ONE_PROCESS)
    model.load_state_dict(weights)
    return predict(model, RankBatches(spec, prepared, ONE_PROCESS), "test").scores[:, 0]


def test_a_run_that_keeps_weights_is_the_same_run(prepared, tmp_path):
    spec = small_spec(prepared, epochs=1)
    kept = carry_out(spec, prepared, tmp_path / "kept", keeps_weights=True)
    killed = RunFolder(tmp_path / "plain", spec.folder_name).partial  # an attempt that had kept them
    killed.mkdir(parents=True)
    (killed / WEIGHTS_FILE).write_bytes(b"half")
    plain = carry_out(spec, prepared, tmp_path / "plain")
    assert {k: v for k, v in kept.items() if k not in TIMES} == {
        k: v for k, v in plain.items() if k not in TIMES
    }
    folders = [RunFolder(tmp_path / name, spec.folder_name).final for name in ("kept", "plain")]
    files = [{path.name for path in folder.iterdir()} for folder in folders]
    assert files[0] - files[1] == {WEIGHTS_FILE}
    first, second = ((folder / "predictions.parquet").read_bytes() for folder in folders)
    assert first == second


def test_with_early_stopping_they_are_the_best_validations(prepared, tmp_path):
    spec = small_spec(prepared, epochs=3, patience=1, validations_per_epoch=4, dense_lr=0.03, sparse_lr=0.5)
    record = carry_out(spec, prepared, tmp_path, keeps_weights=True)
    assert record["training"]["stopped_early"]
    folder = RunFolder(tmp_path, spec.folder_name).final
    scored = pq.read_table(folder / "predictions.parquet")["score_finish"].to_numpy()
    assert (scores_of(read_weights(folder, spec.hash), spec, prepared) == scored).all()


@pytest.mark.parametrize(
    ("keep", "params", "kept"),
    [("auto", 16_000_000, True), ("auto", 16_000_001, False), ("weights", 10**9, True), ("none", 1, False)],
)
def test_small_ones_are_kept_by_default(keep, params, kept):
    cost = Cost(params - 1, 1, 0, 0, 0)
    assert keeps_weights(keep, cost) is kept


def test_damaged_ones_and_those_of_another_run_are_refused_by_name(tmp_path):
    path = tmp_path / WEIGHTS_FILE
    torch.save({"spec_hash": "a", "model": {}}, path)
    assert read_weights(tmp_path, "a") == {}
    with pytest.raises(InputError, match=r"weights\.pt: holds the weights of another run \(a\)"):
        read_weights(tmp_path, "b")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"weights\.pt: cannot be read .* --keep weights"):
        read_weights(tmp_path, "a")
    torch.save([1], path)
    with pytest.raises(InputError, match=r"weights\.pt: cannot be read"):
        read_weights(tmp_path, "a")
