"""A card: one view with its heading, controls, words, text twin and export."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import holoviews as hv
import numpy as np
import pandas as pd
import panel as pn
import panel_material_ui as pmui
import param
from panel.custom import JSComponent

from viz import members, theme, words
from viz.live import Plot
from viz.marks import is_light
from viz.scene import Control, Scene, View
from viz.selection import Window

CARD = """:host { background: var(--viz-paper); border: 1px solid var(--viz-line);
  border-radius: 10px; padding: 10px 14px 8px; box-sizing: border-box; overflow: hidden; }"""
# Milliseconds between a zoom and its finer picture.
SETTLED = 120
# Of the controls of a card, by how many there are.
WIDTHS = (156, 156, 156, 112, 94)
log = logging.getLogger(__name__)

T = TypeVar("T")


class Tools(JSComponent):
    """A button that turns a card into a table and back, and a menu that saves what it shows.

    `give` makes the data; pictures are drawn by the browser.
    """

    title = param.String(default="")
    file = param.String(default="figure", doc="name of the saved file, without its ending")
    figure = param.String(default="", doc="id of bokeh's figure; empty before there is one")
    plotted = param.Boolean(default=True, doc="whether there is a plot beside the table")
    table = param.Boolean(default=False, doc="whether the table is shown")

    _esm = Path(__file__).with_name("tools.js").read_text(encoding="utf-8")
    _stylesheets = [Path(__file__).with_name("tools.css").read_text(encoding="utf-8")]

    def __init__(self, give: Callable[[], pd.DataFrame], **params: Any):
        super().__init__(**params)
        self._give = give

    def _handle_msg(self, msg: Any) -> None:
        kind = msg.get("data") if isinstance(msg, dict) else None
        if kind in ("CSV", "Parquet"):
            content = base64.b64encode(encoded(self._give(), kind)).decode()
            self._send_msg({"kind": kind, "content": content})


def encoded(frame: pd.DataFrame, kind: str) -> bytes:
    """A table as the content of a CSV or Parquet file."""
    if kind == "CSV":
        return frame.to_csv(index=False).encode()
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


class Card:
    """One view on the page, which asks `scene` for what to show.

    Args:
        view: what it shows.
        scene: the present scene.
        select: told members to select, and whether in place of those selected or to be toggled.
        toggle: told the number of a row that was ticked.
        changed: told that a choice was made.
    """

    def __init__(
        self,
        view: View,
        scene: Callable[[], Scene],
        select: Callable[[Sequence[int], bool], None],
        toggle: Callable[[str, int], None],
        changed: Callable[[], None],
    ):
        self.view, self._scene, self._select, self._changed = view, scene, select, changed
        self.caption = words.pane()
        # Room for its words from the first: a figure would be cut off until it has made some.
        self.caption.object = words.DRAWING
        self.plot = self._make_plot()
        self.twin = members.MemberTable(
            lambda number: toggle(view.key, number), label=view.title, noun=view.key,
            sizing_mode="stretch_both", margin=0,
        )  # fmt: skip
        offered = view.controls(scene())
        width = WIDTHS[min(len(offered), len(WIDTHS) - 1)]
        self.controls = {c.name: self._make_select(c, width) for c in offered}
        self.tools = Tools(
            self.data, title=view.title, file=view.name, plotted=view.plot is not None,
            margin=(6, 0, 0, 8),
        )  # fmt: skip
        self.tools.param.watch(self._switched, "table")
        self.body = pn.Column(self._shown(), sizing_mode="stretch_both", margin=0, min_height=0)
        self.panel = self._make_panel()

    @property
    def choices(self) -> dict[str, str]:
        """The value of every control."""
        return {name: select.value for name, select in self.controls.items()}

    def data(self) -> pd.DataFrame:
        """What the card shows, as a table."""
        frame = self.view.table(self._scene(), **self.choices)
        return frame.drop(columns="key", errors="ignore")

    def restore(self, asked: Mapping[str, str]) -> None:
        """Takes over the values of controls that are on offer, and whether to be a table."""
        for name, select in self.controls.items():
            if asked.get(name) in select.options.values():
                select.value = asked[name]
        if self.plot is not None and asked.get("as") == "table":
            self.tools.table = True

    def draw(self) -> None:
        """Shows the present scene; what fails is told in place of the words."""
        try:
            self._draw(self._scene())
        except Exception as error:  # The other views go on, and this one tries again.
            log.exception("view failed: %s", self.view.name)
            self.caption.object = words.failure("this view failed", error)

    def _draw(self, scene: Scene) -> None:
        for control in self.view.controls(scene):
            select = self.controls[control.name]
            if select.options != control.options:
                select.param.update(options=control.options, value=_kept(select.value, control))
        choices = self.choices
        if self.plot is None or self.tools.table:
            self._draw_twin(scene, choices)
        else:
            kind = tuple(choices[name] for name in self.view.axes)
            zoom = {"window": self._window} if self.view.zooms else {}
            self.plot.draw(frame=kind, scene=scene, **choices, **zoom)
        self.caption.object = self._once(scene, "caption", choices, self.view.caption)

    def _draw_twin(self, scene: Scene, choices: dict[str, str]) -> None:
        told = self._once(scene, "twin", choices, self._written)
        self.twin.param.update(**told, picked=self._picked(scene))

    def _written(self, scene: Scene, **choices: str) -> dict[str, list]:
        """What the table is told of its columns and rows."""
        frame = self.view.table(scene, **choices)
        told = frame.drop(columns="key", errors="ignore")
        key = "key" if "key" in frame.columns else "member"
        return {
            "columns": [str(name).replace("_", " ") for name in told.columns],
            "numeric": [kind.kind in "fiu" for kind in map(_dtype, told.dtypes)],
            "rows": members.twin(frame, scene.history, key, scene.members),
        }

    def _plotted(self, scene: Scene, **arguments: Any) -> hv.Overlay:
        assert self.view.plot is not None
        # Elements may hold models of bokeh, each of which belongs to one page; and hardly ever do
        # two pages zoom to the same.
        if not is_light() or arguments.get("window"):
            return self.view.plot(scene, **arguments)
        return self._once(scene, "plot", arguments, self.view.plot)

    def _once(
        self, scene: Scene, what: str, arguments: Mapping[str, Any], make: Callable[..., T]
    ) -> T:
        """What `make` gives for a scene and these arguments, be it made for another page."""
        if self.view.alone:
            return make(scene, **arguments)
        key = what, self.view.name, tuple(arguments.items())
        return scene.once(key, lambda: make(scene, **arguments))

    def _picked(self, scene: Scene) -> dict[str, str]:
        if self.view.key == "run":
            known = scene.others.known
            return {str(known.index(name)): scene.look.accent for name in scene.beside}
        colors = {m: scene.look.ink for m in scene.members}
        colors |= theme.pick_colors(scene.members, scene.look)
        return {str(member): color for member, color in colors.items()}

    def _make_plot(self) -> Plot | None:
        self._window: Window | None = None
        self._waits = False
        if self.view.plot is None:
            return None
        zoomed = self._zoomed if self.view.zooms else None
        return Plot(self._plotted, self._tapped, self._marked, self._made, zoomed)

    def _make_select(self, control: Control, width: int) -> pmui.Select:
        select = pmui.Select(
            label=control.label,
            options=control.options,
            value=control.value,
            size="small",
            width=width,
            margin=(4, 0, 0, 8),
            sx={"& .MuiSelect-select": {"padding": "6px 22px 6px 9px", "fontSize": "12px"}},
        )
        select.param.watch(lambda _event: self._chose(), "value")
        return select

    def _make_panel(self) -> pn.Column:
        heading = words.pane()
        heading.param.update(sizing_mode=None, styles={"flex": "1 0 auto"})
        heading.object = words.heading(self.view.title)
        bar = pn.Row(
            heading, *self.controls.values(), self.tools,
            sizing_mode="stretch_width", margin=0, styles={"flex-wrap": "wrap"},
        )  # fmt: skip
        return pn.Column(
            bar, self.caption, self.body, stylesheets=[CARD], sizing_mode="stretch_both",
            margin=0, min_height=0,
        )  # fmt: skip

    def _chose(self) -> None:
        self.draw()
        self._changed()

    def _switched(self, _event: Any) -> None:
        self.body[:] = [self._shown()]
        self._chose()

    def _shown(self) -> Any:
        return self.twin if self.plot is None or self.tools.table else self.plot.pane

    def _made(self, figure: str) -> None:
        self.tools.figure = figure

    def _zoomed(self, window: Window | None) -> None:
        """Draws what was zoomed to, once the wheel stands still for a moment."""
        waits, self._window = self._waits, window
        self._waits = True
        if not waits:
            document: Any = pn.state.curdoc
            document.add_timeout_callback(self._draw_window, SETTLED)

    def _draw_window(self) -> None:
        self._waits = False
        self.draw()

    def _tapped(self, x: float, y: float) -> None:
        if self.view.tap:
            found = list(self.view.tap(self._scene(), x, y, **self.choices))
            if found:
                self._select(found, len(found) > 1)

    def _marked(self, corners: np.ndarray) -> None:
        if self.view.area:
            self._select(self.view.area(self._scene(), corners, **self.choices), True)


def _dtype(kind: Any) -> Any:
    return getattr(kind, "numpy_dtype", kind)


def _kept(value: str, control: Control) -> str:
    return value if value in control.options.values() else control.value
