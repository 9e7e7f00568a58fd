"""All members of a swarm that is too large for a node each, as one picture beneath the graph."""

from __future__ import annotations

import datashader
import holoviews as hv
import numpy as np
import pandas as pd

from viz.marks import element
from viz.theme import Look, styled

PIXELS = (480, 300)


def image(nodes: pd.DataFrame, view: tuple[float, float, float, float], look: Look) -> hv.Image:
    """The mean shade of the living members in every pixel, empty where there are none.

    Args:
        nodes: columns `x`, `y`, `shade` in `[0, 1]` and `alive`, one row per member.
        view: left, bottom, right and top of the picture.
        look: its colours.
    """
    (left, bottom, right, top), (wide, high) = view, PIXELS
    canvas = datashader.Canvas(wide, high, x_range=(left, right), y_range=(bottom, top))
    living = nodes.loc[nodes.alive, ["x", "y", "shade"]]
    seen = canvas.points(living, "x", "y", agg=datashader.mean("shade"))
    values = np.asarray(seen, np.float32)
    data = seen["x"].to_numpy(), seen["y"].to_numpy(), values
    picture = element(hv.Image, data, ["x", "y"], ["z"], bounds=view)
    return styled(picture, cmap=list(look.ramp), clim=(0, 1), alpha=0.45)
