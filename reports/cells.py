"""Numbers as people read them; a missing one is a dash."""

from __future__ import annotations

import math

MISSING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

Value = float | int | None


def is_missing(value: object) -> bool:
    """None, NaN and pandas' NA."""
    return value is None or value != value or str(value) == "<NA>"


def fixed(value: Value, digits: int) -> str:
    """``0.7312``; the minus sign is a real one."""
    return MISSING if is_missing(value) else f"{value:.{digits}f}".replace("-", _MINUS)


def signed(value: Value, digits: int) -> str:
    """``+0.64`` or ``−0.64``; zero has a plus."""
    if is_missing(value):
        return MISSING
    text = f"{value:+.{digits}f}"
    return (f"+{text[1:]}" if float(text) == 0 else text).replace("-", _MINUS)


def spread(value: Value, low: Value, high: Value, digits: int) -> str:
    """``0.7312 ± 0.0010``; without an interval the value alone."""
    if is_missing(value) or is_missing(low) or is_missing(high):
        return fixed(value, digits)
    return f"{fixed(value, digits)} ± {fixed((high - low) / 2, digits)}"  # type: ignore[operator]


def interval(value: Value, low: Value, high: Value, digits: int) -> str:
    """``+0.64 (+0.51 to +0.77)``; without an interval the value alone."""
    if is_missing(value) or is_missing(low) or is_missing(high):
        return signed(value, digits)
    return f"{signed(value, digits)} ({signed(low, digits)} to {signed(high, digits)})"


def short(value: Value) -> str:
    """Three significant digits with a prefix: ``8.70 M``, ``523 M``, ``2.10 T``."""
    if is_missing(value):
        return MISSING
    number = float(value)  # type: ignore[arg-type]
    if abs(number) < 999.5:
        return f"{number:.3g}"
    for scale, prefix in _PREFIXES:
        scaled = number / scale
        if abs(scaled) >= 0.9995:
            digits = max(0, 2 - math.floor(math.log10(abs(scaled) * 1.0005)))
            return f"{scaled:.{digits}f} {prefix}"
    raise AssertionError("every number of four digits has a prefix")


def params(value: Value) -> str:
    """As ``short``, a billion parameters being B: ``1.10 B``."""
    return short(value).replace("G", "B")


def short_tick(value: float, _position: object = None) -> str:
    """``5 k``, ``1.02 M``: as ``short`` without trailing zeros, for the ticks of an axis."""
    number, _, prefix = short(value).partition(" ")
    shown = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{shown} {prefix}".rstrip()


def grouped(value: Value) -> str:
    """``120,000``."""
    return MISSING if is_missing(value) else f"{round(value):,}"  # type: ignore[arg-type]


def percent(value: Value, digits: int = 1, sign: bool = False) -> str:
    """A fraction as ``12.3%``."""
    if is_missing(value):
        return MISSING
    return (signed if sign else fixed)(100 * value, digits) + "%"  # type: ignore[operator]


def settings(values: dict[str, object]) -> str:
    """``num_layers 2, dense_lr 0.0012``: floats with two significant digits."""
    shown = {name: f"{value:.2g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
