"""Named policies: each preset is a chain, and leaving out a link is an ablation."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

from swarmjax import halving
from swarmjax.allocate import softmax, uniform
from swarmjax.bandits import bandit
from swarmjax.evolve import exploit, regularised
from swarmjax.fitness import Goal
from swarmjax.policy import chain
from swarmjax.tune import grid, perturb, random
from swarmjax.types import InputError, Policy


def swarm(goal: Goal | None = None) -> Policy:
    """Most steps to the best, who are also copied, with other genes, over the worst: the default.

    Population Based Training (Jaderberg et al. 2017) whose steps follow a softmax (Boltzmann
    selection, Goldberg 1990) so sharp that about a sixteenth of the swarm takes most of them. A
    goal decides both who is copied and who trains.
    """
    return chain(exploit(goal=goal), softmax(temperature=0.25, floor=0.0, goal=goal), perturb())


def pbt(goal: Goal | None = None) -> Policy:
    """Population Based Training: Jaderberg et al. 2017, arXiv:1711.09846."""
    return chain(exploit(goal=goal), uniform(), perturb())


def random_search() -> Policy:
    """Equal steps for random genomes: Bergstra and Bengio 2012, JMLR 13."""
    return chain(uniform(), random())


def grid_search() -> Policy:
    """Equal steps for genomes on a grid over all genes: the rival of Bergstra and Bengio 2012."""
    return chain(uniform(), grid())


def successive_halving(goal: Goal | None = None) -> Policy:
    """Random genomes, of which ever fewer train on: Jamieson and Talwalkar 2016."""
    return chain(halving.successive_halving(goal=goal), random())


def hyperband(goal: Goal | None = None) -> Policy:
    """Random genomes in brackets that are halved more or less often: Li et al. 2017, JMLR 18."""
    return chain(halving.hyperband(goal=goal), random())


def pb2(goal: Goal | None = None) -> Policy:
    """PBT whose explore is a bandit: Parker-Holder et al. 2020, arXiv:2002.02518."""
    return chain(exploit(goal=goal), uniform(), bandit(goal=goal))


def regularised_evolution(goal: Goal | None = None) -> Policy:
    """The oldest give way to children of another structure: Real et al. 2019, arXiv:1802.01548."""
    return chain(regularised(goal=goal), uniform(), perturb())


PRESETS: dict[str, Callable[..., Policy]] = {
    "swarm": swarm,
    "pbt": pbt,
    "random_search": random_search,
    "grid_search": grid_search,
    "successive_halving": successive_halving,
    "hyperband": hyperband,
    "pb2": pb2,
    "regularised_evolution": regularised_evolution,
}


def preset(name: str, goal: Goal | None = None) -> Policy:
    """The preset called `name`, pursuing `goal`.

    Raises:
        InputError: there is none of that name, or it looks at no goal.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"no policy is called {name!r}; {hint}known: {', '.join(PRESETS)}")
    if goal is None:
        return PRESETS[name]()
    able = [
        known for known, make in PRESETS.items() if "goal" in inspect.signature(make).parameters
    ]
    if name not in able:
        raise InputError(f"policy {name} looks at no goal; choose among {', '.join(able)}")
    return PRESETS[name](goal=goal)
