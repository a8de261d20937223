"""A run: a spec, a folder, a record.

A run is a pure function of its spec, and the spec's hash names its folder. While it works, it keeps
its checkpoint in ``<folder>.partial``; when it ends, the record and the predictions are written there,
flushed to disk, and the folder is renamed. So a folder without ``.partial`` is a finished (or failed)
run, whole; anything else is a run to go on with. A lock file keeps two processes off the same run;
the operating system drops the lock when its holder dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from datasets.errors import InputError

RECORD_FORMAT = 1
RECORD_FILE = "record.json"

TokenizerName = Literal["chunks", "groups", "fields"]  # harness/tokens.py

# The paper trains the dense side with RMSProp at 0.01; harness/README.md shows what that does at small size.
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
    batch_size: int = Field(1024, ge=1)
    epochs: int = Field(1, ge=1)
    dense_optimizer: Literal["adam", "adamw", "rmsprop"] = "adam"
    dense_lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    dropout: float = Field(0.0, ge=0, lt=1, description="of the representation, before the towers")
    warmup_steps: int = Field(0, ge=0, description="linear warm-up of the dense learning rate")
    clip_norm: float | None = Field(None, gt=0, description="clip the dense gradients' global norm")
    sparse_optimizer: Literal["adagrad", "rowwise_adagrad"] = "adagrad"
    sparse_lr: float = Field(0.05, gt=0)
    embedding_l2: float = Field(0.0, ge=0, description="times the squared norm of what a row looks up")
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    validations_per_epoch: int = Field(1, ge=0)
    select_metric: Literal["auc", "uauc"] = "auc"
    patience: int | None = Field(
        None, ge=1, description="early stopping: validations without a better select_metric (mean over tasks)"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_recipe(cls, values: Any) -> Any:
        recipe = values.get("recipe", "default") if isinstance(values, dict) else None
        return {**RECIPES[recipe], **values} if isinstance(recipe, str) and recipe in RECIPES else values

    @model_validator(mode="after")
    def _patience_needs_validation(self) -> Training:
        if self.patience is not None and self.validations_per_epoch == 0:
            raise ValueError("patience needs validations_per_epoch of at least 1")
        return self


class Budget(Strict):
    """What was matched, the target, and by how much it was missed (signed fraction)."""

    kind: Literal["flops_per_sample", "dense_params"]
    target: float
    miss: float


class RunSpec(Strict):
    """All that decides a run's numbers."""

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

    @property
    def hash(self) -> str:
        """Twelve hex digits over the canonical JSON of every field."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """What a person calls the run."""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.dataset} {self.architecture}{variant} seed {self.seed}"

    @property
    def folder_name(self) -> str:
        parts = [self.dataset, self.architecture.rpartition(":")[2], self.variant, f"s{self.seed}", self.hash]
        return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", part) for part in parts if part)


class RunFolder:
    """Where one run lives under ``out/runs``."""

    def __init__(self, out: Path, name: str) -> None:
        self.final = out / "runs" / name
        self.partial = self.final.with_name(name + ".partial")
        self._lock = self.final.with_name(f".{name}.lock")

    @property
    def is_finished(self) -> bool:
        return (self.final / RECORD_FILE).is_file()

    def record(self) -> dict:
        """What the finished run found; InputError where the file is damaged."""
        path = self.final / RECORD_FILE
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise InputError(
                f"{path}: cannot be read ({error}); delete that folder and run the suite again"
            ) from None

    @contextlib.contextmanager
    def locked(self, wait: bool) -> Iterator[bool]:
        """Yield whether this process holds the run; with ``wait``, until it does."""
        self.final.parent.mkdir(parents=True, exist_ok=True)
        with open(self._lock, "a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def finish(self, record: dict) -> None:
        """Write the record beside what the run left in its partial folder, and make it final."""
        self.partial.mkdir(parents=True, exist_ok=True)
        write_atomically(self.partial / RECORD_FILE, json.dumps(record, indent=1, allow_nan=False).encode())
        sync_folder(self.partial)
        if self.final.exists():  # a folder without a record: not ours, not finished
            shutil.rmtree(self.final)
        os.rename(self.partial, self.final)
        sync_folder(self.final.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: temporary file, flush to disk, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
