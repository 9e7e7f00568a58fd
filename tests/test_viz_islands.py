"""Islands on the dashboard: what the feed reads of them, and the table and caption they make."""

from __future__ import annotations

import pytest

from paper import viz_runs
from swarmjax import telemetry
from swarmjax.anatomy import Layer
from viz import catalog, source, tab_resources, theme
from viz.scene import Scene


@pytest.fixture
def run(tmp_path):
    made = viz_runs.Run(tmp_path / "digits", members=8)
    yield made
    made.writer.close()


def row(round, island, **changes):
    return {
        "round": round, "island": island, "host": f"host-{island}", "pid": 100 + island,
        "members": 4, "steps": 40, "seconds": 1.0 + island, "arrived": island,
        "arrived_bytes": island * 2**20, "begun": 1 + island, "cpu": 0.9, "memory": 2.0**30,
        "gpu": float("nan"), "gpu_memory": float("nan"), "wall_ns": 1, "monotonic_ns": 1,
        "clock_offset": 0, "clock_bound": -1, **changes,
    }  # fmt: skip


def scene_of(feed):
    snapshot = feed.snapshot
    return Scene(
        snapshot.history, snapshot.derived, (), theme.LIGHT, snapshot.events, None, (), "digits",
        snapshot.islands,
    )  # fmt: skip


def followed(run):
    feed = source.Feed(run.writer.directory)
    feed.poll()
    return feed


def test_a_run_without_islands_has_no_such_card(run):
    run.advance(1)
    scene = scene_of(followed(run))
    assert scene.islands is None
    assert not tab_resources.ISLANDS.when(scene)
    assert all(view.when(scene) for view in catalog.TABS["Swarm"])


def test_layers_are_those_of_the_members_that_are_drawn(run):
    run.advance(1)
    assert scene_of(followed(run)).layers is None
    feed = followed(run)
    history = feed.snapshot.history
    has = [
        ", ".join(f"{name}={history.last(name)[member]}" for name in history.space.structural)
        for member in range(8)
    ]
    for round in (2, 3):
        parts = [
            Layer("Dense_0", "Dense", (64, 32), ()), Layer("norm", "LayerNorm", (32, 32), (0,)),
            Layer("out", "Dense", (32, 10), (0, 1)),
        ]  # fmt: skip
        text = has[0] if round == 2 else "width=<b>odd</b>"
        run.advance(1)
        run.writer.summary("layers", round, telemetry.layer_table(round, [(text, parts)]))
        feed.poll()
    scene = scene_of(feed)._replace(layers=feed.snapshot.layers, history=history, members=(0,))
    assert tab_resources.LAYERS.when(scene) and len(scene.layers) == 6
    table = tab_resources.LAYERS.table(scene)
    assert table["layer"].tolist() == ["Dense_0", "norm", "out"]
    assert table["features"].tolist() == ["64 → 32", "32 → 32", "32 → 10"]
    assert table["fed by"].tolist() == ["", "Dense_0", "Dense_0, norm"]
    assert "1 of 1 selected" in tab_resources.LAYERS.caption(scene)
    assert "2 architectures" in tab_resources.LAYERS.caption(scene)
    # Of one that nothing is told of there are none.
    other = next((m for m in range(8) if has[m] != has[0]), None)
    if other is not None:
        assert tab_resources.LAYERS.table(scene._replace(members=(other,))).empty


def test_load_and_health_of_the_latest_round_are_told(run):
    run.advance(2)
    for round in (1, 2):
        rows = [row(round, 0), row(round, 1, host="<b>host</b>")]
        run.writer.summary("islands", round, telemetry.island_table(rows))
    run.writer.event(2, "island", "island 1 is gone <i>; it is made anew")
    scene = scene_of(followed(run))
    assert tab_resources.ISLANDS.when(scene)
    table = tab_resources.ISLANDS.table(scene)
    assert table["island"].tolist() == [0, 1]
    assert table["load"].tolist() == [0.5, 1.0]
    assert table["health"].tolist() == ["well", "made anew 1 times"]
    caption = tab_resources.ISLANDS.caption(scene)
    assert "2 islands in round 2; 1 networks (1.0 MiB) went between them" in caption
    assert "island 1 is gone &lt;i&gt;; it is made anew" in caption and "<i>" not in caption


def test_a_feed_goes_on_while_islands_tell_something_new(run):
    run.advance(1)
    run.writer.summary("islands", 1, telemetry.island_table([row(1, 0)]))
    feed = followed(run)
    first = feed.snapshot.islands
    run.advance(1)
    run.writer.summary("islands", 2, telemetry.island_table([row(2, 0, members=3)]))
    feed.poll()
    assert feed.snapshot.state == "running", feed.snapshot.note
    assert first["members"].tolist() == [4]
    assert feed.snapshot.islands["members"].tolist() == [3]
