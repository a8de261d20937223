"""Run records on disk as typed objects.

Imports neither torch nor matplotlib. ``OUT/runs/<run>/record.json`` is one run; ``OUT/suite.json`` is
what was asked for. What was not measured is missing, never zero.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from files.checksums import is_altered
from files.plain_text import visible
from reports.variants import is_plain

DEAD_SHARE = 0.001  # an expert active on a smaller share of the test rows is called dead


class RecordError(ValueError):
    """A file that is no run record: the message is one sentence that names the file and the mend."""


# --- Records, as the harness writes them ---------------------------------------------------------------


def _nan_is_missing(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


Number = Annotated[float | None, BeforeValidator(_nan_is_missing)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Failure(_Part):
    """Why a run failed, and at which step."""

    step: int | None = None
    reason: str


class Cost(_Part):
    """Counted, not measured: parameters, and FLOPs with a multiply-add as two."""

    dense_params: Number = None
    sparse_params: Number = None
    flops_per_sample: Number = None
    active_flops_per_sample: Number = None
    train_flops_per_sample: Number = None
    flops_per_batch_512: Number = None


class Budget(_Part):
    """What the size was matched to; ``miss`` is a signed fraction of ``target``."""

    kind: Literal["flops_per_sample", "dense_params"]
    target: float
    miss: Number = None


class TaskMetrics(_Part):
    """One task's metrics on one split; ``users`` have both labels, ``rows`` have a defined one."""

    auc: Number = None
    uauc: Number = None
    gauc: Number = None
    logloss: Number = None
    normalized_entropy: Number = None
    calibration: Number = None
    users: Number = None
    rows: Number = None
    one_class_users: Number = None
    one_class_rows: Number = None


class Validation(_Part):
    """The validation split's metrics after ``step`` steps and ``samples`` rows."""

    step: int
    samples: int
    metrics: dict[str, TaskMetrics]


class Training(_Part):
    """How it was trained and how fast; seconds are wall time."""

    train_samples: Number = None
    train_seconds: Number = None
    train_samples_per_second: Number = None
    eval_samples_per_second: Number = None
    mfu_train: Number = None
    mfu_inference: Number = None
    latency_ms_p50: Number = None
    latency_ms_p99: Number = None
    batch_size: Number = None
    precision: str | None = None
    device: str | None = None
    peak_flops: Number = None
    peak_source: str | None = None
    epochs: Any = None
    dense_optimizer: Any = None


Share = Annotated[float, Field(ge=0, le=1)]


class RoutingPoint(_Part):
    """A moment of training: for each layer and token the mean share of its experts that were active."""

    samples: int
    active: list[list[Share]]
    penalty_coefficient: Number = None


class RoutingTest(_Part):
    """The test split: for each layer, token and expert the share of rows on which it is active."""

    active_ratio: Share
    active_experts: list[list[list[Share]]]

    @model_validator(mode="after")
    def _is_an_array(self) -> Self:
        if not self.shares() or len({len(e) for tokens in self.active_experts for e in tokens}) > 1:
            raise ValueError("active_experts should give every token of every layer as many experts")
        return self

    def shares(self) -> list[tuple[tuple[int, int, int], float]]:
        """((layer, token, expert), share), the places counted from 1."""
        return [
            ((layer, token, expert), share)
            for layer, tokens in enumerate(self.active_experts, 1)
            for token, experts in enumerate(tokens, 1)
            for expert, share in enumerate(experts, 1)
        ]

    @property
    def num_experts(self) -> int:
        return len(self.shares())

    @property
    def dead_experts(self) -> int:
        """How many are active on less than 0.1% of the test rows."""
        return sum(share < DEAD_SHARE for _, share in self.shares())


class Routing(_Part):
    """How a model with experts used them; ``target`` is the active ratio that was asked for."""

    target: Annotated[float, Field(gt=0, le=1)]
    training: list[RoutingPoint] = Field(default_factory=list)
    test: RoutingTest | None = None

    @model_validator(mode="after")
    def _has_one_shape(self) -> Self:
        shapes = {tuple(map(len, point.active)) for point in self.training}
        if self.test:
            shapes.add(tuple(map(len, self.test.active_experts)))
        if len({tokens for shape in shapes for tokens in shape}) > 1 or len(shapes) > 1 or () in shapes:
            raise ValueError("training and test should have the same layers, with as many tokens in each")
        return self


class Leak(_Part):
    """A feature that knows a label or the split; ``says`` follows its name in a sentence."""

    feature: str
    kind: str
    task: str | None = None
    number: Number = None
    says: str


class Leaks(_Part):
    """What was found in a dataset, and the features whose leaks its schema acknowledges."""

    found: list[Leak] = Field(default_factory=list)
    leak_ok: list[str] = Field(default_factory=list)


class DatasetInfo(_Part):
    """What was trained on: rows by split, users, what the source noted; ``leaks`` None in older records."""

    fingerprint: str | None = None
    rows: dict[str, int] = Field(default_factory=dict)
    users: int | None = None
    notes: dict[str, Any] = Field(default_factory=dict)
    leaks: Leaks | None = None


