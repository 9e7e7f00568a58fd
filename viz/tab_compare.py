"""This run beside others."""

from __future__ import annotations

import pandas as pd

from viz import captions, outcomes, race
from viz.outcomes import Outcome
from viz.scene import Scene, View, choose_metric
from viz.tab_search import DISTRIBUTION, HISTORY, own


def _together(scene: Scene, metric: str) -> dict[str, Outcome]:
    """This run and those beside it that measure the metric."""
    found = {name: scene.others.outcome(name, metric) for name in scene.beside}
    return own(scene, metric) | {k: run for k, run in found.items() if isinstance(run, Outcome)}


def _missing(scene: Scene, metric: str) -> str:
    found = (scene.others.outcome(name, metric) for name in scene.beside)
    return "; ".join(run for run in found if isinstance(run, str))


def _runs_table(scene: Scene, metric: str) -> pd.DataFrame:
    """This run, those beside it, and the others there are."""
    frame = outcomes.table(_together(scene, metric))
    named = pd.DataFrame({"run": [scene.name, *scene.others.names()]})
    whole = named.merge(frame, on="run", how="left")
    known = scene.others.known
    whole["key"] = [None, *(known.index(name) for name in whole.run[1:])]
    return whole.astype({"key": "Int64"})


def _runs_caption(scene: Scene, metric: str) -> str:
    count = len(scene.others.names())
    text = f"tick runs to see them beside this one: {len(scene.beside)} of {count} shown"
    return captions.caption(
        text if count else "no other run in this folder", _missing(scene, metric)
    )


RUNS = View(
    "runs", "Runs", lambda scene: [choose_metric(scene, "metric", "Metric")],
    table=_runs_table, caption=_runs_caption, key="run", alone=True,
)  # fmt: skip

COMPARED = HISTORY._replace(
    name="compared", title="Best so far", alone=True,
    table=lambda scene, axis, metric: outcomes.by_round(_together(scene, metric)),
    caption=lambda scene, axis, metric: captions.caption(
        f"{captions.counted(len(_together(scene, metric)), 'run')}; band: this run's middle 80 %",
        _missing(scene, metric),
    ),
    plot=lambda scene, axis, metric: race.plot_best(
        _together(scene, metric), axis=axis, look=scene.look
    ),
)  # fmt: skip

COMPARED_SHARES = DISTRIBUTION._replace(
    name="compared-distribution", title="Distribution of members", alone=True,
    table=lambda scene, metric: outcomes.shares_table(_together(scene, metric)),
    plot=lambda scene, metric: race.plot_shares(_together(scene, metric), look=scene.look),
)  # fmt: skip
