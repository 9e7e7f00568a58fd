"""How policies compose, the Plan they start from, and the check every Plan passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby

import jax
import numpy as np

from swarmjax.compiling import QUICK
from swarmjax.crossover import OF_TWO, OPERATORS
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy, State, namespace


class PlanError(ValueError):
    """A Plan that cannot be followed; the message names the field, the member and the value."""


def chain(*policies: Policy) -> Policy:
    """Policies one after the other, each with its own key and state, refining one Plan.

    With a policy that runs on the host the chain runs there too, and compiles what lies between
    such policies. Composition as in optax (DeepMind JAX ecosystem, 2020).
    """
    for policy in policies:
        if not isinstance(policy, Policy):
            raise InputError(
                f"chain takes policies such as exploit(), got {type(policy).__name__}; "
                "call the function that makes the policy"
            )
    host = any(policy.host for policy in policies)
    stretches = _stretches(policies) if host else [(slice(None), partial(_follow, policies))]

    def init(frame: Frame) -> State:
        return tuple(policy.init(frame) for policy in policies)

    def update(key: Key, plan: Plan, frame: Frame, state: State) -> tuple[Plan, State]:
        keys, after = jax.random.split(key, len(policies)), ()
        for part, follow in stretches:
            plan, new = follow(keys[part], plan, frame, state[part])
            after += new
        return plan, after

    name = f"chain({', '.join(policy.name for policy in policies)})"
    return Policy(init, update, name, host, policies)


def guarded(policy: Policy) -> Policy:
    """`policy` as a run follows it: a chain looks after what one on the host returns."""
    return chain(policy) if policy.host else policy


def _stretches(policies: tuple[Policy, ...]) -> list[tuple[slice, Callable]]:
    """Where each run of pure or of host policies lies, and the function that follows it."""
    found, start = [], 0
    for host, run in groupby(policies, key=lambda policy: policy.host):
        links = tuple(run)
        follow = partial(_follow_on_host if host else _follow, links)
        part = slice(start, start + len(links))
        found.append((part, follow if host else jax.jit(follow, compiler_options=QUICK)))
        start = part.stop
    return found


def _follow(
    policies: tuple[Policy, ...], keys: Key, plan: Plan, frame: Frame, states: tuple[State, ...]
) -> tuple[Plan, tuple[State, ...]]:
    after = []
    for i, policy in enumerate(policies):
        plan, new = policy.update(keys[i], plan, frame, states[i])
        after.append(new)
    return plan, tuple(after)


def _follow_on_host(
    policies: tuple[Policy, ...], keys: Key, plan: Plan, frame: Frame, states: tuple[State, ...]
) -> tuple[Plan, tuple[State, ...]]:
    frame, after = jax.tree.map(np.asarray, frame), []
    for i, policy in enumerate(policies):
        before = jax.tree.map(np.asarray, plan)
        changed, new = policy.update(keys[i], before, frame, states[i])
        plan = _like(changed, before, policy.name)
        after.append(new)
    return plan, tuple(after)


def _like(plan: Plan, before: Plan, name: str) -> Plan:
    """`plan` as NumPy arrays of the types of `before`, as compiled policies expect them."""
    try:
        return jax.tree.map(
            lambda new, old: np.asarray(new).astype(old.dtype, casting="same_kind"), plan, before
        )
    except (TypeError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise PlanError(f"policy {name} returns no Plan like the one it got: {line}") from error


def leaves(policy: Policy) -> list[Policy]:
    """The policies within `policy`, in order, none of them a chain of others."""
    if not policy.links:
        return [policy]
    return [leaf for link in policy.links for leaf in leaves(link)]


def stateless(
    rule: Callable[[Key, Plan, Frame], Plan], name: str, *needs: str, host: bool = False
) -> Policy:
    """The policy that applies `rule` and remembers nothing; `needs` as in `Policy`."""

    def update(key: Key, plan: Plan, frame: Frame, state: State) -> tuple[Plan, State]:
        return rule(key, plan, frame), state

    return Policy(lambda frame: (), update, name, host, needs=frozenset(needs))


def generator(key: Key) -> np.random.Generator:
    """NumPy's random numbers for a policy on the host."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def slots(frame: Frame) -> Array:
    """The members' own slots, `[N]` int32."""
    return namespace(frame.alive).arange(frame.alive.shape[0], dtype=np.int32)


def children(plan: Plan) -> Array:
    """Who takes over another's weights, `[N]` bool."""
    xp = namespace(plan.parent, plan.fresh)
    own = xp.arange(plan.parent.shape[0], dtype=np.int32)
    return (plan.parent != own) & ~plan.fresh


