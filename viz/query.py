"""Members by a condition on what is known of them, such as `width > 64 and learning_rate < 1e-3`.

The text is parsed by Python's grammar and evaluated here, on columns: comparisons of names and
numbers or texts, `and`, `or`, `not`, brackets, and `in` a list. Nothing in it is ever executed.
"""

from __future__ import annotations

import ast
import difflib
import operator
from typing import Any

import numpy as np

from swarmjax.types import InputError
from viz import alarms, metrics
from viz.history import History

LONGEST = 300
_COMPARE = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_HINT = "write, as in: width > 64 and learning_rate < 1e-3"
_NUMBERS = "fiub"


def select(history: History, text: str) -> list[int]:
    """Members that meet the condition in the latest round, the best first.

    Raises:
        InputError: the condition cannot be read, or names what is not known.
    """
    if len(text) > LONGEST:
        raise InputError(f"the condition has {len(text)} characters; {LONGEST} are allowed")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f"cannot read {_short(text)!r}; {_HINT}") from None
    found = np.broadcast_to(_truth(tree.body, columns(history)), (history.members,))
    return [int(member) for member in metrics.ranking(history) if found[member]]


def columns(history: History) -> dict[str, np.ndarray]:
    """Every name that a condition may use, `[N]` each, options of genes as they are called."""
    rank = np.empty(history.members, int)
    rank[metrics.ranking(history)] = np.arange(history.members) + 1
    known = {name: history.last(name) for name in history.names}
    known |= {"alarm": np.array(alarms.words_of(history.last("alarm")), object), "rank": rank}
    return known


def _truth(node: ast.AST, known: dict[str, np.ndarray]) -> Any:
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return join.reduce(np.broadcast_arrays(*(_truth(part, known) for part in node.values)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_truth(node.operand, known)
    if isinstance(node, ast.Compare):
        return _compared(node, known)
    if isinstance(node, ast.Name):
        column = _column(node.id, known)
        return column != "" if column.dtype.kind not in _NUMBERS else column != 0
    raise InputError(f"cannot read {_short(ast.unparse(node))!r}; {_HINT}")


def _compared(node: ast.Compare, known: dict[str, np.ndarray]) -> Any:
    sides = [node.left, *node.comparators]
    # A bare word beside a column is one of its options.
    named = [known[side.id] for side in sides if isinstance(side, ast.Name) and side.id in known]
    texts = any(_is_text(column) for column in named)
    values = [_value(side, known, texts) for side in sides]
    found: Any = True
    for op, left, right in zip(node.ops, values, values[1:], strict=False):
        found = found & _relation(op, left, right)
    return found


def _relation(op: ast.cmpop, left: Any, right: Any) -> Any:
    if isinstance(op, ast.In | ast.NotIn):
        # Among the words of a text, such as the alarms of a member, or the items of a list.
        if isinstance(right, np.ndarray) and isinstance(left, str):
            within = np.array([left in str(text).split(", ") for text in right.tolist()])
        elif isinstance(right, list) and isinstance(left, np.ndarray):
            within = np.array([value in right for value in left.tolist()])
        else:
            raise InputError("'in' needs a name before it and a list after it: depth in [1, 2]")
        return within if isinstance(op, ast.In) else ~within
    if type(op) not in _COMPARE or isinstance(left, list) or isinstance(right, list):
        raise InputError(f"cannot compare so; {_HINT}")
    if _is_text(left) != _is_text(right):
        raise InputError("a number and a text cannot be compared; look at the values of the gene")
    if _is_text(left) and not isinstance(op, ast.Eq | ast.NotEq):
        raise InputError("texts are equal or not: use == or !=")
    return np.asarray(_COMPARE[type(op)](left, right))


def _value(node: ast.AST, known: dict[str, np.ndarray], texts: bool) -> Any:
    if isinstance(node, ast.Name):
        return node.id if texts and node.id not in known else _column(node.id, known)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand, known, texts)
        if isinstance(number, int | float):
            return -number
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        # Whole numbers may be longer than any column's.
        return float(node.value) if abs(node.value) < 1e300 else np.inf
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, known, texts) for item in node.elts]
    raise InputError(f"cannot read {_short(ast.unparse(node))!r}; {_HINT}")


def _column(name: str, known: dict[str, np.ndarray]) -> np.ndarray:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
    raise InputError(f"nothing is called {_short(name)!r}; {hint}")


def _is_text(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in _NUMBERS
    return isinstance(value, str)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
