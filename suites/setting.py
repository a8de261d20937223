"""A suite on one prepared dataset, in one world: what its runs there share, and the spec of each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from harness.data import PreparedDataset, cuts_shards
from harness.model.architectures import source_hash
from harness.model.cost import sparse_params
from harness.model.tokens import Inputs
from harness.records.cost import Cost
from harness.records.spec import Budget, RunSpec, Training
from harness.runs.fitted import reference_config
from harness.training.points import check_progress
from harness.training.ranks import World
from suites.rows import MatchedRow, row_inputs
from suites.suite import Dataset, Suite, SuiteRow


@dataclass(frozen=True)
class Setting:
    """Where runs take place. Rows and batches are dealt into ``shares``, one a process unless given."""

    suite: Suite
    dataset: Dataset
    prepared: PreparedDataset
    world: World
    shares: int | None = None
    tasks: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", self.prepared.schema.chosen_tasks(self.suite.tasks))
        check_progress(self.suite.training, self.prepared.rows["train"])

    def spec(self, row: MatchedRow, seed: int) -> RunSpec:
        """The run of a matched row from a seed."""
        source = source_hash(row.row.architecture)
        return self._spec(row.row, source, row.config, row.inputs, row.budget, row.training, seed)

    def reference_spec(self, name: str, settings: dict[str, Any] | None = None) -> RunSpec:
        """The run of a reference, which has no model: its inputs and training are the suite's, unused.

        ``settings`` are those that tuning found; without them it has its defaults.
        """
        row = SuiteRow(architecture=name)
        inputs = row_inputs(self.suite, self.prepared, row)
        return self._spec(row, "", reference_config(name, settings), inputs, None, self.suite.training, 0)

    def _spec(
        self,
        row: SuiteRow,
        source: str,
        config: dict,
        inputs: Inputs,
        budget: Budget | None,
        training: Training,
        seed: int,
    ) -> RunSpec:
        return RunSpec(
            suite=self.suite.name,
            architecture=row.architecture,
            architecture_source=source,
            variant=row.variant,
            series=row.series,
            size=row.size,
            ratio=row.ratio,
            config=config,
            dataset=self.prepared.schema.name,
            dataset_options=self.dataset.options,
            tasks=self.tasks,
            tokenizer=inputs.tokenizer,
            num_tokens=inputs.num_tokens,
            token_dim=inputs.token_dim,
            target_attention=inputs.target_attention,
            tower_dim=inputs.tower_dim,
            budget=budget,
            training=training,
            device=self.world.device.type,
            world_size=self._num_shares,
            seed=seed,
            **self._data,
        )

    def here(self, spec: RunSpec) -> RunSpec:
        """A run of another of the dataset's worlds, in this one."""
        return spec.model_copy(update=self._data)

    def cost_here(self, cost: Cost) -> Cost:
        """A cost that was counted in another world, with this one's embedding tables."""
        tables = sparse_params(self.prepared.schema, self.prepared.table_sizes)
        return dataclasses.replace(cost, sparse_params=tables)

    @property
    def _num_shares(self) -> int:
        return self.shares or self.world.size

    @property
    def _data(self) -> dict[str, Any]:
        """The fields of a spec that differ between the worlds of a dataset."""
        fingerprint, world = self.prepared.fingerprint, self.prepared.world
        shared = "" if world is None else self.prepared.shared_fingerprint
        cut = cuts_shards(self.prepared, self._num_shares)
        return {
            "dataset_fingerprint": fingerprint,
            "world": world,
            "shared_fingerprint": shared,
            "seed_per_world": world is not None,
            "cuts_shards": cut,
        }
