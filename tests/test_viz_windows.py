"""Training between two rounds: what is read of it, put together and drawn."""

import contextlib

import holoviews as hv
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from paper import viz_runs
from swarmjax import stored
from swarmjax.types import InputError
from viz import catalog, reading, source, theme, windows
from viz.reading import Windows
from viz.scene import Scene

hv.extension("bokeh")


def rows(round, members=(0, 1), *, each=4, birth=0):
    """`each` windows of two steps of every member, of losses that fall as 1 / step."""
    member = np.repeat(np.asarray(members, np.int32), each)
    step = (2 * each * (round - 1) + 2 * (1 + np.tile(np.arange(each), len(members)))).astype("i4")
    loss = (1 / step).astype(np.float32)
    return pd.DataFrame({
        "round": np.full(len(member), round, np.int32), "member": member,
        "birth": member + np.int32(birth), "step": step, "steps": np.full(len(member), 2, np.int32),
        "train_loss_min": loss / 2, "train_loss": loss, "train_loss_max": loss * 2,
        "train_loss_last": loss, "gradient_norm": loss,
    })  # fmt: skip


def paths(overlay, index):
    """Of a part: member's colour -> the points of its lines."""
    part = list(overlay)[index]
    assert isinstance(part, hv.Contours)
    found = {}
    for path in part.split(datatype="dataframe"):
        found.setdefault(path["color"].iloc[0], []).append(path[["t", "v"]].dropna().to_numpy())
    return found


@pytest.fixture
def run(tmp_path):
    made = viz_runs.Run(tmp_path / "digits", members=8, window=2)
    yield made
    made.writer.close()


def write(run, round, **options):
    run.advance(1)
    run.writer.rows("windows", round, pa.Table.from_pandas(rows(round, range(8), **options)))


def test_a_line_is_drawn_for_every_network_of_a_member():
    table = pd.concat([rows(1), rows(2, (0,)), rows(2, (1,), birth=10)])
    table = table.sort_values(["member", "round", "step"])
    drawn = windows.plot(table, members=(0, 1))
    first, second = theme.LIGHT.picks[:2]
    means = paths(drawn, 1)
    assert [len(line) for line in means[first]] == [8]
    assert sorted(len(line) for line in means[second]) == [4, 4]
    np.testing.assert_allclose(means[first][0][:, 1], 1 / means[first][0][:, 0], rtol=1e-6)
    # Thin ones for the least and the greatest.
    assert len(paths(drawn, 0)[first]) == 2
    (left, low, right, high) = list(drawn)[2].extents
    assert left < 2 and right > 16 and low < 1 / 32 and high > 1


def test_the_gradient_norm_has_no_least_and_greatest():
    assert len(paths(windows.plot(rows(1), members=(0,), metric="gradient_norm"), 0)) == 2
    assert theme.LIGHT.picks[0] not in paths(
        windows.plot(rows(1), members=(0,), metric="gradient_norm"), 0
    )


def test_many_windows_are_put_together_without_loss_of_ends_and_means():
    table = rows(1, (3,), each=1001)
    told = windows.thinned(table, 500)
    assert len(told) <= 500 and told["steps"].tolist()[:-1] == [6] * (len(told) - 1)
    assert len(windows.thinned(rows(1, (3,), each=500), 500)) == 500
    assert told["steps"].sum() == table["steps"].sum() and told["step"].iloc[-1] == 2002
    assert told["train_loss_max"].max() == table["train_loss_max"].max()
    assert told["train_loss_min"].min() == table["train_loss_min"].min()
    mean = np.average(told["train_loss"], weights=told["steps"])
    assert mean == pytest.approx(np.average(table["train_loss"], weights=table["steps"]), rel=1e-5)
    assert windows.lengths(rows(1)) == "each point: the mean of a window of 2 steps"
    mixed = pd.concat([rows(1), rows(2).assign(steps=np.int32(16))])
    # A length that there is, not one between two.
    assert "1 to 16 steps" in windows.lengths(mixed.assign(steps=[1] * 2 + [16] * 14))
    assert windows.lengths(mixed) == "each point: the mean of a window of 2 to 16 steps"


