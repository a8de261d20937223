"""The typed description of a table: features, tasks, user, time and split.

A schema is written by hand as YAML for a user's own data, or built in code by a
shipped dataset. Loading validates everything and raises :class:`InputError` with
the file, the field and the mend.
"""

from __future__ import annotations

import codecs
import datetime
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails

from datasets.expressions.syntax import columns_of
from files.errors import InputError
from files.plain_text import plain_lines, plain_name, shortened
from files.yaml_files import read_yaml

MISSING_INDEX = 0
UNSEEN_INDEX = 1
FIRST_INDEX = 2  # the first index of a category seen in the training split

MOST_BUCKETS = 2**31 - 1 - FIRST_INDEX  # indices are 32-bit integers

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
PlainName = Annotated[str, Field(max_length=4096), AfterValidator(plain_name)]
PlainText = Annotated[str, Field(max_length=10_000), AfterValidator(plain_lines)]
Column = Annotated[str, Field(max_length=1000), AfterValidator(plain_lines)]


def _none_if_false(value: object) -> object:
    return None if value is False else value


# Required, so that nobody forgets it: `user_id: false` says that the table has no users.
ColumnOrNone = Annotated[Column | None, BeforeValidator(_none_if_false)]


class _Strict(BaseModel):
    """Refuses unknown fields, and writes a field named in ``ADDED`` only where it is set.

    A dataset's fingerprint is the hash of its dumped schema. A field that is added to a class would
    change the fingerprint of every schema that does not use it, and so repeat preparation and runs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    ADDED: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_unset_additions(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        at_default = {
            name
            for name in self.ADDED
            if getattr(self, name) == fields[name].get_default(call_default_factory=True)
        }
        return {name: value for name, value in dump(self).items() if name not in at_default}


class Feature(_Strict):
    """One input of the model.

    ``categorical`` is one category a row, ``multi_hot`` an unordered list of categories,
    ``sequence`` a time-ordered list of categories (oldest first), ``numeric`` one number,
    ``vector`` a list of ``length`` numbers, such as an embedding from elsewhere.
    Features that name the same ``vocabulary`` share an embedding table.
    """

    ADDED = ("length", "hash_buckets", "hash_seed")

    name: Name
    kind: Literal["categorical", "numeric", "sequence", "multi_hot", "vector"]
    group: Name
    column: Column | None = Field(None, description="column of the raw table; the name if absent")
    embedding_dim: int = Field(16, ge=1, le=4096)
    vocabulary: Name | None = Field(None, description="shared vocabulary; the name if absent")
    min_count: int = Field(1, ge=1, description="rarer categories of the training split are unseen")
    max_size: int | None = Field(None, ge=1, description="keep the most frequent this many")
    hash_buckets: int | None = Field(
        None, ge=1, le=MOST_BUCKETS, description="ids share this many rows by their hash, without vocabulary"
    )
    hash_seed: int = Field(0, ge=0, le=MOST_BUCKETS, description="another number, another hash of the ids")
    max_length: int = Field(50, ge=1, le=65_536, description="sequence: the latest; multi_hot: the first")
    separator: str | None = Field(None, description="splits a text column into a list")
    normalization: Literal["standard", "log1p", "none"] = "standard"
    length: int | None = Field(None, ge=1, le=4096, description="vector: how many numbers")

    @model_validator(mode="after")
    def _holds_what_its_kind_uses(self) -> Feature:
        if self.separator is not None and (not self.separator or "\n" in self.separator):
            raise ValueError(
                'separator is empty or holds a line end; quote it, as in separator: "|" '
                "(YAML takes a lone | for the start of a block of text)"
            )
        for name in self._unused_fields():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is of no use to kind {self.kind!r}; remove it or choose another kind"
                )
        if self.kind == "vector" and self.length is None:
            raise ValueError("a vector needs its length, the number of its numbers; add 'length: <number>'")
        self._hashes_every_id()
        return self

    def _hashes_every_id(self) -> None:
        if self.hash_buckets is None and self.hash_seed:
            raise ValueError("hash_seed is of no use without hash_buckets; add them or remove it")
        for name in ("min_count", "max_size"):
            if self.hash_buckets is not None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"hash_buckets gives every id a row, so {name} can leave none out; remove one of the two"
                )

    def _unused_fields(self) -> list[str]:
        hashing = ("hash_buckets", "hash_seed")
        used = {
            "categorical": ["vocabulary", "min_count", "max_size", *hashing],
            "sequence": ["vocabulary", "min_count", "max_size", *hashing, "separator", "max_length"],
            "multi_hot": ["vocabulary", "min_count", "max_size", *hashing, "separator", "max_length"],
            "numeric": ["normalization"],
            "vector": ["normalization", "separator", "length"],
        }
        every = dict.fromkeys(name for names in used.values() for name in names)
        return [name for name in every if name not in used[self.kind]]

    @property
    def is_list(self) -> bool:
        """Whether it is a list of categories."""
        return self.kind in ("sequence", "multi_hot")

    @property
    def is_sparse(self) -> bool:
        """Whether it has an embedding table."""
        return self.kind not in ("numeric", "vector")

    @property
    def num_numbers(self) -> int:
        """How many columns of a batch's dense tensor it fills."""
        return 0 if self.is_sparse else self.length or 1

    @property
    def source_column(self) -> str:
        return self.column or self.name

    @property
    def table(self) -> str:
        """The vocabulary, and so the embedding table, that this feature looks up."""
        return self.vocabulary or self.name


