"""A figure on a page that takes new data without being rebuilt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

import holoviews as hv
import numpy as np
import panel as pn
from bokeh.events import RangesUpdate, SelectionGeometry, Tap
from holoviews.streams import Pipe

from viz import columns, theme
from viz.marks import light
from viz.selection import Window

MAX_CORNERS = 2000

Place = Callable[[float, float], None]
Area = Callable[[np.ndarray], None]


class Plot:
    """One live figure: `draw` sends new arguments to `make`, without rebuilding the page.

    Args:
        make: an overlay, or `Marks` where no elements are made.
        on_tap: told the place of a tap.
        on_area: told the corners `[K, 2]` of a selected box or lasso.
        on_figure: told the id of every new figure of bokeh.
        on_window: told left, bottom, right and top of what a person zoomed to, None for all.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        on_tap: Place | None = None,
        on_area: Area | None = None,
        on_figure: Callable[[str], None] = lambda name: None,
        on_window: Callable[[Window | None], None] | None = None,
    ):
        self._make, self._on_tap, self._on_area = make, on_tap, on_area
        self._on_figure, self._on_window = on_figure, on_window
        self._pipe: Pipe | None = None
        self._sendable = False
        self._frame = self._figure = self._kind = self._drawn = None
        self.pane = pn.pane.HoloViews(sizing_mode="stretch_both", linked_axes=False, margin=0)

    def draw(self, frame: Any = None, **arguments: Any) -> None:
        """Draws; another `frame` (such as a kind of axis) makes a new figure."""
        if self._pipe and self._drawn and self._sendable and frame == self._frame:
            with light():
                fresh = self._make(**arguments)
            if columns.kind(fresh) == self._kind and columns.send(self._drawn, fresh):
                return
        overlay = self._make(**arguments)
        kind, self._sendable = columns.kind(overlay), columns.sendable(overlay)
        hooks = [theme.finish, theme.follow, _weakly(self._listen)]
        theme.styled(overlay, hooks=hooks)
        old, self._pipe = self._pipe, None
        if old is not None and frame == self._frame:
            old.send(overlay)
        else:
            old = Pipe(data=overlay)
            self.pane.object = hv.DynamicMap(lambda data: data, streams=[old])
        # A figure that failed half-way is not used again.
        self._frame, self._kind, self._pipe = frame, kind, old

    def _listen(self, plot: Any, _element: Any) -> None:
        self._drawn = plot
        if plot.state is not self._figure:
            self._figure = plot.state
            self._on_figure(plot.state.id)
            plot.state.on_event(Tap, self._tapped)
            plot.state.on_event(SelectionGeometry, self._boxed)
            if self._on_window:
                plot.state.on_event(RangesUpdate, self._zoomed)

    def _tapped(self, event: Any) -> None:
        if self._on_tap and event.x is not None and event.y is not None:
            self._on_tap(event.x, event.y)

    def _boxed(self, event: Any) -> None:
        if self._on_area and event.final:
            corners = polygon(event.geometry)
            if corners is not None:
                self._on_area(corners)

    def _zoomed(self, event: Any) -> None:
        figure = self._figure
        given = (event.x0, event.y0, event.x1, event.y1)
        if self._on_window is None or figure is None or None in given:
            return
        window: Window = (float(event.x0), float(event.y0), float(event.x1), float(event.y1))
        x, y = figure.x_range, figure.y_range
        whole = (x.reset_start, y.reset_start, x.reset_end, y.reset_end)
        self._on_window(None if np.allclose(window, whole) else window)


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """The method, as long as its object lives, which is not kept alive by this.

    HoloViews keeps the options of an element, and the hooks among them, for as long as the element
    lives. This one would live as long as its figure, and no page would ever be forgotten.
    """
    held = WeakMethod(method)

    def call(*arguments: Any) -> None:
        found = held()
        if found is not None:
            found(*arguments)

    return call


def polygon(geometry: Any) -> np.ndarray | None:
    """Corners `[K, 2]` of a box or lasso as bokeh tells of it; None for what is neither."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    try:
        if kind == "rect":
            x0, y0, x1, y1 = (float(geometry[name]) for name in ("x0", "y0", "x1", "y1"))
            corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        elif kind == "poly":
            ends = [np.asarray(geometry[name], float)[:MAX_CORNERS] for name in ("x", "y")]
            corners = np.stack(ends, axis=1)
        else:
            return None
    except (KeyError, TypeError, ValueError):
        return None
    return corners if len(corners) > 2 and np.isfinite(corners).all() else None
