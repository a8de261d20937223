"""What a run found: one typed record, built once when the run ends, written and read by the same class.

``OUT/runs/<run>/record.json`` is one run. What was not measured is missing, never zero. A record of an
earlier version has fewer fields, and no checksum; it is read all the same.
"""

from __future__ import annotations

import json
import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)

from files.checksums import is_altered
from files.errors import InputError
from files.plain_text import visible
from harness.records.contestant import Contestant, Ratio
from harness.records.cost import Cost
from harness.records.spec import Budget

RECORD_FILE = "record.json"
PREDICTIONS_FILE = "predictions.parquet"
DEAD_SHARE = 0.001  # an expert active on a smaller share of the test rows is called dead
MEND = "delete that folder and run the suite again"

Count = Annotated[int, Strict()] | None
Number = Annotated[float, Strict()] | None
Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """Immutable; a field of a later version is passed over, a number that is not finite refused."""

    # "constants" keeps a NaN among free fields, such as the environment's, for `sealed` to refuse.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants")


class Failure(Part):
    """Why a run failed, and at which step."""

    step: int | None = None
    reason: str


class ReliabilityBin(Part):
    """Rows of like scores: their mean ``score`` and the ``rate`` of positive labels among them."""

    score: float
    rate: float
    rows: int


class TaskMetrics(Part):
    """One task's metrics on one split; ``users`` have both labels, ``rows`` have a defined one.

    ``reliability``: tenths of the test rows by rising score; empty for validation and in older records.
    """

    auc: Number = None
    uauc: Number = None
    gauc: Number = None
    logloss: Number = None
    normalized_entropy: Number = None
    calibration: Number = None
    users: Count = None
    rows: Count = None
    one_class_users: Count = None
    one_class_rows: Count = None
    reliability: list[ReliabilityBin] = Field(default_factory=list)


class Validation(Part):
    """A split's metrics after ``step`` steps and ``samples`` rows."""

    step: int
    samples: int
    metrics: dict[str, TaskMetrics]


class PlacedTable(Part):
    """Where an embedding table lay, in TorchRec's words, and on which processes."""

    sharding_type: str
    compute_kernel: str
    ranks: list[int]


class MeasuredTraining(Part):
    """How fast a run was trained, and in which way; seconds are wall time, rates a second.

    ``runs_at_once`` is how many runs its command carried out at a time, where more than one: they shared the
    machine, and their rates and MFU cannot be compared with those of a run that had it alone. ``processes``
    is how many ended the run, where they are fewer than its spec's ``world_size``: the rates are theirs.
    ``tables`` are those of a run on several processes.
    """

    train_samples: Count = None
    train_seconds: Number = None
    train_samples_per_second: Number = None
    eval_samples_per_second: Number = None
    mfu_train: Number = None
    mfu_inference: Number = None
    latency_ms_p50: Number = None
    latency_ms_p99: Number = None
    peak_flops: Number = None
    peak_source: str | None = None
    batch_size: Count = None
    precision: str | None = None
    device: str | None = None
    epochs: Count = None
    dense_optimizer: str | None = None
    dense_lr: Number = None
    stopped_early: bool | None = None
    runs_at_once: Count = None
    processes: Count = None
    tables: dict[str, PlacedTable] | None = None


class TokenRank(Part):
    """The tokens after a layer (``input``: before the first), and their mean effective rank over rows."""

    layer: str
    tokens: int
    width: int
    effective_rank: Number = None


class RoutingPoint(Part):
    """A moment of training: for each layer and token the mean share of its experts that were active."""

    samples: int
    active: list[list[Share]]
    penalty_coefficient: Number = None


class RoutingTest(Part):
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


class Routing(Part):
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


class Leak(Part):
    """A feature that knows a label or the split; ``says`` follows its name in a sentence."""

    feature: str
    kind: str
    task: str | None = None
    number: Number = None
    says: str


class Leaks(Part):
    """What was found in a dataset, and the features whose leaks its schema acknowledges."""

    found: list[Leak] = Field(default_factory=list)
    leak_ok: list[str] = Field(default_factory=list)


class DatasetInfo(Part):
    """What was trained on: rows by split, users, what the source noted; ``leaks`` None in older records."""

    fingerprint: str | None = None
    rows: dict[str, int] = Field(default_factory=dict)
    users: int | None = None
    notes: dict[str, Any] = Field(default_factory=dict)
    leaks: Leaks | None = None