class Task(_Strict):
    """A binary label: 0, 1, or null where it is undefined for the row.

    It is read from ``column``, or computed from an ``expression`` such as ``watch_ms >= duration_ms``.
    ``probability`` names a column of true probabilities, which only synthetic data has.
    """

    ADDED = ("expression",)

    name: Name
    column: Column | None = None
    probability: Column | None = None
    expression: str | None = None

    @model_validator(mode="after")
    def _has_one_origin(self) -> Task:
        if self.column is not None and self.expression is not None:
            raise ValueError("column and expression are both given; remove one")
        if self.expression is not None:
            columns_of(self.expression)  # raises if it is no valid expression
        return self

    @property
    def origin(self) -> str:
        """Where the label comes from, for messages."""
        if self.expression is not None:
            return f"expression {self.expression!r}"
        return f"column {self.source_column!r}"

    @property
    def columns(self) -> list[str]:
        """Columns of the raw table that the label is made from."""
        return [self.source_column] if self.expression is None else columns_of(self.expression)

    @property
    def source_column(self) -> str:
        return self.column or self.name


def _as_iso_text(value: object) -> object:
    """YAML reads an unquoted date as a date; it means the same as the quoted one."""
    return value.isoformat() if isinstance(value, datetime.date) else value


TimeBound = Annotated[int | float | str, BeforeValidator(_as_iso_text)]


class TimeSplit(_Strict):
    """Rows before ``valid_from`` train, before ``test_from`` validate, the rest test.

    Bounds are in the unit of the time column (or ISO dates for a datetime column).
    """

    by: Literal["time"] = "time"
    valid_from: TimeBound
    test_from: TimeBound


class FractionSplit(_Strict):
    """The last ``test`` share of the rows in time order tests, the share before it validates.

    Rows with equal times stay on one side.
    """

    by: Literal["fraction"] = "fraction"
    valid: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> FractionSplit:
        if self.valid + self.test >= 1:
            raise ValueError("valid and test together must leave rows to train on (sum below 1)")
        return self


class ColumnSplit(_Strict):
    """A column holds the split of each row."""

    by: Literal["column"] = "column"
    column: Column
    train: Column = "train"
    valid: Column = "valid"
    test: Column = "test"

    @model_validator(mode="after")
    def _distinct(self) -> ColumnSplit:
        if len({self.train, self.valid, self.test}) < 3:
            raise ValueError("train, valid and test must be three different values")
        return self


Split = Annotated[TimeSplit | FractionSplit | ColumnSplit, Field(discriminator="by")]


class SingleFeatureBaseline(_Strict):
    """A reference that predicts from one raw numeric column only, such as ``duration_only``."""

    name: Name
    column: Column


def _may_separate(separator: str) -> bool:
    return len(separator) == 1 and "\0" < separator < "\x80" and separator not in "\"'\\\r\n"


class Csv(_Strict):
    """How delimited text files are written; the default is commas, double quotes and a header line.

    ``separator`` is one character; absent, it is a tab in .tsv files and a comma elsewhere. ``quote`` "none"
    gives quotes no meaning. ``escape`` must be set where a backslash escapes a quote. ``columns``
    names all fields of files without a header line.
    """

    separator: str | None = None
    quote: Literal['"', "'", "none"] = '"'
    escape: Literal["backslash", "none"] | None = None
    columns: list[str] = Field(default_factory=list)
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _can_be_read(self) -> Csv:
        if twice := _given_twice(self.columns):
            raise ValueError(f"columns names {twice!r} twice; name each field once")
        if self.separator is not None and not _may_separate(self.separator):
            raise ValueError(
                f"separator {self.separator!r} must be one character of ASCII and no quote, backslash or "
                "line end; write the file with another"
            )
        try:
            codecs.getincrementaldecoder(self.encoding)().decode(b"a").encode()
        except (LookupError, TypeError, ValueError, AttributeError):
            raise ValueError(
                f"encoding {self.encoding!r} is unknown; write utf-8, latin-1, gbk ..."
            ) from None
        return self


