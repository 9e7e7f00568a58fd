"""A policy written as text: the name of a preset, or links of a chain with their settings."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

from swarmjax import allocate, evolve, halving, tune
from swarmjax.bandits import bandit
from swarmjax.diversity import lineage_cap, niches
from swarmjax.fitness import Goal
from swarmjax.healing import heal
from swarmjax.mating import breed, mutate
from swarmjax.policy import chain
from swarmjax.presets import PRESETS, preset
from swarmjax.projection import projected_gain
from swarmjax.samplers import optuna_sampler
from swarmjax.topology import migrate
from swarmjax.types import InputError, Policy

# Whoever needs more writes an experiment file.
_LONGEST = 2000

_LINKS: tuple[Callable[..., Policy], ...] = (
    # Who starts from whom.
    evolve.exploit, evolve.tournament, evolve.binary, evolve.regularised, niches,
    lineage_cap, migrate, heal,
    # How many steps.
    allocate.softmax, allocate.proportional, allocate.rank, allocate.uniform, projected_gain,
    halving.successive_halving, halving.hyperband, allocate.devices,
    # With which genes and weights.
    tune.random, tune.grid, tune.sobol, tune.perturb, tune.resample, tune.differential, bandit,
    optuna_sampler, evolve.mutate_structure, breed, mutate,
)  # fmt: skip
LINKS: dict[str, Callable[..., Policy]] = {make.__name__: make for make in _LINKS}


def parse_policy(text: str, goal: Goal | None = None) -> Policy:
    """The policy that `text` stands for, every part of which that looks at a goal pursues `goal`.

    A single word is a preset where there is one of that name, as `pbt`. Anything else is a chain,
    as `tournament(size=3), rank, resample`; links take numbers, texts and lists of them only.

    Raises:
        InputError: it stands for none, or no part of it looks at a goal and one is given.
    """
    # Runs of the same policy share what was compiled of it.
    make = _kept if isinstance(goal, Hashable) else _parsed
    return make(text.strip(), goal)


def _parsed(text: str, goal: Goal | None) -> Policy:
    if text in PRESETS or text.isidentifier() and text not in LINKS:
        return preset(text, goal)
    links = [_named(node, place) for place, node in enumerate(_nodes(text), 1)]
    if goal is not None and not any(_goal_of(make) for make, *_ in links):
        able = ", ".join(name for name, make in LINKS.items() if _goal_of(make))
        raise InputError(f"no link of the policy {text} looks at a goal; these do: {able}")
    policies = [_link(*each, goal) for each in links]
    return policies[0] if len(policies) == 1 else chain(*policies)


_kept = lru_cache(maxsize=32)(_parsed)


def _nodes(text: str) -> list[ast.expr]:
    """The links of a chain, with or without the word."""
    try:
        # The line's end stands for itself, should the text end in a remark.
        parsed = ast.parse(f"[{text}\n]", mode="eval").body if len(text) <= _LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parsed = None
    links = parsed.elts if isinstance(parsed, ast.List) else []
    if len(links) == 1 and isinstance(links[0], ast.Call) and _name(links[0].func) == "chain":
        links = [] if links[0].keywords else links[0].args
    if not links:
        raise InputError(
            f"policy {text[:60]!r} cannot be read; write a preset, such as pbt, or a chain such as "
            "'exploit(fraction=0.3), softmax, perturb'"
        )
    return links


def _named(node: ast.expr, place: int) -> tuple[Callable[..., Policy], list[Any], dict[str, Any]]:
    """A link's function and the settings that are written behind it."""
    called = isinstance(node, ast.Call)
    name = _name(node.func if called else node)
    if name not in LINKS:
        close = difflib.get_close_matches(name, LINKS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        said = f"no link is called {name!r}" if name else f"link {place} of the policy is no name"
        raise InputError(f"{said}; {hint}known: {', '.join(LINKS)}")
    if not called:
        return LINKS[name], [], {}
    written = [str(each.arg) for each in node.keywords]
    if "goal" in written:
        raise InputError(f"the goal of {name} is given for all links together, by --goal or goal=")
    if len(set(written)) < len(written):
        raise InputError(f"{name} has a setting twice: {', '.join(written)}")
    try:
        values = [ast.literal_eval(each.value) for each in node.keywords]
        given = [ast.literal_eval(each) for each in node.args]
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise InputError(f"{name} has a setting that is no number, text or list") from None
    return LINKS[name], given, dict(zip(written, values, strict=True))


def _link(
    make: Callable[..., Policy], values: list[Any], settings: dict[str, Any], goal: Goal | None
) -> Policy:
    kind, name = _goal_of(make), make.__name__
    try:
        if goal is None or kind is None or (name == "proportional" and settings):
            return make(*values, **settings)
        if kind is inspect.Parameter.POSITIONAL_ONLY:
            return make(goal, *values, **settings)
        return make(*values, **settings, goal=goal)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{name} cannot have these settings: {error}") from None


def _goal_of(make: Callable[..., Policy]) -> Any:
    """How a link takes a goal, or None."""
    found = inspect.signature(make).parameters.get("goal")
    return None if found is None else found.kind


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
