"""The three records: Plan goes down, Frame comes up, Policy turns Frames into the next Plan.

`[N]` is the member axis: entry `i` belongs to slot `i` of the swarm for the whole run, whichever
network lives there. A network has a `birth` number that is never used twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.errors import InputError as InputError

Array = jax.Array | np.ndarray
Key = jax.Array
Genome = dict[str, Array]
State = Any


def namespace(*values: Any) -> Any:
    """The module whose functions suit `values`: `numpy` on the host, else `jax.numpy`.

    On the host JAX would compile a program for every function and shape.
    """
    return jnp if any(isinstance(value, jax.Array) for value in values) else np


class Plan(NamedTuple):
    """What every member does next.

    Attributes:
        parent: `[N]` int32 slot whose weights and optimizer state it starts from (itself:
            carry on).
        mate: `[N]` int32 slot of the second parent, for an operator that takes two.
        operator: `[N]` int32 how parent and mate combine: index into `crossover.OPERATORS` (0:
            the child is the parent).
        steps: `[N]` int32 training steps granted this round.
        devices: `[N]` int32 devices that share this member's batch; the trainer takes the largest
            divisor of the devices it has that is not above.
        fresh: `[N]` bool, start from new weights; `parent` is then ignored.
        genome: gene name -> `[N]` values in the gene's own units (choices: option index).
    """

    parent: Array
    mate: Array
    operator: Array
    steps: Array
    devices: Array
    fresh: Array
    genome: Genome


class Frame(NamedTuple):
    """What a round showed.

    Attributes:
        round: `[]` int32 number of finished rounds; 0 before anything was trained.
        quota: `[]` int32 member-steps the next Plan may grant in total.
        remaining: `[]` int32 member-steps left of the run's budget.
        loss: `[N]` mean training loss over the steps of the last round in which it trained.
        metrics: name -> `[N]` validation metrics of the current weights (`valid_loss`, ...).
        gradient_norm: `[N]` mean gradient norm over those same steps.
        steps: `[N]` int32 steps taken in this round.
        total_steps: `[N]` int32 steps behind the current weights, inherited from the parent.
        alive: `[N]` bool, False once its loss, gradients or weights ceased to be finite.
        alarm: `[N]` int32 what went wrong in the round, a set of bits in the order of
            `anomaly.KINDS`; 0: nothing.
        cost: `[N]` floating-point operations of one training step of this architecture.
        parameters: `[N]` int32 weights of this architecture, without padding.
        bytes: `[N]` float32 bytes of its variables and optimizer state, without padding.
        seconds: `[N]` float32 wall seconds of one training step, as attributed in the last round in
            which it trained; NaN before. It differs from run to run.
        descriptor: `[N, P, C]` float16 what the network makes of P validation examples:
            probabilities of C classes or tokens, or C numbers; NaN before it was evaluated.
        genome: as in `Plan`.
        birth: `[N]` int32 unique number of the network in the slot.
        lineage: `[N]` int32 birth number of its oldest ancestor.
        space: the static `Space` of the genome; policies read ranges from it.
        dials: name -> `[]` float32 number of a goal or policy that a person changed, NaN: nobody
            did; read by `dials.dial`. Only the Frame that a policy gets has any.
    """

    round: Array
    quota: Array
    remaining: Array
    loss: Array
    metrics: Mapping[str, Array]
    gradient_norm: Array
    steps: Array
    total_steps: Array
    alive: Array
    alarm: Array
    cost: Array
    parameters: Array
    bytes: Array
    seconds: Array
    descriptor: Array
    genome: Genome
    birth: Array
    lineage: Array
    space: Any
    dials: Any = {}


class Trainer(Protocol):
    """Whoever trains members: on this host, or elsewhere."""

    def round(self, plan: Plan, frame: Frame) -> Frame:
        """Follows `plan` from the state that `frame` showed, and shows the state afterwards."""
        ...


class Policy(NamedTuple):
    """A pair of pure functions, composed by `policy.chain` like an optax transformation.

    Attributes:
        init: `init(frame) -> state`.
        update: `update(key, plan, frame, state) -> (plan, state)`; `plan` is what earlier policies
            of the chain decided and starts as `policy.keep(frame)`.
        name: how the policy was called, for the run's record.
        host: it runs outside compiled programs, on NumPy arrays; as pure as any other, its state a
            pytree of arrays from which it builds whatever a library needs at every update. Before
            a run only `init` is called, which raises InputError if the policy cannot work.
        links: of a chain, its policies.
        needs: what it does nothing without: `children`, made by policies before it in a chain, or
            `units`, a model that knows them (`Family.sizes`).
        writes: fields of the Plan that a policy on the host may change; None: any. Of others it is
            found out by tracing them.
        even: all who are granted steps get as many, give or take one.
    """

    init: Callable[[Frame], State]
    update: Callable[[Key, Plan, Frame, State], tuple[Plan, State]]
    name: str
    host: bool = False
    links: tuple[Policy, ...] = ()
    needs: frozenset[str] = frozenset()
    writes: frozenset[str] | None = None
    even: bool = False
