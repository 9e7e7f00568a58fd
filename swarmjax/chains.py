"""Whether the policies of a chain can work together, found out by tracing them one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from swarmjax.dials import Dial, Found
from swarmjax.policy import keep
from swarmjax.types import Frame, InputError, Plan, Policy

# What a Frame tells only once somebody was trained.
_SHOWN = frozenset(f"frame.{name}" for name in "loss metrics gradient_norm descriptor".split())


class Traced(NamedTuple):
    """What a policy does to a Plan.

    Attributes:
        policy: that was traced.
        writes: names of the fields of the Plan that it may change; None: perhaps any.
        reads: `plan.` or `frame.` and the names of the fields that it computes with.
        dials: numbers that may be changed while it works, by name.
    """

    policy: Policy
    writes: frozenset[str] | None
    reads: frozenset[str]
    dials: Mapping[str, Dial] = {}

    def may_write(self, field: str) -> bool:
        """Whether it may change that field of the Plan."""
        return self.writes is None or field in self.writes


def trace(policy: Policy, frame: Frame) -> Traced:
    """What `policy` does, by its `update` on the shapes of `frame`; on the host by what it says.

    Raises:
        InputError: it does not return a Plan of the shapes and types it got.
    """
    if policy.host:
        policy.init(frame)
        return Traced(policy, policy.writes, frozenset())

    def update(plan, frame):
        return policy.update(jax.random.key(0), plan, frame, policy.init(frame))[0]

    found = Found()
    before, frame = keep(frame), frame._replace(dials=found)
    closed, after = jax.make_jaxpr(update, return_shape=True)(before, frame)
    _check_shapes(before, after)
    program = closed.jaxpr
    given, names = program.invars, _names(before, frame)
    used = {id(value) for equation in program.eqns for value in equation.invars}
    kept = zip(program.outvars, given[: len(program.outvars)], names, strict=False)
    return Traced(
        policy,
        frozenset(name.partition(".")[2] for new, old, name in kept if new is not old),
        frozenset(name for value, name in zip(given, names, strict=True) if id(value) in used),
        found.dials,
    )


def check_order(links: Sequence[Traced], units: bool) -> None:
    """Raises InputError if the policies of a chain cannot work as they stand.

    Args:
        links: in their order.
        units: whether the model knows its units.
    """
    for link in links:
        if "units" in link.policy.needs and not units:
            raise InputError(
                f"{link.policy.name} needs the units of the built-in model mlp, which this model "
                "is not; take the operator average, uniform, neuron or layer"
            )
    makers = [i for i, link in enumerate(links) if _makes_children(link)]
    for i, link in enumerate(links):
        if "children" in link.policy.needs and makers and links[makers[0]].writes and i < makers[0]:
            raise InputError(
                f"{_short(link)} changes only members that take over another's weights, but stands "
                f"before {_short(links[makers[0]])}, which says who does; put it behind"
            )
    if not any(link.may_write("steps") for link in links):
        raise InputError(
            f"no policy of {_listed(links)} grants steps, so nobody would train; add one that does "
            "to the chain, such as sj.allocate.uniform()"
        )


def grants_evenly(links: Sequence[Traced]) -> bool:
    """Whether all members that the policies of a chain grant steps to get as many."""
    grants = [link.policy for link in links if link.may_write("steps")]
    return bool(grants) and grants[-1].even


def oddities(links: Sequence[Traced], rounds: int) -> list[str]:
    """What is legal but hardly meant, in a line each.

    Args:
        links: in their order, found to work.
        rounds: that the budget is enough for.
    """
    found = []
    if not any(map(_makes_children, links)):
        found += [
            f"{_short(link)} changes nothing: no policy lets anybody take over another's weights"
            for link in links
            if "children" in link.policy.needs
        ]
    found += [
        f"the steps that {_short(one)} grants are overwritten by {_short(other)}"
        for one, other in _overwritten(links)
    ]
    late = [link for link in links if _acts_late(link)]
    if rounds <= 1 and late:
        found.append(
            f"the budget is spent in one round, before {_listed(late)} can tell members apart; "
            "lower round_steps or raise budget"
        )
    return found


def _makes_children(link: Traced) -> bool:
    """Whether it may let members take over another's weights where nobody did."""
    return link.may_write("parent") and "children" not in link.policy.needs


def _overwritten(links: Sequence[Traced]) -> list[tuple[Traced, Traced]]:
    """Whose grants are lost, and to whom: a policy that never looks at those before it."""
    grants = [link for link in links if link.writes is not None and "steps" in link.writes]
    pairs = zip(grants, grants[1:], strict=False)
    return [(a, b) for a, b in pairs if "plan.steps" not in b.reads and not b.policy.host]


def _acts_late(link: Traced) -> bool:
    """Whether it waits for a round: it selects, or favours by what training shows."""
    if link.writes is None:
        return False
    favours = "steps" in link.writes and not link.reads.isdisjoint(_SHOWN)
    return "parent" in link.writes or favours


def _short(link: Traced) -> str:
    return link.policy.name.partition("(")[0]


def _listed(links: Sequence[Traced]) -> str:
    return ", ".join(map(_short, links))


def _names(plan: Plan, frame: Frame) -> list[str]:
    """`plan.` or `frame.` and its field, for every array."""
    both = (("plan", plan), ("frame", frame))
    return [
        f"{record}.{path[0].name}"
        for record, values in both
        for path, _ in jax.tree.leaves_with_path(values)
    ]


def _check_shapes(before: Plan, after: Plan) -> None:
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise InputError("it must return a Plan and its state")
    for field in before._fields:
        for old, new in zip(*map(jax.tree.leaves, (getattr(before, field), getattr(after, field))),
                            strict=True):  # fmt: skip
            if (old.shape, old.dtype) != (new.shape, new.dtype):
                raise InputError(
                    f"it turns plan.{field} from {old.dtype}{old.shape} into {new.dtype}{new.shape}"
                )
