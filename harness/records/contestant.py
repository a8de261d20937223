"""A row of a table: an architecture or a reference, its variant, and what sets the variant apart.

A suite's row declares its series, size and active ratio. Records and suites that were written before rows
had these fields give them in the variant's name alone (``smoe-1/4``, ``3M``); this module is the one place
that reads such a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, PlainSerializer

from harness.records.listed import display_name, is_plain

_RATIO = re.compile(r"(?P<series>.+)-(?P<ratio>1(?:/[1-9]\d*)?)")
_SIZE = re.compile(r"(?:(?P<rest>.+)-)?(?P<size>\d+(?:\.\d+)?(?:e[+-]\d+)?M)")
_FRACTION = re.compile(r"\d{1,9}(?:\.\d{1,9}|/\d{1,9})?")


def _as_fraction(value: Any) -> Any:
    if value is None or isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not _FRACTION.fullmatch(str(value)):
        raise ValueError("should be a fraction such as 1/4 or 0.25")
    if "/0" in str(value) or not 0 < Fraction(str(value)) <= 1:
        raise ValueError("should be above 0 and at most 1")
    return Fraction(str(value))


# An active ratio: "1/4" or 0.25 in files, a Fraction in memory.
Ratio = Annotated[Fraction, BeforeValidator(_as_fraction), PlainSerializer(str, when_used="json")]


def parts_of_name(variant: str) -> tuple[str, str, Fraction | None]:
    """Series, size and active ratio that a variant's name states; what states neither is the series.

    >>> parts_of_name("dtsi-relu-1/8"), parts_of_name("shared-ffn-3M"), parts_of_name("chunks-8")
    (('dtsi-relu', '', Fraction(1, 8)), ('shared-ffn', '3M', None), ('chunks-8', '', None))
    """
    sized = _SIZE.fullmatch(variant)
    rest, size = (sized["rest"] or "", sized["size"]) if sized else (variant, "")
    if match := _RATIO.fullmatch(rest):
        return match["series"], size, Fraction(match["ratio"])
    return rest, size, None


def size_name(target: float) -> str:
    """How a budget is called in names: ``0.3M``."""
    return f"{target / 1e6:g}M"


def size_of_name(name: str) -> float:
    """The budget that a size's name states.

    >>> size_of_name("0.3M")
    300000.0
    """
    return float(name.removesuffix("M")) * 1e6


def label(architecture: str, variant: str) -> str:
    """How a contestant is called in suites, commands and the terminal."""
    return architecture if is_plain(architecture, variant) else f"{architecture} ({variant})"


@dataclass(frozen=True)
class Contestant:
    """Who is compared. Architecture and variant tell contestants apart.

    ``series`` is the variant without its size and ratio, empty for the plain architecture; ``size`` the
    budget that it is matched to, such as ``0.3M``, empty without several; ``ratio`` the share of experts
    that the row stands for.
    """

    architecture: str
    variant: str = ""
    series: str = field(default="", compare=False)
    size: str = field(default="", compare=False)
    ratio: Ratio | None = field(default=None, compare=False)

    @classmethod
    def from_name(cls, architecture: str, variant: str) -> Self:
        """A contestant of which only the name is known."""
        return cls(architecture, variant, *parts_of_name(variant))

    @classmethod
    def from_run(cls, architecture: str, variant: str, target: float | None) -> Self:
        """The same of a run that was matched to ``target``, None without a budget.

        A name that ends in another size than the run's budget is no size but the variant's own name.
        """
        named = cls.from_name(architecture, variant)
        if not named.size or (target is not None and size_name(target) == named.size):
            return named
        return cls(architecture, variant, series=variant)

    @property
    def label(self) -> str:
        return label(self.architecture, self.variant)

    @property
    def display_name(self) -> str:
        """How tables and figures call it."""
        return display_name(self.architecture, self.variant)

    @property
    def key(self) -> tuple[str, str]:
        """(architecture, variant), as rows of tables have them."""
        return self.architecture, self.variant

    @property
    def is_plain(self) -> bool:
        return is_plain(self.architecture, self.variant)

    @property
    def variant_without_size(self) -> str:
        """The variant that several sizes share: ``smoe-1/4`` of ``smoe-1/4-3M``."""
        ratio = "" if self.ratio is None else str(self.ratio)
        return "-".join(filter(None, [self.series, ratio])) if self.size else self.variant
