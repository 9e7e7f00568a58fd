"""A figure on a page that takes new data without being rebuilt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import holoviews as hv
import panel as pn
from bokeh.events import SelectionGeometry, Tap
from holoviews.streams import Pipe

from viz import theme

Place = Callable[[float, float], None]
Box = Callable[[tuple[float, float, float, float]], None]


class Plot:
    """One live figure: `draw` sends new arguments to `make`, without rebuilding the page.

    Args:
        make: draws an overlay.
        on_tap: told the place of a tap.
        on_box: told left, bottom, right and top of a selected box.
    """

    def __init__(
        self,
        make: Callable[..., hv.Overlay],
        on_tap: Place | None = None,
        on_box: Box | None = None,
    ):
        self._make, self._on_tap, self._on_box = make, on_tap, on_box
        self._pipe: Pipe | None = None
        self._frame = self._figure = None
        self.pane = pn.pane.HoloViews(sizing_mode="stretch_both", linked_axes=False, margin=0)

    def draw(self, frame: Any = None, **arguments: Any) -> None:
        """Draws; another `frame` (such as a kind of axis) makes a new figure."""
        hooks = [theme.finish, theme.follow, self._listen]
        overlay = theme.styled(self._make(**arguments), hooks=hooks)
        old, self._pipe = self._pipe, None
        if old is not None and frame == self._frame:
            old.send(overlay)
        else:
            old = Pipe(data=overlay)
            self.pane.object = hv.DynamicMap(lambda data: data, streams=[old])
        # A figure that failed half-way is not used again.
        self._frame, self._pipe = frame, old

    def _listen(self, plot: Any, _element: Any) -> None:
        if plot.state is not self._figure:
            self._figure = plot.state
            plot.state.on_event(Tap, self._tapped)
            plot.state.on_event(SelectionGeometry, self._boxed)

    def _tapped(self, event: Any) -> None:
        if self._on_tap and event.x is not None and event.y is not None:
            self._on_tap(event.x, event.y)

    def _boxed(self, event: Any) -> None:
        shape = event.geometry
        if self._on_box and event.final and shape.get("type") == "rect":
            self._on_box((shape["x0"], shape["y0"], shape["x1"], shape["y1"]))
