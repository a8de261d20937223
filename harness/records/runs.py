"""A run: a spec, a folder, a record.

A run is a pure function of its spec, and the spec's hash names its folder. While it works, it keeps
its checkpoint in ``<folder>.partial``; when it ends, the record and the predictions are written there,
flushed to disk, the folder is renamed, and only then is the checkpoint removed. So a folder without
``.partial`` is a finished (or failed) run, whole; anything else is a run to go on with. A lock file keeps
two processes off the same run; the operating system drops the lock when its holder dies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from files.checksums import is_altered, sealed, sha256_of
from files.errors import InputError
from files.locks import locked
from files.writing import flush, remove_abandoned, write_atomically

RECORD_FORMAT = 1
RECORD_FILE = "record.json"
PREDICTIONS_FILE = "predictions.parquet"
CHECKPOINT_FILES = ("checkpoint*.json", "checkpoint-*.pt", "best-*.pt", "best-*.writing")

TokenizerName = Literal["chunks", "groups", "fields"]  # harness/model/tokens.py

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
    batch_size: int = Field(1024, ge=1, le=2**24)
    epochs: int = Field(1, ge=1, le=100_000)
    dense_optimizer: Literal["adam", "adamw", "rmsprop"] = "adam"
    dense_lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    dropout: float = Field(0.0, ge=0, lt=1, description="of the representation, before the towers")
    warmup_steps: int = Field(0, ge=0, le=2**31, description="linear warm-up of the dense learning rate")
    clip_norm: float | None = Field(None, gt=0, description="clip the dense gradients' global norm")
    sparse_optimizer: Literal["adagrad", "rowwise_adagrad"] = "adagrad"
    sparse_lr: float = Field(0.05, gt=0)
    embedding_l2: float = Field(0.0, ge=0, description="times the squared norm of what a row looks up")
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    validations_per_epoch: int = Field(1, ge=0, le=100_000)
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
        return read_record(self.final)

    @contextlib.contextmanager
    def locked(self, wait: bool) -> Iterator[int | None]:
        """Yield the lock's descriptor if this process holds the run, else None; with ``wait``, once it does.

        A process that has the descriptor, too, holds the run as well. Whoever holds it first removes what a
        killed process left beside the record.
        """
        self.final.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._lock, wait) as held:
            if held is not None:
                self._tidy()
            yield held

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):  # litter in a folder that one may only read disturbs nobody
            for folder in (self.final, self.partial):
                if folder.is_dir():
                    remove_abandoned(folder)
            if self.is_finished:
                remove_checkpoints(self.final)

    def finish(self, record: dict) -> None:
        """Write the record beside what the run left in its partial folder, and make it final.

        A kill at any moment leaves either the partial folder with its checkpoint or a finished run.
        """
        self.partial.mkdir(parents=True, exist_ok=True)
        predictions = self.partial / PREDICTIONS_FILE
        files = {PREDICTIONS_FILE: sha256_of(predictions)} if predictions.is_file() else {}
        content = json.dumps(sealed(record | {"files": files}), indent=1)
        write_atomically(self.partial / RECORD_FILE, content.encode())
        flush(self.partial)
        if self.final.exists():  # a folder without a record: not ours, not finished
            shutil.rmtree(self.final)
        os.rename(self.partial, self.final)
        flush(self.final.parent)
        remove_checkpoints(self.final)


class _RecordFields(BaseModel):
    """What every reader of a record relies on; of another type, it would fail somewhere else."""

    model_config = ConfigDict(extra="ignore", strict=True)

    kind: Literal["model", "reference"]
    status: Literal["finished", "failed"]
    failure: dict[str, Any] | None = None
    suite: str
    architecture: str
    variant: str | None
    dataset: str
    seed: int
    spec_hash: str
    spec: dict[str, Any]
    metrics: dict[str, dict[str, float | int | None]] = {}
    training: dict[str, Any] | None = None
    files: dict[str, str] = {}
    started_at: str


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a finished run's folder, as it was written.

    Raises InputError naming the file where it is absent, damaged, altered since it was written, or lacks
    a field. A record of an earlier version, which has no checksum, is taken as it is.
    """
    path, mend = folder / RECORD_FILE, "delete that folder and run the suite again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _RecordFields.model_validate(record)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "its top level"
        raise InputError(f"{path}: is no run record ({field}: {problem['msg']}); {mend}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {mend}") from None
    if is_altered(record):
        raise InputError(f"{path}: was changed since it was written (its checksum differs); {mend}")
    return record


def check_predictions(folder: Path, record: dict[str, Any]) -> None:
    """InputError where the predictions beside a record were changed since it was written."""
    path, expected = folder / PREDICTIONS_FILE, record.get("files", {}).get(PREDICTIONS_FILE)
    if expected is not None and path.is_file() and sha256_of(path) != expected:
        raise InputError(
            f"{path}: was changed since it was written (its sha256 differs); "
            "delete its folder and run the suite again"
        )


def remove_checkpoints(folder: Path) -> None:
    """Delete every file of a run's checkpoints, the pointers first."""
    for pattern in CHECKPOINT_FILES:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
