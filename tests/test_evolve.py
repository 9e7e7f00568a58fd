import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from swarmjax import fitness, space
from swarmjax.evolve import binary, exploit, mutate_structure, regularised, tournament
from swarmjax.fitness import weighted
from swarmjax.policy import check_plan, keep
from swarmjax.types import InputError

nan = np.nan


def same(plan, frame):
    return jax.tree.all(jax.tree.map(np.array_equal, plan, keep(frame)))


def test_the_worst_fifth_copies_the_best_fifth(frames, decide):
    accuracy = [0.5, 0.9, 0.1, 0.6, 0.4, 0.8, 0.2, 0.7, 0.3, 0.55]
    frame = frames(accuracy)
    parents = set()
    for seed in range(20):
        plan = decide(exploit(), frame, seed=seed)
        replaced = np.flatnonzero(plan.parent != np.arange(10))
        assert replaced.tolist() == [2, 6]
        parents |= set(plan.parent[replaced].tolist())
        assert not plan.fresh.any()
        for name, values in frame.genome.items():
            np.testing.assert_array_equal(plan.genome[name], np.asarray(values)[plan.parent])
    assert parents == {1, 5}


@pytest.mark.parametrize("structure", ["inherit", "keep"])
def test_jit_agrees(frames, assert_jit_agrees, structure):
    assert_jit_agrees(exploit(structure=structure), frames)


def test_structure_keep_inherits_all_but_the_architecture(frames, decide):
    frame = frames(np.linspace(0.1, 0.9, 10))
    plan = decide(exploit(fraction=0.5, structure="keep"), frame)
    for name, values in frame.genome.items():
        source = np.arange(10) if name in ("depth", "width") else plan.parent
        np.testing.assert_array_equal(plan.genome[name], np.asarray(values)[source])


