"""Numbers as people read them; a missing one is a dash."""

from __future__ import annotations

import math

from harness.records.listed import display_name

MISSING = "\N{EN DASH}"
ROUGH = "≈"
_MINUS = "\N{MINUS SIGN}"
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

METRICS = ("auc", "uauc")  # those that every report compares
POINTS = 100  # differences are shown as the paper prints them: AUC points x 100

Value = float | int | None


class Shown(str):
    """A printed number that remembers the raw one, for sorting, and its interval, for drawing.

    Otherwise it is a string. ``value`` is None where nothing was measured; ``low`` and ``high`` are None
    where no interval is known. ``claimed`` is False if the interval lacks a part, so that nothing follows
    from it.
    """

    value: float | None
    low: float | None
    high: float | None
    claimed: bool

    def __new__(
        cls, text: str, value: Value, low: Value = None, high: Value = None, claimed: bool = True
    ) -> Shown:
        """``text`` as it is printed, with what it was printed from."""
        shown = super().__new__(cls, text)
        shown.value, shown.low, shown.high = map(_known, (value, low, high))
        shown.claimed = claimed
        return shown


def _known(value: Value) -> float | None:
    return None if is_missing(value) else float(value)  # type: ignore[arg-type]


def rough(cell: Shown) -> Shown:
    """The cell, marked as one that is not to be compared as it stands; a note says why."""
    return cell if cell.value is None else Shown(f"{ROUGH} {cell}", cell.value)


def is_missing(value: object) -> bool:
    """None, NaN and pandas' NA."""
    return value is None or value != value or str(value) == "<NA>"


def fixed(value: Value, digits: int) -> Shown:
    """``0.7312``; the minus sign is a real one."""
    text = MISSING if is_missing(value) else f"{value:.{digits}f}".replace("-", _MINUS)
    return Shown(text, value)


def signed(value: Value, digits: int) -> Shown:
    """``+0.64`` or ``−0.64``; zero has a plus, and ``−0.00`` is below zero: an interval's end may be."""
    if is_missing(value):
        return Shown(MISSING, None)
    no_negative_zero = value + 0.0  # type: ignore[operator]
    return Shown(f"{no_negative_zero:+.{digits}f}".replace("-", _MINUS), value)


def spread(value: Value, low: Value, high: Value, digits: int) -> Shown:
    """``0.7312 ± 0.0010``; without an interval the value alone."""
    if is_missing(value) or is_missing(low) or is_missing(high):
        return fixed(value, digits)
    half = (high - low) / 2  # type: ignore[operator]
    return Shown(f"{fixed(value, digits)} ± {fixed(half, digits)}", value)


def interval(
    value: Value, low: Value, high: Value, digits: int, word: str = "", claimed: bool = True
) -> Shown:
    """``+0.64 (+0.51 to +0.77)``, a word after it; without an interval the value alone."""
    text = str(signed(value, digits))
    if not any(map(is_missing, (value, low, high))):
        text += f" ({signed(low, digits)} to {signed(high, digits)})"
    return Shown(f"{text} {word}".rstrip(), value, low, high, claimed)


def short(value: Value) -> Shown:
    """Three significant digits with a prefix: ``8.70 M``, ``523 M``, ``2.10 T``."""
    if is_missing(value):
        return Shown(MISSING, None)
    number = float(value)  # type: ignore[arg-type]
    if abs(number) < 999.5:
        return Shown(f"{number:.3g}", number)
    for scale, prefix in _PREFIXES:
        scaled = number / scale
        if abs(scaled) >= 0.9995:
            digits = max(0, 2 - math.floor(math.log10(abs(scaled) * 1.0005)))
            return Shown(f"{scaled:.{digits}f} {prefix}", number)
    raise AssertionError("every number of four digits has a prefix")


def params(value: Value) -> Shown:
    """As ``short``, a billion parameters being B: ``1.10 B``."""
    return Shown(short(value).replace("G", "B"), value)


def p_value(value: Value) -> Shown:
    """``0.034``, ``< 0.0001``."""
    if is_missing(value):
        return Shown(MISSING, None)
    return Shown("< 0.0001" if value < 1e-4 else f"{value:.2g}", value)  # type: ignore[operator,str-format]


BUDGETS = {
    "flops_per_sample": "forward FLOPs per sample",
    "dense_params": "dense parameters",
    "latency_ms_p99": "ms p99",
}


def size_words(kind: str, target: float) -> str:
    """``1.00 M forward FLOPs per sample``: what a model was matched to."""
    return f"{short(target)} {BUDGETS[kind]}"


def short_tick(value: float, _position: object = None) -> str:
    """``5 k``, ``1.02 M``: as ``short`` without trailing zeros, for the ticks of an axis."""
    number, _, prefix = short(value).partition(" ")
    shown = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{shown} {prefix}".rstrip()


def grouped(value: Value) -> Shown:
    """``120,000``."""
    text = MISSING if is_missing(value) else f"{round(value):,}"  # type: ignore[arg-type]
    return Shown(text, value)


def percent(value: Value, digits: int = 1, sign: bool = False) -> Shown:
    """A fraction as ``12.3%``."""
    if is_missing(value):
        return Shown(MISSING, None)
    return Shown((signed if sign else fixed)(100 * value, digits) + "%", value)  # type: ignore[operator]


def count(number: int, noun: str) -> str:
    """``1 model``, ``3 models``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def by_word(names: dict[str, list[str]]) -> str:
    """``agrees 2 (DCN, DCNv2); differs 0``: how many names each word has, and which."""
    return "; ".join(
        f"{word} {len(found)}" + (f" ({', '.join(found)})" if found else "") for word, found in names.items()
    )


def model_name(row: dict) -> str:
    """The label of the model of a row with the columns architecture and variant."""
    return display_name(row["architecture"], row["variant"])


def settings(values: dict[str, object]) -> str:
    """``num_layers 2, dense_lr 0.0012``: floats with two significant digits."""
    shown = {name: f"{value:.2g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
