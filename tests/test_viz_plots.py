"""The plots, the legend and the table as pure functions of a history, without a server."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import holoviews as hv
import numpy as np
import pytest

from paper import viz_runs
from swarmjax import space as sp
from swarmjax import telemetry
from viz import (
    captions,
    courses,
    graph,
    heatmap,
    layout,
    margins,
    members,
    metrics,
    nodes,
    pixels,
    theme,
    trajectories,
    words,
)
from viz.history import History
from viz.reading import split_rounds
from viz.selection import Selection, inside, nearest

hv.extension("bokeh")
LOOKS = [theme.LIGHT, theme.DARK]


def make_history(members: int = 24, rounds: int = 8, space: sp.Space = viz_runs.SPACE) -> History:
    swarm = viz_runs.Swarm(members, space=space)
    frames = []
    for _ in range(rounds):
        table = telemetry.frame_table(*swarm.step(), 0.0)
        frames += split_rounds(table)
    return History(space, tuple(frames))


@pytest.fixture(scope="module")
def history() -> History:
    return make_history()


def draw(element) -> None:
    hv.render(element, backend="bokeh")


def growing(swarm: viz_runs.Swarm, rounds: int) -> Iterator[History]:
    """The history after each round."""
    frames: list = []
    for _ in range(rounds):
        frames += split_rounds(telemetry.frame_table(*swarm.step(), 0.0))
        yield History(swarm.space, tuple(frames))


class Following:
    """A figure that is sent new arguments, as on a page."""

    def __init__(self, make):
        self.make, self.pipe = make, None

    def send(self, history: History, **options) -> None:
        data = {"history": history, "look": theme.LIGHT} | options
        if self.pipe is not None:
            return self.pipe.send(data)
        self.pipe = hv.streams.Pipe(data=data)
        view = hv.DynamicMap(lambda data: self.make(**data), streams=[self.pipe])
        self.figure = hv.renderer("bokeh").get_plot(view).state

    def ranges(self) -> list[tuple[float, float]]:
        return [(r.start, r.end) for r in (self.figure.x_range, self.figure.y_range)]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("picked", [(), (3, 1)])
def test_every_plot_renders(history, look, picked):
    placed = layout.arrange(history, "architecture")
    for name in metrics.selectable(history).values():
        draw(heatmap.plot(history, metric=name, members=picked, look=look))
        draw(trajectories.plot(history, metric=name, members=picked, look=look))
    options = {"color": "valid_loss", "size": "learning_rate", "members": picked, "look": look}
    draw(graph.plot(history, placed, **options))
    draw(trajectories.plot(history, metric="valid_loss", axis="step", look=look))


@pytest.mark.parametrize(("count", "rounds"), [(1, 1), (24, 1), (1, 8), (2, 2)])
def test_few_members_and_few_rounds_render(count, rounds):
    history = make_history(members=count, rounds=rounds)
    placed = layout.arrange(history, "genome")
    look = theme.LIGHT
    draw(graph.plot(history, placed, color="valid_accuracy", size="step", look=look))
    draw(heatmap.plot(history, metric="valid_accuracy", look=look))
    draw(trajectories.plot(history, metric="valid_loss", look=look))


def test_dead_members_rank_last_and_are_marked(history):
    assert metrics.ranking(history)[-1] == 3
    assert np.isneginf(metrics.fitness(history)[-1, 3])
    rows = nodes.node_table(
        history, layout.arrange(history, "genome"), color="valid_loss", size="valid_loss"
    )
    assert rows.shade[3] == 0 and not rows.alive[3]
    assert heatmap.deaths(history).tolist() == [[3, 3]]
    assert np.isnan(metrics.scaled_column(history, metrics.describe("step", history.space))[-1, 3])
    assert members.twin(members.table(history), history)[-1]["cells"][0] == "dead"


def test_shade_says_better_not_higher():
    loss = metrics.describe("valid_loss", viz_runs.SPACE)
    assert (loss.better, loss.log) == (-1, True)
    scaled = metrics.scaled(np.array([0.1, 1.0, np.nan, -1.0]), loss)
    assert metrics.shades(scaled, metrics.Scale((-1.0, 0.0), (0.0, 1.0)), loss)[:2].tolist() == [
        1.0,
        0.0,
    ]
    assert np.isnan(scaled[2:]).all()


@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_scale_of_equals_is_one_shade(noise):
    values = np.full(9, 0.5) + noise * np.arange(9)
    told = metrics.scale(values)
    assert told == metrics.Scale((0.5,), (0.5,))
    loss = metrics.describe("valid_loss", viz_runs.SPACE)
    assert metrics.shades(values, told, loss).tolist() == [0.5] * 9
    assert np.isnan(metrics.shades(np.array([np.nan]), metrics.scale(np.full(3, np.nan)), loss))


@pytest.mark.parametrize(
    "distinct", [[0.0, 1.0], [1.0, 2.0, 3.0], [0.1] * 9 + [0.9], [0.1, 0.9, 0.9]]
)
def test_scale_of_few_values_ascends_from_lowest_to_highest(distinct):
    told = metrics.scale(np.array(distinct))
    assert (told.knots[0], told.knots[-1]) == (min(distinct), max(distinct))
    assert (told.shades[0], told.shades[-1]) == (0, 1)
    assert (np.diff(told.knots) > 0).all() and (np.diff(told.shades) > 0).all()


def test_scale_tells_early_and_late_rounds_apart():
    rounds = 0.97 - 0.9 * np.exp(-1.5 * np.arange(10))
    values = rounds[:, None] + np.linspace(-0.008, 0.002, 64)
    accuracy = metrics.describe("valid_accuracy", viz_runs.SPACE)
    shades = metrics.shades(values, metrics.scale(values), accuracy)
    assert np.ptp(shades[-1]) > 0.25
    assert shades[1].mean() - shades[0].mean() > 0.25


def test_legend_names_the_knots_and_their_shades(history):
    legend = captions.scale(history, "valid_accuracy", theme.LIGHT, whole=True)
    told = metrics.scale(metrics.sample(history, metrics.describe("valid_accuracy", history.space)))
    assert all(f"<b>{knot:.4f}</b>" in legend for knot in told.knots)
    assert legend.count("<i ") == len(told.knots) - 1
    assert legend.index(theme.LIGHT.ramp[0]) < legend.index(theme.LIGHT.ramp[-1])
    alone = make_history(members=1, rounds=1)
    assert captions.scale(alone, "valid_accuracy", theme.LIGHT, whole=True).count("<i ") == 1


def test_ramps_grow_evenly_away_from_the_background():
    for look, sign in ((theme.LIGHT, -1), (theme.DARK, 1)):
        rgb = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in look.ramp]
        luminance = np.array(rgb) @ (0.2126, 0.7152, 0.0722)
        assert (sign * np.diff(luminance[::16]) > 0).all()


def test_survivors_stay_and_children_start_at_their_parent():
    swarm = viz_runs.Swarm(64)
    frames = [f for _ in range(5) for f in split_rounds(telemetry.frame_table(*swarm.step(), 0.0))]
    before = layout.arrange(History(swarm.space, tuple(frames)), "architecture")
    frames += split_rounds(telemetry.frame_table(*swarm.step(), 0.0))
    after = layout.arrange(History(swarm.space, tuple(frames)), "architecture", before)
    parent = frames[-1]["parent"]
    moved = parent != frames[-1]["member"]
    assert moved.any()
    width = np.ptp(before.positions)
    assert np.median(np.abs(after.positions - before.positions)[~moved]) < 0.01 * width
    assert np.abs(after.positions[moved] - before.positions[parent[moved]]).max() < 0.1 * width


def test_view_holds_and_fits_every_node_while_the_swarm_collapses():
    swarm = viz_runs.Swarm(64, pause=1, share=5)
    placed, follow = None, Following(graph.plot)
    views = []
    for history in growing(swarm, 20):
        placed = layout.arrange(history, "architecture", placed)
        follow.send(history, layout=placed, color="valid_accuracy", size="step")
        low, high = (np.array(ends) for ends in zip(*follow.ranges(), strict=True))
        margins = (placed.positions - low) / (high - low)
        assert margins.min() > 0.025 and margins.max() < 0.975
        assert margins[:, 1].min() > 0.055 and margins[:, 1].max() < 0.905
        assert np.ptp(margins, axis=0).max() > 0.55 and np.ptp(margins, axis=0).min() > 0.25
        assert np.abs(np.median(margins, axis=0) - 0.5).max() < 0.35
        views.append(placed.view)
    assert len(set(views)) < 12


def test_views_follow_unless_the_user_zoomed():
    follow = Following(heatmap.plot)
    steps = growing(viz_runs.Swarm(8), 3)
    follow.send(next(steps), metric="valid_loss")
    zoomed = follow.figure.x_range
    zoomed.start = 0.75
    follow.send(next(steps), metric="valid_loss")
    assert (zoomed.start, zoomed.end) == (0.75, 1.5)
    assert (zoomed.reset_start, zoomed.reset_end) == (0.5, 2.5)
    zoomed.update(start=0.5, end=2.5)
    follow.send(next(steps), metric="valid_loss")
    assert (zoomed.start, zoomed.end) == (0.5, 3.5)


def test_layout_puts_equals_together():
    space = sp.Space(depth=sp.structure(1, 2, 3), rate=sp.uniform(0, 1))
    history = make_history(members=60, rounds=1, space=space)
    placed = layout.arrange(history, "architecture")
    depth = history.last("depth")
    ends = depth[placed.edges]
    assert np.mean(ends[:, 0] == ends[:, 1]) > 0.95


def test_taps_and_boxes_find_members(history):
    placed = layout.arrange(history, "genome")
    x, y = placed.positions[5]
    assert nearest(placed.positions, x, y) == 5
    assert nearest(placed.positions, 1e6, 0) is None
    corners = np.array([(x, y + 1e-6), (x - 1e-6, y - 1e-6), (x + 1e-6, y - 1e-6)])
    assert inside(corners, placed.positions) == [5]
    top = heatmap.pick(history, "rank", history.members - 1)
    assert top == metrics.ranking(history)[0]
    assert heatmap.pick(history, "slot", history.members - 1) == 0
    assert heatmap.pick(history, "slot", 99) is None


def test_band_holds_the_quantiles():
    x = np.broadcast_to(np.arange(3)[:, None], (3, 11))
    y = np.tile(np.arange(11.0), (3, 1))
    band = courses.spread(x, y)
    assert band.low.tolist() == [1, 1, 1]
    assert band.middle.tolist() == [5, 5, 5]
    assert band.high.tolist() == [9, 9, 9]


def test_nothing_selected_shows_the_best_five(history):
    best = metrics.ranking(history)[:5].tolist()
    assert list(courses.shown(history, (), theme.LIGHT)) == best
    assert courses.shown(history, (7,), theme.LIGHT) == (7,)
    assert len(courses.shown(history, tuple(range(20)), theme.LIGHT)) == 8
    caption = captions.trajectory_caption(history, tuple(range(20)), theme.LIGHT)
    assert "8 of 20 selected shown" in caption


def test_spaced_keeps_order_and_gap():
    heights = margins.spaced({1: 0.99, 2: 0.98, 3: 0.1}, 0.0, 1.0, gap=0.1)
    assert heights[3] == pytest.approx(0.1)
    assert heights[1] - heights[2] >= 0.1 - 1e-9
    assert heights[1] <= 1.0


def test_numbers_of_equal_ends_stand_around_them():
    heights = margins.spaced({m: 0.5 for m in range(5)}, 0.0, 1.0, gap=0.06)
    assert np.mean(list(heights.values())) == pytest.approx(0.5)
    assert np.ptp(list(heights.values())) == pytest.approx(0.24)
    crowd = margins.spaced({m: 0.5 for m in range(8)}, 0.0, 0.3, gap=0.06)
    assert min(crowd.values()) == 0 and np.diff(sorted(crowd.values())).min() > 0.059


def test_large_heatmap_is_averaged_and_says_so():
    history = make_history(members=700, rounds=90)
    draw(heatmap.plot(history, metric="valid_accuracy", look=theme.DARK))
    assert "averaged to the pixels" in captions.heatmap_caption(
        history, "valid_accuracy", theme.DARK
    )


@pytest.mark.parametrize("look", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("tone", ["ink", "muted", "accent", "good", "dead", "alarm"])
def test_words_can_be_read_on_cards_on_the_page_and_on_their_own_tint(look, tone):
    color = getattr(look, tone)
    tints = [mixture(color, ground, 0.14) for ground in (look.paper, look.page)]
    grounds = [look.paper] if tone == "alarm" else [look.paper, look.page, tints[0]]
    assert min(contrast(color, ground) for ground in grounds) >= 4.5


def mixture(color, ground, share):
    parts = [(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in (color, ground)]
    return "#" + "".join(
        f"{round(a * share + b * (1 - share)):02x}" for a, b in zip(*parts, strict=True)
    )


def contrast(one, other):
    """Of WCAG 2."""
    lights = []
    for color in (one, other):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_blocks_are_means_of_their_cells_and_of_the_living():
    grid = np.array([[1, 2, 3, 4], [3, 4, np.nan, 6], [9, 9, 9, np.nan]], np.float32)
    rows, sequence = list(zip((5, 6, 8), grid, strict=True)), np.array([3, 0, 1, 2])
    found = pixels.blocks(rows, (5, 8), sequence, (2, 2))
    assert found.tolist() == [[(4 + 1 + 6 + 3) / 4, (2 + 3 + 4) / 3], [9, 9]]
    fine = pixels.blocks(rows, (5, 8), sequence, (4, 4))
    assert np.isnan(fine[2]).all() and fine[1].tolist()[:3] == [6, 3, 4] and np.isnan(fine[1, 3])
    some = pixels.blocks(rows, (5, 8), sequence[2:], (2, 1))
    assert some.tolist() == [[3], [9]]


def test_of_many_rounds_means_of_few_are_kept_and_each_counts_once(monkeypatch):
    monkeypatch.setattr(pixels, "MAX_CELLS", 100)
    monkeypatch.setattr(pixels, "PIXELS", (3, 5))
    for history in growing(viz_runs.Swarm(40), 14):
        shown = heatmap.plot(history, metric="step", rows="slot").Image.I
    steps = np.where(history.column("alive"), history.column("step").astype(float), np.nan)
    # Whole fours of rounds, and those that are left, each in the third of its first one.
    parts = [steps[0:4], steps[4:8], steps[8:12], steps[12:13], steps[13:14]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        # Of four, halves count alike.
        halves = [[np.nanmean(half, axis=0) for half in np.split(p, min(2, len(p)))] for p in parts]
        means = np.array([np.nanmean(half, axis=0) for half in halves])
    thirds = [means[0:2], means[2:3], means[3:5]]
    wished = [[np.nanmean(third[:, m - 8 : m]) for third in thirds] for m in (40, 32, 24, 16, 8)]
    value = shown.dimension_values("value", flat=False)
    np.testing.assert_allclose(value, np.array(wished), rtol=1e-5)


def test_a_window_of_a_large_heatmap_shows_its_cells_and_the_colours_of_the_whole(monkeypatch):
    monkeypatch.setattr(pixels, "MAX_CELLS", 100)
    history = make_history(members=40, rounds=6)
    whole, part = (
        heatmap.plot(history, metric="step", rows="slot", window=window).Image.I
        for window in (None, (1.7, 9.6, 4.4, 19.4))
    )
    assert part.bounds.lbrt() == (1.5, 9.5, 4.5, 19.5)
    for name in ("z", "member", "round", "value"):
        a, b = (each.dimension_values(name, flat=False) for each in (whole, part))
        np.testing.assert_allclose(b, a[10:20, 1:4], rtol=1e-6)
    assert part.dimension_values("member", flat=False)[:, 0].tolist() == [*range(29, 19, -1)]


def test_of_many_members_the_best_and_some_others_have_nodes(monkeypatch):
    monkeypatch.setattr(graph, "MAX_NODES", 20)
    history = make_history(members=60)
    ranking, placed = metrics.ranking(history), layout.arrange(history, "genome")
    chosen = int(ranking[11])
    shown = graph.drawn(history, (chosen,))
    assert shown[ranking[:10]].all() and shown[[chosen, ranking[-1]]].all()
    assert 20 <= shown.sum() <= 21
    assert shown[graph.joined(placed, shown)].all()
    told = captions.graph_caption(history, placed, "genome", "step", theme.LIGHT)
    assert "20 of 60 nodes and" in told
    parts = graph.plot(history, placed, color="step", size="step", members=(chosen,))
    nodes = [part for part in parts if "member" in [str(d) for d in part.dimensions()]]
    assert sum(len(part) for part in nodes) == shown.sum()
    assert isinstance(next(iter(parts)), hv.Image), "all members lie beneath, as one picture"


def test_table_shows_the_best_and_the_selected_beyond():
    history = make_history(members=300, rounds=2)
    last = int(metrics.ranking(history)[-1])
    frame = members.table(history)
    rows = members.twin(frame, history, picked=(last,))
    assert len(rows) == members.LIMIT + 1 and rows[-1]["member"] == last
    assert len(rows[0]["cells"]) == len(frame.columns)
    assert "100 of 300 members shown" in captions.table_caption(history, ())


def test_words_are_escaped(history):
    hostile = "<script>alert(1)</script>"
    assert "<script>" not in words.heading(hostile)
    snapshot = words.Snapshot(1, history, None, hostile, hostile)
    assert "<script>" not in words.header(hostile, snapshot) + words.note(snapshot)


def test_selection_takes_only_members():
    selection = Selection(size=4)
    selection.toggle(2)
    selection.toggle(9)
    selection.toggle(-1)
    assert selection.members == (2,)
    selection.replace([3, 3, 1, 70])
    assert selection.members == (3, 1)
    selection.toggle(3)
    assert selection.members == (1,)
    selection.clear()
    assert selection.members == ()


def test_table_ignores_messages_it_does_not_know():
    told = []
    table = members.MemberTable(told.append)
    for message in ({"toggle": 3}, {"toggle": "3"}, {"toggle": True}, "toggle", None, {}):
        table._handle_msg(message)
    assert told == [3]


def test_axes_follow_a_growing_run():
    follows = [Following(heatmap.plot), Following(trajectories.plot)]
    for history in growing(viz_runs.Swarm(16), 12):
        for follow in follows:
            follow.send(history, metric="valid_accuracy")
        rounds = len(history.rounds)
        (ends, _), (around, _) = (follow.ranges() for follow in follows)
        assert ends == (0.5, rounds + 0.5)
        assert 0.4 < around[0] < 1 and rounds < around[1] < rounds + 3
