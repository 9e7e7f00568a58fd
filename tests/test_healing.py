"""What the healing policy does about alarms, by hand and by law."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from swarmjax import anomaly, space
from swarmjax.fitness import weighted
from swarmjax.healing import heal
from swarmjax.policy import check_plan, keep
from swarmjax.types import InputError

nan = np.nan
UPDATE = jax.jit(heal().update)
DEAD, RISE, SPIKE, OUTLIER = (anomaly.bits([k]) for k in ("nonfinite", "rise", "spike", "outlier"))


def test_without_alarms_nothing_happens(frames, decide):
    frame = frames([0.1, 0.5, 0.9])
    assert jax.tree.all(jax.tree.map(np.array_equal, decide(heal(), frame), keep(frame)))


def test_those_who_rise_start_from_the_best_healthy(frames, decide):
    # The best is being slowed, so it is no parent; an alarm that heal ignores is no hindrance.
    frame = frames([0.1, 0.5, 0.9, 0.3, 0.2], alarm=[RISE, OUTLIER, SPIKE, 0, RISE])
    plan = decide(heal(), frame)
    assert plan.parent.tolist() == [1, 1, 2, 3, 1]
    for name, values in frame.genome.items():
        if name != "learning_rate":
            np.testing.assert_array_equal(plan.genome[name], np.asarray(values)[plan.parent])


def test_parents_are_drawn_from_the_best_share(frames, decide):
    alarm = [RISE] + [0] * 10
    frame = frames(np.linspace(0, 1, 11), alarm=alarm)
    drawn = {int(decide(heal(fraction=0.3), frame, seed=seed).parent[0]) for seed in range(20)}
    assert drawn == {8, 9, 10}


def test_a_spike_halves_the_learning_rate_within_the_space(frames, decide):
    frame = frames([0.1, 0.5, 0.9], alarm=[SPIKE, SPIKE, 0])
    rate = jnp.array([0.01, 1.5e-4, 0.01], jnp.float32)
    frame = frame._replace(genome=dict(frame.genome) | {"learning_rate": rate})
    plan = decide(heal(), frame)
    np.testing.assert_allclose(plan.genome["learning_rate"], [0.005, 1e-4, 0.01], rtol=1e-6)
    assert plan.parent.tolist() == [0, 1, 2]


def test_who_is_replaced_is_not_slowed_as_well(frames, decide):
    frame = frames([0.1, 0.9], alarm=[RISE | SPIKE, 0])
    plan = decide(heal(), frame)
    assert plan.parent.tolist() == [1, 1]
    np.testing.assert_array_equal(
        plan.genome["learning_rate"], np.asarray(frame.genome["learning_rate"])[[1, 1]]
    )


def test_the_dead_are_replaced_though_the_frame_tells_no_alarm(frames, decide):
    assert decide(heal(), frames([nan, 0.5], alive=[False, True])).parent.tolist() == [1, 1]


def test_with_nobody_healthy_only_the_dead_start_fresh(frames, decide):
    frame = frames([0.5, nan, 0.6], alive=[True, False, True], alarm=[RISE, DEAD, RISE])
    plan = decide(heal(), frame)
    assert plan.parent.tolist() == [0, 1, 2] and plan.fresh.tolist() == [False, True, False]
    assert plan.genome["momentum"][1] != frame.genome["momentum"][1]


def test_what_earlier_policies_replaced_is_left_alone(frames, decide):
    frame = frames([0.1, 0.5, 0.9, 0.2], alarm=[RISE, RISE, 0, SPIKE])
    before = keep(frame)._replace(
        parent=jnp.array([3, 1, 2, 2], jnp.int32), fresh=jnp.array([False, True, False, False])
    )
    plan = decide(heal(), frame, plan=before)
    assert jax.tree.all(jax.tree.map(np.array_equal, plan, before))


def test_before_the_first_round_nobody_is_treated(frames, decide):
    plan = decide(heal(), frames([nan] * 2, round=0, alarm=[RISE, SPIKE], birth=[-1, -1]))
    assert plan.parent.tolist() == [0, 1] and not plan.fresh.any()


def test_jit_agrees(frames, assert_jit_agrees):
    assert_jit_agrees(heal(), frames)


@given(
    arrays(np.float32, 6, elements=st.floats(0, 1, width=32) | st.just(nan)),
    arrays(bool, 6),
    arrays(np.int32, 6, elements=st.sampled_from([0, DEAD, RISE, SPIKE, OUTLIER, RISE | SPIKE])),
    st.integers(0, 1000),
)
def test_laws(frames, accuracy, alive, alarm, seed):
    frame = frames(accuracy, alive=alive, alarm=alarm, loss=np.ones(6))
    plan, _ = UPDATE(jax.random.key(seed), keep(frame), frame, heal().init(frame))
    plan = jax.device_get(plan)
    check_plan(plan, frame)
    copied = plan.parent != np.arange(6)
    healthy = alive & np.isfinite(accuracy) & (alarm & (DEAD | RISE | SPIKE) == 0)
    assert healthy[plan.parent[copied]].all()
    sick = ~alive | (alarm & (DEAD | RISE) != 0)
    np.testing.assert_array_equal(copied, sick & healthy.any())
    np.testing.assert_array_equal(plan.fresh, ~alive & (not healthy.any()))


def test_its_name_tells_its_goal():
    named = heal(["rise"], [], goal=weighted(accuracy=1.0)).name
    assert named.startswith("heal(('rise',), (), factor=0.5")
    assert named.endswith("goal=weighted(accuracy=1.0))")


def test_bad_requests(frames):
    with pytest.raises(InputError, match="no alarm is called 'nan'"):
        heal(["nan"])
    with pytest.raises(InputError, match="0 < factor < 1, got 2"):
        heal(factor=2)
    with pytest.raises(InputError, match="0 < fraction <= 1, got 0"):
        heal(fraction=0)
    bare = space.Space(depth=space.structure(1, 2))
    frame = frames([0.5, 0.6], space=bare)
    for policy, fails in ((heal(), True), (heal(slow=()), False), (heal(gene="depth"), True)):
        if fails:
            with pytest.raises(InputError, match="no range of the space; name another"):
                policy.update(jax.random.key(0), keep(frame), frame, policy.init(frame))
        else:
            policy.update(jax.random.key(0), keep(frame), frame, policy.init(frame))