def test_networks_that_diverged_leave_gaps():
    table = rows(1, (0,))
    table.loc[2, ["train_loss", "train_loss_min", "train_loss_max"]] = np.nan
    table.loc[3, "train_loss"] = np.inf
    drawn = windows.plot(table, members=(0,))
    assert len(paths(drawn, 1)[theme.LIGHT.picks[0]][0]) == 2
    assert np.isfinite(list(drawn)[2].extents).all()


def test_nothing_kept_is_drawn_as_nothing():
    empty = rows(1).iloc[:0]
    assert np.isfinite(list(windows.plot(empty, members=(0,)))[2].extents).all()
    assert windows.lengths(empty) == "no windows are kept of these members"
    assert len(windows.table(empty)) == 0


@pytest.fixture
def followed(run, monkeypatch):
    """Windows of a run, and how often and of what they were read."""
    asked = []
    with contextlib.closing(stored.open_run(run.writer.directory)) as reader:
        read = reader.windows

        def counted(since, members, until=None):
            asked.append((since, members))
            return read(since, members, until=until)

        monkeypatch.setattr(reader, "windows", counted)
        yield Windows(reader), asked


def test_what_was_read_is_not_read_again(run, followed):
    follow, asked = followed
    assert len(follow((1,))) == 0
    write(run, 1)
    assert len(follow(())) == 0 and asked == []
    assert len(follow((2, 5))) == 8 and asked == [(0, [2, 5])]
    write(run, 2)
    held = follow((5, 2))
    assert len(held) == 16 and asked[1:] == [(2, [2, 5])]
    assert held["step"].tolist() == list(range(2, 18, 2)) * 2
    assert set(follow((1, 5))["member"]) == {1, 5} and asked[2:] == [(0, [1])]
    write(run, 3)
    assert len(follow((1,))) == 12 and asked[3:] == [(3, [1, 2, 5])]


def test_few_members_are_held(run, followed, monkeypatch):
    follow, asked = followed
    monkeypatch.setattr(reading, "_FOLLOWED", 3)
    write(run, 1)
    for members in ((0, 1), (1, 2), (3, 4), (0, 1)):
        assert set(follow(members)["member"]) == set(members)
    assert [members for _, members in asked] == [[0, 1], [2], [3, 4], [0, 1]]


def test_damage_is_told(run, followed):
    follow, _ = followed
    write(run, 1)
    for path in (run.writer.directory / "windows").iterdir():
        path.write_bytes(b"PAR1 or not")
    with pytest.raises(InputError, match="damaged"):
        follow((1,))


def test_a_run_has_the_card_if_it_keeps_windows(run, tmp_path):
    write(run, 1)
    feed = source.Feed(run.writer.directory)
    feed.poll()
    snapshot = feed.snapshot
    scene = Scene(
        snapshot.history, snapshot.derived, (4,), theme.LIGHT, snapshot.events, None, (), "digits",
        None, None, feed.windows(),
    )  # fmt: skip
    card = next(view for view in catalog.TABS["Alarms"] if view.name == "windows")
    assert card.when(scene) and not card.when(scene._replace(windows=None))
    assert "window of 2 steps" in card.caption(scene, metric="train_loss")
    assert "1 of 1 selected" in card.caption(scene, metric="train_loss")
    table = card.table(scene, metric="train_loss")
    assert table["member"].unique().tolist() == [4] and table["window of"].tolist() == [2] * 4
    assert table["training steps"].tolist() == [8, 6, 4, 2]
    card.plot(scene, metric="gradient_norm")
    without = viz_runs.Run(tmp_path / "other", members=8)
    without.advance(1)
    assert source.Feed(without.writer.directory).windows() is None
    without.writer.close()
