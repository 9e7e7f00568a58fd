"""How policies compose, the Plan they start from, and the check every Plan passes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.types import Frame, InputError, Key, Plan, Policy, State


class PlanError(ValueError):
    """A Plan that cannot be followed; the message names the field, the member and the value."""


def chain(*policies: Policy) -> Policy:
    """Policies one after the other, each with its own key and state, refining one Plan.

    Composition as in optax (DeepMind JAX ecosystem, 2020).
    """
    for policy in policies:
        if not isinstance(policy, Policy):
            raise InputError(
                f"chain takes policies such as exploit(), got {type(policy).__name__}; "
                "call the function that makes the policy"
            )

    def init(frame: Frame) -> State:
        return tuple(policy.init(frame) for policy in policies)

    def update(key: Key, plan: Plan, frame: Frame, state: State) -> tuple[Plan, State]:
        states, keys = [], jax.random.split(key, len(policies))
        for i, policy in enumerate(policies):
            plan, new = policy.update(keys[i], plan, frame, state[i])
            states.append(new)
        return plan, tuple(states)

    return Policy(init, update, f"chain({', '.join(policy.name for policy in policies)})")


def stateless(rule: Callable[[Key, Plan, Frame], Plan], name: str) -> Policy:
    """The policy that applies `rule` and remembers nothing."""

    def update(key: Key, plan: Plan, frame: Frame, state: State) -> tuple[Plan, State]:
        return rule(key, plan, frame), state

    return Policy(lambda frame: (), update, name)


def slots(frame: Frame) -> jax.Array:
    """The members' own slots, `[N]` int32."""
    return jnp.arange(frame.alive.shape[0], dtype=jnp.int32)


def keep(frame: Frame) -> Plan:
    """The Plan in which everyone carries on as it is and nobody trains."""
    own = slots(frame)
    zeros = jnp.zeros_like(own)
    return Plan(
        parent=own,
        mate=own,
        operator=zeros,
        steps=zeros,
        devices=jnp.ones_like(own),
        fresh=jnp.zeros(own.shape, bool),
        genome=dict(frame.genome),
    )


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
    _check_unsupported(plan, members)
    granted, quota = int(np.asarray(plan.steps).sum(dtype=np.int64)), int(frame.quota)
    if granted > quota:
        raise PlanError(f"plan.steps: {granted} steps granted, but the quota is {quota}")
    _check_genome(plan, frame, members)


def _check_unsupported(plan: Plan, members: int) -> None:
    own = np.arange(members)
    _require(np.asarray(plan.mate) == own, "mate", np.asarray(plan.mate), "no operator combines")
    _require(
        np.asarray(plan.operator) == 0, "operator", np.asarray(plan.operator), "is no operator"
    )


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
    fine = lives | np.asarray(plan.fresh) | (slot == np.arange(members))
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
