"""What an expression means for a table: a polars expression with SQL's logic of undefined values.

An expression is undefined where it depends on a missing value: arithmetic and comparisons of a missing
value are undefined; ``false and undefined`` is false, ``true or undefined`` is true, any other ``and``,
``or`` or ``not`` of undefined is undefined; ``missing(x)`` is always defined. Missing are null, NaN, an
infinite number and empty text. A quotient by zero, or a number beyond float64, is undefined, too.

Integers are compared exactly, but arithmetic is float64. Next to numbers, booleans count as 0 and 1.
Text is compared as categories are, by ==, != and in alone: without the space around it, and "5.0" is "5".
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import polars as pl

from datasets.expressions.syntax import BOOLEANS, Expression, ExpressionError, parse
from datasets.raw.text import canonical, category, inner
from files.errors import InputError

Kind = Literal["integer", "number", "boolean", "text"]
_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_SHOWN = {"integer": "a number", "number": "a number", "text": "text"}
_COMPARISONS: dict[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class _Part:
    """A translated node: its value, null where undefined, and what it holds."""

    node: ast.AST
    value: pl.Expr
    kind: Kind


class Operand(NamedTuple):
    """A column of the table as it is read, and its type."""

    value: pl.Expr
    dtype: pl.DataType


def label_expression(text: str, operands: Mapping[str, Operand], where: str) -> pl.Expr:
    """The label as Float64: 1, 0, or null where it is undefined.

    ``operands`` are the expression's columns (or more). Raises InputError, which starts with ``where``, on
    what is no expression and where types do not fit.
    """
    try:
        expression = parse(text)
        part = _Translation(expression, operands).part(expression.tree)
        if part.kind != "boolean":
            expression.refuse(
                part.node, f"is {_SHOWN[part.kind]}, not true or false; compare it with something"
            )
    except ExpressionError as error:
        raise InputError(f"{where}: {error}") from None
    return part.value.cast(pl.Float64)


class _Translation:
    """Node by node, from the inside out."""

    def __init__(self, expression: Expression, operands: Mapping[str, Operand]) -> None:
        self.expression, self.operands = expression, operands

    def part(self, node: ast.AST) -> _Part:
        if (name := self.expression.column(node)) is not None:
            return self._column(node, name)
        if isinstance(node, ast.Name | ast.Constant):
            return _constant(node, BOOLEANS[node.id] if isinstance(node, ast.Name) else node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.BoolOp):
            values = [self._logical(value).value for value in node.values]
            both = pl.all_horizontal if isinstance(node.op, ast.And) else pl.any_horizontal
            return _Part(node, both(values), "boolean")
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.BinOp):
            left, right = self._number(node.left), self._number(node.right)
            return _Part(node, _finite(_ARITHMETIC[type(node.op)](left, right)), "number")
        if isinstance(node, ast.Call):
            return self._function(node)
        assert isinstance(node, ast.Compare)
        return self._comparisons(node)

    def _column(self, node: ast.AST, name: str) -> _Part:
        value, dtype = self.operands[name]
        if dtype.is_integer():
            return _Part(node, value.cast(pl.Int128), "integer")
        if dtype.is_numeric() or dtype == pl.Null:
            return _Part(node, _finite(value.cast(pl.Float64)), "number")
        if dtype == pl.Boolean:
            return _Part(node, value, "boolean")
        if dtype in _TEXTS:
            return _Part(node, category(value.cast(pl.String), pl.String(), pl.String()), "text")
        self.expression.refuse(node, f"holds {dtype}; an expression takes numbers, text and booleans")

    def _unary(self, node: ast.UnaryOp) -> _Part:
        if isinstance(node.op, ast.Not):
            return _Part(node, ~self._logical(node.operand).value, "boolean")
        value = self.part(node.operand)
        if value.kind == "integer":
            return _Part(node, 0 - value.value if isinstance(node.op, ast.USub) else value.value, "integer")
        number = self._number(node.operand)
        return _Part(node, -number if isinstance(node.op, ast.USub) else number, "number")

    def _function(self, node: ast.Call) -> _Part:
        assert isinstance(node.func, ast.Name)
        if node.func.id == "missing":
            name = self.expression.column(node.args[0])
            assert name is not None, "checked by the grammar"
            value, dtype = self.operands[name]
            if isinstance(dtype, pl.List | pl.Array):
                lengths = value.cast(pl.List(inner(dtype))).list.len()
                return _Part(node, value.is_null() | (lengths == 0), "boolean")
            known = self._column(node.args[0], name).value if _is_simple(dtype) else value
            return _Part(node, known.is_null(), "boolean")
        values = [self._number(argument) for argument in node.args]
        chosen = pl.min_horizontal(values) if node.func.id == "min" else pl.max_horizontal(values)
        known = pl.all_horizontal([value.is_not_null() for value in values])
        return _Part(node, pl.when(known).then(chosen), "number")

    def _comparisons(self, node: ast.Compare) -> _Part:
        left, found = node.left, []
        for comparison, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(comparison, ast.In | ast.NotIn):
                assert isinstance(right, ast.List | ast.Tuple)
                equal = [self._compared(node, ast.Eq(), left, choice) for choice in right.elts]
                one = pl.any_horizontal(equal)
                found.append(~one if isinstance(comparison, ast.NotIn) else one)
            else:
                found.append(self._compared(node, comparison, left, right))
            left = right
        return _Part(node, pl.all_horizontal(found), "boolean")

    def _compared(self, node: ast.AST, comparison: ast.cmpop, left: ast.AST, right: ast.AST) -> pl.Expr:
        a, b = self.part(left), self.part(right)
        if (a.kind == "text") != (b.kind == "text"):
            text, other = (a, b) if a.kind == "text" else (b, a)
            shown = ast.get_source_segment(self.expression.text, other.node)
            self.expression.refuse(text.node, f"is text, but {shown!r} is not; compare like with like")
        if a.kind == "text" and not isinstance(comparison, ast.Eq | ast.NotEq):
            self.expression.refuse(node, "puts text in order; compare text with ==, != or in")
        exact = {a.kind, b.kind} <= {"integer", "boolean"}
        common = pl.String if a.kind == "text" else pl.Int128 if exact else pl.Float64
        return _COMPARISONS[type(comparison)](a.value.cast(common), b.value.cast(common))

    def _number(self, node: ast.AST) -> pl.Expr:
        part = self.part(node)
        if part.kind == "text":
            self.expression.refuse(node, "is text, where a number is needed; use a column of numbers")
        return part.value.cast(pl.Float64)

    def _logical(self, node: ast.AST) -> _Part:
        part = self.part(node)
        if part.kind != "boolean":
            self.expression.refuse(node, "is neither true nor false; compare it, for example with == 1")
        return part


def _constant(node: ast.AST, value: bool | int | float | str) -> _Part:
    if isinstance(value, bool):
        return _Part(node, pl.lit(value), "boolean")
    if isinstance(value, int):
        return _Part(node, pl.lit(value, pl.Int128), "integer")
    if isinstance(value, str):
        return _Part(node, pl.lit(canonical(value)), "text")
    return _Part(node, pl.lit(value), "number")


def _is_simple(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.Null, *_TEXTS)


def _finite(number: pl.Expr) -> pl.Expr:
    return pl.when(number.is_finite()).then(number)