class Schema(_Strict):
    """A whole table.

    ``default_tasks`` are the tasks a run trains unless it names others (all if empty).
    ``tier`` names a column of user-activity tiers 0 (low), 1 (middle), 2 (high); if absent,
    preparation computes terciles of users by their number of training rows.
    ``time_unit`` is the unit of integer times counted from 1970 (UTC), so that the bounds of a
    split by time can be dates. ``missing`` lists the words and numbers that stand for a missing value, beside
    empty text. A table that holds such a word ("NaN", "null") as a category is refused, unless it is listed
    there, in ``not_missing``, or ``missing`` is an empty list.
    ``staged`` names a folder (`datasets.staged.folder`) made from ``files``, which are then not read.
    ``leak_ok`` names features that ``data describe`` finds to leak and that the owner keeps nonetheless.
    ``user_id`` is None (in YAML: false) where rows belong to no user: there are then no UAUC, GAUC and tiers.
    """

    ADDED = ("time_unit", "missing", "not_missing", "csv")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)
    description: PlainText = ""
    files: list[PlainName] = Field(default_factory=list, description="own data: globs relative to the YAML")
    csv: Csv = Field(default_factory=Csv, description="own data: how delimited text is written")
    missing: list[str] | None = Field(None, description="own data: words that stand for a missing value")
    not_missing: list[str] = Field(
        default_factory=list, description="own data: words that look so, but are categories"
    )
    features: list[Feature] = Field(min_length=1)
    tasks: list[Task] = Field(min_length=1)
    default_tasks: list[str] = Field(default_factory=list)
    user_id: ColumnOrNone
    time: Column | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    tier: Column | None = None
    baseline: SingleFeatureBaseline | None = None
    # Left out of every dump and so of fingerprints, since they change neither data nor runs: a leak that is
    # acknowledged, and a folder that holds what the files give.
    staged: PlainName | None = Field(
        None, exclude=True, description="own data: a staged folder, read in place of the files"
    )
    leak_ok: list[Name] = Field(default_factory=list, exclude=True, description="acknowledged leaks")
    split: Split

    @model_validator(mode="after")
    def _consistent(self) -> Schema:
        for what, names in (("feature", self.feature_names), ("task", self.task_names)):
            if twice := _given_twice(names):
                raise ValueError(f"{what} {twice!r} is given twice; rename or remove one")
        self._check_labels_are_no_inputs()
        self._check_shared_vocabularies()
        if twice := _given_twice(self.default_tasks):
            raise ValueError(f"default_tasks names {twice!r} twice; remove one")
        unknown = [name for name in self.default_tasks if name not in self.task_names]
        if unknown:
            raise ValueError(
                f"default_tasks names {unknown[0]!r}, which is no task: "
                f"choose from {', '.join(self.task_names)}"
            )
        if twice := _given_twice(self.leak_ok):
            raise ValueError(f"leak_ok names {twice!r} twice; remove one")
        unknown = [name for name in self.leak_ok if name not in self.feature_names]
        if unknown:
            raise ValueError(
                f"leak_ok names {unknown[0]!r}, which is no feature: "
                f"choose from {', '.join(self.feature_names)}"
            )
        if self.split.by in ("time", "fraction") and self.time is None:
            raise ValueError(f"a split by {self.split.by} needs 'time: <column>'; add it or split by column")
        if self.tier is not None and self.user_id is None:
            raise ValueError("tier is given for a table without users; remove it or name the user's column")
        if self.time_unit is not None and self.time is None:
            raise ValueError("time_unit is given without 'time: <column>'; add it or remove time_unit")
        if both := [word for word in self.not_missing if word in (self.missing or [])]:
            raise ValueError(f"missing and not_missing both name {both[0]!r}; remove it from one")
        return self

    def _check_labels_are_no_inputs(self) -> None:
        outcomes = {task.source_column for task in self.tasks if task.expression is None}
        outcomes |= {task.probability for task in self.tasks if task.probability}
        inputs = [(f"feature {feature.name!r}", feature.source_column) for feature in self.features]
        if self.baseline is not None:
            inputs.append((f"baseline {self.baseline.name!r}", self.baseline.column))
        for what, column in inputs:
            if column in outcomes:
                raise ValueError(f"{what} reads column {column!r}, which is a label; remove it")
        self._check_labels_are_not_computed_from_inputs()

    def _check_labels_are_not_computed_from_inputs(self) -> None:
        """Refuses a label computed from inputs only; some of its columns may be inputs, as a duration is."""
        features = {feature.source_column for feature in self.features}
        baseline = {self.baseline.column} if self.baseline else set()
        for task in self.tasks:
            for what, columns in (("the features read", features), ("the baseline reads", baseline)):
                if task.expression is not None and set(task.columns) <= columns:
                    raise ValueError(
                        f"{what} {', '.join(task.columns)}, from which the label {task.name!r} is computed; "
                        "remove what is not known before the outcome"
                    )

    def _check_shared_vocabularies(self) -> None:
        first: dict[str, Feature] = {}
        for feature in self.sparse_features:
            other = first.setdefault(feature.table, feature)
            for setting in ("embedding_dim", "hash_buckets", "hash_seed"):
                both = [getattr(one, setting) for one in (other, feature)]
                if both[0] != both[1]:
                    first_one, second = ("none" if value is None else value for value in both)
                    raise ValueError(
                        f"features {other.name!r} and {feature.name!r} share vocabulary {feature.table!r} "
                        f"but not {setting} ({first_one} and {second}); make them equal"
                    )

    @property
    def feature_names(self) -> list[str]:
        return [feature.name for feature in self.features]

    @property
    def task_names(self) -> list[str]:
        return [task.name for task in self.tasks]

    @property
    def sparse_features(self) -> list[Feature]:
        """Categorical, sequence and multi-hot features in schema order: the keys of a batch."""
        return [feature for feature in self.features if feature.is_sparse]

    @property
    def numeric_features(self) -> list[Feature]:
        """Features of one number, in schema order."""
        return [feature for feature in self.features if feature.kind == "numeric"]

    @property
    def vector_features(self) -> list[Feature]:
        """Features of several numbers, in schema order."""
        return [feature for feature in self.features if feature.kind == "vector"]

    @property
    def dense_features(self) -> list[Feature]:
        """Numeric and vector features in schema order: side by side, a batch's dense tensor."""
        return [feature for feature in self.features if not feature.is_sparse]

    @property
    def groups(self) -> list[str]:
        """Semantic groups in order of first appearance."""
        return list(dict.fromkeys(feature.group for feature in self.features))

    def feature(self, name: str) -> Feature:
        return next(feature for feature in self.features if feature.name == name)

    def chosen_tasks(self, names: list[str] | None = None) -> list[str]:
        """The named tasks, or the default ones; raises InputError on an unknown or repeated name."""
        chosen = names or self.default_tasks or self.task_names
        if twice := _given_twice(chosen):
            raise InputError(f"tasks: {twice!r} is named twice; name each once")
        for name in chosen:
            if name not in self.task_names:
                raise InputError(
                    f"dataset {self.name!r} has no task {name!r}: choose from {', '.join(self.task_names)}"
                )
        return list(chosen)


