"""Search, resources, lineage and alarms as pure functions of small, hand-made histories."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pandas as pd
import pytest

import swarmjax as sj
from paper import viz_runs
from swarmjax import space as sp
from swarmjax import telemetry
from swarmjax.anomaly import KINDS
from swarmjax.events import Event
from swarmjax.types import InputError
from viz import (
    alarms,
    forest,
    genes,
    heatmap,
    layout,
    likeness,
    lineage,
    margins,
    members,
    metrics,
    outcomes,
    parallel,
    query,
    race,
    scatter,
    source,
    spending,
    theme,
)
from viz.history import History, Migration
from viz.reading import split_rounds

hv.extension("bokeh")
HOSTILE = "<img src=x onerror=alert(1)> $$x$$"
SPACE = sp.Space(
    learning_rate=sp.log_uniform(1e-4, 1e-1),
    activation=sp.choice("relu", HOSTILE),
    width=sp.structure(16, 64),
)


def made(*rounds: dict[str, list], space: sp.Space = SPACE) -> History:
    """A history whose columns are those given, others plain; a round is told by what differs."""
    members = len(next(iter(rounds[0].values())))
    zero, slots = np.zeros(members, int), np.arange(members)
    frames = []
    for number, given in enumerate(rounds, 1):
        frame = {
            "round": zero + number, "time": zero + 10.0 * number, "member": slots, "birth": slots,
            "lineage": slots, "parent": slots, "mate": slots, "fresh": zero > 0,
            "alive": zero == 0, "alarm": zero, "steps": zero + 10, "step": zero + 10 * number,
            "cost": zero + 100.0, "parameters": zero + 5, "bytes": zero + 60.0,
            "seconds": zero + 0.01, "train_loss": zero + 1.0, "gradient_norm": zero + 1.0,
            "valid_loss": zero + 1.0, "valid_accuracy": zero + 0.5,
            "learning_rate": zero + 0.01, "activation": np.array(["relu"] * members, object),
            "width": zero + 16,
        }  # fmt: skip
        frame |= {name: np.asarray(values) for name, values in given.items()}
        frames.append(frame)
    return History(space, tuple(frames))


@pytest.fixture(scope="module")
def history() -> History:
    swarm = viz_runs.Swarm(24)
    frames = []
    for _ in range(8):
        frames += split_rounds(telemetry.frame_table(*swarm.step(), 0.0))
    return History(swarm.space, tuple(f | {"mate": f["member"]} for f in frames))


@pytest.fixture(scope="module")
def hostile() -> History:
    return made(
        {
            "activation": np.array([HOSTILE, "relu"] * 8, object),
            "valid_accuracy": np.linspace(0, 1, 16),
            "learning_rate": np.geomspace(1e-4, 1e-1, 16),
        }
    )


def draw(element) -> object:
    return hv.render(element, backend="bokeh")


def every_plot(history: History, members: tuple[int, ...], look: theme.Look):
    """Each plot of these views."""
    told, genome = "valid_accuracy", [name for name, _ in history.space.genes]
    given = {"members": members, "look": look}
    yield scatter.plot(history, x="spent", y=told, color="steps", front=True, **given)
    yield scatter.plot(history, x=genome[1], y="gain", color=told, **given)
    yield spending.plot(history, look=look)
    yield spending.plot(history, group="founder", look=look)
    yield lineage.plot_families(history, look=look)
    yield lineage.plot(history, metric=genome[0], **given)
    yield alarms.plot(history, **given)
    yield parallel.plot(history, metric=told, **given)
    yield forest.plot(forest.learn(history, told), look=look)
    for show in ("mean", "best", "count", "estimate"):
        yield genes.plot(history, x=genome[0], y=genome[1], metric=told, show=show, **given)
    yield heatmap.plot(history, metric="steps", rows="lineage", **given)
    runs = {HOSTILE: outcomes.outcome(history), "b": outcomes.outcome(history)}
    yield race.plot_best(runs, look=look)
    yield race.plot_shares({"a": runs["b"]}, look=look)


def test_every_plot_renders(history):
    for plot in every_plot(history, (3, 1), theme.DARK):
        draw(plot)


def test_every_plot_of_hostile_names_and_one_round_renders(hostile):
    for plot in every_plot(hostile, (0,), theme.LIGHT):
        draw(plot)


def test_every_plot_of_the_dead_and_the_lonely_renders():
    dead = made({"alive": [False], "valid_accuracy": [np.nan], "valid_loss": [np.nan]})
    for plot in [
        *every_plot(dead, (), theme.LIGHT),
        *every_plot(made({"steps": [0]}), (), theme.DARK),
    ]:
        draw(plot)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width > 16 and learning_rate < 1e-3", [2]),
        ("width > 16 or not learning_rate < 1e-3", [1, 2, 3]),
        ("1e-3 < learning_rate <= 0.05", [1]),
        ("activation == relu", [0, 2, 3]),
        ("activation != 'relu'", [1]),
        ("width in [64, 3]", [2, 3]),
        ("activation not in [relu]", [1]),
        ("rank <= 2", [2, 3]),
        ("spike in alarm", [3]),
        ("alarm", [0, 3]),
        ("not alive", []),
        ("member == -1", []),
        ("steps > 9", [0, 1, 2, 3]),
    ],
)
def test_conditions_select_members(text, expected):
    spike, rise = (1 << KINDS.index(kind) for kind in ("spike", "rise"))
    history = made(
        {
            "width": [16, 16, 64, 64],
            "learning_rate": [1e-4, 1e-2, 1e-4, 1e-1],
            "activation": np.array(["relu", "tanh", "relu", "relu"], object),
            "valid_accuracy": [0.1, 0.2, 0.9, 0.8],
            "alarm": [rise, 0, 0, spike | rise],
        }
    )
    found = query.select(history, text)
    assert sorted(found) == expected
    assert found == sorted(found, key=lambda m: -history.last("valid_accuracy")[m])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot read"),
        ("width >", "cannot read"),
        ("__import__('os').system('true')", "cannot read"),
        ("().__class__.__bases__", "cannot read"),
        ("[w for w in width]", "cannot read"),
        ("(lambda: width)()", "cannot read"),
        ("width > 10 ** 10 ** 10", "cannot read"),
        ("width > '1'", "cannot be compared"),
        ("activation < relu", "use == or !="),
        ("widht > 3", "did you mean width"),
        ("valid_accuracy > accuracy", "nothing is called 'accuracy'"),
        ("width in 3", "needs a name before it"),
        ("width is 3", "cannot compare so"),
        ("(" * 200 + "width" + ")" * 200, "400|405|allowed"),
        ("\0", "cannot read"),
    ],
)
def test_what_is_no_condition_is_told_in_a_line(text, told):
    with pytest.raises(InputError, match=told) as error:
        query.select(made({"width": [16, 64]}), text)
    assert "\n" not in str(error.value)


def test_numbers_longer_than_any_column_are_compared():
    assert query.select(made({"width": [16, 64]}), "width < 1" + "0" * 250) == [0, 1]


def test_front_holds_who_is_beaten_by_none():
    history = made({"cost": [1.0, 2, 3, 4, 5], "valid_accuracy": [0.1, 0.5, 0.4, 0.5, 0.9]})
    frame = scatter.table(history, x="cost", y="valid_accuracy")
    told = [metrics.describe(name, SPACE) for name in ("cost", "valid_accuracy")]
    assert scatter.pareto(frame, *told).tolist() == [0, 1, 4]


def test_spent_and_gain_are_those_of_slot_and_network():
    first = {"steps": [10, 10, 0], "cost": [1.0, 2, 3], "valid_accuracy": [0.2, 0.5, np.nan]}
    second = {"steps": [5, 1, 2], "cost": [1.0, 2, 3], "valid_accuracy": [0.6, 0.4, 0.3]}
    second |= {"birth": [0, 3, 2]}
    history = made(first, second)
    assert scatter.values(history, "spent").tolist() == [15, 22, 6]
    np.testing.assert_allclose(scatter.values(history, "gain"), [0.4, 0, 0], atol=1e-9)


def test_more_dots_than_can_be_seen_are_sampled_and_the_selected_stay():
    count = scatter.MAX_DOTS + 500
    history = made({"valid_accuracy": np.linspace(1, 0, count)})
    frame = scatter.table(history, x="cost", y="valid_accuracy")
    shown = scatter.shown(history, frame, (count - 1,))
    assert count - 1 in shown and set(range(scatter.MAX_DOTS // 2)) <= set(shown)
    assert scatter.MAX_DOTS <= len(shown) <= scatter.MAX_DOTS + 1


def test_a_figure_leaves_out_the_worst_few_that_are_far_off_and_tells_so():
    loss = np.concatenate([np.linspace(0.1, 0.2, 99), [1e6]])
    told = [metrics.describe(name, SPACE) for name in ("valid_loss", "width")]
    frame = pd.DataFrame({"valid_loss": loss, "width": np.full(100, 16.0)})
    assert margins.near(loss, told[0]).max() < 0.21
    assert scatter.beside(frame, told) == 3
    # The best are always shown.
    assert margins.near(np.array([1e-9, *loss[:99]]), told[0]).min() == 1e-9


def test_taps_on_dots_find_members_on_logarithmic_axes():
    history = made({"cost": [1e3, 1e6, 1e9], "valid_accuracy": [0.1, 0.2, 0.3]})
    assert scatter.pick(history, "cost", "valid_accuracy", (1.1e6, 0.2)) == 1
    assert scatter.pick(history, "cost", "valid_accuracy", (-5.0, 0.2)) is None


def test_shares_of_a_round_are_those_of_its_quarters():
    scores = [0.1, 0.2, 0.3, 0.4]
    history = made(
        {"valid_accuracy": scores}, {"steps": [10, 20, 30, 40], "valid_accuracy": scores[::-1]}
    )
    shares = spending.shares(history)
    assert shares.iloc[1].tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1, 0])
    assert shares.sum(axis=1).tolist() == pytest.approx([1, 1])
    families = spending.population(made({"lineage": [7, 7, 2, 7]}))
    assert families.iloc[0].to_dict() == {"network 7": 0.75, "network 2": 0.25, "others": 0.0}


FAMILY = [
    {"fresh": [True] * 3, "learning_rate": [0.1, 0.2, 0.3]},
    {"parent": [0, 0, 2], "birth": [0, 3, 2], "learning_rate": [0.1, 0.15, 0.3]},
    {
        "parent": [0, 1, 1],
        "mate": [0, 1, 0],
        "birth": [0, 3, 4],
        "learning_rate": [0.1, 0.15, 0.05],
    },
    {"birth": [0, 3, 4], "alive": [True, False, True], "learning_rate": [0.1, 0.15, 0.05]},
]


def test_ancestry_goes_back_through_parents_to_the_birth():
    history = made(*FAMILY)
    assert lineage.ancestors(history, 2).tolist() == [0, 1, 2, 2]
    path = lineage.ancestors(history, 2)
    assert lineage.along(history, "learning_rate", path).tolist() == pytest.approx(
        [0.1, 0.15, 0.05, 0.05]
    )
    table = lineage.table(history, metric="learning_rate", members=(2,))
    assert table["event"].tolist() == ["birth", "clone", "crossover", ""]
    later = made({"fresh": [False, False]}, {"fresh": [True, False]})
    assert lineage.ancestors(later, 0).tolist() == [-1, 0]


def test_births_tell_clones_crossovers_and_deaths_latest_first():
    table = lineage.births(made(*FAMILY))
    assert table["event"].tolist() == ["death", "crossover", "clone", "birth", "birth", "birth"]
    assert table.iloc[1][["member", "network", "parent", "mate"]].tolist() == [2, 4, 1, 0]
    assert pd.isna(table.iloc[3].parent)


@pytest.mark.parametrize(
    ("migration", "events"),
    [
        (Migration(2, 2), ["migration", "clone"]),
        (Migration(2, 1), ["migration", "clone"]),
        # Not in this round, all in one deme, and too many demes for anybody to migrate.
        (Migration(2, 5), ["clone", "clone"]),
        (Migration(1, 1), ["clone", "clone"]),
        (Migration(4, 1), ["clone", "clone"]),
        (None, ["clone", "clone"]),
    ],
)
def test_clones_from_another_deme_are_migrations_in_rounds_in_which_elites_migrate(
    migration, events
):
    frames = [dict(frame) for frame in made(*FAMILY).frames]
    # Slots 0 and 1 are one deme, 2 the other.
    frames[2]["mate"], frames[2]["parent"] = np.arange(3), np.array([0, 0, 1])
    history = History(SPACE, tuple(frames), migration=migration)
    assert lineage.births(history)["event"].tolist()[1:3] == events
    told = lineage.table(history, metric="learning_rate", members=(2,))["event"].tolist()
    assert told == ["birth", "clone", events[0], ""]


def test_what_is_crossed_between_demes_stays_a_crossover():
    history = History(SPACE, made(*FAMILY).frames, migration=Migration(2, 1))
    assert lineage.births(history)["event"].tolist().count("crossover") == 1


def test_how_elites_migrate_is_read_from_the_policy():
    chain = sj.chain(sj.exploit(), sj.migrate(3, every=7))
    assert source.migration_of({"policy": chain.name}) == Migration(3, 7)
    for without in ({"policy": sj.chain(sj.exploit()).name}, {}, {"policy": "migrate(3, every=0)"}):
        assert source.migration_of(without) is None


def test_alarms_are_listed_once_with_value_and_threshold():
    rise = 1 << KINDS.index("rise")
    history = made({"alarm": [rise, 0]}, {"alarm": [rise, rise]}, {"alarm": [rise, 0]})
    events = (
        Event(1, 0.0, 1, "rise", 0, "member 0: its loss keeps rising at step 7 (9.3 > 5)"),
        Event(2, 0.0, 2, "memory", None, "memory grows (0.268 > 0.2)", 0.26765, 0.2),
        Event(3, 0.0, 2, "compiled", None, HOSTILE),
    )
    table = alarms.table(history, events)
    assert table[["round", "alarm"]].values.tolist() == [[2, "rise"], [2, "memory"], [1, "rise"]]
    # In runs of earlier versions only the text tells.
    assert table["value"].tolist()[1:] == [0.26765, 9.3] and np.isnan(table["value"][0])
    assert table["threshold"].tolist()[1:] == [0.2, 5.0] and np.isnan(table["threshold"][0])
    happened = ["", "memory grows", "its loss keeps rising at step 7"]
    assert table["what happened"].tolist() == happened
    shown = members.twin(table, history)
    assert [row["member"] for row in shown] == [1, None, 0]
    assert [row["cells"][3:5] for row in shown] == [["–", "–"], ["0.268", "0.2"], ["9.3", "5"]]
    assert alarms.pick(history, 2.2, alarms.place("rise")) == [0, 1]
    assert alarms.pick(history, 9, alarms.place("rise")) == []
    assert alarms.timeline(history)["count"].tolist() == [1, 2, 1]
    assert heatmap.alarms(history).tolist() == [[0, 0], [1, 1]]


def test_rows_by_gene_and_founder_keep_the_best_on_top():
    history = made(
        {"width": [16, 64, 16, 64], "lineage": [5, 1, 1, 5], "valid_accuracy": [0.1, 0.2, 0.3, 0.4]}
    )
    assert heatmap.order(history, "gene:width").tolist() == [0, 2, 1, 3]
    assert heatmap.order(history, "lineage").tolist() == [0, 3, 1, 2]
    assert heatmap.table(history, metric="width", rows="gene:width")["member"].tolist() == [
        3,
        1,
        2,
        0,
    ]


def test_cells_of_two_genes_hold_the_mean_the_best_and_the_number():
    history = made(
        {"width": [16, 16, 64], "valid_accuracy": [0.2, 0.4, 0.9], "valid_loss": [3.0, 1.0, 2.0]}
    )
    asked = {"x": "width", "y": "activation", "metric": "valid_accuracy"}
    for show, expected in (("mean", [0.3, 0.9]), ("best", [0.4, 0.9]), ("count", [2, 1])):
        cells = genes.grid(history, **asked, show=show)
        assert cells[0].tolist() == pytest.approx(expected)
        assert np.isnan(cells[1]).all()
    assert genes.grid(history, **asked | {"metric": "valid_loss"}, show="best")[0].tolist() == [
        1,
        2,
    ]
    assert genes.pick(history, "width", "activation", (0.5, 0.5)) == [1, 0]
    assert genes.pick(history, "width", "activation", (7.0, 0.5)) == []


def test_forest_finds_the_gene_that_matters_and_says_when_it_cannot():
    random = np.random.default_rng(0)
    rate = 10 ** random.uniform(-4, -1, 200)
    width = random.choice([16, 64], 200)
    score = 0.5 + 0.1 * np.log10(rate)
    fit = forest.learn(
        made({"learning_rate": rate, "width": width, "valid_accuracy": score}), "valid_accuracy"
    )
    assert fit.importance["learning_rate"] > 0.9 and fit.score > 0.9
    assert sum(fit.importance.values()) == pytest.approx(1)
    assert forest.learn(made({"width": width}), "valid_accuracy").model is None


def test_brush_takes_who_goes_through_the_box():
    history = made({"learning_rate": [1e-4, 1e-1, 1e-2], "valid_accuracy": [0.1, 0.2, 0.3]})
    assert parallel.brushed(history, "valid_accuracy", (-0.1, 0.5, 0.1, 1.1)) == [2, 1]
    assert parallel.brushed(history, "valid_accuracy", (0.2, 0, 0.8, 1)) == []
    assert parallel.brushed(history, "valid_accuracy", (2.9, -0.1, 3.1, 0.1)) == [0]


def test_outcome_is_the_best_so_far_of_the_living():
    history = made(
        {"valid_loss": [3.0, 2.0]},
        {"valid_loss": [1.0, 2.5], "alive": [False, True]},
        {"valid_loss": [np.nan, 1.5], "alive": [False, True]},
    )
    run = outcomes.outcome(history, "valid_loss")
    assert run.best.tolist() == [2.0, 2.0, 1.5]
    assert run.steps.tolist() == [20, 40, 60] and run.seconds.tolist() == [0, 10, 20]
    x, y = outcomes.distribution({"a": run, "b": run})["a"]
    assert (x.tolist(), y.tolist()) == ([1.5], [1.0])
    assert outcomes.table({"a": run}).iloc[0][["best", "alive"]].tolist() == [1.5, 1]


def test_edges_join_networks_that_predict_alike():
    outputs = np.zeros((4, 6, 2), np.float32)
    outputs[:2, :, 0], outputs[2:, :, 1] = 1.0, 1.0
    outputs[2] += np.random.default_rng(0).normal(0, 0.1, (6, 2))
    outputs[3] = np.nan
    history = made({"steps": [1] * 4})
    assert likeness.kinds(history) == ["architecture", "genome"]
    told = History(SPACE, history.frames, outputs)
    assert likeness.kinds(told) == ["architecture", "genome", "predictions", "outputs"]
    points = likeness.points(told, "predictions")
    np.testing.assert_allclose(points @ points.T, np.diag([1, 1, 1, 0]) + _pair(), atol=1e-6)
    for kind in ("predictions", "outputs"):
        assert layout.arrange(told, kind).positions.shape == (4, 2)


def _pair() -> np.ndarray:
    both = np.zeros((4, 4))
    both[0, 1] = both[1, 0] = 1
    return both


def test_layouts_are_made_once_and_go_on_from_the_last():
    first = layout.Layouts(made({"steps": [1] * 5}))
    assert first["genome"] is first["genome"]
    again = layout.Layouts(made({"steps": [1] * 5}, {"steps": [1] * 5}), first)
    assert again["genome"].round == 2
    assert np.ptp(again["genome"].positions - first["genome"].positions) < 1
