"""Goals as text, for the command line and for files of settings: read, never run."""

from __future__ import annotations

import math
import re

from swarmjax.constraints import constrained
from swarmjax.fitness import Goal, check_plain, weighted
from swarmjax.pareto import pareto
from swarmjax.types import InputError

_LONGEST = 500
_WHOLE = re.compile(r"\s*(?:(weighted|pareto)\s*\(([^()]*)\)\s*(?:,(.*))?|([^()]*))", re.DOTALL)
_NAME, _AMOUNT = r"([A-Za-z_]\w{0,63})", r"([-+.0-9eE]{1,32})"
_ITEM = re.compile(rf"\s*{_NAME}\s*([<>]=?|=)\s*{_AMOUNT}\s*")
# Limits as mathematics writes them: a number first, and perhaps another one behind.
_TURNED = re.compile(rf"\s*{_AMOUNT}\s*([<>]=?)\s*{_NAME}\s*(?:([<>]=?)\s*{_AMOUNT}\s*)?")
_CALL = re.compile(rf"\b{_NAME}\s*\(")
_OPPOSITE = str.maketrans("<>", "><")


def parse_goal(text: str) -> Goal:
    """The goal that a text describes.

    `accuracy=0.7, efficiency=0.3` is `fitness.weighted`, `pareto(accuracy=1, parameters=-1)` the
    goal of that name, and limits that follow, as in `accuracy=1, parameters<=1e5`, make it
    `constrained`; `<` and `>` are limits that must not be reached.

    Raises:
        InputError: the text does not describe a goal, or names what there is not.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise _unreadable(text)
    match = _WHOLE.fullmatch(text)
    if match is None:
        for called in _CALL.findall(text):
            check_plain(called)
        raise _unreadable(text)
    kind, inside, limits, plain = match.groups()
    items = _items(inside if kind else plain, text)
    amounts = {name: float(value) for name, sign, value in items if sign == "="}
    after = _items(limits, text) if limits is not None else []
    bounds = _bounds(items + after)
    if len(amounts) + len(bounds) < len(items + after):
        raise InputError(f"goal {text!r} names something twice, or weighs after its limits")
    goal = pareto(**amounts) if kind == "pareto" else weighted(**amounts)
    return constrained(goal, **bounds) if bounds else goal


def _items(text: str, whole: str) -> list[tuple[str, str, str]]:
    """Names, signs and numbers of what stands between commas."""
    parts = text.split(",")
    for part in parts:
        if turned := _TURNED.fullmatch(part):
            raise _misplaced(part.strip()[:100], *turned.groups())
    matches = [_ITEM.fullmatch(part) for part in parts]
    items = [(match[1], match[2], match[3]) for match in matches if match and _number(match[3])]
    if len(items) < len(matches):
        raise _unreadable(whole)
    return items


def _bounds(items: list[tuple[str, str, str]]) -> dict[str, str]:
    """The limit of every name that has one."""
    bounds = {}
    for name, sign, value in items:
        if sign != "=":
            if name in bounds:
                raise _two_sided(f"{name} {bounds[name]}, {name} {sign} {value}", name)
            bounds[name] = f"{sign} {value}"
    return bounds


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _misplaced(got: str, low: str, sign: str, name: str, *second: str | None) -> InputError:
    if all(second):
        return _two_sided(got, name)
    return InputError(
        f"the limit {got!r} of the goal begins with its number; write it as "
        f"'{name}{sign.translate(_OPPOSITE)}{low}'"
    )


def _two_sided(got: str, name: str) -> InputError:
    return InputError(
        f"the goal limits {name} twice, as {got!r}, but a quantity has one limit; keep one, as in "
        f"'{name}<=1e5', and see to the other side by the genes of the space"
    )


def _unreadable(text: object) -> InputError:
    return InputError(
        f"goal {str(text)[:60]!r} cannot be read; write it as 'accuracy=0.7, efficiency=0.3' or "
        "'pareto(accuracy=1, parameters=-1)', and limits after it, as ', parameters<=1e5'"
    )