def _given_twice(names: list[str]) -> str | None:
    """The first name that occurs more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


UNKNOWN_FIELD = ("extra_forbidden", "unexpected_keyword_argument")  # of a model, of a dataclass


def first_problem(error: ValidationError, where: str) -> str:
    """Pydantic's error as one sentence: where, which field, what is wrong.

    Of several it is the first, but a misspelt field comes before the field that is missing for it.
    """
    problems = error.errors()
    problem = next((p for p in problems if p["type"] in UNKNOWN_FIELD), problems[0])
    return ": ".join([where, *_field(problem), _complaint(problem)])


def _field(problem: ErrorDetails) -> list[str]:
    return [".".join(shortened(str(part)) for part in problem["loc"])] if problem["loc"] else []


def _complaint(problem: ErrorDetails) -> str:
    kind, value = problem["type"], problem["input"]
    if kind in UNKNOWN_FIELD:
        return "is not a known field; check its spelling or remove it"
    if kind == "missing":
        return "is missing; add it"
    if kind == "union_tag_not_found":
        return f"lacks {problem['ctx']['discriminator']}, which selects its kind; add it"
    if kind == "model_type":
        return "must be a mapping of fields to values, for example {name: ...}"
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "value_error" or not isinstance(value, str | int | float | None):
        return message
    hint = "; quote it" if kind == "string_type" and value is not None else ""
    return f"{message}, not {'empty' if value is None else shortened(repr(value))}{hint}"


def load_schema(path: Path) -> Schema:
    """Read and validate a schema written as YAML."""
    content = read_yaml(path)
    if isinstance(content, dict) and content.get("user_id", "") is None:
        raise InputError(
            f"{path}: user_id: is empty; name the user's column, or write 'user_id: false' if there is none"
        )
    try:
        return Schema.model_validate(content)
    except ValidationError as error:
        raise InputError(first_problem(error, str(path))) from None
