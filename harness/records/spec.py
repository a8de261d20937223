"""What decides a run's numbers: its spec, with the training recipe and the budget in it.

A run is a pure function of its spec, and the spec's hash names its folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from harness.records.contestant import Contestant, Ratio

RECORD_FORMAT = 1

ROW_FIELDS = ("series", "size", "ratio")
WORLD_FIELDS = ("world", "shared_fingerprint", "seed_per_world")
SEEDS_OF_A_WORLD = 10_000  # so many numbers lie between the random seeds of two worlds
LATER_FIELDS = (  # of `Training`, since version 0.2.0
    *("schedule", "order", "progress", "score_ahead"),
    *("table_l2", "embedding_std", "dense_init", "restore_best", "plateau_factor", "least_lr"),
)
Monitor = Literal["auc", "uauc", "gauc", "auc+gauc", "auc-logloss"]  # harness/evaluation/monitors.py
TokenizerName = Literal["chunks", "groups", "fields"]  # harness/model/tokens.py

# The paper trains the dense side with RMSProp at 0.01; what that does at small size is in
# reports/measured/README.md.
RECIPES: dict[str, dict[str, Any]] = {
    "default": {"dense_optimizer": "adam", "dense_lr": 1e-3},
    "paper": {"dense_optimizer": "rmsprop", "dense_lr": 1e-2},
}


class Strict(BaseModel):
    """Immutable, refuses unknown fields and infinite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Training(Strict):
    """How a model is trained, the same for every architecture of a suite.

    ``recipe`` fills in the dense optimizer and its learning rate; fields given beside it win.
    """

    recipe: Literal["default", "paper"] = "default"
    batch_size: int = Field(1024, ge=1, le=2**24)
    epochs: int = Field(1, ge=1, le=100_000)
    dense_optimizer: Literal["adam", "adamw", "rmsprop"] = "adam"
    dense_lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    dropout: float = Field(0.0, ge=0, lt=1, description="of the representation, before the towers")
    warmup_steps: int = Field(0, ge=0, le=2**31, description="linear warm-up of the dense learning rate")
    clip_norm: float | None = Field(None, gt=0, description="clip the dense gradients' global norm")
    sparse_optimizer: Literal["adagrad", "rowwise_adagrad", "adam", "sgd"] = "adagrad"
    sparse_lr: float = Field(0.05, gt=0)
    embedding_l2: float = Field(0.0, ge=0, description="times the squared norm of what a row looks up")
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    validations_per_epoch: int = Field(1, ge=0, le=100_000)
    table_l2: float = Field(
        0.0, ge=0, description="half of it times the squared norm of all tables is added to each step's loss"
    )
    embedding_std: float | None = Field(None, gt=0, description="of the tables' initial weights")
    dense_init: Literal["fan_in", "xavier_normal"] = Field(
        "fan_in", description="of the dense side's linear maps; xavier_normal has biases of zero"
    )
    select_metric: Monitor = "auc"
    patience: int | None = Field(
        None, ge=1, description="early stopping: validations without a better select_metric (mean over tasks)"
    )
    restore_best: bool = Field(
        False, description="test the best validation's weights; with patience they are in any case"
    )
    schedule: Literal["constant", "linear", "cosine", "plateau"] = Field(
        "constant",
        description="of the dense learning rate after the warm-up: linear and cosine fall to 0 at the end; "
        "plateau multiplies it and sparse_lr by plateau_factor after a validation that is not the best",
    )
    plateau_factor: float = Field(0.1, gt=0, lt=1)
    least_lr: float = Field(0.0, ge=0, description="that plateau leaves of each learning rate")
    order: Literal["shuffled", "whole", "time"] = Field(
        "shuffled",
        description="of the training rows: shuffled within windows, all of them together, or as the log has "
        "them",
    )
    progress: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="after how many training samples to score the test split on the way"
    )
    score_ahead: int | None = Field(
        None, ge=2, le=1000, description="equal windows of the first epoch; each is scored, then trained on"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_recipe(cls, values: Any) -> Any:
        recipe = values.get("recipe", "default") if isinstance(values, dict) else None
        return {**RECIPES[recipe], **values} if isinstance(recipe, str) and recipe in RECIPES else values

    @model_validator(mode="after")
    def _choices_need_validation(self) -> Training:
        if self.chooses and self.validations_per_epoch == 0:
            chooser = "patience" if self.patience is not None else "restore_best"
            name = "schedule plateau" if self.decays_on_plateau else chooser
            raise ValueError(f"{name} needs validations_per_epoch of at least 1")
        return self

    @model_validator(mode="after")
    def _whole_tables_have_an_optimizer(self) -> Training:
        if self.table_l2 and self.sparse_optimizer == "rowwise_adagrad":
            raise ValueError(
                "table_l2 changes every row in each step, and rowwise_adagrad only those that a batch looks "
                "up; choose adam, adagrad or sgd as sparse_optimizer, or embedding_l2 in place of table_l2"
            )
        return self

    @model_validator(mode="after")
    def _plateau_uses_its_fields(self) -> Training:
        for name in ("plateau_factor", "least_lr"):
            if not self.decays_on_plateau and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect without schedule plateau; add that, or remove it")
        return self

    @property
    def decays_on_plateau(self) -> bool:
        return self.schedule == "plateau"

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best validation are those that are tested."""
        return self.patience is not None or self.restore_best

    @property
    def chooses(self) -> bool:
        """Whether anything depends on which validation is the best."""
        return self.keeps_best or self.decays_on_plateau

    @property
    def updates_whole_tables(self) -> bool:
        """Whether each step changes every row of a table, and not only those that its batch looks up."""
        return self.sparse_optimizer == "adam" or self.table_l2 > 0

    @model_validator(mode="after")
    def _progress_rises(self) -> Training:
        if list(self.progress) != sorted(set(self.progress)):
            raise ValueError("progress should rise; list each number of samples once, the smallest first")
        return self

    @model_serializer(mode="wrap")
    def _without_unused_later_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields that came later are left out where they are unused: earlier runs keep their hashes."""
        unused = {
            name for name in LATER_FIELDS if getattr(self, name) == type(self).model_fields[name].default
        }
        return {name: value for name, value in serialize(self).items() if name not in unused}


class Budget(Strict):
    """What was matched, the target, and by how much it was missed (signed fraction).

    A latency is that of a call with ``batch_size`` rows; ``spread`` is the distance between the quartiles of
    its rounds over their median. Of other kinds both are absent, from JSON too.
    """

    kind: Literal["flops_per_sample", "dense_params", "latency_ms_p99"]
    target: float
    miss: float
    batch_size: int | None = None
    spread: float | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class RunSpec(Strict):
    """All that decides a run's numbers, and the row that the run stands for.

    ``series``, ``size`` and ``ratio`` are the row's (``harness/records/contestant.py``). The hash leaves them
    out where the variant's name already states them. ``world`` is the dataset's world, which the fingerprint
    is of and ``dataset_options`` leave out; ``shared_fingerprint`` is of what all its worlds have in common;
    ``seed_per_world`` is False of runs made when all worlds started from the same weights. They are left out
    of the hash and of JSON where no world was asked for, ``seed_per_world`` also where it is False, and so is
    ``cuts_shards``: whether ranks divide shards among themselves (`datasets.dealing`).
    """

    format: int = RECORD_FORMAT
    suite: str
    architecture: str
    architecture_source: str = Field(description="hash of the file that defines it; empty for references")
    variant: str
    config: dict[str, Any]
    dataset: str
    dataset_options: dict[str, Any]
    dataset_fingerprint: str
    tasks: list[str]
    tokenizer: TokenizerName
    num_tokens: int
    token_dim: int
    target_attention: bool
    tower_dim: int
    budget: Budget | None
    training: Training
    device: str
    world_size: int
    seed: int
    series: str = ""
    size: str = ""
    ratio: Ratio | None = None
    world: int | None = None
    shared_fingerprint: str = ""
    seed_per_world: bool = False
    cuts_shards: bool = False

    @model_validator(mode="before")
    @classmethod
    def _fill_in_row(cls, values: Any) -> Any:
        """A spec without the row's fields has what its variant's name states."""
        if not isinstance(values, dict) or not isinstance(values.get("variant"), str):
            return values
        budget = values.get("budget")
        target = budget["target"] if isinstance(budget, dict) else getattr(budget, "target", None)
        named = Contestant.from_run("", values["variant"], target)
        return {"series": named.series, "size": named.size, "ratio": named.ratio} | values

    @property
    def contestant(self) -> Contestant:
        return Contestant(self.architecture, self.variant, self.series, self.size, self.ratio)

    @property
    def random_seed(self) -> int:
        """What initial weights, order and dropout are drawn from: another number in every world.

        Were it the same, what a seed does in all worlds alike would stay out of their spread.
        """
        return self.seed + (SEEDS_OF_A_WORLD * (self.world or 0) if self.seed_per_world else 0)

    @property
    def hash(self) -> str:
        """Twelve hex digits over the canonical JSON of every field that can change a number."""
        target = self.budget.target if self.budget else None
        named = Contestant.from_run(self.architecture, self.variant, target)
        in_the_name = {name for name in ROW_FIELDS if getattr(self, name) == getattr(named, name)}
        # what the worlds share follows from the dataset's fingerprint
        content = self.as_json(leave_out=in_the_name | {"shared_fingerprint"})
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def as_json(self, leave_out: Collection[str] = ()) -> dict[str, Any]:
        """Plain JSON, as a record holds it."""
        worlds = set() if self.world is not None else set(WORLD_FIELDS)
        unused = {name for name in ("seed_per_world", "cuts_shards") if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=worlds | unused | set(leave_out))

    @property
    def place(self) -> str:
        """The dataset and, where there are several, its world, in words."""
        return self.dataset if self.world is None else f"{self.dataset} world {self.world}"

    @property
    def title(self) -> str:
        """What a person calls the run."""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.place} {self.architecture}{variant} seed {self.seed}"

    @property
    def folder_name(self) -> str:
        world = "" if self.world is None else f"w{self.world}"
        name = self.architecture.rpartition(":")[2]
        parts = [self.dataset, name, self.variant, world, f"s{self.seed}", self.hash]
        return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", part) for part in parts if part)
