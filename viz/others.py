"""Other runs beside the one that is shown: which there are, and what they have come to."""

from __future__ import annotations

import logging
from pathlib import Path

from swarmjax.stored import list_runs
from swarmjax.types import InputError
from viz import metrics, outcomes, source
from viz.outcomes import Outcome

# How many are offered, and how many are shown beside the run at a time.
OFFERED, SHOWN = 40, 7
log = logging.getLogger(__name__)


class Others:
    """Outcomes of the runs in the same folder, read when they are first asked for.

    Args:
        directory: that of the run that is shown.

    Attributes:
        known: every name ever told, whose places never change.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.known: list[str] = []
        self._read: dict[str, tuple[float, Outcome | str]] = {}

    def names(self) -> list[str]:
        """Names of the other runs, newest first."""
        try:
            found = [path.resolve() for path in list_runs(self.directory.parent)]
        except OSError:
            return []
        here = self.directory.parent
        others = [p for p in found if p != self.directory and p.is_relative_to(here)]
        names = [str(path.relative_to(here)) for path in others[:OFFERED]]
        self.known += [name for name in names if name not in self.known]
        return names

    def outcome(self, name: str, metric: str) -> Outcome | str:
        """What a run of `names` has come to by a metric, or in words why that is not known."""
        if name not in self.names():
            return f"{name}: no such run here"
        path = self.directory.parent / name
        stamp = (path / "swarm.db").stat().st_mtime
        key = f"{name}\0{metric}"
        if self._read.get(key, (None,))[0] != stamp:
            self._read[key] = stamp, _outcome(path, name, metric)
        return self._read[key][1]


def _outcome(path: Path, name: str, metric: str) -> Outcome | str:
    try:
        history = source.read(path)
        if metric not in metrics.selectable(history).values():
            return f"{name} does not measure {metric}"
        return outcomes.outcome(history, metric)
    except InputError as error:
        return str(error)
    except Exception as error:  # Whatever a folder holds, the other runs are shown.
        log.warning("cannot read the run %s", name, exc_info=True)
        return f"{name} cannot be read: {error}"
