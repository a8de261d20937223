"""The fields of a suite, and reading one from YAML with the overrides of a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from harness.data import (
    WORLD_OPTIONS,
    InputError,
    PlainName,
    PlainText,
    first_problem,
    in_world,
    override,
    read_yaml,
)
from harness.model.architectures import ARCHITECTURES, architecture_class, architecture_path
from harness.records.contestant import Contestant, Ratio, size_name
from harness.records.spec import ROW_FIELDS, Strict, TokenizerName, Training
from harness.records.suite import Analysis, PublishedName
from suites.tuning.search import DEFAULT_SEARCH, Search, check_search

SHIPPED = Path(__file__).parent
MOST_SEEDS = 1000
MOST_WORLDS = 1000
MOST_DIM = 65_536
OF_THE_SUITE = ("recipe", "precision", "compile", "progress", "score_ahead")  # fields of training
LONGEST_NAME = 140  # of an architecture's class and a variant: the run's folder adds 90 to it, of 255 at most
PaperTable = Literal["table1", "table2", "table3", "table4", "table6", "figure2", "figure3", "figure4"]


BudgetKind = Literal["flops_per_sample", "dense_params", "latency_ms_p99"]


class SuiteBudget(Strict):
    """What architectures are matched to: forward FLOPs a sample, dense parameters, or a measured latency.

    ``latency_ms_p99`` are milliseconds of the whole model's call on ``batch_size`` rows, on this machine.
    """

    flops_per_sample: float | None = Field(None, gt=0)
    dense_params: float | None = Field(None, gt=0)
    latency_ms_p99: float | None = Field(None, gt=0)
    batch_size: int | None = Field(None, ge=1, le=65_536)

    @model_validator(mode="after")
    def _exactly_one(self) -> SuiteBudget:
        if len(self._given()) != 1:
            raise ValueError("give one of flops_per_sample, dense_params and latency_ms_p99")
        if (self.latency_ms_p99 is None) != (self.batch_size is None):
            raise ValueError("a latency needs batch_size, the rows of a call, and nothing else does")
        return self

    def _given(self) -> list[tuple[BudgetKind, float]]:
        named: list[tuple[BudgetKind, float | None]] = [
            ("flops_per_sample", self.flops_per_sample),
            ("dense_params", self.dense_params),
            ("latency_ms_p99", self.latency_ms_p99),
        ]
        return [(kind, target) for kind, target in named if target is not None]

    @property
    def kind(self) -> BudgetKind:
        return self._given()[0][0]

    @property
    def target(self) -> float:
        return self._given()[0][1]


class ServingSettings(Strict):
    """At which batch sizes the models' inference is timed after the trainings, on how many threads.

    ``threads`` None: as many as trained them. Of a CPU alone.
    """

    batch_sizes: list[Annotated[int, Field(ge=1, le=65_536)]] = Field([64, 512], min_length=1, max_length=8)
    threads: int | None = Field(None, ge=1, le=1024)

    @field_validator("batch_sizes")
    @classmethod
    def _sizes_differ(cls, sizes: list[int]) -> list[int]:
        if len(set(sizes)) < len(sizes):
            raise ValueError("names a size twice; name each once")
        return sorted(sizes)


class SuiteRow(Strict):
    """One row of the table: an architecture, and what sets this variant of it apart.

    ``series`` and ``ratio`` (an active ratio, such as 1/4) say which curve a variant belongs to, and where on
    it; the variant's name follows from them where it has none. A row without them has what its name states:
    ``smoe-1/4``. ``size`` is set by a suite's ``sizes``. ``tokenizer``, ``tokens``, ``token_dim`` and
    ``budget`` are this row's alone; None is the suite's. A row that names a tokenizer and no tokens gets as
    many as that tokenizer makes by itself: see `Suite`. ``tuned_as`` is the row whose tuned settings it
    takes, its own where empty; None takes the defaults. ``training`` holds fields of the suite's training
    that are other for this row, which is then not tuned.
    """

    architecture: PlainName
    variant: PlainName = ""
    series: PlainName = ""
    ratio: Ratio | None = None
    size: PlainName = ""
    tokenizer: TokenizerName | None = None
    tokens: int | None = Field(None, ge=1, le=4096)
    token_dim: int | None = Field(None, ge=1, le=MOST_DIM)
    budget: SuiteBudget | None = None
    tuned_as: PlainName | None = ""
    config: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete_name(self) -> SuiteRow:
        """The name from the series and ratio, or these from the name."""
        given = self.model_fields_set
        if not self.variant and (self.series or self.ratio is not None):
            parts = [self.series, "" if self.ratio is None else str(self.ratio)]
            return self._complete(variant="-".join(filter(None, parts)))
        target = self.budget.target if self.budget else None
        named = Contestant.from_run(self.architecture, self.variant, target)
        unstated = {name for name in ROW_FIELDS if name not in given}
        if "ratio" in given or "series" in given:
            unstated -= {"ratio"}
        return self._complete(**{name: getattr(named, name) for name in unstated})

    def _complete(self, **values: Any) -> SuiteRow:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # frozen for everyone else
        return self

    @field_validator("training")
    @classmethod
    def _own_training(cls, training: dict[str, Any]) -> dict[str, Any]:
        for name in OF_THE_SUITE:
            if name in training:
                raise ValueError(f"{name} is the same for all rows; set it in the suite's training")
        return training

    def trained_by(self, training: Training) -> Training:
        """The suite's training with this row's own fields; ValidationError where they do not fit."""
        return Training.model_validate(training.model_dump() | self.training) if self.training else training

    @property
    def name(self) -> str:
        """Architecture and variant joined as in the names of run folders."""
        return "-".join(filter(None, [self.architecture, self.variant]))

    @property
    def contestant(self) -> Contestant:
        return Contestant(self.architecture, self.variant, self.series, self.size, self.ratio)


class Dataset(Strict):
    """A dataset by name (or schema YAML by path), its options, and the worlds that everything is run in.

    ``worlds`` are their numbers, or how many: 3 stands for 0, 1 and 2. A world sets one option of the dataset
    (``datasets/catalog.py``: WORLD_OPTIONS), which ``options`` may not set then. None: no world is chosen.
    """

    name: PlainName
    options: dict[str, Any] = Field(default_factory=dict)
    worlds: list[Annotated[int, Field(ge=0, lt=MOST_WORLDS)]] | None = Field(
        None, min_length=1, max_length=MOST_WORLDS
    )

    @field_validator("worlds", mode="before")
    @classmethod
    def _count_of_worlds(cls, worlds: Any) -> Any:
        if isinstance(worlds, bool) or not isinstance(worlds, int | list | None):
            raise ValueError("should be a list of numbers, or how many")
        if isinstance(worlds, int) and not 1 <= worlds <= MOST_WORLDS:
            raise ValueError(f"should be from 1 to {MOST_WORLDS}")
        return list(range(worlds)) if isinstance(worlds, int) else worlds

    @field_validator("worlds")
    @classmethod
    def _worlds_differ(cls, worlds: list[int] | None) -> list[int] | None:
        if worlds is not None and len(set(worlds)) < len(worlds):
            raise ValueError("names a world twice; name each once")
        return worlds

    @model_validator(mode="after")
    def _has_worlds(self) -> Dataset:
        if self.worlds is not None:
            try:
                in_world(self.name, self.options, self.worlds[0])
            except InputError as error:
                raise ValueError(str(error)) from None
        return self

    @property
    def each_world(self) -> list[int | None]:
        """The worlds, or None alone where none is chosen."""
        return [None] if self.worlds is None else list(self.worlds)


class Suite(Strict):
    """A comparison: every contestant on every dataset, in each of its worlds, with every seed.

    ``tokens`` x ``token_dim``, made by ``tokenizer``, is what every contestant without its own gets.
    ``tokens`` absent: 16 chunks, one token a semantic group, or one a feature; ``token_dim`` absent: the
    smallest aligned width that holds the dataset's embeddings. ``base`` is the row without a variant that
    differences are taken to; None takes none. Without a ``budget``, each contestant's config must size it.
    ``sizes`` are several budgets: each contestant without its own becomes a row for every one of them,
    whose variant ends in the target, such as "0.3M". ``architectures: all`` stands for a row of every
    architecture of the table, and ``{all: [{}, {variant: ...}]}`` for one with each of these fields.
    ``contrasts`` are pairs of rows, by name, that are compared directly, beside each with the base.
    ``tuned`` names the suite beside this one, or this one, whose tuned settings every row takes; ``search``
    is what tuning chooses from: fields of ``training``, ``tokenizer`` and ``tokens``. ``references`` names
    some of the dataset's, or is true for all. ``serving`` says how inference is timed after the trainings.
    ``analyses`` are those that the report makes beside the comparisons with the base. ``published`` are
    papers whose comparisons with the same base stand beside ours.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    description: PlainText
    paper_table: PaperTable | None = None
    published: list[PublishedName] = Field(default_factory=list)
    analyses: list[Analysis] | None = None
    datasets: list[Dataset] = Field(min_length=1)
    tasks: list[PlainName] = Field(default_factory=list)
    tokenizer: TokenizerName = "chunks"
    tokens: int | None = Field(None, ge=1, le=4096)
    token_dim: int | None = Field(None, ge=1, le=MOST_DIM)
    target_attention: bool = False
    tower_dim: int = Field(32, ge=0, le=MOST_DIM)
    budget: SuiteBudget | None = None
    sizes: list[SuiteBudget] = Field(default_factory=list)
    seeds: int = Field(1, ge=1, le=MOST_SEEDS)
    base: PlainName | None = "dlrm_mlp"
    architectures: list[SuiteRow] = Field(min_length=1)
    contrasts: list[tuple[PlainName, PlainName]] = Field(default_factory=list)
    references: bool | list[PlainName] = True
    serving: ServingSettings = ServingSettings()
    training: Training = Training()
    tuned: PlainName | None = Field(None, max_length=100)
    search: Search = Field(default_factory=lambda: dict(DEFAULT_SEARCH))
    _folder: Path = PrivateAttr(default=SHIPPED)

    @property
    def folder(self) -> Path:
        """Where its YAML lies."""
        return self._folder

    @property
    def contrasted(self) -> list[tuple[Contestant, Contestant]]:
        """The contrasts as contestants."""
        rows = {row.name: row.contestant for row in self.architectures}
        return [(rows[one], rows[other]) for one, other in self.contrasts]

    @field_validator("published")
    @classmethod
    def _papers_differ(cls, published: list[PublishedName]) -> list[PublishedName]:
        if len(set(published)) < len(published):
            raise ValueError("names a paper twice; name each once")
        return published

    @field_validator("search")
    @classmethod
    def _settings_of_training(cls, search: Search) -> Search:
        return check_search(search)

    @field_validator("references", mode="wrap")
    @classmethod
    def _all_or_names(cls, value: Any, validated: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validated(value)
        except ValidationError:
            raise ValueError("give true, false, or a list of names such as [oracle, gbdt]") from None

    @field_validator("architectures", mode="before")
    @classmethod
    def _rows_as_mappings(cls, rows: Any) -> Any:
        """Rows of the whole table, and names alone, written out."""
        if rows == "all":
            rows = list(ARCHITECTURES)
        elif isinstance(rows, dict) and set(rows) == {"all"} and _are_mappings(rows["all"]):
            rows = [{"architecture": name} | fields for name in ARCHITECTURES for fields in rows["all"]]
        if isinstance(rows, list):
            return [{"architecture": row} if isinstance(row, str) else row for row in rows]
        return rows

    @field_validator("datasets", mode="before")
    @classmethod
    def _dataset_names_alone(cls, rows: Any) -> Any:
        if isinstance(rows, list):
            return [{"name": row} if isinstance(row, str) else row for row in rows]
        return rows

    @model_validator(mode="after")
    def _one_row_a_size(self) -> Suite:
        if self.sizes and self.budget is not None:
            raise ValueError("give either budget or sizes")
        if any(size.kind == "latency_ms_p99" for size in self.sizes):
            raise ValueError("sizes: are FLOPs or parameters; give a latency as the budget")
        rows = [sized for row in self.architectures for sized in _at_sizes(row, self.sizes)]
        object.__setattr__(self, "architectures", rows)  # frozen for everyone else
        return self

    @model_validator(mode="after")
    def _rows_train(self) -> Suite:
        for row in self.architectures:
            if row.training and self.tuned is not None and row.tuned_as is not None:
                raise ValueError(
                    f"architectures: {row.name!r} has training of its own and settings of {self.tuned!r}; "
                    "give it tuned_as: null, or remove its training"
                )
            try:
                row.trained_by(self.training)
            except ValidationError as error:
                raise ValueError(first_problem(error, f"architectures: {row.name!r}: training")) from None
        return self

    @model_validator(mode="after")
    def _contrasts_name_rows(self) -> Suite:
        names = [row.name for row in self.architectures]
        for pair in self.contrasts:
            for name in pair:
                if name not in names:
                    raise ValueError(f"contrasts: {name!r} is no row; choose from {', '.join(names)}")
            if pair[0] == pair[1]:
                raise ValueError(f"contrasts: {pair[0]!r} is compared with itself; name two rows")
        return self

    @model_validator(mode="after")
    def _names_make_folders(self) -> Suite:
        for row in self.architectures:
            name = "-".join(filter(None, [row.architecture.rpartition(":")[2], row.variant]))
            if len(name) > LONGEST_NAME:
                raise ValueError(
                    f"architectures: the name {name[:40]}... has {len(name)} characters; "
                    f"architecture and variant may have {LONGEST_NAME} together, so shorten the variant"
                )
        return self

    @model_validator(mode="after")
    def _rows_differ(self) -> Suite:
        rows = [(row.architecture, row.variant) for row in self.architectures]
        for row in rows:
            if rows.count(row) > 1:
                raise ValueError(f"architectures: {row[0]!r} appears twice; give each its own 'variant'")
        names = [dataset.name for dataset in self.datasets]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"datasets: {name!r} appears twice; give each its own suite and --out")
        if self.base is not None and (self.base, "") not in rows:
            raise ValueError(
                f"base: {self.base!r} is no row without a variant of 'architectures'; "
                "add it, name another base, or null to compare none"
            )
        return self


