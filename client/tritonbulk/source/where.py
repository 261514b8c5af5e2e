"""Where: the filter language of ``--where`` → a pyarrow expression. Pure.

The text is parsed as Python and translated node by node; anything but the few forms in
`UNDERSTOOD` is refused, so nothing of it is ever executed. As in SQL, a comparison with a null is
null, and a row passes only where the whole is true.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.errors import OptionError
from tritonbulk.source.reader import cause
from tritonbulk.text import printable

UNDERSTOOD = (
    'a filter is made of column names (`odd name` in backticks or col("odd name")), numbers, '
    "'text', true and false, == != < <= > >=, in (…), not in (…), is null, is not null, and, or, "
    "not, and parentheses"
)
SHOWN_CHARACTERS_MAX = 200
"""Characters of a filter that an error repeats."""

TEXT_CHARACTERS_MAX = 10_000
"""Characters of the longest filter."""

_QUOTED = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`([^`]*)`""")
_LITERAL_NAMES = {"true": True, "false": False, "null": None}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    ast.Eq: lambda left, right: left == right,
    ast.NotEq: lambda left, right: left != right,
    ast.Lt: lambda left, right: left < right,
    ast.LtE: lambda left, right: left <= right,
    ast.Gt: lambda left, right: left > right,
    ast.GtE: lambda left, right: left >= right,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that fits a schema.

    Attributes:
        expression: keeps the rows where it is true.
        columns: those it looks at, at least one.
    """

    expression: pc.Expression
    columns: tuple[str, ...]


def make_filter(where: str | pc.Expression, schema: pa.Schema) -> Filter:
    """Return the filter that ``where`` stands for on rows of ``schema``.

    Raises:
        OptionError: it is not understood, or does not fit the columns; a retry does not help.
    """
    expression = _Translation(schema).of(where) if isinstance(where, str) else where
    nothing = schema.empty_table()
    try:
        nothing.filter(expression)
    except (pa.ArrowException, TypeError) as error:
        raise OptionError(
            f"--where does not fit the columns ({cause(error)}); compare numbers with numbers and "
            "text with text"
        ) from error
    used = tuple(name for name in schema.names if _needs(expression, nothing.drop_columns([name])))
    if not used:
        raise OptionError(
            "--where names no column, so it keeps all rows or none; name the columns it is about"
        )
    return Filter(expression, used)


def _needs(expression: pc.Expression, without: pa.Table) -> bool:
    """Return whether an expression that fits a table no longer does without one column."""
    try:
        without.filter(expression)
    except pa.ArrowException:
        return True
    return False


class _Translation:
    """Translates text to an expression over the columns of ``schema``."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def of(self, text: str) -> pc.Expression:
        if len(text) > TEXT_CHARACTERS_MAX:
            raise OptionError(f"--where is longer than {TEXT_CHARACTERS_MAX:,} characters")
        quoted = _QUOTED.sub(lambda m: m[1] or f"col({m[2]!r})", text.strip())
        try:
            return self._condition(ast.parse(quoted, mode="eval").body)
        except OverflowError:
            raise OptionError("--where has a number beyond 64 bits; give a smaller one") from None
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            shown = printable(text)[:SHOWN_CHARACTERS_MAX]
            raise OptionError(f"--where {shown!r} is not understood; {UNDERSTOOD}") from None

    def _condition(self, node: ast.expr) -> pc.Expression:
        match node:
            case ast.BoolOp(ast.And(), parts):
                return reduce(lambda a, b: a & b, map(self._condition, parts))
            case ast.BoolOp(ast.Or(), parts):
                return reduce(lambda a, b: a | b, map(self._condition, parts))
            case ast.UnaryOp(ast.Not(), part):
                return ~self._condition(part)
            case ast.Compare(left, operators, rights):
                ends = [left, *rights]
                pairs = zip(ends, operators, rights, strict=False)
                return reduce(lambda a, b: a & b, (self._comparison(*pair) for pair in pairs))
        name = self._column(node)
        if name is None:
            raise _refusal(node)
        return pc.field(name)

    def _comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> pc.Expression:
        if isinstance(operator, (ast.Is, ast.IsNot)):
            if not _is_null(right):
                raise _refusal(right)
            empty = self._value(left, None).is_null()
            return empty if isinstance(operator, ast.Is) else ~empty
        if isinstance(operator, (ast.In, ast.NotIn)):
            found = self._membership(left, right)
            return found if isinstance(operator, ast.In) else ~found
        kind = self._kind(left) or self._kind(right)
        return _COMPARISONS[type(operator)](self._value(left, kind), self._value(right, kind))

    def _membership(self, left: ast.expr, right: ast.expr) -> pc.Expression:
        if not isinstance(right, (ast.Tuple, ast.List, ast.Set)) or not right.elts:
            raise _refusal(right)
        kind = self._kind(left)
        values = pa.array([_literal(element) for element in right.elts])
        if values.null_count:
            raise _refusal(right)
        value = self._value(left, None)
        found = value.isin(values if kind is None else _fitted(values, kind))
        # Arrow answers false for a null, SQL null: without this, `not in` would pass nulls.
        return pc.if_else(value.is_valid(), found, pa.scalar(None, pa.bool_()))

    def _value(self, node: ast.expr, kind: pa.DataType | None) -> pc.Expression:
        name = self._column(node)
        if name is not None:
            return pc.field(name)
        value = _literal(node)
        if value is None:
            raise _refusal(node)
        return pc.scalar(_fitted(pa.scalar(value), kind) if kind is not None else value)

    def _kind(self, node: ast.expr) -> pa.DataType | None:
        name = self._column(node)
        return None if name is None else self._schema.field(name).type

    def _column(self, node: ast.expr) -> str | None:
        """Return the column that a node names, None if it names none."""
        match node:
            case ast.Name(name) if name not in _LITERAL_NAMES:
                pass
            case ast.Call(ast.Name("col"), [ast.Constant(str(name))], []):
                pass
            case _:
                return None
        if name not in self._schema.names:
            raise OptionError(
                f"--where names column {name!r}, but the input has {', '.join(self._schema.names)}"
            )
        return name


def _literal(node: ast.expr) -> object:
    match node:
        case ast.Constant(bool() | int() | float() | str() | None as value):
            return value
        case ast.Name(name) if name in _LITERAL_NAMES:
            return _LITERAL_NAMES[name]
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
            return -value
    raise _refusal(node)


def _fitted(value: pa.Scalar | pa.Array, kind: pa.DataType) -> pa.Scalar | pa.Array:
    """Return text that is compared with a date or time as that; any other value unchanged."""
    if not (pa.types.is_temporal(kind) and pa.types.is_string(value.type)):
        return value
    try:
        return value.cast(kind)
    except pa.ArrowException as error:
        raise OptionError(f"--where compares a {kind} with text: {cause(error)}") from None


def _is_null(node: ast.expr) -> bool:
    return isinstance(node, (ast.Name, ast.Constant)) and _literal(node) is None


def _refusal(node: ast.AST) -> OptionError:
    return OptionError(
        f"--where does not understand {printable(ast.unparse(node))!r}; {UNDERSTOOD}"
    )
