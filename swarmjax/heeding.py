"""How directives become the orders of the coming round, one rule a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from swarmjax import steerable
from swarmjax.coming import Coming
from swarmjax.crossover import OPERATORS
from swarmjax.dials import turned
from swarmjax.mating import widened
from swarmjax.steerable import raw_genes
from swarmjax.steering import (
    Add,
    Boost,
    Breed,
    Clone,
    Directive,
    Freeze,
    Kill,
    Member,
    Pin,
    Set,
    Thaw,
    Turn,
    Unpin,
)
from swarmjax.types import InputError


class Heeded(NamedTuple):
    """What a directive does.

    Attributes:
        told: in words.
        inverse: the directive that takes it back, or None.
        slots: whose steps, or network, it changes.
    """

    told: str
    inverse: Directive | None = None
    slots: tuple[int, ...] = ()


def heed(directive: Directive, coming: Coming) -> Heeded:
    """Adds a directive to the coming round; raises InputError, saying why, if it cannot be done."""
    steerable.check(directive, coming.scene)
    return _RULES[type(directive)](coming, directive)


def _boost(coming: Coming, asked: Boost) -> Heeded:
    slot, standing = coming.own(asked.member), coming.standing
    before, standing.boost[slot] = float(standing.boost[slot]), asked.factor
    return Heeded("", Boost(asked.member, before), (slot,))


def _freeze(coming: Coming, asked: Freeze) -> Heeded:
    slot = coming.own(asked.member)
    others = coming.frame.alive & ~coming.standing.frozen
    if not np.delete(others, slot).any() and not coming.taken:
        raise InputError("nobody else could train; pause the run instead")
    coming.standing.frozen[slot] = True
    return Heeded("", Thaw(asked.member), (slot,))


def _thaw(coming: Coming, asked: Thaw) -> Heeded:
    slot = coming.own(asked.member)
    if not coming.standing.frozen[slot]:
        raise InputError(f"member {slot} is not frozen")
    coming.standing.frozen[slot] = False
    return Heeded("", Freeze(asked.member), (slot,))


def _pin(coming: Coming, asked: Pin) -> Heeded:
    slot = coming.own(asked.member)
    coming.standing.pinned[slot] = True
    return Heeded("no policy replaces or changes it", Unpin(asked.member))


def _unpin(coming: Coming, asked: Unpin) -> Heeded:
    slot = coming.own(asked.member)
    if not coming.standing.pinned[slot]:
        raise InputError(f"member {slot} is not pinned")
    coming.standing.pinned[slot] = False
    return Heeded("policies decide on it again", Pin(asked.member))


def _kill(coming: Coming, asked: Kill) -> Heeded:
    slot = coming.take(asked.member.slot, "ends")
    coming.draw()
    coming.asked.ended[slot] = True
    return Heeded(f"network {asked.member.birth} ends", None, (slot,))


def _clone(coming: Coming, asked: Clone) -> Heeded:
    source = asked.member.slot
    slot = _target(coming, asked.into, (source,))
    coming.asked.source[slot] = source
    return Heeded(f"it starts in slot {slot}", None, (slot,))


def _breed(coming: Coming, asked: Breed) -> Heeded:
    space, genome = coming.scene.space, coming.frame.genome
    a, b = asked.member.slot, asked.mate.slot
    differ = [name for name in space.structural if genome[name][a] != genome[name][b]]
    if differ and not coming.scene.resizes:
        raise InputError(f"they differ in {differ[0]}, and weights of this model cannot be fitted")
    slot = _target(coming, asked.into, (a, b))
    coming.asked.source[slot], coming.asked.mate[slot] = a, b
    coming.asked.operator[slot] = OPERATORS.index(asked.operator)
    coins = coming.random.random(len(space.genes)) < 0.5
    theirs = {
        name: float(genome[name][b])
        for (name, gene), coin in zip(space.genes, coins, strict=True)
        if coin and not gene.structural
    }
    if asked.operator == "union":
        wider = widened(space, genome, np.array([a]), np.array([b]))
        theirs |= {name: float(index[0]) for name, index in wider.items()}
    coming.give(slot, theirs)
    return Heeded(f"their child starts in slot {slot}", None, (slot,))


def _set(coming: Coming, asked: Set) -> Heeded:
    slot, space = coming.own(asked.member), coming.scene.space
    before = space.values(coming.frame.genome, slot)
    coming.asked.held[slot] = True
    coming.give(slot, raw_genes(space, asked.genes))
    told = ", ".join(f"{name} was {_short(before[name])}" for name in asked.genes)
    return Heeded(told, Set(asked.member, {name: before[name] for name in asked.genes}))


def _turn(coming: Coming, asked: Turn) -> Heeded:
    standing, made = coming.standing, coming.scene.dials
    now = {name: float(standing.dials[name]) for name in asked.values}
    before = {name: None if np.isnan(value) else value for name, value in now.items()}
    standing.dials = turned(standing.dials, asked.values)
    was = {name: made[name].value if old is None else old for name, old in before.items()}
    return Heeded(", ".join(f"{k} was {_short(v)}" for k, v in was.items()), Turn(before))


def _add(coming: Coming, asked: Add) -> Heeded:
    members = len(coming.frame.alive)
    nodes = range(members - coming.scene.nodes, members)
    # What a node is can only be changed where it runs.
    slots = coming.room(asked.count, nodes)
    coming.draw()
    for slot in slots:
        coming.take(slot, "gives way to a fresh network")
        coming.asked.fresh[slot] = True
        coming.give(slot, raw_genes(coming.scene.space, asked.genes))
    return Heeded("", None, tuple(slots))


def _target(coming: Coming, into: Member | None, parents: tuple[int, ...]) -> int:
    strangers = _strangers(coming, parents[0])
    slot = coming.room(1, [*parents, *strangers])[0] if into is None else into.slot
    if slot in strangers:
        raise InputError(f"nodes {parents[0]} and {slot} are of different architectures")
    return coming.take(slot, "gives way to a child")


def _strangers(coming: Coming, parent: int) -> list[int]:
    """Slots that cannot take over its weights: of another kind, or nodes of another size."""
    scene, sizes = coming.scene, coming.frame.parameters
    return [
        slot
        for slot in range(len(sizes))
        if scene.is_node(slot) != scene.is_node(parent)
        or (scene.is_node(slot) and sizes[slot] != sizes[parent])
    ]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_RULES: dict[type, Callable[[Coming, Any], Heeded]] = {
    Boost: _boost, Freeze: _freeze, Thaw: _thaw, Pin: _pin, Unpin: _unpin, Kill: _kill,
    Clone: _clone, Breed: _breed, Set: _set, Turn: _turn, Add: _add,
}  # fmt: skip
