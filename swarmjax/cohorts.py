"""Which architectures share a compiled program, decided by an explicit cost model.

Fewer programs compile faster but pad more; the right number depends on how long they will run.
Every pair of containers is merged while that makes the estimated total time shorter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

from swarmjax.models import Architecture, Family


class Costs(NamedTuple):
    """What the planner believes of this machine.

    Attributes:
        compile_seconds: to compile one program.
        flops_per_second: that training reaches on all devices together.
        step_seconds: fixed time of one training step of one chunk, however small its networks,
            with all devices at work.
        chunk: members that train side by side; a shorter chunk costs as much as a full one.
    """

    compile_seconds: float = 3.0
    flops_per_second: float = 2.5e10
    step_seconds: float = 1.5e-4
    chunk: int = 8


# An update of a weight takes about as long as so many operations of a product; layers that a member
# does not have are updated too.
UPDATE = 80.0


# See `depends_on_machine`; measuring a machine compiles so many programs.
SPAN, MEASURING = 3.0, 2


class Load(NamedTuple):
    """Expected work of one architecture: its members, and the sum of their training steps."""

    members: float
    steps: float


class Cohorts(NamedTuple):
    """The planner's decision.

    Attributes:
        containers: architecture -> container whose program trains it.
        training: container -> seconds its training is estimated to take.
        seconds: estimated compile and training time.
        separate: the same estimate with one program for each architecture.
    """

    containers: dict[Architecture, Any]
    training: dict[Any, float]
    seconds: float
    separate: float


def plan_cohorts(
    family: Family, loads: Mapping[Architecture, Load], batch: int, costs: Costs
) -> Cohorts:
    """Merges containers greedily while the estimated total time falls.

    Args:
        family: tells what container an architecture needs and what a step of it costs in one.
        loads: expected work of each architecture.
        batch: examples in a training step.
        costs: the machine.
    """
    groups: dict[Any, frozenset[Architecture]] = {}
    for architecture in loads:
        container = family.contain(architecture)
        groups[container] = groups.get(container, frozenset()) | {architecture}

    @cache
    def price(container, members):
        return _price(family, container, {a: loads[a] for a in members}, batch, costs)

    separate = sum(price(*group) for group in groups.items())
    gains = {pair: _gain(family, groups, price, *pair) for pair in combinations(groups, 2)}
    while gains and (best := max(gains.values(), key=lambda gain: gain[0]))[0] > 0:
        _, joined, container = best
        groups[container] = frozenset().union(*(groups.pop(kind) for kind in joined))
        stale = {*joined, container}
        # Only pairs that the merge touched have to be reckoned anew.
        gains = {p: g for p, g in gains.items() if not stale & {*p, *g[1], g[2]}}
        for pair in combinations(groups, 2):
            if pair not in gains:
                gains[pair] = _gain(family, groups, price, *pair)
    containers = {a: container for container, members in groups.items() for a in members}
    training = {group[0]: price(*group) - costs.compile_seconds for group in groups.items()}
    return Cohorts(containers, training, sum(price(*g) for g in groups.items()), separate)


def training_seconds(
    family: Family, boxes: Mapping[Architecture, Any], loads: Mapping[Architecture, Load],
    batch: int, costs: Costs,
) -> dict[Any, float]:  # fmt: skip
    """Container -> seconds that training is estimated to take in these `boxes`, once compiled."""
    groups: dict[Any, dict[Architecture, Load]] = {}
    for architecture, load in loads.items():
        groups.setdefault(boxes[architecture], {})[architecture] = load
    return {
        container: _price(family, container, mine, batch, costs) - costs.compile_seconds
        for container, mine in groups.items()
    }


def depends_on_machine(
    family: Family, loads: Mapping[Architecture, Load], batch: int, guess: Costs
) -> bool:
    """Whether a plan by a `guess` may lose more time than it takes to measure the machine.

    From machine to machine the time to compile, in units of that to train, differs by about
    `SPAN` at most either way.
    """
    planned = plan_cohorts(family, loads, batch, guess)
    for factor in (1 / SPAN, SPAN):
        costs = guess._replace(compile_seconds=factor * guess.compile_seconds)
        programs = len(planned.training)
        seconds = planned.seconds + programs * (costs.compile_seconds - guess.compile_seconds)
        best = plan_cohorts(family, loads, batch, costs).seconds
        if seconds - best > MEASURING * costs.compile_seconds:
            return True
    return False


def step_seconds(
    family: Family, container: Any, architecture: Architecture, batch: int, costs: Costs
) -> float:
    """Seconds of a training step of a chunk of members of that architecture in `container`."""
    flops = family.flops(container, architecture) * batch + UPDATE * family.parameters(container)
    return costs.step_seconds + costs.chunk * flops / costs.flops_per_second


def place(
    family: Family, cohorts: Mapping[Architecture, Any], architecture: Architecture,
    others: Sequence[Any] = (),
) -> Any:  # fmt: skip
    """The container for an architecture that may be new: the cheapest planned one, else its own.

    `others` are planned containers that no architecture has as its own.
    """
    if architecture in cohorts:
        return cohorts[architecture]
    own = family.contain(architecture)
    fitting = [c for c in {*cohorts.values(), *others} if family.cover(c, own) == c]
    return min(fitting, key=lambda c: (family.flops(c, architecture), str(c)), default=own)


def _price(family, container, loads: Mapping[Architecture, Load], batch, costs: Costs) -> float:
    """Seconds to compile one program and train its members."""
    # Sorted, since sums of floats must not depend on the order of a set.
    update = UPDATE * family.parameters(container)
    work = sorted((family.flops(container, a) * batch + update, load) for a, load in loads.items())
    return _seconds(work, costs)


def _seconds(work: list[tuple[float, Load]], costs: Costs) -> float:
    """Time of one program; `work` holds operations of a step, and the load, by architecture."""
    members = sum(load.members for _, load in work)
    if not members:
        return costs.compile_seconds
    steps = sum(load.steps for _, load in work)
    chunks = math.ceil(members / costs.chunk)
    padding = chunks * costs.chunk / members
    arithmetic = sum(flops * load.steps for flops, load in work) * padding / costs.flops_per_second
    overhead = chunks * steps / members * costs.step_seconds
    return costs.compile_seconds + arithmetic + overhead


def _gain(family, groups, price, a, b) -> tuple[float, tuple[Any, ...], Any]:
    """Seconds saved by a merge of two groups, the groups that it joins, and their container."""
    container = family.cover(a, b)
    if container is None:
        return -math.inf, (), None
    # The container may be a third group already, which then joins them.
    joined = tuple(dict.fromkeys((a, b, container) if container in groups else (a, b)))
    merged = frozenset().union(*(groups[kind] for kind in joined))
    apart = sum(price(kind, groups[kind]) for kind in joined)
    return apart - price(container, merged), joined, container