def _are_mappings(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


def _at_sizes(row: SuiteRow, sizes: list[SuiteBudget]) -> list[SuiteRow]:
    """The row for each of the sizes, or the row alone if it has its own budget or there are none."""
    if row.budget is not None or not sizes:
        return [row]
    return [
        row.model_copy(
            update={
                "variant": "-".join(filter(None, [row.variant, size_name(size.target)])),
                "size": size_name(size.target),
                "budget": size,
                "tuned_as": None if row.tuned_as is None else row.tuned_as or row.name,
            }
        )
        for size in sizes
    ]


def check_own_names(datasets: list[Dataset], names: list[str]) -> None:
    """InputError where two of a suite's datasets have one name in their schemas, which tells runs apart."""
    first: dict[str, str] = {}
    for dataset, name in zip(datasets, names, strict=True):
        if name in first:
            raise InputError(
                f"datasets: the schemas {first[name]!r} and {dataset.name!r} are both named {name!r}; "
                "rename one, or give each its own suite and --out"
            )
        first[name] = dataset.name


def _in_worlds(datasets: Any, worlds: int) -> Any:
    """A suite's datasets as YAML has them, those that have worlds in this many; InputError where none has."""
    rows = Suite._dataset_names_alone(datasets)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return datasets  # is no list of datasets, which is said when the suite is checked
    if not any(row.get("name") in WORLD_OPTIONS for row in rows):
        raise InputError(
            f"--worlds {worlds}: no dataset of the suite has worlds, as {', '.join(WORLD_OPTIONS)} would; "
            "leave it out, or choose another with --dataset"
        )
    return [row | {"worlds": worlds} if row.get("name") in WORLD_OPTIONS else row for row in rows]


def shipped_suites() -> dict[str, Path]:
    """Suites that come with the project, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load_suite(
    name_or_path: str,
    overrides: list[str],
    replaced: dict[str, Any] | None = None,
    import_architectures: bool = True,
    worlds: int | None = None,
) -> Suite:
    """Read a shipped suite by name or a user's by path.

    ``overrides`` are ``key.subkey=value`` with values in YAML; ``replaced`` sets whole top-level
    fields; ``worlds`` sets how many worlds every dataset that has worlds is run in. Raises InputError naming
    the file or flag, the field and the mend, also for an architecture that cannot be found, so that the user
    learns it before data are prepared. Without
    ``import_architectures``, a user's own module is not imported yet, so nothing in it is executed.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
    elif name_or_path in shipped_suites():
        path = shipped_suites()[name_or_path]
    else:
        raise InputError(
            f"no suite {name_or_path!r}: choose from {', '.join(shipped_suites())}, "
            "or give a path ending in .yaml"
        )
    content = read_yaml(path) | (replaced or {})
    for text in overrides:
        override(content, "--set", text)
    if worlds is not None:
        content["datasets"] = _in_worlds(content.get("datasets"), worlds)
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise InputError(
            first_problem(error, " ".join([str(path), *(f"--set {o}" for o in overrides)]))
        ) from None
    for row in suite.architectures:
        (architecture_class if import_architectures else architecture_path)(row.architecture)
    suite._folder = path.parent
    return suite
