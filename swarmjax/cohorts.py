"""Which architectures share a compiled program, decided by an explicit cost model.

Fewer programs compile faster but pad more; the right number depends on how long they will run.
Every pair of containers is merged while that makes the estimated total time shorter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from swarmjax.models import Architecture, Family


class Costs(NamedTuple):
    """What the planner believes of this machine.

    Attributes:
        compile_seconds: to compile one program.
        flops_per_second: that training reaches on all devices together.
        step_seconds: fixed time of one training step of one lane, however small its networks.
        lane: members that train side by side; a shorter lane costs as much as a full one.
    """

    compile_seconds: float = 3.0
    flops_per_second: float = 2.5e10
    step_seconds: float = 3e-4
    lane: int = 16


class Load(NamedTuple):
    """Expected work of one architecture: its members, and the sum of their training steps."""

    members: float
    steps: float


class Cohorts(NamedTuple):
    """The planner's decision.

    Attributes:
        containers: architecture -> container whose program trains it.
        seconds: estimated compile and training time.
        separate: the same estimate with one program for each architecture.
    """

    containers: dict[Architecture, Any]
    seconds: float
    separate: float


def plan_cohorts(
    family: Family, loads: Mapping[Architecture, Load], batch: int, costs: Costs
) -> Cohorts:
    """Merges containers greedily while the estimated total time falls.

    Args:
        family: tells what container an architecture needs and what one costs.
        loads: expected work of each architecture.
        batch: examples in a training step.
        costs: the machine.
    """
    groups: dict[Any, list[Architecture]] = {}
    for architecture in loads:
        groups.setdefault(family.contain(architecture), []).append(architecture)

    def seconds(container, architectures):
        return _seconds(family, container, [loads[a] for a in architectures], batch, costs)

    separate = sum(seconds(c, group) for c, group in groups.items())
    while (merge := _best_merge(family, groups, seconds)) is not None:
        a, b, container = merge
        merged = groups.pop(a) + groups.pop(b)
        groups[container] = groups.get(container, []) + merged
    containers = {a: container for container, group in groups.items() for a in group}
    return Cohorts(containers, sum(seconds(c, g) for c, g in groups.items()), separate)


def place(family: Family, cohorts: Mapping[Architecture, Any], architecture: Architecture) -> Any:
    """The container for an architecture that may be new: the cheapest planned one, else its own."""
    if architecture in cohorts:
        return cohorts[architecture]
    own = family.contain(architecture)
    fitting = [c for c in set(cohorts.values()) if family.cover(c, own) == c]
    return min(fitting, key=family.flops, default=own)


def _seconds(family, container, loads: list[Load], batch: int, costs: Costs) -> float:
    members = sum(load.members for load in loads)
    steps = sum(load.steps for load in loads)
    if not members:
        return costs.compile_seconds
    lanes = math.ceil(members / costs.lane)
    padding = lanes * costs.lane / members
    arithmetic = steps * padding * batch * family.flops(container) / costs.flops_per_second
    overhead = lanes * steps / members * costs.step_seconds
    return costs.compile_seconds + arithmetic + overhead


def _best_merge(family, groups, seconds):
    best, gain = None, 0.0
    for a, b in itertools.combinations(groups, 2):
        container = family.cover(a, b)
        if container is None:
            continue
        merged = groups[a] + groups[b]
        others = groups.get(container, []) if container not in (a, b) else []
        saved = seconds(a, groups[a]) + seconds(b, groups[b]) - seconds(container, merged + others)
        saved += seconds(container, others) if others else 0.0
        if saved > gain:
            best, gain = (a, b, container), saved
    return best
