"""Labels computed from columns: ``watch_ms >= duration_ms``, parsed and checked.

An expression is parsed by Python's own parser and then read node by node; it is never evaluated as
Python. It knows

    columns        watch_ms, or col("any name at all")
    constants      3, 0.5, "text", true, false
    arithmetic     + - * / and the sign, min(a, b), max(a, b)
    comparisons    < <= > >= == != and chains of them, in [1, 2], not in ["a", "b"]
    logic          and, or, not, missing(column)

``datasets.expressions.labels`` translates it for a table's columns.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from typing import Literal, NoReturn

MAX_LENGTH = 1000
MAX_DEPTH = 50
LARGEST = 2**63
KNOWN = (
    'use columns, numbers, "text", true, false, + - * /, < <= > >= == !=, in [...], and, or, not, '
    'min(a, b), max(a, b), missing(column), and col("...") for a column of any other name'
)
BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
FUNCTIONS = ("min", "max", "missing", "col")
_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub, ast.UAdd, ast.And, ast.Or, ast.Not),
    *(ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.In, ast.NotIn),
)
_HINTS = {
    r"(?<![<>=!])=(?!=)": "compare with ==",
    r"\b(AND|OR|NOT|IN)\b": "write and, or, not and in in small letters",
    r"&": "write and",
    r"\|": "write or",
    r"!(?!=)": "write not, or != to compare",
    r"\b(is|IS)\b": "ask whether a value is missing with missing(column)",
}


class ExpressionError(ValueError):
    """What is wrong with an expression, as a sentence."""


@dataclass(frozen=True)
class Expression:
    """A checked expression: its text, and its tree, which holds only the nodes listed above."""

    text: str
    tree: ast.expr

    def refuse(self, node: ast.AST, what: str) -> NoReturn:
        """Raise ExpressionError that shows a node and the place where it begins, counted from 1."""
        start = len(self.text.encode()[: getattr(node, "col_offset", 0)].decode()) + 1
        shown = ast.get_source_segment(self.text, node) or self.text
        raise ExpressionError(f"expression {self.text!r}: {shown!r} at character {start} {what}")

    def column(self, node: ast.AST) -> str | None:
        """The column that a node is, if it is one."""
        if isinstance(node, ast.Name) and node.id not in BOOLEANS:
            return node.id
        if isinstance(node, ast.Call) and _function(node) == "col":
            return ast.literal_eval(node.args[0])
        return None

    def columns(self) -> list[str]:
        """Every column that is read, once, in order."""
        found = (self.column(node) for node in _nodes(self.tree))
        return list(dict.fromkeys(column for column in found if column is not None))


def operands_of(text: str) -> dict[str, Literal["number", "text"]]:
    """What each column must hold, as far as the expression shows; otherwise text.

    A number where the column is computed with, ordered, or compared with a number, true or false.

    >>> operands_of('watch_ms / 2 > shown_ms and device == "ios" and a == b and not missing(c)')
    {'watch_ms': 'number', 'shown_ms': 'number', 'device': 'text', 'a': 'text', 'b': 'text', 'c': 'text'}
    """
    expression = parse(text)
    numbers: set[str] = set()
    found = -1
    while len(numbers) > found:  # what is compared with a number is a number, too
        found = len(numbers)
        for node in _nodes(expression.tree):
            parts = _parts_that_are_numbers(expression, node, numbers)
            numbers.update(column for part in parts if (column := expression.column(part)) is not None)
    return {column: "number" if column in numbers else "text" for column in expression.columns()}


def _parts_that_are_numbers(expression: Expression, node: ast.expr, numbers: set[str]) -> list[ast.expr]:
    if isinstance(node, ast.Compare):
        sides = [node.left, *(part for right in node.comparators for part in getattr(right, "elts", [right]))]
        is_ordered = not all(isinstance(o, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for o in node.ops)
        known = any(_is_number(expression, side) or expression.column(side) in numbers for side in sides)
        return sides if is_ordered or known else []
    return _parts(node) if _is_number(expression, node) else []


def _parts(node: ast.expr) -> list[ast.expr]:
    """The parts of a node that are expressions themselves; a function's name is none."""
    parts = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
    return [part for part in parts if isinstance(part, ast.expr)]


