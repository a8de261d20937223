"""Two gloo processes on the CPU against one process on the same rows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torchrec import KeyedJaggedTensor

from datasets.batch import Batch
from datasets.dealing import cuts_shards
from datasets.prepared import PreparedDataset
from datasets.reader import ShardReader
from harness.records.folder import RunFolder
from harness.records.spec import RunSpec
from harness.runs.run import build_model
from harness.training import batches
from harness.training.prediction import predict
from harness.training.weights import read_weights
from tests.forked import ROOT, Forked, forked_ranks
from tests.harness.small_runs import ONE_PROCESS, carry_out, small_spec
from tests.hosts import two_hosts

RANKS, BATCH_SIZE = 2, 128
NEVER = 10**9
DIPPED = 28  # a step after a validation that was not the best
WORKER = """
import os, sys
from pathlib import Path
import torch
from datasets.prepared import open_prepared
from harness.records.spec import RunSpec
from harness.training.loop import Trainer
from harness.training.ranks import start_world
from tests.harness.small_runs import carry_out

look, die_at = Trainer._look, int(sys.argv[3])
def mortal_look(self, losses, samples, seconds):
    if self.progress.step >= die_at:
        os._exit(9)
    look(self, losses, samples, seconds)
Trainer._look = mortal_look

prepared = open_prepared(Path(sys.argv[1]))
world = start_world(torch.device("cpu"))
spec = RunSpec.model_validate_json(sys.argv[4])
carry_out(spec, prepared, Path(sys.argv[2]), world=world, checkpoint_seconds=0.0, keeps_weights=True)
"""


def spec_of(prepared: PreparedDataset, *, attention: bool, ranks: int = RANKS) -> RunSpec:
    """Validations without attention are frequent, so that a process may die at any of them."""
    spec = small_spec(prepared, batch_size=BATCH_SIZE, validations_per_epoch=2 if attention else 16)
    return spec.model_copy(update={"target_attention": attention, "world_size": ranks})


class InterleavedReader:
    """One process's view of what two ranks read: their batches of every step joined."""

    def __init__(self, prepared, split, batch_size, tasks, **options):
        options |= {"world_size": RANKS, "shares": RANKS}
        parts = [
            ShardReader(prepared, split, batch_size // RANKS, tasks, **(options | {"rank": rank}))
            for rank in range(RANKS)
        ]
        self.parts = parts
        self.num_batches = max(part.num_batches for part in parts)
        self.num_rows = sum(part.num_rows for part in parts)
        self.num_whole_batches = min(part.num_whole_batches for part in parts)

    def batches(self, start: int = 0):
        streams = [part.batches(min(start, part.num_batches)) for part in self.parts]
        for _ in range(start, self.num_batches):
            yield joined([batch for batch in (next(stream, None) for stream in streams) if batch is not None])


def joined(batches: list[Batch]) -> Batch:
    keys = batches[0].sparse.keys()
    return Batch(
        KeyedJaggedTensor(
            keys=keys,
            values=torch.cat([batch.sparse[key].values() for key in keys for batch in batches]),
            lengths=torch.cat([batch.sparse[key].lengths() for key in keys for batch in batches]),
        ),
        *(
            torch.cat([getattr(batch, name) for batch in batches])
            for name in ("dense", "labels", "user_id", "tier")
        ),
    )


def run_under_torchrun(prepared: PreparedDataset, out: Path) -> None:
    """Its processes are forked from it, as it is from one that has imported everything."""
    script = out.with_suffix(".py")
    script.write_text(WORKER)
    spec = spec_of(prepared, attention=False).model_dump_json()
    options = ["--standalone", "--nproc-per-node", RANKS, "--start-method", "fork", "--run-path"]
    may_have_children = "import multiprocessing; multiprocessing.current_process()._config['daemon'] = False"
    code = f"{may_have_children}; from torch.distributed.run import main; main()"
    process = Forked(code, ROOT, "torchrun", *options, script, prepared.path, out, NEVER, spec)
    _, err = process.communicate()
    assert process.returncode == 0, err[-3000:]


@pytest.fixture(scope="module")
def two_processes(prepared, tmp_path_factory) -> Path:
    """Two runs, of which torchrun starts the processes of the one without attention."""
    out = tmp_path_factory.mktemp("ranks") / "out"
    run_under_torchrun(prepared, out)
    attended = spec_of(prepared, attention=True).model_dump_json()
    assert forked_ranks(WORKER, prepared.path, out, NEVER, attended) == [0, 0]
    return out


@pytest.mark.parametrize("attention", [False, True])
def test_two_processes_train_to_the_model_of_one(attention, prepared, two_processes, tmp_path, monkeypatch):
    spec = spec_of(prepared, attention=attention, ranks=1)
    reader = batches.ShardReader

    def interleaved_while_training(prepared, split, *arguments, **options):
        kind = InterleavedReader if split == "train" else reader
        return kind(prepared, split, *arguments, **options)

    monkeypatch.setattr(batches, "ShardReader", interleaved_while_training)
    one = carry_out(spec, prepared, tmp_path)
    folder = RunFolder(two_processes, spec.model_copy(update={"world_size": RANKS}).folder_name)
    two = folder.record().as_json()

    assert two["training"]["train_samples"] == 2 * prepared.rows["train"] == one["training"]["train_samples"]
    np.testing.assert_allclose(
        [loss for _, loss in two["curve"]], [loss for _, loss in one["curve"]], rtol=1e-4
    )
    scores_of_one, scores_of_two = (
        pq.read_table(run.final / "predictions.parquet").to_pandas()
        for run in (RunFolder(tmp_path, spec.folder_name), folder)
    )
    np.testing.assert_array_equal(scores_of_two["user"], scores_of_one["user"])
    np.testing.assert_allclose(scores_of_two["score_finish"], scores_of_one["score_finish"], atol=1e-4)
    for task in spec.tasks:
        assert two["metrics"][task]["rows"] == one["metrics"][task]["rows"]
        assert two["metrics"][task]["auc"] == pytest.approx(one["metrics"][task]["auc"], abs=1e-3)


@pytest.mark.parametrize("attention", [False, True])
def test_one_process_scores_with_the_weights_that_two_kept(attention, prepared, two_processes):
    spec = spec_of(prepared, attention=attention)
    folder = RunFolder(two_processes, spec.folder_name).final
    model = build_model(spec, prepared, ONE_PROCESS)
    model.load_state_dict(read_weights(folder, spec.hash))
    found = predict(model, batches.RankBatches(spec, prepared, ONE_PROCESS), "test")
    scored = pq.read_table(folder / "predictions.parquet")["score_finish"].to_numpy()
    np.testing.assert_allclose(found.scores[:, 0], scored, atol=1e-6)


def test_two_processes_that_died_go_on_and_end_in_the_same_bits(prepared, two_processes, tmp_path):
    """Even where one rank's part of the latest checkpoint is damaged: both go on from the one before."""
    out, spec = tmp_path / "out", spec_of(prepared, attention=False)
    die_at = 40 + 37  # the second epoch's tail: rank 1 has 36 batches
    assert 9 in forked_ranks(WORKER, prepared.path, out, die_at, spec.model_dump_json())
    reader_of_1 = ShardReader(prepared, "train", BATCH_SIZE // RANKS, ["finish"], rank=1, world_size=RANKS)
    assert reader_of_1.num_batches == 36
    [partial] = [folder for folder in (out / "runs").iterdir() if folder.is_dir()]
    assert partial.suffix == ".partial"
    latest = json.loads((partial / "checkpoint.json").read_text())["tag"]
    assert 40 + 36 < latest < 2 * 40
    part = partial / f"checkpoint-{latest}-1.pt"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert forked_ranks(WORKER, prepared.path, out, NEVER, spec.model_dump_json()) == [0, 0]
    again, first = (RunFolder(each, spec.folder_name).record().as_json() for each in (out, two_processes))
    assert again["curve"] == first["curve"]
    assert again["metrics"] == first["metrics"]


@pytest.mark.parametrize(("first", "then", "damaged"), [(2, 1, False), (1, 2, False), (2, 1, True)])
def test_a_run_goes_on_with_another_number_of_processes(prepared, tmp_path, first, then, damaged):
    """To the same model up to rounding. In the end the best weights are tested, which the first ones kept."""
    spec = spec_of(prepared, attention=False)
    training = spec.training.model_copy(update={"patience": 5, "dense_lr": 0.01})  # a dip soon ends it
    spec = spec.model_copy(update={"training": training})
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    assert forked_ranks(WORKER, prepared.path, whole, NEVER, spec.model_dump_json()) == [0, 0]
    assert 9 in forked_ranks(WORKER, prepared.path, moved, DIPPED, spec.model_dump_json(), size=first)
    [partial] = (moved / "runs").glob("*.partial")
    pointer = json.loads((partial / "checkpoint.json").read_text())
    assert pointer["ranks"] == first
    assert pointer["best"] < pointer["tag"] == DIPPED
    assert pointer["shares"] == RANKS
    gone_on_from = pointer["tag"]
    if damaged:  # within what torch reads without a checksum; the set before is gone on with
        part = partial / f"checkpoint-{DIPPED}-1.pt"
        content = bytearray(part.read_bytes())
        content[content.index(b"optimizer")] = 0xFF
        part.write_bytes(content)
        gone_on_from = json.loads((partial / "checkpoint-before.json").read_text())["tag"]
        assert gone_on_from < DIPPED
    codes = forked_ranks(WORKER, prepared.path, moved, NEVER, spec.model_dump_json(), size=then)
    assert codes == [0] * then

    expected, found = (RunFolder(out, spec.folder_name).record().as_json() for out in (whole, moved))
    until = gone_on_from * BATCH_SIZE
    assert expected["training"]["stopped_early"]
    best = max(expected["validation"], key=lambda point: mean_auc(point["metrics"]))
    assert best["step"] == pointer["best"]
    for name in ("curve", "validation"):
        assert len(found[name]) == len(expected[name])
    np.testing.assert_allclose(
        [loss for _, loss in found["curve"]], [loss for _, loss in expected["curve"]], rtol=1e-3
    )
    if first == RANKS:
        early = [[point for point in record["curve"] if point[0] <= until] for record in (found, expected)]
        assert early[0] == early[1]
    for task in spec.tasks:
        assert found["metrics"][task]["auc"] == pytest.approx(expected["metrics"][task]["auc"], abs=1e-3)
    assert found["training"].get("processes") == (then if then != RANKS else None)


def mean_auc(metrics: dict) -> float:
    return np.mean([task["auc"] for task in metrics.values()])


def test_two_hosts_train_as_two_processes_of_one_machine_do(prepared, two_processes, tmp_path):
    spec = spec_of(prepared, attention=False)
    with two_hosts() as enter:
        arguments = (prepared.path, tmp_path, NEVER, spec.model_dump_json())
        assert forked_ranks(enter + WORKER, *arguments, patience=30) == [0, 0]
    apart, together = (
        RunFolder(each, spec.folder_name).record().as_json() for each in (tmp_path, two_processes)
    )
    assert apart["curve"] == together["curve"]
    assert apart["metrics"] == together["metrics"]


def test_three_processes_that_divide_shards_score_every_row_in_its_place(prepared, tmp_path):
    assert cuts_shards(prepared, 3)
    spec = small_spec(prepared, batch_size=126, epochs=1).model_copy(
        update={"world_size": 3, "cuts_shards": True}
    )
    assert forked_ranks(WORKER, prepared.path, tmp_path, NEVER, spec.model_dump_json(), size=3) == [0, 0, 0]
    folder = RunFolder(tmp_path, spec.folder_name)
    found = folder.record().as_json()
    assert found["validation"][-1]["step"] == math.ceil(prepared.rows["train"] / 126)  # so none is idle
    assert found["training"]["train_samples"] == prepared.rows["train"]
    scored = pq.read_table(folder.final / "predictions.parquet").to_pandas()
    columns = prepared.columns("test", ["user_index", "label_finish"])
    np.testing.assert_array_equal(scored["user"], columns["user_index"])
    np.testing.assert_array_equal(scored["label_finish"], columns["label_finish"])


def test_a_rank_without_rows_in_a_window_takes_part_in_scoring_it_ahead(prepared, tmp_path):
    """Rank 1 has 36 batches of 64 rows, rank 0 has 40 in ten windows of four: the last is rank 0's alone."""
    spec = small_spec(
        prepared, batch_size=BATCH_SIZE, epochs=1, order="time", score_ahead=10, validations_per_epoch=0
    ).model_copy(update={"world_size": RANKS})
    assert forked_ranks(WORKER, prepared.path, tmp_path, NEVER, spec.model_dump_json()) == [0, 0]
    readers = [
        ShardReader(prepared, "train", BATCH_SIZE // RANKS, ["finish"], rank=rank, world_size=RANKS)
        for rank in range(RANKS)
    ]
    assert [reader.num_batches for reader in readers] == [40, 36]
    labels = [
        [batch.labels[:, 0].isfinite().sum().item() for batch in reader.batches()] for reader in readers
    ]
    expected = [sum(sum(own[start : start + 4]) for own in labels) for start in range(4, 40, 4)]
    ahead = RunFolder(tmp_path, spec.folder_name).record().as_json()["ahead"]
    assert [point["metrics"]["finish"]["rows"] for point in ahead] == expected


KEPT = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from datasets.prepared import open_prepared
from harness.records.spec import RunSpec
from harness.runs.run import build_model
from harness.training import weights
from harness.training.pieces import local_pieces
from harness.training.ranks import World, start_world

prepared = open_prepared(Path(sys.argv[1]))
world = start_world(torch.device("cpu"))
spec = RunSpec.model_validate_json(sys.argv[2])
model = build_model(spec, prepared, world)
weights.SENT_ROWS = 7  # so that each table is sent in several parts
dist.all_gather_object = None  # every rank would get a copy of all
found = weights.whole_weights(model, world)
if world.is_first:
    alone = build_model(spec, prepared, World(0, 1, world.device)).state_dict()
    assert found.keys() == alone.keys()
    assert all((found[key] == alone[key]).all() for key in alone)
    own = {p.tensor.data_ptr() for v in model.state_dict().values() for p in local_pieces(v)}
    assert 0 < sum(found[key].data_ptr() in own for key in found if ".embedding_bags." in key) < 3
else:
    assert not any(".embedding_bags." in key for key in found)
"""


def test_only_the_first_rank_puts_tables_together(prepared):
    """The initial ones, which are the same in one process."""
    assert all(size > 7 for size in prepared.table_sizes.values())
    assert forked_ranks(KEPT, prepared.path, spec_of(prepared, attention=False).model_dump_json()) == [0, 0]