def keep(frame: Frame) -> Plan:
    """The Plan in which everyone carries on as it is and nobody trains."""
    own = slots(frame)
    xp = namespace(own)
    zeros = xp.zeros_like(own)
    return Plan(
        parent=own,
        mate=own,
        operator=zeros,
        steps=zeros,
        devices=xp.ones_like(own),
        fresh=xp.zeros(own.shape, bool),
        genome=dict(frame.genome),
    )


def culprit(policy: Policy, key: Key, frame: Frame, state: State) -> str:
    """The name of the policy within `policy` whose Plan cannot be followed; empty: it can be."""
    wrong = ""
    for name, plan in _trail(policy, key, keep(frame), frame, state):
        try:
            check_plan(jax.tree.map(np.asarray, plan), frame)
            wrong = ""
        except PlanError:
            # Who leaves it as it was is not to blame.
            wrong = wrong or name
    return wrong


def _trail(
    policy: Policy, key: Key, plan: Plan, frame: Frame, state: State
) -> Iterator[tuple[str, Plan]]:
    """The Plan after each of the policies within `policy`, with its name."""
    if not policy.links:
        update = policy.update if policy.host else jax.jit(policy.update)
        yield policy.name, update(key, plan, frame, state)[0]
        return
    keys = jax.random.split(key, len(policy.links))
    for i, link in enumerate(policy.links):
        for name, changed in _trail(link, keys[i], plan, frame, state[i]):
            yield name, changed
            plan = changed


def check_plan(plan: Plan, frame: Frame) -> None:
    """Raises PlanError unless `plan` can be followed after `frame`; runs on the host."""
    members = len(np.asarray(frame.alive))
    for field in ("parent", "mate", "operator", "steps", "devices", "fresh"):
        _check_array(field, getattr(plan, field), members)
    for field in ("parent", "mate"):
        _check_source(field, np.asarray(getattr(plan, field)), plan, frame)
    for field, least in (("operator", 0), ("steps", 0), ("devices", 1)):
        values = np.asarray(getattr(plan, field))
        _require(values >= least, field, values, f"must be at least {least}")
    operator = np.asarray(plan.operator)
    known = f"must be below {len(OPERATORS)}: {', '.join(OPERATORS)}"
    _require(operator < len(OPERATORS), "operator", operator, known)
    granted, quota = int(np.asarray(plan.steps).sum(dtype=np.int64)), int(frame.quota)
    if granted > quota:
        raise PlanError(f"plan.steps: {granted} steps granted, but the quota is {quota}")
    _check_genome(plan, frame, members)


def _check_array(field: str, values: object, members: int) -> None:
    array = np.asarray(values)
    if array.shape != (members,):
        raise PlanError(f"plan.{field}: shape must be ({members},), got {array.shape}")
    kinds, wanted = ("b", "booleans") if field == "fresh" else ("iu", "integers")
    if array.dtype.kind not in kinds:
        raise PlanError(f"plan.{field}: must hold {wanted}, got {array.dtype}")


def _check_source(field: str, slot: np.ndarray, plan: Plan, frame: Frame) -> None:
    members = len(slot)
    _require((slot >= 0) & (slot < members), field, slot, f"must be a slot below {members}")
    lives = np.asarray(frame.alive)[slot]
    two = [OPERATORS.index(name) for name in OF_TWO] if field == "mate" else []
    unused = (slot == np.arange(members)) & ~np.isin(plan.operator, two)
    fine = lives | np.asarray(plan.fresh) | unused
    _require(fine, field, slot, "is dead, so its weights cannot be used")


def _check_genome(plan: Plan, frame: Frame, members: int) -> None:
    wanted, got = {name for name, _ in frame.space.genes}, set(plan.genome)
    if wanted != got:
        odd = ", ".join(sorted(wanted ^ got))
        raise PlanError(f"plan.genome: must have exactly the genes of the space, differs in {odd}")
    for name, gene in frame.space.genes:
        values = np.asarray(plan.genome[name])
        if values.shape != (members,):
            raise PlanError(f"plan.genome[{name}]: shape must be ({members},), got {values.shape}")
        _require(gene.legal(values), f"genome[{name}]", values, f"is not a value of {gene}")


def _require(fine: np.ndarray, field: str, values: np.ndarray, reason: str) -> None:
    if not fine.all():
        member = int(np.argmin(fine))
        raise PlanError(f"plan.{field}: member {member} has {values[member]}, which {reason}")
