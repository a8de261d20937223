"""Specs and run folders for the harness tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from datasets.prepared import PreparedDataset
from harness.machine.environment import environment
from harness.machine.facts import Machine
from harness.machine.peaks import Peak
from harness.model.cost import CostCounter
from harness.model.tokens import Inputs
from harness.records.folder import RunFolder
from harness.records.spec import RunSpec, Training
from harness.runs.run import run_model
from harness.training.progress import Silent, Watcher
from harness.training.ranks import World

ONE_PROCESS = World(0, 1, torch.device("cpu"))


def small_spec(
    prepared: PreparedDataset, *, seed: int = 0, architecture: str = "dlrm_mlp", **training: Any
) -> RunSpec:
    """A run of a few dozen steps; ``training`` overrides the recipe."""
    return RunSpec(
        suite="test",
        architecture=architecture,
        architecture_source="",
        variant="",
        config={"hidden_dim": 32} if architecture == "dlrm_mlp" else {},
        dataset="small",
        dataset_options={},
        dataset_fingerprint=prepared.fingerprint,
        tasks=["finish", "skip"],
        tokenizer="chunks",
        num_tokens=3,
        token_dim=16,
        target_attention=False,
        tower_dim=16,
        budget=None,
        training=Training(**{"batch_size": 64, "epochs": 2, **training}),
        device="cpu",
        world_size=1,
        seed=seed,
    )


def carry_out(
    spec: RunSpec,
    prepared: PreparedDataset,
    out: Path,
    *,
    world: World = ONE_PROCESS,
    checkpoint_seconds: float = 1e9,
    watcher: Watcher | None = None,
    keeps_weights: bool = False,
) -> dict[str, Any]:
    """Run a spec against a made-up peak, which costs no time to measure, and return its record as JSON."""
    inputs = Inputs(
        tokenizer=spec.tokenizer,
        num_tokens=spec.num_tokens,
        token_dim=spec.token_dim,
        target_attention=spec.target_attention,
        tower_dim=spec.tower_dim,
    )
    count = CostCounter(prepared.schema, prepared.table_sizes, inputs, len(spec.tasks))
    cost = count.cost(spec.architecture, spec.config)
    folder = RunFolder(out, spec.folder_name)
    machine = Machine(Peak(1e11, "made up"), environment())
    record = run_model(
        spec, cost, prepared, folder, world, watcher or Silent(), checkpoint_seconds, machine, keeps_weights
    )
    return record.as_json()
