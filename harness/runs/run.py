"""From a spec to a record: assemble, train, test, write."""

from __future__ import annotations

import datetime
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from datasets.leaks import report as leaks
from datasets.prepared import PreparedDataset
from files.writing import flush
from harness.evaluation.metrics import NonFiniteScores
from harness.machine.environment import environment
from harness.machine.facts import Machine, machine_of
from harness.machine.peaks import Gemm, Peak, median_peak
from harness.model.assembly import DenseSide, RankingModel
from harness.model.initial import initialise_xavier
from harness.model.token_ranks import token_ranks
from harness.model.tokens import Inputs
from harness.records.cost import Cost
from harness.records.folder import RunFolder
from harness.records.record import PREDICTIONS_FILE, Failure, Record
from harness.records.spec import RunSpec
from harness.training.batches import RankBatches
from harness.training.loop import Progress, Trainer
from harness.training.memory import keep_freed_memory, require_room
from harness.training.prediction import Predictions, final_metrics, predict
from harness.training.progress import Watcher
from harness.training.ranks import World, build_embeddings, dense_side, initialise_tables
from harness.training.recipe import check_recipe
from harness.training.sharding import placed_tables, shard
from harness.training.step import DivergenceError
from harness.training.weights import WEIGHTS_FILE, write_weights


def inputs_of(spec: RunSpec) -> Inputs:
    """The tokens that a run's architecture is given."""
    return Inputs(
        tokenizer=spec.tokenizer,
        num_tokens=spec.num_tokens,
        token_dim=spec.token_dim,
        target_attention=spec.target_attention,
        tower_dim=spec.tower_dim,
    )


def build_model(spec: RunSpec, prepared: PreparedDataset, world: World) -> nn.Module:
    """The ranking model of a spec, initialised from its seed alone, sharded if there are ranks.

    On a CPU the process keeps freed memory from here on: steps of every architecture are faster for it.
    """
    if world.device.type == "cpu":
        keep_freed_memory()
    dense = build_dense_side(spec, prepared, world.device)
    # of several ranks, each makes its part alone
    place = world.device if world.size == 1 else torch.device("meta")
    embeddings = build_embeddings(spec, prepared, place)
    model = shard(RankingModel(embeddings, dense, spec.training.embedding_l2), world)
    initialise_tables(model, spec.random_seed, spec.training.embedding_std)
    return model


def build_dense_side(spec: RunSpec, prepared: PreparedDataset, device: torch.device) -> DenseSide:
    """Everything after the look-ups, initialised from the spec's seed alone."""
    torch.manual_seed(spec.random_seed)
    inputs, num_tasks = inputs_of(spec), len(spec.tasks)
    dense = DenseSide(
        prepared.schema, inputs, spec.architecture, spec.config, num_tasks, spec.training.dropout
    )
    if spec.training.dense_init == "xavier_normal":
        initialise_xavier(dense)
    dense = dense.to(device)
    if spec.training.compile:
        dense.compile()
    return dense


def run_model(
    spec: RunSpec,
    cost: Cost,
    prepared: PreparedDataset,
    folder: RunFolder,
    world: World,
    watcher: Watcher,
    checkpoint_seconds: float,
    machine: Machine | None = None,
    keeps_weights: bool = False,
    runs_at_once: int = 1,
) -> Record:
    """Carry out one run, from its checkpoint if it has one, and write its record (first rank).

    ``machine`` is what was found out about this one before; None: it is found out now. With
    ``keeps_weights``, those that scored the test split are kept beside the record. The record says so where
    it is one of several ``runs_at_once``.
    """
    check_recipe(spec, prepared.schema)
    require_room(spec, cost, prepared, world, keeps_weights=keeps_weights)
    started_at = now()
    data = RankBatches(spec, prepared, world)
    machine = machine or machine_of(world.device, spec.training.precision)
    timed_beside = machine.peak.measured and world.size == 1  # of ranks, one would wait for another's
    gemm = Gemm.between(world.device, spec.training.precision) if timed_beside else None
    model = build_model(spec, prepared, world)

    try:
        progress = Trainer(
            model, data, folder.partial, watcher, checkpoint_seconds, gemm, runs_at_once
        ).train()
        predictions = predict(model, data, "test")
        metrics = _test_metrics(predictions, spec, progress)
    except DivergenceError as failure:
        found = {"cost": cost, "failure": Failure(step=failure.step, reason=str(failure))}
    else:
        if world.is_first:
            write_predictions(folder.partial, predictions, spec.tasks)
            (folder.partial / WEIGHTS_FILE).unlink(missing_ok=True)  # of an attempt that was killed here
        if keeps_weights:
            write_weights(folder.partial, spec.hash, model, world)
        found = {
            "cost": cost,
            "metrics": metrics,
            "validation": progress.validation,
            **({"tested": progress.tested} if progress.tested else {}),
            **({"ahead": progress.ahead} if progress.ahead else {}),
            "curve": progress.curve,
            "training": training_figures(
                spec,
                cost,
                progress,
                predictions,
                median_peak(progress.products, gemm) if gemm and progress.products else machine.peak,
                world,
            )
            | ({"tables": placed_tables(model)} if world.size > 1 else {}),
        }
        if world.size == 1:
            found["token_ranks"] = _token_ranks(model, data)
        if predictions.active_experts is not None:
            found |= _expert_figures(cost, progress, predictions, dense_side(model).backbone)
    record = build_record("model", spec, prepared, machine, started_at, found)
    if world.is_first:
        folder.finish(record)
    watcher.ended(record)
    world.barrier(patient=True)  # the first writes the record
    return record


