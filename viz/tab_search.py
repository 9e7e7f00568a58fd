"""What the search found out about the genes, and how it went."""

from __future__ import annotations

import numpy as np

from viz import captions, forest, genes, margins, metrics, outcomes, parallel, race
from viz.outcomes import Outcome
from viz.scene import Control, Scene, View, choose_any, choose_gene, choose_metric
from viz.tab_resources import BROUGHT

SLICE = BROUGHT._replace(
    name="slice", title="Slice",
    controls=lambda scene: [
        choose_gene(scene, "x", "Gene", 0),
        choose_metric(scene, "y", "Up"),
        choose_any(scene, "color", "Color", "step"),
    ],
)  # fmt: skip

PARALLEL = View(
    "parallel", "Parallel coordinates", lambda scene: [choose_metric(scene, "metric", "Color")],
    table=lambda scene, metric: parallel.table(scene.history, metric=metric),
    caption=lambda scene, metric: captions.caption(
        f"{len(parallel.shown(scene.history, metric)):,} of {scene.history.members:,} members "
        "shown; a box over axes selects who goes through it"
    ),
    plot=lambda scene, metric: parallel.plot(
        scene.history, metric=metric, members=scene.members, look=scene.look
    ),
    area=lambda scene, corners, metric: parallel.brushed(
        scene.history, metric, (*corners.min(axis=0), *corners.max(axis=0))
    ),
    axes=("metric",),
)  # fmt: skip


def _importance_caption(scene: Scene, metric: str) -> str:
    fit = forest.learn(scene.history, metric)
    if fit.model is None:
        return captions.caption("too few members, or all alike, to tell what matters")
    sure = "; it explains little, so trust this little" if fit.score <= forest.LITTLE else ""
    return captions.caption(
        f"a random forest learned from {fit.count:,} of {scene.history.members:,} members; on "
        f"members it had not seen it explains {max(fit.score, 0):.0%} of the variance{sure}"
    )


IMPORTANCE = View(
    "importance", "Importance of genes", lambda scene: [choose_metric(scene, "metric", "For")],
    table=lambda scene, metric: forest.table(forest.learn(scene.history, metric)),
    caption=_importance_caption,
    plot=lambda scene, metric: forest.plot(forest.learn(scene.history, metric), look=scene.look),
    axes=("metric",),
)  # fmt: skip


def _gene_caption(scene: Scene, x: str, y: str, metric: str, show: str) -> str:
    if show == "estimate":
        cells = genes.estimate(scene.history, x=x, y=y, metric=metric)
    else:
        cells = genes.grid(scene.history, x=x, y=y, metric=metric, show=show)
    told = genes.describe(scene.history, metric, show)
    held = int(np.isfinite(cells).sum())
    return captions.shaded(
        metrics.scaled(cells, told), told, scene.look,
        f"{held:,} of {cells.size:,} cells filled; a tap selects the members of one",
    )  # fmt: skip


GENES = View(
    "genes", "Gene by gene",
    lambda scene: [
        choose_gene(scene, "x", "Across", 0),
        choose_gene(scene, "y", "Up", 1),
        choose_metric(scene, "metric", "Color"),
        Control("show", "Shown", genes.SUMMARIES | genes.ESTIMATE, "mean"),
    ],
    table=lambda scene, **choices: genes.table(scene.history, **choices),
    caption=_gene_caption,
    plot=lambda scene, **choices: genes.plot(
        scene.history, **choices, members=scene.members, look=scene.look
    ),
    tap=lambda scene, at_x, at_y, x, y, **_: genes.pick(scene.history, x, y, (at_x, at_y)),
    axes=("x", "y", "show"),
)  # fmt: skip


def own(scene: Scene, metric: str = "") -> dict[str, Outcome]:
    """This run alone, by its name."""
    return {scene.name: outcomes.outcome(scene.history, metric)}


def _best_controls(scene: Scene) -> list[Control]:
    return [
        Control("axis", "Against", outcomes.AXES, "steps"),
        choose_metric(scene, "metric", "Metric"),
    ]


HISTORY = View(
    "history", "Search history", _best_controls,
    table=lambda scene, axis, metric: outcomes.by_round(own(scene, metric)),
    caption=lambda scene, axis, metric: captions.caption(
        "line: best so far; band: middle 80 % of the living members, dashed: their median"
    ),
    plot=lambda scene, axis, metric: race.plot_best(
        own(scene, metric), axis=axis, look=scene.look
    ),
    axes=("axis", "metric"),
)  # fmt: skip

DISTRIBUTION = View(
    "distribution", "Distribution", lambda scene: [choose_metric(scene, "metric", "Metric")],
    table=lambda scene, metric: outcomes.shares_table(own(scene, metric)),
    caption=lambda scene, metric: captions.caption(
        "share of the members that have so much or worse",
        f"the worst {margins.TAIL:.0%} may lie beside the figure: zoom out",
    ),
    plot=lambda scene, metric: race.plot_shares(own(scene, metric), look=scene.look),
    axes=("metric",),
)  # fmt: skip
