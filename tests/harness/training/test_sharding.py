"""Tables spread over gloo processes, and by the planner alone over GPUs that are not there."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torchrec.distributed.planner.types import PlannerError

from datasets.dealing import cuts_shards
from datasets.prepared import PreparedDataset
from files.errors import InputError
from harness.model.embeddings import Embeddings
from harness.records.folder import RunFolder
from harness.records.spec import RunSpec
from harness.training import ranks, sharding
from harness.training.placement import Placement, read_placement
from harness.training.weights import read_weights
from tests.forked import forked_ranks
from tests.harness.small_runs import small_spec
from tests.harness.training.test_ranks import NEVER, spec_of

PLACES = """
import sys
from pathlib import Path
import torch
from datasets.prepared import open_prepared
from harness.records.spec import RunSpec
from harness.runs.run import build_model
from harness.training.pieces import local_pieces
from harness.training.ranks import build_embeddings, start_world, table_weights
from harness.training.sharding import holders

prepared = open_prepared(Path(sys.argv[1]))
world = start_world(torch.device("cpu"))
spec = RunSpec.model_validate_json(sys.argv[2])
foreseen = holders(build_embeddings(spec, prepared, torch.device("meta")), world)
found = {
    key.split(".")[-2]: sum(piece.tensor.shape[0] for piece in local_pieces(value))
    for key, value in table_weights(build_model(spec, prepared, world)).items()
}
assert foreseen.keys() == found.keys() and set(foreseen.values()) == {0, 1}, foreseen
assert found == {
    name: prepared.table_sizes[name] if rank == world.rank else 0 for name, rank in foreseen.items()
}, (foreseen, found)
"""


def test_tables_lie_whole_where_they_were_foreseen(prepared):
    spec = spec_of(prepared, attention=False).model_dump_json()
    assert forked_ranks(PLACES, prepared.path, spec) == [0, 0]


# Four processes, as on two hosts. TorchRec offers blocks of rows on GPUs alone; gloo has what they need, too.
ROWS = """
import os, sys
from pathlib import Path
import torch
from torchrec.distributed.embedding_lookup import GroupedPooledEmbeddingsLookup
from torchrec.distributed.fused_embeddingbag import FusedEmbeddingBagCollectionSharder
from datasets.prepared import open_prepared
from harness.records.spec import RunSpec
from harness.training.placement import Placement
from harness.training.loop import Trainer
from harness.training.ranks import start_world
from tests.harness.small_runs import carry_out

look, die_at = Trainer._look, int(sys.argv[5])
def mortal_look(self, losses, samples, seconds):
    if self.progress.step >= die_at:
        os._exit(9)
    look(self, losses, samples, seconds)
Trainer._look = mortal_look