def _nodes(tree: ast.expr) -> list[ast.expr]:
    """All nodes, from left to right."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += reversed(_parts(node))
    return found


def _is_number(expression: Expression, node: ast.AST) -> bool:
    """Whether a node is a number by itself, whatever its columns are."""
    if isinstance(node, ast.Call):
        return _function(node) in ("min", "max")
    if isinstance(node, ast.UnaryOp):
        return not isinstance(node.op, ast.Not)
    if isinstance(node, ast.Name):
        return node.id in BOOLEANS
    return isinstance(node, ast.BinOp) or (isinstance(node, ast.Constant) and not isinstance(node.value, str))


def columns_of(text: str) -> list[str]:
    """The columns that an expression reads, each once; ExpressionError if it is none.

    >>> columns_of('watch_ms >= min(duration_ms, 10000) and not missing(col("click time"))')
    ['watch_ms', 'duration_ms', 'click time']
    """
    return parse(text).columns()


def parse(text: str) -> Expression:
    """Check an expression's grammar; ExpressionError names what is wrong, where, and the mend."""
    text = " ".join(text.splitlines()).strip()
    if not text or len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"an expression has 1 to {MAX_LENGTH} characters, not {len(text)}; for example watch_ms >= 3000"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's about code that is refused below
            tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        place = f" at character {error.offset}" if error.offset else ""
        raise ExpressionError(f"expression {text!r} cannot be read{place}; {_hint(text) or KNOWN}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"expression {text!r} cannot be read; {KNOWN}") from None
    expression = Expression(text, tree)
    _check(expression, tree, 1)
    if not expression.columns():
        expression.refuse(tree, "reads no column, so it is the same in every row; name one")
    return expression


def _hint(text: str) -> str | None:
    return next((hint for pattern, hint in _HINTS.items() if re.search(pattern, text)), None)


def _check(expression: Expression, node: ast.AST, depth: int) -> None:
    """Refuse whatever is not known, node by node."""
    if depth > MAX_DEPTH:
        expression.refuse(expression.tree, f"is nested more than {MAX_DEPTH} deep; make it simpler")
    if isinstance(node, ast.Name):
        if ast.get_source_segment(expression.text, node) != node.id:  # Python normalises letters
            expression.refuse(node, 'is no plain name; write col("...")')
        return
    if isinstance(node, ast.Call):
        parts = _arguments(expression, node)
    elif isinstance(node, ast.Compare):
        _check_choices(expression, node)
        parts = [
            part for part in (node.left, *node.comparators) if not isinstance(part, ast.List | ast.Tuple)
        ]
        _check_operators(expression, node, node.ops)
    elif isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
        _check_operators(expression, node, [node.op])
    elif isinstance(node, ast.UnaryOp):
        parts = [node.operand]
        _check_operators(expression, node, [node.op])
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
        largest = LARGEST if isinstance(node.value, int) else float("inf")
        if not isinstance(node.value, str) and node.value >= largest:
            expression.refuse(node, "is too large; integers are below 2^63, and other numbers finite")
        return
    else:
        expression.refuse(node, f"is not known here; {_hint(expression.text) or KNOWN}")
    for part in parts:
        _check(expression, part, depth + 1)


def _check_operators(expression: Expression, node: ast.AST, operators: list) -> None:
    if not all(isinstance(operator, _OPERATORS) for operator in operators):
        expression.refuse(node, f"is not known here; {_hint(expression.text) or KNOWN}")


def _check_choices(expression: Expression, node: ast.Compare) -> None:
    """A list may only stand to the right of ``in``, and may only hold constants."""
    if isinstance(node.left, ast.List | ast.Tuple):
        expression.refuse(node.left, "is a list, which may only stand to the right of in; mend it")
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(right, ast.List | ast.Tuple) != isinstance(operator, ast.In | ast.NotIn):
            expression.refuse(right, "does not fit; after in, write a list of constants such as [1, 2]")
        values = right.elts if isinstance(right, ast.List | ast.Tuple) else None
        if values is not None and not (values and all(_is_constant(value) for value in values)):
            expression.refuse(right, "must be a list of numbers or texts, such as [1, 2]")


def _is_constant(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant) and type(node.operand.value) in (int, float)
    if isinstance(node, ast.Name):
        return node.id in BOOLEANS
    return isinstance(node, ast.Constant) and type(node.value) in (bool, int, float, str)


def _function(node: ast.Call) -> str | None:
    return node.func.id if isinstance(node.func, ast.Name) else None


def _arguments(expression: Expression, node: ast.Call) -> list[ast.expr]:
    """The arguments of a known function that are to be checked further."""
    name = _function(node)
    if name not in FUNCTIONS or node.keywords:
        expression.refuse(node, f"is not known here; {KNOWN}")
    if name == "col":
        if len(node.args) != 1 or not isinstance(getattr(node.args[0], "value", None), str):
            expression.refuse(node, 'is no column; write col("the column\'s name")')
        return []
    if name == "missing" and (len(node.args) != 1 or expression.column(node.args[0]) is None):
        expression.refuse(node, "must ask for one column, as in missing(watch_ms)")
    if name in ("min", "max") and len(node.args) < 2:
        expression.refuse(node, "needs two values or more, as in min(a, b)")
    return node.args
