"""What a variant's name says: ``smoe-1/4`` is the series ``smoe`` at the ratio 1/4, ``3M`` a size."""

from __future__ import annotations

import re
from fractions import Fraction

_RATIO = re.compile(r"(?P<series>.+)-(?P<ratio>1(?:/[1-9]\d*)?)")
_SIZE = re.compile(r"(?:(?P<series>.+)-)?(?P<size>\d+(?:\.\d+)?(?:e[+-]\d+)?M)")


def series(variant: str) -> tuple[str, Fraction | None]:
    """The series that a variant belongs to, and its ratio where its name ends in 1 or in 1/n.

    >>> series("dtsi-relu-1/8"), series("shared-ffn"), series("chunks-8")
    (('dtsi-relu', Fraction(1, 8)), ('shared-ffn', None), ('chunks-8', None))
    """
    match = _RATIO.fullmatch(variant)
    return (match["series"], Fraction(match["ratio"])) if match else (variant, None)


def sized(variant: str) -> tuple[str, str]:
    """The variant without its size, and the size where its name ends in one, as a suite's ``sizes`` make it.

    >>> sized("0.3M"), sized("shared-ffn-3M"), sized("shared-ffn")
    (('', '0.3M'), ('shared-ffn', '3M'), ('shared-ffn', ''))
    """
    match = _SIZE.fullmatch(variant)
    return (match["series"] or "", match["size"]) if match else (variant, "")


def is_plain(architecture: str, variant: str) -> bool:
    """Whether the row is the architecture itself and no variant of it."""
    return variant in ("", "default", architecture)
