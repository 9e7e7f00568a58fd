"""Islands as a side of a comparison, spoken to by a Worker: `python -m paper.side_islands`.

The process is the controller, and starts a Ray of its own. `rounds`: two islands train a swarm;
`moving`: a network goes from one to the other, or the same bytes through the object store alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from paper.swarms import SEED, Work, make_work
from paper.workers import serve
from swarmjax import archipelago, crew, island
from swarmjax.cohorts import Costs
from swarmjax.frames import first_frame
from swarmjax.islands import connect, islands
from swarmjax.planner import Choices
from swarmjax.policy import keep
from swarmjax.rounds import prepare_jax
from swarmjax.watch import Wanted

# Members that are moved: of 128 units, with their optimizer's state, 10 MB.
_MOVED = 88


def prepare(what: str, **case: Any) -> Callable[..., Any]:
    """A round of what is measured, whose first one compiles everything."""
    prepare_jax()
    fleet, hands, work = begin(make_work(**case))
    frame = first_frame(work.recipe, work.task, len(work.steps), work.genome)

    def round() -> dict[str, float]:
        nonlocal frame
        fresh = np.full(len(work.steps), int(frame.round) == 0)
        frame = fleet.round(keep(frame)._replace(fresh=fresh, steps=work.steps), frame)
        return {name: float(np.mean(value)) for name, value in frame.metrics.items()}

    if what == "rounds":
        return round
    round()
    return moved(fleet, hands)


def begin(work: Work) -> tuple[archipelago.Archipelago, crew.RayCrew, Work]:
    """Two islands of one core each, by choices without a trial."""
    connect(islands(2, cpus=1))
    members, budget = len(work.steps), int(work.steps.sum())
    settings = island.Settings(
        work.recipe, work.task, members, budget, SEED, "auto", Wanted(), 1 / 2, even=True
    )
    hands = crew.RayCrew(settings, cores=1, gpus=0, patience=600.0)
    choices = Choices(Costs(), {}, 1)
    return archipelago.Archipelago(hands, settings, 2, choices), hands, work


def moved(fleet: archipelago.Archipelago, hands: crew.RayCrew) -> Callable[[str], dict[str, Any]]:
    """Seconds in which members go to the other island, or their bytes through the store."""
    import ray

    slots, done = np.flatnonzero(fleet.convoy.owner == 0)[:_MOVED], fleet.harvests[0].round
    ((crate,),) = fleet.convoy.packed(slots)
    arrays = [np.array(leaf) for leaf in _leaves(crate.members)]
    store = _Store()

    def go(how: str) -> dict[str, Any]:
        begun = time.perf_counter()
        if how == "islands":
            sent = hands.send(0, done, [slots])
            call = hands.call(1, "hold", done, slots, np.zeros(len(slots), np.int32), *sent)
            hands.wait({call: 1})
        elif how == "put-get":
            found = ray.get(ray.put(arrays))
            assert len(found) == len(arrays)
        else:
            store.through(sum(array.nbytes for array in arrays))
        return {"seconds": time.perf_counter() - begun, "bytes": sum(a.nbytes for a in arrays)}

    return go


class _Store:
    """Two plain actors, of which one puts bytes into the object store and the other copies them."""

    def __init__(self):
        import ray

        giver: Any = ray.remote(num_cpus=0)(_Giver)
        self._ray, self._giver, self._taker = ray, giver.remote(), giver.remote()

    def through(self, size: int) -> None:
        """So many bytes go from one process to the other."""
        self._ray.get(self._taker.take.remote(self._giver.give.remote(size)))


class _Giver:
    def __init__(self):
        self._held = np.zeros(0, np.uint8)

    def give(self, size: int) -> np.ndarray:
        if len(self._held) != size:
            self._held = np.ones(size, np.uint8)
        return self._held

    def take(self, found: np.ndarray) -> int:
        self._held = found.copy()
        return len(self._held)


def _leaves(tree: Any) -> list[np.ndarray]:
    import jax

    return jax.tree.leaves(tree)


if __name__ == "__main__":
    serve(prepare)
