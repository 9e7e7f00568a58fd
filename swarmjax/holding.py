"""A swarm as arrays by name, and back: what a checkpoint keeps of it, whatever the devices are.

    swarm.<field>             those of `Swarm` that are arrays, `[N]`, and `births`
    member<k>.<path>          `[n, ...]` leaves of the members of kind `k`, by rising slot

The containers themselves are not kept: shapes tell them.
"""

from __future__ import annotations

import numpy as np

from swarmjax import stacks
from swarmjax.containers import candidates, recognised
from swarmjax.following import Homes
from swarmjax.members import Recipe
from swarmjax.models import architectures
from swarmjax.naming import Named, digest, named
from swarmjax.swarm import Store, Swarm
from swarmjax.types import Genome

_FIELDS = ("kind", "row", "birth", "lineage", "step")


def arrays_of(swarm: Swarm) -> Named:
    """Copies on the host of all that the swarm holds."""
    arrays = {f"swarm.{name}": np.array(getattr(swarm, name)) for name in _FIELDS}
    arrays["swarm.births"] = np.asarray(swarm.births)
    for kind in np.unique(swarm.kind):
        cohort = swarm.cohorts[swarm.containers[kind]]
        members = stacks.copied(cohort, swarm.row[swarm.kind == kind])
        arrays |= named(members, f"member{kind}")
    return arrays


def swarm_of(
    recipe: Recipe,
    homes: Homes,
    genome: Genome,
    arrays: Named,
    store: Store,
) -> Swarm:
    """The swarm that `arrays_of` was given, kept as `store` says.

    Args:
        recipe: what all members share.
        homes: from the planner.
        genome: `[N]` genes of the swarm.
        arrays: perhaps with others.
        store: how cohorts are kept.

    Raises:
        InputError: members of such genes are not what the arrays hold.
    """
    held = {name: np.asarray(arrays[f"swarm.{name}"]) for name in _FIELDS}
    found, index = architectures(recipe.space, genome)
    cohorts, kinds = {}, held["kind"].copy()
    for new, kind in enumerate(np.unique(held["kind"])):
        slots = np.flatnonzero(held["kind"] == kind)
        boxes = candidates(recipe, homes, found[index[slots[0]]])
        box, members = recognised(recipe, boxes, arrays, f"member{kind}", len(slots))
        cohorts[box] = stacks.stack_of(members, held["row"][slots], store.mesh, store.host)
        kinds[slots] = new
    births = int(arrays["swarm.births"])
    return Swarm(cohorts, tuple(cohorts), births=births, **held | {"kind": kinds})


def digests(arrays: Named) -> np.ndarray:
    """`[N, 16]` bytes that tell the members apart that `arrays_of` gave, padding included."""
    kinds = arrays["swarm.kind"]
    made = np.zeros((len(kinds), 16), np.uint8)
    for kind in np.unique(kinds):
        prefix = f"member{kind}"
        # With the dot or bracket that a path begins with, so that 1 is not taken for 10.
        leaves = {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(f"{prefix}.")}
        for i, slot in enumerate(np.flatnonzero(kinds == kind)):
            parts = ((name, leaf[i]) for name, leaf in leaves.items())
            made[slot] = np.frombuffer(digest(parts), np.uint8)
    return made
