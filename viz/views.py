"""The cards of the page: each plot with its heading, controls and words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import panel as pn
import panel_material_ui as pmui

from viz import graph, heatmap, layout, members, metrics, theme, trajectories, words
from viz.live import Plot
from viz.selection import Selection
from viz.source import History, Snapshot

CARD = """:host { background: var(--viz-paper); border: 1px solid var(--viz-line);
  border-radius: 10px; padding: 10px 14px 8px; box-sizing: border-box; overflow: hidden; }"""
# Panel puts a button of its own among the cards, which would take a row.
ONLY = ".scroll-button { display: none; }"
GRID = {
    "display": "grid",
    "gap": "12px",
    "grid-template-columns": "repeat(auto-fit, minmax(min(100%, 560px), 1fr))",
    "grid-auto-rows": "minmax(370px, 1fr)",
    "flex": "1 0 auto",
}
log = logging.getLogger(__name__)


class Views:
    """Graph, heatmap, trajectories and table of one page, under one selection.

    They are empty until `draw`, which is called once they are on the page: what fails then is
    told in place of the one view that failed.
    """

    def __init__(self, snapshot: Snapshot, selection: Selection, dark: bool):
        assert snapshot.history is not None
        self.snapshot, self.selection, self.look = snapshot, selection, theme.look(dark)
        selection.size = snapshot.history.members
        self._make_controls(snapshot.history)
        self.graph = Plot(graph.plot, self._tap_graph, self._box_graph)
        self.heatmap = Plot(heatmap.plot, self._tap_heatmap)
        self.trajectories = Plot(trajectories.plot)
        self.table = members.MemberTable(selection.toggle, sizing_mode="stretch_both", margin=0)
        self._drawers = {
            "graph": self._draw_graph,
            "heatmap": self._draw_heatmap,
            "lines": self._draw_lines,
            "table": self._draw_table,
        }
        self.captions = {name: words.pane() for name in self._drawers}
        self.grid = pn.Column(
            *self._cards(), styles=GRID, stylesheets=[ONLY], sizing_mode="stretch_both", margin=0
        )
        selection.param.watch(lambda _event: self.draw(), "members")

    @property
    def history(self) -> History:
        """The rounds shown."""
        assert self.snapshot.history is not None
        return self.snapshot.history

    def update(self, snapshot: Snapshot) -> None:
        """Shows a newer snapshot."""
        self.snapshot = snapshot
        self.draw()

    def repaint(self, dark: bool) -> None:
        """Shows the same in the colours of the other theme."""
        self.look = theme.look(dark)
        self.draw()

    def draw(self, *names: str) -> None:
        """Draws the named views, or all."""
        for name in names or self._drawers:
            try:
                self._drawers[name]()
            except Exception as error:  # The other views go on, and this one tries again.
                log.exception("view failed: %s", name)
                self.captions[name].object = words.failure("this view failed", error)

    def _make_controls(self, history: History) -> None:
        options = metrics.selectable(history)
        first = next(iter(options.values()))
        kinds = layout.kinds(history.space)
        self.color = _select("Color", options, first, self._redraw("graph"))
        self.size = _select("Size", options, first, self._redraw("graph"))
        self.kind = _select("Edges: similar", kinds, kinds[0], self._redraw("graph"))
        self.cell = _select("Color", options, first, self._redraw("heatmap"))
        self.rows = _select("Rows", heatmap.ROWS, "rank", self._redraw("heatmap"))
        self.value = _select("Metric", options, first, self._redraw("lines"))
        self.axis = _select("Against", trajectories.AXES, "round", self._redraw("lines"))
        self.none = pmui.Button(
            label="Clear selection", variant="text", size="small", margin=0, align="center"
        )
        self.none.on_click(lambda _event: self.selection.clear())

    def _redraw(self, name: str) -> Callable[..., None]:
        return lambda _event: self.draw(name)

    def _cards(self) -> list[pn.Column]:
        words_of = self.captions
        return [
            _card("Swarm", self.graph.pane, words_of["graph"], self.kind, self.size, self.color),
            _card(
                "Members over time", self.heatmap.pane, words_of["heatmap"], self.rows, self.cell
            ),
            _card("Trajectories", self.trajectories.pane, words_of["lines"], self.axis, self.value),
            _card("Best members", self.table, words_of["table"], self.none),
        ]

    def _draw_graph(self) -> None:
        placed = self.snapshot.derived[self.kind.value]
        self.graph.draw(
            history=self.history,
            layout=placed,
            color=self.color.value,
            size=self.size.value,
            members=self.selection.members,
            look=self.look,
        )
        self.captions["graph"].object = words.graph_caption(
            self.history, placed, self.kind.value, self.color.value, self.look
        )

    def _draw_heatmap(self) -> None:
        self.heatmap.draw(
            history=self.history,
            metric=self.cell.value,
            rows=self.rows.value,
            members=self.selection.members,
            look=self.look,
        )
        self.captions["heatmap"].object = words.heatmap_caption(
            self.history, self.cell.value, self.look
        )

    def _draw_lines(self) -> None:
        metric = metrics.describe(self.value.value, self.history.space)
        self.trajectories.draw(
            frame=metric.log,
            history=self.history,
            metric=metric.name,
            axis=self.axis.value,
            members=self.selection.members,
            look=self.look,
        )
        self.captions["lines"].object = words.trajectory_caption(
            self.history, self.selection.members, self.look
        )

    def _draw_table(self) -> None:
        picked = self.selection.members
        colors = {m: self.look.ink for m in picked} | theme.pick_colors(picked, self.look)
        self.table.param.update(
            columns=members.headings(self.history),
            numeric=members.numeric(self.history),
            rows=members.rows(self.history, picked),
            picked={str(member): color for member, color in colors.items()},
        )
        self.captions["table"].object = words.table_caption(self.history, picked)
        self.none.disabled = not picked

    def _tap_graph(self, x: float, y: float) -> None:
        member = layout.pick(self.snapshot.derived[self.kind.value], x, y)
        if member is not None:
            self.selection.toggle(member)

    def _box_graph(self, box: tuple[float, float, float, float]) -> None:
        self.selection.replace(layout.inside(self.snapshot.derived[self.kind.value], box))

    def _tap_heatmap(self, _x: float, y: float) -> None:
        member = heatmap.pick(self.history, self.rows.value, y)
        if member is not None:
            self.selection.toggle(member)


def _select(label: str, options: Any, value: str, changed: Callable[..., None]) -> pmui.Select:
    select = pmui.Select(
        label=label,
        options=options,
        value=value,
        size="small",
        width=158,
        margin=(4, 0, 0, 8),
        sx={"& .MuiSelect-select": {"padding": "6px 26px 6px 10px", "fontSize": "12.5px"}},
    )
    select.param.watch(changed, "value")
    return select


def _card(title: str, body: Any, caption: pn.pane.HTML, *controls: Any) -> pn.Column:
    heading = words.pane()
    heading.object = words.heading(title)
    bar = pn.Row(heading, *controls, sizing_mode="stretch_width", margin=0)
    return pn.Column(
        bar, caption, body, stylesheets=[CARD], sizing_mode="stretch_both", margin=0, min_height=0
    )
