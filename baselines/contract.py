"""The contract of an architecture: the members that it must have, and those that it may have.

An architecture is an `nn.Module` with the members of `Backbone`. Three optional protocols tell the harness
what else it can do: `RowBlocks` (a batch may be computed in blocks of rows), `Experts` (it is sparse), and
`StatisticsUpdate` (it adjusts itself after each step). No class needs to inherit from a protocol; it only
needs the members.

Shapes
    B batch, T tokens, d width of a token, L layers, E experts of each token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:  # so that looking an architecture up by its name does not wait for torch
    from torch import Tensor


@dataclass(frozen=True)
class Knob:
    """An integer field of a Config that scales the cost. Its values are minimum, minimum + step, and so on.

    While all other fields stay the same, FLOPs grow strictly with it. Where a config sets ``fixed_by``, that
    other field stands in its place: it is None then, and no budget sets it.
    """

    field: str
    step: int = 1
    minimum: int = 1
    fixed_by: str | None = None

    def is_fixed(self, config: Mapping[str, Any]) -> bool:
        """Whether the fields of a Config that are given leave nothing for a budget to set here."""
        return self.field in config or (self.fixed_by is not None and config.get(self.fixed_by) is not None)


@dataclass(frozen=True)
class Knobs:
    """The fields by which an architecture meets a budget.

    ``coarse`` is the width that scales the model. If its steps are too large to come close to every
    budget, ``fine`` makes the match exact. Of the pairs that meet a budget, the harness takes the one whose
    fine / coarse is closest to ``fine_per_coarse``, the customary ratio.
    """

    coarse: Knob
    fine: Knob | None = None
    fine_per_coarse: float = 1.0

    @property
    def each(self) -> list[Knob]:
        """The knobs that there are."""
        return [knob for knob in (self.coarse, self.fine) if knob is not None]


def tunable(default: Any, *others: Any) -> Any:
    """A field of a Config whose default tuning may replace by one of ``others``.

    Use it for the shape of an architecture, such as its depth. Widths are knobs instead, since a budget sets
    them.
    """
    return field(default=default, metadata={"choices": (default, *others)})


class About(NamedTuple):
    """The row of a shipped architecture in the table of baselines/README.md: ``ABOUT`` in its file.

    ``papers``: a link for each label. ``flops``: FLOPs for each sample, in the letters of that README.
    ``partial``: what the defaults leave out of the paper's model; empty where they leave out nothing.
    """

    papers: dict[str, str]
    year: int
    flops: str
    partial: str = ""


class View(NamedTuple):
    """Another representation (B, output_dim) of a training batch; ``weight`` is that of its task loss."""

    weight: float
    representation: Tensor


class Output(NamedTuple):
    """The result of a backbone that returns more than a representation (B, output_dim).

    ``views`` are further representations of the same rows, returned in training only: they pass
    through the same towers, and the loss is the weighted mean of all task losses, where the
    representation itself has weight 1. ``penalties`` are scalars that are added to the loss. ``statistics``
    have no gradient; the harness averages them over ranks, passes them to ``update`` and records
    them. Two names have a meaning: ``active_experts`` (L, T, E), the share of the batch's rows for
    which an expert is active, and ``penalty_coefficient``.
    """

    representation: Tensor
    views: dict[str, View] = {}  # noqa: RUF012 - never changed
    penalties: dict[str, Tensor] = {}  # noqa: RUF012
    statistics: dict[str, Tensor] = {}  # noqa: RUF012


# ------------------------------------------------------------------------------------- required members


@runtime_checkable
class Configurable(Protocol):
    """A class with a nested ``Config``: a frozen, keyword-only dataclass."""

    Config: ClassVar[type[Any]]


@runtime_checkable
class Scalable(Protocol):
    """A class that can be matched to a budget, which only a suite with a budget needs."""

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs: ...


@runtime_checkable
class Represents(Protocol):
    """A module that states the width of the representation that it returns."""

    output_dim: int


class Backbone(Configurable, Scalable, Represents, Protocol):
    """Every architecture is an `nn.Module` with these members.

    The docstring of ``Config`` names the fields that scale the model, which are those of ``knobs``. If a
    Config cannot be built, ValueError is raised with one sentence that names the field and how to correct it.

    Shapes
        tokens: (B, T, d). Returns (B, output_dim), or an `Output` that holds it.
    """

    def __init__(self, num_tokens: int, token_dim: int, config: Any) -> None: ...

    def __call__(self, tokens: Tensor) -> Tensor | Output: ...


# -------------------------------------------------------------------------------------- optional members


@runtime_checkable
class RowBlocks(Protocol):
    """A backbone whose large batches may be computed in blocks of ``rows_at_once`` rows.

    The result of a row must not depend on any other row (`harness.model.row_blocks`).
    """

    rows_at_once: int


@runtime_checkable
class Experts(Protocol):
    """A sparse backbone.

    ``expert_flops``: FLOPs a sample of all its experts together. ``active_ratio``: the share of them that a
    sample is meant to use.
    """

    expert_flops: int
    active_ratio: float


@runtime_checkable
class StatisticsUpdate(Protocol):
    """A backbone that adjusts itself after every optimizer step.

    ``update`` receives the `Output.statistics` of the whole batch over all ranks. State between steps must be
    in buffers, so that checkpoints save it.
    """

    def update(self, statistics: dict[str, Tensor]) -> None: ...


def missing_member(backbone: Any) -> str | None:
    """The member of `Experts` that is missing while the other one is there; None if it has both or none."""
    missing = [name for name in ("expert_flops", "active_ratio") if not hasattr(backbone, name)]
    return missing[0] if len(missing) == 1 else None


# ------------------------------------------------------------------------------------- checks of a Config


def require_positive(config: Any) -> None:
    """Raise ValueError unless all integers of the dataclass ``config``, and of its tuples, are at least 1."""
    for each in fields(config):
        value = getattr(config, each.name)
        if isinstance(value, tuple) and (not value or min(value) < 1):
            raise ValueError(
                f"{type(config).__qualname__}: {each.name} is {list(value)}; give one width or more, each 1 "
                "or more"
            )
        if isinstance(value, int) and not isinstance(value, bool) and value < 1 and each.type != "float":
            raise ValueError(f"{type(config).__qualname__}: {each.name} is {value}; set it to 1 or more")


def require_divisible(field: str, width: int, parts: int, parts_name: str) -> None:
    """Raise ValueError, naming the nearest widths that do, unless ``parts`` divides ``width``."""
    if width % parts:
        below = width - width % parts
        nearest = f"{below} or {below + parts}" if below else f"{parts}"
        raise ValueError(f"{field} {width} is not divisible by the {parts} {parts_name}; set it to {nearest}")