def _test_metrics(predictions: Predictions, spec: RunSpec, progress: Progress) -> dict[str, dict]:
    try:
        return final_metrics(predictions, spec.tasks)
    except NonFiniteScores:
        raise DivergenceError(progress.step, "a score") from None


def _token_ranks(model: nn.Module, data: RankBatches) -> list[dict[str, Any]]:
    """Of the first test rows; see `harness.model.token_ranks`."""
    model.eval()
    with closing(data.read(data.reader("test"), 0, 1)) as batches:
        batch, _ = next(batches)
    whole = cast(RankingModel, model)  # nothing is sharded in one process
    ranks = token_ranks(whole.embeddings, cast(DenseSide, whole.dense), batch)
    return [layer._asdict() for layer in ranks]


def _expert_figures(
    cost: Cost, progress: Progress, predictions: Predictions, backbone: Any
) -> dict[str, Any]:
    """The cost at the share of experts that the test rows used, and which experts these were."""
    assert predictions.active_experts is not None
    measured = float(predictions.active_experts.mean())
    return {
        "cost": cost.at_active_ratio(measured),
        "routing": {
            "target": backbone.active_ratio,
            "training": progress.routing,
            "test": {
                "active_ratio": measured,
                "active_experts": predictions.active_experts.round(5).tolist(),
            },
        },
    }


def build_record(
    kind: Literal["model", "reference"],
    spec: RunSpec,
    prepared: PreparedDataset,
    machine: Machine | None,
    started_at: str,
    found: dict[str, Any],
) -> Record:
    """The record of a run that ends now; ``found`` is what was measured, a ``failure`` where it diverged."""
    content: dict[str, Any] = {
        "kind": kind,
        "status": "failed" if "failure" in found else "finished",
        "failure": None,
        "suite": spec.suite,
        "architecture": spec.architecture,
        "variant": spec.variant,
        "series": spec.series,
        "size": spec.size,
        "ratio": spec.ratio,
        "dataset": spec.dataset,
        **({} if spec.world is None else {"world": spec.world}),
        "seed": spec.seed,
        "spec_hash": spec.hash,
        "spec": spec.as_json(),
        "cost": None,
        "budget": spec.budget,
        "metrics": {},
        "validation": [],
        "curve": [],
        "routing": None,
        "training": None,
        "dataset_info": dataset_info(prepared),
        "environment": machine.environment if machine else environment(),
        "started_at": started_at,
        "finished_at": now(),
    }
    return Record.model_validate(content | found)


def dataset_info(prepared: PreparedDataset) -> dict[str, Any]:
    """Rows, users, fingerprint, notes and leaks of the prepared data."""
    return {
        "fingerprint": prepared.fingerprint,
        "rows": prepared.rows,
        "users": prepared.num_users,
        "notes": prepared.manifest["notes"],
        "leaks": leaks.as_recorded(prepared),
    }


def training_figures(
    spec: RunSpec, cost: Cost, progress: Progress, predictions: Predictions, peak: Peak, world: World
) -> dict[str, Any]:
    """Throughput and MFU; what could not be measured (a run of one stretch) is None, never zero."""
    rate = progress.timed_samples / progress.timed_seconds if progress.timed_samples else None
    whole_peak = peak.flops_per_second * world.size  # a process's own device, or its own threads
    return {
        "train_samples": progress.samples,
        "train_seconds": progress.timed_seconds if rate else None,
        "train_samples_per_second": rate,
        "eval_samples_per_second": predictions.samples_per_second,
        "mfu_train": rate * cost.train_flops_per_sample / whole_peak if rate else None,
        "peak_flops": peak.flops_per_second,
        "peak_source": peak.source,
        "batch_size": spec.training.batch_size,
        "precision": spec.training.precision,
        "device": spec.device,
        "epochs": spec.training.epochs,
        "dense_optimizer": spec.training.dense_optimizer,
        "dense_lr": spec.training.dense_lr,
        "stopped_early": progress.stopped,
        **({"runs_at_once": progress.runs_at_once} if progress.runs_at_once > 1 else {}),
        **({"processes": world.size} if world.size != spec.world_size else {}),
    }


def write_predictions(folder: Path, predictions: Predictions, tasks: list[str]) -> None:
    """``predictions.parquet``: user, tier, label and score of every test row, for paired comparisons."""
    columns = {"user": predictions.user.astype(np.int32), "tier": predictions.tier.astype(np.int8)}
    for i, task in enumerate(tasks):
        columns[f"label_{task}"] = predictions.labels[:, i].astype(np.float32)
        columns[f"score_{task}"] = predictions.scores[:, i]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PREDICTIONS_FILE
    pq.write_table(pa.table(columns), path, compression="zstd")
    flush(path)


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