offered = FusedEmbeddingBagCollectionSharder.sharding_types
FusedEmbeddingBagCollectionSharder.sharding_types = lambda self, device: offered(self, "cuda")
purge, emptied = GroupedPooledEmbeddingsLookup.purge, []
GroupedPooledEmbeddingsLookup.purge = lambda self: emptied.append(purge(self))
os.environ.update(LOCAL_WORLD_SIZE="2", LOCAL_RANK=str(int(os.environ["RANK"]) % 2))
world = start_world(torch.device("cpu"), Placement.model_validate_json(sys.argv[4]))
spec = RunSpec.model_validate_json(sys.argv[3])
prepared, out = open_prepared(Path(sys.argv[1])), Path(sys.argv[2])
carry_out(spec, prepared, out, world=world, checkpoint_seconds=0.0, keeps_weights=True)
assert emptied  # the caches of weights that the best validation's have replaced
"""
WHOLE = Placement.model_validate({"default": {"sharding_types": ["table_wise"]}})
IN_BLOCKS = Placement.model_validate(
    {
        "default": {"sharding_types": ["table_wise"]},  # of genres, whose bags have several rows
        "tables": {
            "user": {"sharding_types": ["row_wise"]},
            "item": {"sharding_types": ["table_row_wise"]},
        },
    }
)


def spec_of_four(prepared: PreparedDataset) -> RunSpec:
    """Row-wise Adagrad has an accumulator a row, which must lie whole in one process."""
    spec = small_spec(prepared, batch_size=128, sparse_optimizer="rowwise_adagrad", restore_best=True)
    return spec.model_copy(update={"world_size": 4, "cuts_shards": cuts_shards(prepared, 4)})


def run(prepared, out: Path, placement: Placement, size: int = 4, die_at: int = NEVER) -> RunFolder:
    spec = spec_of_four(prepared)
    arguments = prepared.path, out, spec.model_dump_json(), placement.model_dump_json(), die_at
    codes = forked_ranks(ROWS, *arguments, size=size)
    assert codes == [0] * size if die_at == NEVER else 9 in codes
    return RunFolder(out, spec.folder_name)


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory) -> RunFolder:
    """The run of four processes with whole tables."""
    return run(prepared, tmp_path_factory.mktemp("whole"), WHOLE)


def check_same_up_to_rounding(found: RunFolder, expected: RunFolder) -> None:
    losses, scores = [], []
    for folder in (found, expected):
        losses.append([loss for _, loss in folder.record().curve])
        scores.append(pq.read_table(folder.final / "predictions.parquet")["score_finish"].to_numpy())
    np.testing.assert_allclose(*losses, rtol=1e-4)
    np.testing.assert_allclose(*scores, atol=1e-4)
    spec_hash = expected.record().spec_hash
    weights = [read_weights(folder.final, spec_hash) for folder in (found, expected)]
    tables = [key for key in weights[0] if ".embedding_bags." in key]
    assert len(tables) == 3
    for key in tables:
        torch.testing.assert_close(weights[0][key], weights[1][key], atol=1e-4, rtol=1e-3)


def test_tables_in_blocks_of_rows_train_to_the_model_of_whole_tables(prepared, whole, tmp_path):
    blocks = run(prepared, tmp_path, IN_BLOCKS)
    places = {name: table.ranks for name, table in blocks.record().training.tables.items()}
    assert places["user"] == [0, 1, 2, 3]
    assert places["item"] in ([0, 1], [2, 3])
    assert len(places["genres"]) == 1
    assert {len(table.ranks) for table in whole.record().training.tables.values()} == {1}
    check_same_up_to_rounding(blocks, whole)


def test_a_run_goes_on_with_its_tables_elsewhere(prepared, whole, tmp_path):
    """From blocks on four processes to blocks on two, and from these to whole tables on four."""
    steps = []
    for size, die_at in ((4, 20), (2, 50)):
        partial = run(prepared, tmp_path, IN_BLOCKS, size, die_at).partial
        pointer = json.loads((partial / "checkpoint.json").read_text())
        assert pointer["ranks"] == size
        steps.append(pointer["tag"])
    assert 0 < steps[0] < steps[1]
    moved = run(prepared, tmp_path, WHOLE)
    assert moved.record().training.processes is None
    check_same_up_to_rounding(moved, whole)


# ------------------------------------------------------------------------------------------- the planner

SIZES = {"user": 10**9, "item": 10**5, "genres": 10}  # of eight numbers: 64 GB with Adagrad's accumulators
HOST = 4  # GPUs of a host


@pytest.fixture
def embeddings(prepared, monkeypatch) -> Embeddings:
    """Tables without memory, where GPUs have 80 GB."""
    properties = SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(PreparedDataset, "table_sizes", SIZES)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(HOST))
    return ranks.build_embeddings(small_spec(prepared), prepared, torch.device("meta"))


def on_gpus(size: int, **placement: Any) -> ranks.World:
    return ranks.World(0, size, torch.device("cuda", 0), None, Placement.model_validate(placement))


def planned(embeddings: Embeddings, world: ranks.World) -> dict[str, Any]:
    """How TorchRec's planner spreads each table, which it does without a process group or a GPU."""
    planner, sharders = sharding._planner(embeddings, world)
    [tables] = planner.plan(embeddings, sharders).plan.values()
    return dict(tables)


