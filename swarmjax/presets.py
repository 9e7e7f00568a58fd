"""Named policies: each preset is a chain, and leaving out a link is an ablation."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from swarmjax.allocate import proportional, uniform
from swarmjax.evolve import exploit
from swarmjax.policy import chain
from swarmjax.tune import grid, perturb, random
from swarmjax.types import InputError, Policy


def swarm() -> Policy:
    """Steps by accuracy and efficiency, exploit and perturb: the default.

    Tasks without `valid_accuracy` are judged as `fitness.accuracy` says.
    """
    return chain(exploit(), proportional(accuracy=0.7, efficiency=0.3), perturb())


def pbt() -> Policy:
    """Population Based Training: Jaderberg et al. 2017, arXiv:1711.09846."""
    return chain(exploit(), uniform(), perturb())


def random_search() -> Policy:
    """Equal steps for random genomes: Bergstra and Bengio 2012, JMLR 13."""
    return chain(uniform(), random())


def grid_search() -> Policy:
    """Equal steps for genomes on a grid over all genes."""
    return chain(uniform(), grid())


PRESETS: dict[str, Callable[[], Policy]] = {
    "swarm": swarm,
    "pbt": pbt,
    "random_search": random_search,
    "grid_search": grid_search,
}


def preset(name: str) -> Policy:
    """The preset called `name`; raises InputError, naming all, if there is none."""
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"no policy is called {name!r}; {hint}known: {', '.join(PRESETS)}")
    return PRESETS[name]()