class Record(_Part):
    """One run, whole: a model that was trained, or a reference row that was not."""

    kind: Literal["model", "reference"]
    status: Literal["finished", "failed"]
    failure: Failure | None = None
    suite: str
    architecture: str
    variant: str = ""
    dataset: str
    seed: int
    spec_hash: str = ""
    spec: dict[str, Any] = Field(default_factory=dict)
    cost: Cost | None = None
    budget: Budget | None = None
    metrics: dict[str, TaskMetrics] = Field(default_factory=dict)
    validation: list[Validation] = Field(default_factory=list)
    curve: list[tuple[float, Number]] = Field(default_factory=list)
    training: Training | None = None
    routing: Routing | None = None
    dataset_info: DatasetInfo = DatasetInfo()
    environment: dict[str, Any] = Field(default_factory=dict)
    started_at: str = ""
    finished_at: str = ""
    folder: str = ""  # the name of its folder in OUT/runs

    @property
    def tasks(self) -> list[str]:
        """The tasks that were measured or, where none was, those that the spec asked for."""
        return list(self.metrics) or [str(task) for task in self.spec.get("tasks") or []]

    @property
    def contestant(self) -> Contestant:
        return Contestant(architecture=self.architecture, variant=self.variant)

    @property
    def settings(self) -> str:
        """The spec without its seed: runs that differ here do not belong in one mean."""
        spec = {name: value for name, value in self.spec.items() if name != "seed"}
        return json.dumps(spec, sort_keys=True)


class Contestant(_Part):
    """One row of a table: an architecture, or a variant of one."""

    architecture: str
    variant: str = ""

    @property
    def label(self) -> str:
        return label(self.architecture, self.variant)


class Tuned(_Part):
    """What tuning found for one row on one dataset; ``default`` and ``best`` are of the validation split."""

    dataset: str
    architecture: str
    variant: str = ""
    metric: str
    trained: int
    pruned: int
    default: Number = None
    best: float
    training: dict[str, Any]
    config: dict[str, Any]


class Suite(_Part):
    """A suite as it was last run.

    ``base`` names the architecture that the others are compared with (empty: none), ``spec_hashes`` the runs
    that it asked for, ``leaks`` what it found in each dataset, and what is acknowledged there.
    """

    name: str
    description: str = ""
    paper_table: str | None = None
    base: str
    architectures: list[Contestant]
    datasets: list[str] = Field(default_factory=list)
    seeds: int | None = None
    spec_hashes: list[str] = Field(default_factory=list)
    tuned: list[Tuned] = Field(default_factory=list)
    leaks: dict[str, Leaks] = Field(default_factory=dict)
    command: str = ""


def label(architecture: str, variant: str) -> str:
    """How a contestant is called in tables and figures."""
    return architecture if is_plain(architecture, variant) else f"{architecture} ({variant})"


# --- Reading --------------------------------------------------------------------------------------------

Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path, kind: type[Model], what: str, mend: str) -> Model:
    """``path`` as a ``kind``; RecordError naming the file, its fault and the mend.

    Control characters in its texts are written out, here and so for every page, figure and table.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        read = kind.model_validate(all_visible(content))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "its top level"
        said = problem["msg"].removeprefix("Value error, ")
        raise RecordError(f"{path}: is no {what} ({field}: {said}); {mend}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read as a {what} ({error}); {mend}") from None
    if is_altered(content):
        raise RecordError(f"{path}: was changed since it was written (its checksum differs); {mend}")
    return read


def all_visible(content: Any) -> Any:
    """A tree of JSON with the control characters in its texts and keys written out."""
    if isinstance(content, dict):
        return {visible(key): all_visible(value) for key, value in content.items()}
    if isinstance(content, list):
        return [all_visible(value) for value in content]
    return visible(content) if isinstance(content, str) else content


def load_records(out: Path) -> list[Record]:
    """All run records of ``out``, oldest first.

    A folder without ``record.json`` is a run that has not ended, and is passed over.

    Raises:
        RecordError: there is no record at all, or one is damaged or foreign.
    """
    paths = sorted((out / "runs").glob("*/record.json"))
    paths = [path for path in paths if not path.parent.name.endswith(".partial")]
    if not paths:
        raise RecordError(
            f"{out / 'runs'}: holds no finished run; give the folder a suite was run into with --out"
        )
    mend = "remove its folder and run the suite again, or leave the folder out"
    records = [
        read_json(path, Record, "run record", mend).model_copy(update={"folder": path.parent.name})
        for path in paths
    ]
    return sorted(records, key=lambda record: (record.started_at, record.contestant.label, record.seed))


def load_suite(out: Path, name: str) -> Suite | None:
    """``OUT/suite.json`` if it describes the suite called ``name``, else None."""
    path = out / "suite.json"
    if not path.is_file():
        return None
    suite = read_json(path, Suite, "suite description", "remove it or run the suite again")
    return suite if suite.name == name else None
