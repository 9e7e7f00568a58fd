"""Goals as text, for the command line and for files of settings: read, never run."""

from __future__ import annotations

import math
import re

from swarmjax.constraints import constrained
from swarmjax.fitness import Goal, weighted
from swarmjax.pareto import pareto
from swarmjax.types import InputError

_LONGEST = 500
_WHOLE = re.compile(r"\s*(?:(weighted|pareto)\s*\(([^()]*)\)\s*(?:,(.*))?|([^()]*))", re.DOTALL)
_ITEM = re.compile(r"\s*([A-Za-z_]\w{0,63})\s*([<>]=?|=)\s*([-+.0-9eE]{1,32})\s*")


def parse_goal(text: str) -> Goal:
    """The goal that a text describes.

    `accuracy=0.7, efficiency=0.3` is `fitness.weighted`, `pareto(accuracy=1, parameters=-1)` the
    goal of that name, and limits that follow, as in `accuracy=1, parameters<=1e5`, make it
    `constrained`; `<` and `>` are limits that must not be reached.

    Raises:
        InputError: the text does not describe a goal, or names what there is not.
    """
    match = _WHOLE.fullmatch(text) if isinstance(text, str) and len(text) <= _LONGEST else None
    if match is None:
        raise _unreadable(text)
    kind, inside, limits, plain = match.groups()
    items = _items(inside if kind else plain, text)
    amounts = {name: float(value) for name, sign, value in items if sign == "="}
    after = _items(limits, text) if limits is not None else []
    bounds = {name: f"{sign} {value}" for name, sign, value in items + after if sign != "="}
    if len(amounts) + len(bounds) < len(items + after):
        raise InputError(f"goal {text!r} names something twice, or weighs after its limits")
    goal = pareto(**amounts) if kind == "pareto" else weighted(**amounts)
    return constrained(goal, **bounds) if bounds else goal


def _items(text: str, whole: str) -> list[tuple[str, str, str]]:
    """Names, signs and numbers of what stands between commas."""
    matches = [_ITEM.fullmatch(part) for part in text.split(",")]
    items = [(match[1], match[2], match[3]) for match in matches if match and _number(match[3])]
    if len(items) < len(matches):
        raise _unreadable(whole)
    return items


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _unreadable(text: object) -> InputError:
    return InputError(
        f"goal {str(text)[:60]!r} cannot be read; write it as 'accuracy=0.7, efficiency=0.3' or "
        "'pareto(accuracy=1, parameters=-1)', and limits after it, as ', parameters<=1e5'"
    )
