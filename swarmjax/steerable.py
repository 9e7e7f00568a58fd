"""What of a run can be steered, and what is wrong with a directive for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from swarmjax.crossover import OF_TWO, OF_UNITS
from swarmjax.dials import Dial
from swarmjax.space import Choice, Gene, Option, Space
from swarmjax.steering import Add, Breed, Clone, Directive, Genes, Member, Note, Set, Turn
from swarmjax.types import InputError

_FINITE = float(np.finfo(np.float32).max)


class Scene(NamedTuple):
    """What a directive is checked against.

    Attributes:
        space: the genes.
        dials: numbers that may be turned, by name.
        resizes: whether weights can be fitted to another structure.
        birth: `[N]` birth number of the network in each slot; empty before the first round.
        alive: `[N]` bool.
        nodes: how many of the slots, the last ones, are training nodes: no weights go between them
            and the others.
    """

    space: Space
    dials: Mapping[str, Dial]
    resizes: bool
    birth: np.ndarray
    alive: np.ndarray
    nodes: int = 0

    def is_node(self, slot: int) -> bool:
        """Whether a training node has the slot."""
        return slot >= len(self.birth) - self.nodes


def operators(resizes: bool) -> tuple[str, ...]:
    """How two networks can be bred, if weights can be fitted to another structure, or else not."""
    return tuple(sorted(OF_TWO if resizes else OF_TWO - OF_UNITS))


def check(directive: Directive, scene: Scene) -> None:
    """Raises InputError, saying why, if nobody could follow the directive."""
    for name in ("member", "mate", "into"):
        member = getattr(directive, name, None)
        if member is not None:
            living = name != "into" and not isinstance(directive, Note)
            _check_member(member, scene, living=living)
    match directive:
        case Breed(operator=operator) if operator not in operators(scene.resizes):
            known = ", ".join(operators(scene.resizes))
            raise InputError(f"nobody is bred by {operator!r} here; choose among {known}")
        case Breed(member=one, mate=other) if one == other:
            raise InputError(f"member {one.slot} cannot be bred with itself; clone it")
        case Clone(member=one, into=target) | Breed(member=one, into=target) if one == target:
            raise InputError(f"member {one.slot} cannot take its own slot")
        case Breed(member=one, mate=other) if scene.is_node(one.slot) or scene.is_node(other.slot):
            raise InputError("nodes cannot be bred, their networks are not held here; clone one")
        case (
            Clone(member=one, into=Member() as target) | Breed(member=one, into=Member() as target)
        ) if scene.is_node(one.slot) != scene.is_node(target.slot):
            raise InputError(
                f"of members {one.slot} and {target.slot} one is a node, and no weights go between "
                "nodes and others; set its genes instead"
            )
        case Set(genes=genes):
            _check_set(genes, scene)
        case Add(genes=genes):
            if len(scene.birth) == 0:
                raise InputError("all networks are fresh in the first round; wait for its end")
            raw_genes(scene.space, genes)
        case Turn(values=values):
            for name, value in values.items():
                _check_dial(name, value, scene.dials)
        case Note(text=text) if not text.isprintable() or not text.strip():
            raise InputError("a note must be one line of printable text")


def raw_genes(space: Space, genes: Mapping[str, Option]) -> dict[str, float]:
    """Values as in `Frame.genome`, options by index; raises InputError on what is not legal."""
    return {name: _raw(name, value, space) for name, value in genes.items()}


def _raw(name: str, value: Option, space: Space) -> float:
    if name not in space:
        known = ", ".join(known for known, _ in space.genes)
        raise InputError(f"there is no gene {name!r}; the genes are {known}")
    gene = space[name]
    raw = _place(gene, value)
    if raw is None or not gene.legal(np.asarray(raw, np.float32)):
        raise InputError(f"{name} cannot be {value!r}; {_legal(gene)}")
    return float(raw)


def _place(gene: Gene, value: Option) -> float | None:
    """The raw value, None where it is of another kind than the gene."""
    if isinstance(gene, Choice):
        same = [o == value and isinstance(o, bool) == isinstance(value, bool) for o in gene.options]
        return float(same.index(True)) if any(same) else None
    if isinstance(value, str | bool) or not abs(value) < _FINITE:
        return None
    return float(value)


def _legal(gene: Gene) -> str:
    if isinstance(gene, Choice):
        return f"choose among {', '.join(map(str, gene.options))}"
    return f"it lies between {gene.low:g} and {gene.high:g}"


def _check_member(member: Member, scene: Scene, *, living: bool) -> None:
    slot, members = member.slot, len(scene.birth)
    if members == 0:
        raise InputError("no network lives yet; wait for the end of the first round")
    if slot >= members:
        raise InputError(f"there is no member {slot}; members are 0 to {members - 1}")
    if scene.birth[slot] != member.birth:
        raise InputError(
            f"network {member.birth} is gone: slot {slot} holds network {scene.birth[slot]} now"
        )
    if living and not scene.alive[slot]:
        raise InputError(f"member {slot} is dead; `add` starts fresh networks in dead slots")


def _check_set(genes: Genes, scene: Scene) -> None:
    if not genes:
        raise InputError("set needs a gene and its value, such as learning_rate=0.01")
    raw_genes(scene.space, genes)
    for name in genes:
        if scene.space[name].structural and not scene.resizes:
            raise InputError(f"{name} shapes the network, and its weights cannot be fitted anew")


def _check_dial(name: str, value: Any, dials: Mapping[str, Dial]) -> None:
    if name not in dials:
        known = ", ".join(dials) or "none"
        raise InputError(f"this run has no number {name!r} to turn; it has {known}")
    bounds = dials[name]
    if value is not None and not bounds.low <= value <= bounds.high:
        raise InputError(
            f"{name} must lie between {bounds.low:g} and {bounds.high:g}, got {value:g}"
        )
