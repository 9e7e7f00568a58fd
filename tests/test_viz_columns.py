"""What is sent to a drawn figure is what HoloViews would have made of the new data."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest

from paper import viz_runs
from swarmjax import telemetry
from viz import (
    alarms,
    columns,
    crowd,
    graph,
    heatmap,
    layout,
    lineage,
    parallel,
    scatter,
    theme,
    trajectories,
)
from viz.history import History
from viz.marks import Mark, element, light, overlay
from viz.nodes import node_table
from viz.reading import split_rounds

hv.extension("bokeh")
MEMBERS = (1, 5)


def grown(rounds: int, members: int) -> list[History]:
    """The run after each round, from the second on."""
    swarm, frames, found = viz_runs.Swarm(members), [], []
    for _ in range(rounds):
        (frame,) = split_rounds(telemetry.frame_table(*swarm.step(), 1.7e9))
        frames.append(frame | {"mate": frame["member"]})
        growing = found[-1].growing if found else None
        found.append(History(swarm.space, tuple(frames), None, growing))
    return found[1:]


def graph_of(history):
    placed = layout.arrange(history, "architecture")
    return graph.plot(history, placed, color="valid_loss", size="valid_accuracy", members=MEMBERS)


def heatmap_of(history):
    return heatmap.plot(history, metric="valid_loss", members=MEMBERS)


def trajectories_of(history):
    return trajectories.plot(history, metric="valid_loss", members=MEMBERS)


def crowd_of(history):
    placed = layout.arrange(history, "architecture")
    nodes = node_table(history, placed, color="valid_loss", size="valid_loss")
    beneath = crowd.image(nodes, placed.view, theme.LIGHT)
    return overlay([beneath, *graph_of(history)])


def dots_of(history):
    return scatter.plot(
        history, x="parameters", y="valid_loss", color="steps", front=True, members=MEMBERS
    )


def ancestry_of(history):
    return lineage.plot(history, metric="valid_loss", members=MEMBERS)


def alarms_of(history):
    return alarms.plot(history, members=MEMBERS)


def families_of(history):
    return lineage.plot_families(history)


VIEWS = [
    graph_of, heatmap_of, trajectories_of, crowd_of, dots_of, ancestry_of, alarms_of, families_of,
]  # fmt: skip


def without_elements(make, history):
    with light():
        return make(history)


@pytest.mark.parametrize("make", VIEWS)
@pytest.mark.parametrize("members", [24, 2100])
def test_columns_sent_are_those_that_holoviews_makes(make, members):
    # The fifth round has a dead member more, and the last children.
    first, *_, last = grown(6, members)
    drawn = make(first)
    assert columns.sendable(drawn)
    newest = without_elements(make, last)
    assert columns.kind(drawn) == columns.kind(newest)
    shown, fresh = (hv.renderer("bokeh").get_plot(each) for each in (drawn, make(last)))
    assert columns.send(shown, newest)
    pairs = zip(shown.subplots.values(), fresh.subplots.values(), strict=True)
    for sent, made in pairs:
        one, other = sent.handles["source"].data, made.handles["source"].data
        assert set(one) >= set(other)
        for name, values in other.items():
            for a, b in zip(one[name], values, strict=True):
                np.testing.assert_array_equal(a, b)
    for axis in ("x_range", "y_range"):
        a, b = (getattr(plot.state, axis) for plot in (shown, fresh))
        assert (a.start, a.end) == (b.start, b.end)


def test_no_element_is_made_where_columns_are_enough():
    history = grown(2, 24)[-1]
    for make in (graph_of, heatmap_of, trajectories_of):
        parts = without_elements(make, history)
        assert len(parts) == len(list(make(history)))
        assert all(isinstance(part, Mark) for part in parts)
    assert isinstance(graph_of(history), hv.Overlay)


def test_only_columns_that_changed_are_sent():
    first, *_, last = grown(3, 24)
    shown = hv.renderer("bokeh").get_plot(heatmap_of(first))
    image, alarms, *_ = (each.handles["source"] for each in shown.subplots.values())
    before = {source: source.data for source in (image, alarms)}
    columns.send(shown, without_elements(heatmap_of, last))
    assert image.data is not before[image] and alarms.data is before[alarms]


def test_another_kind_of_figure_is_told_and_left_to_holoviews():
    first, last = grown(3, 24)
    assert columns.kind(heatmap_of(first)) != columns.kind(trajectories_of(first))
    dark = heatmap.plot(last, metric="valid_loss", look=theme.DARK)
    assert columns.kind(heatmap_of(first)) != columns.kind(dark)
    assert not columns.sendable(parallel.plot(last, metric="valid_loss"))

    def equals():
        rows, extents = [(0, 0, 1.0), (1, 1, 1.0)], (0, 0, 1, 1)
        points = element(hv.Points, rows, ["x", "y"], "px", extents=extents)
        return overlay([theme.styled(points, size="px")])

    shown = hv.renderer("bokeh").get_plot(equals())
    with light():
        same = equals()
        two = overlay([*same, *same])
    # Of sizes that are all equal HoloViews has made a constant.
    assert not columns.send(shown, same)
    assert not columns.send(shown, two)