def test_the_goal_decides(frames, decide):
    policy = exploit(goal=weighted(valid_loss=1.0))
    plan = decide(policy, frames([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert plan.parent.tolist() == [0, 1, 2, 3, 0]
    assert (
        policy.name == "exploit(fraction=0.2, goal=weighted(valid_loss=1.0), structure='inherit')"
    )


def test_nothing_happens_before_the_first_round(frames, decide):
    for alive in ([True] * 4, [True, False, True, True]):
        frame = frames([0.1, nan, 0.2, 0.3], round=0, alive=alive)
        assert same(decide(exploit(), frame), frame)


def test_the_dead_are_replaced_however_many(frames, decide):
    frame = frames([nan, 0.2, nan, nan, 0.3, nan], alive=[False, True, False, False, True, False])
    plan = decide(exploit(), frame)
    assert plan.parent.tolist() == [4, 1, 4, 4, 4, 4]
    assert not plan.fresh.any()


def test_dead_but_with_finite_metrics_is_never_a_parent(frames, decide):
    frame = frames([0.99, 0.5, 0.1], alive=[False, True, True])
    assert decide(exploit(), frame).parent.tolist() == [1, 1, 2]


def test_the_unknown_are_left_alone(frames, decide):
    frame = frames([nan, 0.5, nan, 0.1, nan], alive=[True, True, True, True, False])
    assert decide(exploit(), frame).parent.tolist() == [0, 1, 2, 3, 1]
    unknown = frames([nan, nan, nan])
    assert same(decide(exploit(), unknown), unknown)


@pytest.mark.parametrize("structure", ["inherit", "keep"])
def test_if_all_are_dead_all_start_fresh(frames, decide, structure):
    frame = frames([nan] * 64, alive=[False] * 64)
    plan = decide(exploit(structure=structure), frame)
    assert plan.fresh.all()
    assert plan.parent.tolist() == list(range(64))
    assert (plan.genome["learning_rate"] != np.asarray(frame.genome["learning_rate"])).all()
    depth_changed = (plan.genome["depth"] != np.asarray(frame.genome["depth"])).any()
    assert depth_changed == (structure == "inherit")


def test_swarm_of_one(frames, decide):
    alive, dead = frames([0.5]), frames([nan], alive=[False])
    assert same(decide(exploit(fraction=0.5), alive), alive)
    plan = decide(exploit(fraction=0.5), dead)
    assert plan.fresh.tolist() == [True]
    assert plan.parent.tolist() == [0]


@pytest.mark.parametrize(
    ("accuracy", "alive", "parent"),
    [
        ([0.1, 0.2], [True, True], [1, 1]),
        ([0.2, 0.1], [True, True], [0, 0]),
        ([0.2, 0.2], [True, True], [0, 0]),
        ([nan, 0.2], [False, True], [1, 1]),
    ],
)
def test_swarm_of_two(frames, decide, accuracy, alive, parent):
    assert decide(exploit(), frames(accuracy, alive=alive)).parent.tolist() == parent


def test_ties_replace_the_higher_slots(frames, decide):
    plan = decide(exploit(), frames([0.5] * 10))
    assert (plan.parent != np.arange(10)).tolist() == [False] * 8 + [True] * 2
    assert set(plan.parent[8:]) <= {0, 1}


def test_what_earlier_policies_planned_for_a_replaced_slot_is_dropped(frames):
    frame = frames([0.1, 0.5, 0.9, 0.6, 0.7])
    others = jnp.array([1, 2, 3, 4, 0], jnp.int32)
    plan = keep(frame)._replace(
        parent=others,
        mate=others,
        operator=jnp.ones(5, jnp.int32),
        fresh=jnp.array([True, True, False, False, False]),
    )
    # Not through the plan check, which refuses mates as long as no operator combines them.
    after, _ = exploit().update(jax.random.key(0), plan, frame, ())
    assert after.parent.tolist() == [2, 2, 3, 4, 0]
    assert after.mate.tolist() == [0, 2, 3, 4, 0]
    assert after.operator.tolist() == [0, 1, 1, 1, 1]
    assert after.fresh.tolist() == [False, True, False, False, False]


@given(
    arrays(np.float32, 9, elements=st.floats(0, 1, width=32) | st.just(nan)),
    st.lists(st.booleans(), min_size=9, max_size=9),
    st.sampled_from([0.01, 0.2, 0.5]),
    st.sampled_from(["inherit", "keep"]),
    st.integers(0, 1000),
)
def test_laws(frames, accuracy, alive, fraction, structure, seed):
    frame = frames(accuracy, alive=alive)
    policy, before = exploit(fraction, structure=structure), keep(frame)
    plan = jax.device_get(policy.update(jax.random.key(seed), before, frame, ())[0])
    check_plan(plan, frame)
    alive, own = np.array(alive), np.arange(9)
    count = max(1, int(fraction * 9))
    copied = plan.parent != own
    known = alive & np.isfinite(accuracy)
    assert (copied | plan.fresh)[~alive].all()
    assert not (copied & plan.fresh).any()
    assert (copied & alive).sum() <= count
    assert len(set(plan.parent[copied])) <= count
    # A parent stays in its slot, lives, and is at least as good as whom it replaces.
    assert not (copied | plan.fresh)[plan.parent[copied]].any()
    assert known[plan.parent[copied]].all()
    beaten = copied & known
    assert (accuracy[plan.parent[beaten]] >= accuracy[beaten]).all()
    assert plan.fresh.any() == (not known.any() and not alive.all())


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.51, nan])
def test_bad_fraction(fraction):
    with pytest.raises(InputError, match="0 < fraction <= 0.5"):
        exploit(fraction)


def test_bad_structure():
    with pytest.raises(InputError, match="'inherit' or 'keep', got 'drop'"):
        exploit(structure="drop")


SELECTIONS = [tournament(), tournament(1, 1.0), binary(0.2), regularised(), regularised(1.0)]
UPDATES = {policy.name: jax.jit(policy.update) for policy in SELECTIONS}


def selections(policies=SELECTIONS):
    return pytest.mark.parametrize("policy", policies, ids=lambda p: p.name)


@selections([tournament(), binary(), regularised()])
def test_selection_jit_agrees(frames, assert_jit_agrees, policy):
    assert_jit_agrees(policy, frames)


@selections()
def test_selection_waits_for_the_first_round_and_for_scores(frames, decide, policy):
    frame = frames([0.1, nan, 0.2, 0.3], round=0, alive=[True, False, True, True])
    assert same(decide(policy, frame), frame)
    unknown = frames([nan, nan, nan])
    assert same(decide(policy, unknown), unknown)
    alone = frames([0.5])
    assert same(decide(policy, alone), alone)


@selections()
def test_selection_replaces_the_dead(frames, decide, policy):
    plan = decide(policy, frames([nan, 0.2, nan], alive=[False, True, False]))
    assert plan.parent.tolist() == [1, 1, 1] and not plan.fresh.any()
    everyone = decide(policy, frames([nan] * 4, alive=[False] * 4))
    assert everyone.fresh.all()


@given(
    arrays(np.float32, 9, elements=st.floats(0, 1, width=32) | st.just(nan)),
    st.lists(st.booleans(), min_size=9, max_size=9),
    st.permutations(range(9)),
    st.sampled_from(sorted(UPDATES)),
    st.integers(0, 1000),
)
def test_selection_laws(frames, accuracy, alive, birth, name, seed):
    frame = frames(accuracy, alive=alive, birth=birth)
    plan = jax.device_get(UPDATES[name](jax.random.key(seed), keep(frame), frame, ())[0])
    check_plan(plan, frame)
    alive, known = np.array(alive), np.array(alive) & np.isfinite(accuracy)
    copied = plan.parent != np.arange(9)
    assert (copied | plan.fresh)[~alive].all() and not (copied & plan.fresh).any()
    assert known[plan.parent[copied]].all()
    assert plan.fresh.any() == (not known.any() and not alive.all())
    changed = copied & known
    if name.startswith("regularised"):
        dying = 9 if "fraction=1.0" in name else 1
        oldest = sorted(np.asarray(birth)[known])[:dying]
        assert sorted(np.asarray(birth)[changed]) == (oldest if known.sum() > 1 else [])
    else:
        margin = np.float32(0.2) if "margin=0.2" in name else np.float32(0)
        assert (
            fitness.default(frame)[plan.parent[changed]] >= accuracy[changed] + margin - 2e-4
        ).all()


def test_a_tournament_replaces_the_worst_by_the_best_drawn(frames, decide):
    frame = frames(np.linspace(0.0, 0.9, 10))
    plan = decide(tournament(size=64, fraction=0.3), frame)
    # Of sixty-four draws one is the best, for all but itself.
    assert plan.parent.tolist() == [9, 9, 9, *range(3, 10)]
    for name, values in frame.genome.items():
        np.testing.assert_array_equal(plan.genome[name], np.asarray(values)[plan.parent])
    drawn = {int(p) for seed in range(30) for p in decide(tournament(1), frame, seed).parent[:1]}
    assert drawn == set(range(1, 10))


def test_binary_compares_with_a_random_other(frames, decide):
    frame, wins, update = frames([0.1, 0.5, 0.9]), np.zeros((3, 3)), jax.jit(binary(0.5).update)
    for seed in range(60):
        plan, _ = update(jax.random.key(seed), keep(frame), frame, ())
        wins[np.arange(3), plan.parent] += 1
    # Only the best beats the worst by more than the margin; it is met half of the time.
    assert wins[1, 1] == wins[2, 2] == 60 and wins[0, 1] == 0
    assert 15 < wins[0, 2] < 45
    tied = frames([0.5] * 6)
    assert same(decide(binary(), tied), tied)


def test_the_oldest_dies_even_if_it_is_the_best(frames, decide):
    frame = frames([0.3, 0.9, 0.8, 0.2], birth=[7, 3, 9, 5])
    plan = decide(regularised(fraction=0.25, size=32, mutation=0.0), frame)
    assert plan.parent.tolist() == [0, 2, 2, 3]
    plan = decide(regularised(fraction=0.5, size=32, mutation=0.0), frame)
    assert plan.parent.tolist() == [0, 2, 2, 1]


def test_a_child_of_age_differs_in_one_neighbouring_option(frames, decide):
    members = 200
    frame = frames(np.linspace(0, 1, members))
    plan = decide(regularised(fraction=0.9), frame)
    child, moved = plan.parent != np.arange(members), []
    assert child.sum() == 180
    for name, values in frame.genome.items():
        moved.append(plan.genome[name] - np.asarray(values)[plan.parent])
        assert not moved[-1][~child].any()
        if name not in ("depth", "width"):
            assert not moved[-1].any()
    assert (sum(abs(steps[child]) for steps in moved[-2:]) == 1).all()
    assert {-1, 1} <= set(moved[-1].tolist()) and (moved[-2] != 0).sum() > 60


def test_mutate_structure_changes_a_share_of_the_children_only(frames, decide):
    members = 2000
    frame = frames(np.full(members, 0.5))
    parent = np.arange(members, dtype=np.int32)
    parent[: members // 2] += members // 2
    plan = keep(frame)._replace(parent=jnp.asarray(parent))
    after = decide(mutate_structure(0.3), frame, plan=plan).genome
    changed = np.zeros(members, bool)
    for name, values in frame.genome.items():
        changed |= after[name] != np.asarray(values)
    assert not changed[members // 2 :].any()
    assert abs(changed[: members // 2].mean() - 0.3) < 0.05


@pytest.mark.parametrize("options", [(), (16,), (16, 32)])
def test_mutate_structure_of_few_options(frames, decide, options):
    genes = {"width": space.structure(*options)} if options else {}
    searched = space.Space(learning_rate=space.uniform(0, 1), **genes)
    frame = frames([0.1, 0.2, 0.3, 0.4], space=searched)
    plan = keep(frame)._replace(parent=jnp.array([3, 3, 3, 3], jnp.int32))
    after = decide(mutate_structure(1.0), frame, plan=plan).genome
    if options:
        flipped = [len(options) > 1] * 3 + [False]
        assert (after["width"] != np.asarray(frame.genome["width"])).tolist() == flipped
    np.testing.assert_array_equal(after["learning_rate"], frame.genome["learning_rate"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tournament(size=0), "tournament needs a size that is a whole number from 1 to"),
        (lambda: tournament(fraction=1.1), "tournament needs 0 < fraction <= 1, got 1.1"),
        (lambda: binary(margin=-1), "binary needs a finite margin >= 0, got -1"),
        (lambda: binary(margin=nan), "binary needs a finite margin >= 0, got nan"),
        (lambda: regularised(size=True), "regularised needs a size that is a whole number"),
        (lambda: regularised(fraction=0), "regularised needs 0 < fraction <= 1, got 0"),
        (lambda: regularised(mutation=2), r"regularised needs a mutation in \[0, 1\], got 2"),
        (lambda: mutate_structure(nan), r"mutate_structure needs a probability in \[0, 1\]"),
    ],
)
def test_bad_selections(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_names_of_selections():
    assert tournament().name == "tournament(size=3, fraction=0.2)"
    assert binary(goal=weighted(valid_loss=1.0)).name == (
        "binary(margin=0.0, goal=weighted(valid_loss=1.0))"
    )
    assert regularised().name == "regularised(fraction=0.1, size=8, mutation=1.0)"
    assert mutate_structure().name == "mutate_structure(probability=0.1)"