@pytest.mark.parametrize(
    ("optimizer", "gigabytes", "kernel"),
    [
        ("adagrad", 80, "fused_uvm_caching"),
        ("adagrad", 192, "fused"),
        ("sgd", 80, "fused"),
        ("sgd", 40, "fused_uvm_caching"),
    ],
)
def test_tables_lie_in_the_memory_of_gpus_where_it_holds_them(
    prepared, monkeypatch, optimizer, gigabytes, kernel
):
    """3 x 10^9 rows of eight numbers are 48 GB on each of two GPUs, and with as many accumulators 96 GB."""
    properties = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(PreparedDataset, "table_sizes", {"user": 3 * 10**9, "item": 10, "genres": 10})
    spec = small_spec(prepared, sparse_optimizer=optimizer)
    embeddings = ranks.build_embeddings(spec, prepared, torch.device("meta"))
    assert planned(embeddings, on_gpus(2))["user"].compute_kernel == kernel


@pytest.mark.parametrize("size", [4, 8])
def test_the_plan_is_what_was_asked_for_and_holds_every_row_once(size, embeddings):
    user = {
        "sharding_types": ["row_wise"],
        "compute_kernels": ["fused_uvm_caching"],
        "cache_load_factor": 0.1,
    }
    item = {"sharding_types": ["table_row_wise"], "compute_kernels": ["fused_uvm"]}
    tables = planned(embeddings, on_gpus(size, tables={"user": user, "item": item}))
    chosen = {name: (table.sharding_type, table.compute_kernel) for name, table in tables.items()}
    assert chosen["user"] == ("row_wise", "fused_uvm_caching")
    assert chosen["item"] == ("table_row_wise", "fused_uvm")
    assert chosen["genres"] in [("table_wise", "fused"), ("row_wise", "fused")]
    assert tables["user"].cache_params.load_factor == 0.1
    assert tables["user"].ranks == list(range(size))
    assert tables["item"].ranks in [list(range(first, first + HOST)) for first in range(0, size, HOST)]
    for name, table in tables.items():
        held, next_row = 0, 0
        for shard in table.sharding_spec.shards:
            (first_row, first_column), (rows, columns) = shard.shard_offsets, shard.shard_sizes
            assert (first_row, first_column) == (next_row, 0)
            held, next_row = held + 4 * rows * columns, next_row + rows
            assert shard.placement.device().index == shard.placement.rank() % HOST
        assert held == 4 * SIZES[name] * 8


def test_what_a_table_leaves_out_is_that_of_default(embeddings):
    default = {"sharding_types": ["table_wise"], "compute_kernels": ["fused_uvm"]}
    world = on_gpus(8, default=default, tables={"user": {"sharding_types": ["row_wise"]}})
    chosen = {name: table.sharding_type for name, table in planned(embeddings, world).items()}
    assert chosen == {"user": "row_wise", "item": "table_wise", "genres": "table_wise"}
    assert {table.compute_kernel for table in planned(embeddings, world).values()} == {"fused_uvm"}


@pytest.mark.parametrize(
    ("field", "kernel"), [("gigabytes_per_gpu", "fused"), ("host_gigabytes_per_gpu", "fused_uvm")]
)
def test_gigabytes_are_those_of_weights_and_accumulators(field, kernel, embeddings):
    """Of 64 GB each of eight GPUs has eight."""
    default = {"sharding_types": ["row_wise"], "compute_kernels": [kernel]}
    assert planned(embeddings, on_gpus(8, default=default, **{field: 8.1}))["user"].ranks == list(range(8))
    with pytest.raises(PlannerError):
        planned(embeddings, on_gpus(8, default=default, **{field: 7.9}))


def test_too_little_memory_is_one_sentence_for_every_rank(embeddings, tmp_path):
    path, told = tmp_path / "placement.yaml", []
    path.write_text("{gigabytes_per_gpu: 6, default: {sharding_types: [row_wise], compute_kernels: [fused]}}")

    class First(ranks.World):
        def from_first(self, value, *, patient=False):
            told.append(value)
            return value

    model = nn.Module()
    model.embeddings = embeddings
    with pytest.raises(InputError) as error:
        sharding.shard(model, First(0, 8, torch.device("cuda", 0), None, read_placement(path)))
    assert str(error.value) == (
        f"{path}: no plan puts the embedding tables (64.01 GB with optimizer, 64 of them 'user') on 8 GPUs "
        "with 6 GB each for them; start more processes, raise gigabytes_per_gpu or host_gigabytes_per_gpu, "
        "or allow other sharding_types or compute_kernels"
    )
    assert told == [(None, str(error.value))]
