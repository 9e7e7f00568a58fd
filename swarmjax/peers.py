"""What the controller knows of training nodes, and how their genes are those of the space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from swarmjax.errors import InputError, one_line
from swarmjax.parcels import Collector
from swarmjax.records import Announce, Report
from swarmjax.space import Choice, Gene, Space


@dataclass
class Peer:
    """One node, as it was heard of last.

    Attributes:
        slot: of the swarm.
        announce: how it joined; its incarnation is the one that counts.
        heard: monotonic seconds when it was heard of last.
        present: it has neither left nor been retired.
        stale: it was silent for longer than is usual.
        place: number of the grant it had heard of, and steps behind its weights, as it told last.
        moved: monotonic seconds when that changed, or it told of work.
        stuck: it lives, but was given up because it did not move.
        number: of its last grant.
        report: what it said at the end of that grant, or None so far.
        latest: the last report that came, of whatever grant.
        parcel: parts of its weights as they come.
    """

    slot: int
    announce: Announce
    heard: float
    present: bool = True
    stale: bool = False
    place: tuple[int, int] = (0, 0)
    moved: float = 0.0
    stuck: bool = False
    number: int = 0
    report: Report | None = None
    latest: Report | None = None
    parcel: Collector = field(default_factory=Collector)

    @property
    def name(self) -> str:
        """Of the node."""
        return self.announce.node

    @property
    def busy(self) -> bool:
        """Whether it owes the report of a grant."""
        return self.number > 0 and self.report is None

    def fits(self, other: Peer) -> bool:
        """Whether it can take over the other's weights."""
        return bool(self.announce.weights) and self.announce.weights == other.announce.weights


def raw_genes(space: Space, genes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Gene -> its value as a Plan holds it; InputError unless they are values of the space."""
    wanted = {name for name, _ in space.genes}
    if wanted != set(genes):
        odd = one_line(", ".join(sorted(wanted ^ set(genes))))
        raise InputError(f"the genes must be those of the swarm's space; they differ in {odd}")
    return {name: _raw(name, gene, genes[name]) for name, gene in space.genes}


def _raw(name: str, gene: Gene, value: Any) -> np.ndarray:
    if isinstance(gene, Choice):
        for i, option in enumerate(gene.options):
            if type(option) is type(value) and option == value:
                return np.asarray(i, np.int32)
        raise InputError(
            f"gene {name} has no option {one_line(value)!r}; it is one of {gene.options}"
        )
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not gene.legal(np.asarray(value, np.float32)):
        raise InputError(
            f"gene {name} must be from {gene.low} to {gene.high}, got {one_line(value)}"
        )
    return np.asarray(value, np.float32)
