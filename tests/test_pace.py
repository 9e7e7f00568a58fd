"""The pace of programs, by hand and in a real training."""

import contextlib

import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import anomaly, mlp, optimizers, pace
from swarmjax.cohorts import Costs
from swarmjax.frames import LaneReport
from swarmjax.members import Recipe
from swarmjax.placement import Layout, make_mesh
from swarmjax.policy import keep

nan = np.nan


def lane(program, seconds, reckoned, places=()):
    return LaneReport(np.asarray(places, int), None, seconds, program, reckoned)  # pyright: ignore


def test_a_pace_is_the_time_over_what_was_reckoned():
    lanes = [lane("a", 0.2, 0.1), lane("a", 0.4, 0.2), lane("b", 0.6, 1.2)]
    assert pace.paces(lanes, wall=1.2) == {"a": pytest.approx(2.0), "b": pytest.approx(0.5)}


def test_lanes_side_by_side_share_the_time():
    alone, both = lane("a", 0.3, 0.1), [lane("a", 0.6, 0.1), lane("b", 0.6, 0.1)]
    assert pace.paces([alone], 0.3) == {"a": pytest.approx(3.0)}
    assert pace.paces(both, 0.6) == {"a": pytest.approx(3.0), "b": pytest.approx(3.0)}


def test_too_short_a_time_is_no_measurement():
    found = pace.paces([lane("a", 0.04, 1.0), lane("b", 0.06, 1.0), lane("c", 0.06, 0.0)], 9.0)
    assert np.isnan([found["a"], found["c"]]).all() and found["b"] == pytest.approx(0.06)


def rounds(found):
    strains, told = {}, []
    for paces in found:
        strains, slow = pace.observe(strains, paces)
        told.append(slow)
    return told


def test_a_program_that_stays_slow_is_told_and_others_are_not():
    told = rounds([{"a": 1.0, "b": 3.0}] * 8 + [{"a": 2.0, "b": 3.0}] * 5)
    assert [slow["a"] > 0 for slow in told] == [False] * 12 + [True]
    assert told[-1]["a"] == pytest.approx(10 * np.log(2)) and not any(s["b"] for s in told)


def test_the_time_to_compile_is_no_pace_and_rounds_without_work_do_not_count():
    calm = [{"a": 400.0}] + [{"a": 1.0}] * 6 + [{}, {"a": nan}, {"b": 500.0}]
    told = rounds(calm + [{"a": 2.0, "b": 1.0}] * 5)
    assert told[-1]["a"] > 4 and told[-1]["b"] == 0.0


def test_all_who_trained_in_a_slow_program_are_told(frames):
    plan = keep(frames([0.5] * 6))._replace(steps=np.array([3, 0, 3, 3, 3, 3]))
    lanes = [lane("a", 1.0, 1.0, [[0, 1, -1]]), lane("b", 1.0, 1.0, [4]), lane("a", 1.0, 1.0, [3])]
    slow = pace.of_members(lanes, {"a": 5.0, "b": 0.0}, plan)
    assert slow.tolist() == [5.0, 0.0, 0.0, 5.0, 0.0, 0.0]


SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1), depth=sj.structure(1, 3), width=sj.structure(8)
)


@pytest.fixture(scope="module")
def task():
    x = np.random.default_rng(0).normal(size=(90, 4))
    return sj.tasks.arrays(x, (x[:, 0] > 0).astype(int), batch=16)


def test_what_is_reckoned_follows_grants_and_depths(task, frames):
    family = mlp.mlp(SPACE, 4, task.outputs)
    recipe, box = Recipe(SPACE, family, optimizers.for_space(SPACE)), mlp.Box(3, 8)
    costs = Costs(flops_per_second=1e9, step_seconds=1e-4)
    frame = frames([0.5] * 4, space=SPACE)
    frame = frame._replace(genome=dict(frame.genome) | {"depth": np.array([0, 0, 1, 1])})
    plan = keep(frame)._replace(steps=np.array([9, 4, 4, 99]))
    layout = Layout(make_mesh(devices=jax.devices()[:1]), 2, 1)
    lanes = [np.array([slots]) for slots in ((0, 1), (1, 2), (1, -1))]
    found = [pace.reckon(recipe, task, costs, layout, box, slots, plan) for slots in lanes]
    flops = [family.flops(box, (("depth", d), ("width", 8))) * task.batch for d in (1, 3)]
    update = 80.0 * family.parameters(box)
    short, deep = (1e-4 + 8 * (f + update) / 1e9 for f in flops)
    assert found == pytest.approx([10 * short, 5 * deep, 5 * short])


def test_a_run_on_a_machine_that_slows_down_tells_of_it(task, tmp_path, monkeypatch):
    """From the tenth round on everything is said to take three times as long."""
    real = pace.paces

    def later(reports, wall):
        calls.append(len(reports))
        return {program: 1.0 + 2.0 * (len(calls) > 10) for program in real(reports, wall)}

    calls = []
    monkeypatch.setattr(pace, "paces", later)
    sj.run(
        task=task, space=SPACE, policy="random_search", members=3, budget=3 * 16, round_steps=1,
        directory=tmp_path / "run", ensemble=0,
    )  # fmt: skip
    with contextlib.closing(sj.open_run(tmp_path / "run")) as reader:
        told = [(e.round, e.member, e.text) for e in reader.events() if e.kind == "slow"]
        rows = reader.frames().to_pandas()
    assert told == [
        (15, 0, "member 0: its steps take longer and longer at step 15 (11 > 4)"),
        (15, None, "and 2 members more: slow"),
    ]
    slow = rows[rows.alarm & anomaly.bits(["slow"]) != 0]
    assert slow["round"].tolist() == [15] * 3 and slow.member.tolist() == [0, 1, 2]