class Record(Part):
    """One run, whole: a model that was trained, or a reference row that was not.

    ``spec`` is the run's :class:`harness.records.spec.RunSpec` as JSON. ``series``, ``size`` and ``ratio``
    are the row's; read them from ``contestant``, which also knows them of records that lack these fields.
    ``world`` is the dataset's world that the run took place in, None where no worlds were asked for.
    ``tested``: the test split on the way (``training.progress``); ``ahead``: each window of the first epoch
    before it was trained on (``training.score_ahead``).
    ``files`` are sha256 sums of what lies beside the record.
    """

    kind: Literal["model", "reference"]
    status: Literal["finished", "failed"]
    failure: Failure | None = None
    suite: str
    architecture: str
    variant: str = ""
    series: str = ""
    size: str = ""
    ratio: Ratio | None = None
    dataset: str
    world: Count = None
    seed: Annotated[int, Strict()]
    spec_hash: str
    spec: dict[str, Any]
    cost: Annotated[Cost, PlainSerializer(Cost.as_dict)] | None = None
    budget: Budget | None = None
    metrics: dict[str, TaskMetrics] = Field(default_factory=dict)
    validation: list[Validation] = Field(default_factory=list)
    tested: list[Validation] = Field(default_factory=list)
    ahead: list[Validation] = Field(default_factory=list)
    curve: list[tuple[int, Number]] = Field(default_factory=list)
    training: MeasuredTraining | None = None
    token_ranks: list[TokenRank] = Field(default_factory=list)
    routing: Routing | None = None
    dataset_info: DatasetInfo = DatasetInfo()
    environment: dict[str, Any] = Field(default_factory=dict)
    started_at: str
    finished_at: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """Where it was read from: the run's folder."""
        return self._folder

    @field_validator("variant", mode="before")
    @classmethod
    def _no_variant(cls, value: Any) -> Any:
        return "" if value is None else value

    @cached_property
    def contestant(self) -> Contestant:
        if "series" not in self.model_fields_set:  # written before rows had these fields
            target = self.budget.target if self.budget else None
            return Contestant.from_run(self.architecture, self.variant, target)
        return Contestant(self.architecture, self.variant, self.series, self.size, self.ratio)

    @property
    def is_reference(self) -> bool:
        return self.kind == "reference"

    @property
    def tasks(self) -> list[str]:
        """The tasks that were measured or, where none was, those that the spec asked for."""
        return list(self.metrics) or [str(task) for task in self.spec.get("tasks") or []]

    @property
    def settings(self) -> str:
        """The spec without its seed and world: runs that differ here do not belong in one mean."""
        chance = ("seed",) if self.world is None else ("seed", "world", "dataset_fingerprint")
        spec = {name: value for name, value in self.spec.items() if name not in chance}
        return json.dumps(spec, sort_keys=True)

    def as_json(self) -> dict[str, Any]:
        """The fields that the record was built with, or read with, as plain JSON."""
        return self.model_dump(mode="json", exclude_unset=True)


# --- Reading --------------------------------------------------------------------------------------------

Model = TypeVar("Model", bound=BaseModel)


def read_record(folder: Path) -> Record:
    """The record of a finished run's folder.

    Raises InputError naming the file where it is absent, damaged, altered since it was written, or lacks
    a field. A record of an earlier version, which has no checksum, is taken as it is.
    """
    record = read_json(folder / RECORD_FILE, Record, "run record", MEND)
    record._folder = folder
    return record


def read_json(path: Path, kind: type[Model], what: str, mend: str) -> Model:
    """``path`` as a ``kind``; InputError naming the file, its fault and the mend.

    Control characters in its texts are written out, here and so for every page, figure and table. A number
    that is NaN is missing.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        read = kind.model_validate(_for_reading(content))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "its top level"
        fault = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: is no {what} ({field}: {fault}); {mend}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {mend}") from None
    if is_altered(content):
        raise InputError(f"{path}: was changed since it was written (its checksum differs); {mend}")
    return read


def _for_reading(content: Any) -> Any:
    """A tree of JSON with control characters in texts and keys written out, and None for NaN."""
    if isinstance(content, dict):
        return {visible(key): _for_reading(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_for_reading(value) for value in content]
    if isinstance(content, float) and math.isnan(content):
        return None
    return visible(content) if isinstance(content, str) else content


def altered_predictions(path: Path) -> InputError:
    """The error of predictions that are not those of their record."""
    return InputError(
        f"{path}: was changed since it was written (its sha256 differs); "
        "delete its folder and run the suite again"
    )
