"""How long pages rest, for the sake of a training that needs the same machine."""

from __future__ import annotations

import os

import psutil

from swarmjax.stored import Reader
from swarmjax.types import InputError

# Between two drawings a page rests so many times as long as the first of them took.
REST = 1.0
# Beside a training as well, but no longer than so many seconds: the browser works on the same
# cores as the trainer, and for about twice as long as this process.
BESIDE, LONGEST = 20.0, 5.0

# A training needs the machine if it used such a share of its cores while so many percent of them
# were busy; in a round in which pages take their part, it uses less than it would.
_SHARE, _BUSY = 0.25, 60.0


def rest(seconds: float, beside: bool) -> float:
    """Seconds to rest after `seconds` of drawing, `beside` a training that needs the machine."""
    return min(BESIDE * seconds, LONGEST) if beside else REST * seconds


def needed(reader: Reader, round: int) -> bool:
    """Whether a run that has just stored `round` needs the cores of this machine.

    The share of them that is busy is that since the last call.
    """
    busy = psutil.cpu_percent()
    try:
        used = reader.summaries("usage", round)["cpu"].to_numpy()
    except InputError:
        return False
    return busy >= _BUSY and bool(used[-1] >= _SHARE * (os.cpu_count() or 1))
