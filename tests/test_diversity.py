"""Goals and policies of diversity on arrays worked out by hand."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from swarmjax import diversity, fitness, similarity, space
from swarmjax.diversity import (
    by_outputs,
    by_predictions,
    lineage_cap,
    niches,
    novelty,
    shared,
)
from swarmjax.policy import check_plan, keep
from swarmjax.types import InputError

nan = np.nan
LINE = space.Space(place=space.uniform(0, 10), size=space.structure(1, 2))


def accuracy(frame):
    return frame.metrics["valid_accuracy"]


def on_a_line(frames, values, places, sizes=None, **changes):
    """A Frame whose members differ by one range gene, and by another if `sizes` are given."""
    frame = frames(values, space=LINE, **changes)
    places = jnp.asarray(places, jnp.float32)
    sizes = jnp.zeros(len(values), jnp.int32) if sizes is None else jnp.asarray(sizes, jnp.int32)
    return frame._replace(genome={"place": places, "size": sizes})


def apart(frame):
    """Places on the line, in their own units."""
    return abs(frame.genome["place"][:, None] - frame.genome["place"][None, :])


def test_sharing_divides_by_the_crowd(frames):
    frame = on_a_line(frames, [0.8, 0.6, 0.5], [0, 1, 10])
    # Within 2: the first two are half near to each other, the third is alone.
    expected = [0.8 / 1.5, 0.6 / 1.5, 0.5]
    np.testing.assert_allclose(shared(accuracy, 2.0, apart)(frame), expected, rtol=1e-6)
    by_genes = shared(accuracy, 0.1)(frame)
    # Gower: a tenth of the range is a twentieth over two genes.
    np.testing.assert_allclose(by_genes, expected, rtol=1e-6)


def test_the_dead_and_unknown_make_no_crowd(frames):
    frame = on_a_line(frames, [0.8, nan, 0.6], [0, 0, 0], alive=[True, True, False])
    found = np.asarray(shared(accuracy, 1.0, apart)(frame))
    assert found[0] == pytest.approx(0.8) and np.isnan(found[1])


def test_sharing_of_negative_goals_still_punishes_crowds(frames):
    frame = on_a_line(frames, [0.2, 0.4, 0.3], [0, 0, 9])

    def goal(frame):
        return accuracy(frame) - 1.0

    # -0.8, -0.6, -0.7 less the least are 0, 0.2, 0.1; the first two share a place.
    found = shared(goal, 1.0, apart)(frame)
    np.testing.assert_allclose(found, [0, 0.1, 0.1], atol=1e-6)


def test_novelty_is_the_mean_distance_to_the_nearest(frames):
    frame = on_a_line(frames, [0.1, 0.2, 0.3, 0.4], [0, 1, 3, 10])
    np.testing.assert_allclose(novelty(1, distance=apart)(frame), [1, 1, 2, 7])
    np.testing.assert_allclose(novelty(2, distance=apart)(frame), [2, 1.5, 2.5, 8])
    np.testing.assert_allclose(novelty(9, distance=apart)(frame), [14 / 3, 4, 4, 26 / 3])
    both = novelty(1, goal=accuracy, weight=0.5, distance=apart)
    np.testing.assert_allclose(both(frame), [0.6, 0.7, 1.3, 3.9], rtol=1e-6)
    assert both.__name__ == "novelty(1, goal=accuracy, weight=0.5, apart)"


def test_the_dead_are_nobodys_neighbours(frames):
    frame = on_a_line(frames, [0.1] * 3, [0, 1, 3], alive=[True, False, True])
    np.testing.assert_allclose(novelty(1, distance=apart)(frame), [3, 1, 3])
    alone = on_a_line(frames, [0.1], [5])
    assert novelty()(alone).tolist() == [0]


def test_goals_are_the_same_on_the_host_and_traced(frames):
    frame = on_a_line(frames, [0.5, nan, 0.7, 0.9], [0, 1, 1.5, 9], [0, 1, 1, 0])
    for distance in (diversity.by_genes, diversity.by_architecture):
        for goal in (shared(accuracy, 0.7, distance), novelty(2, goal=accuracy, distance=distance)):
            plain = goal(jax.tree.map(np.asarray, frame))
            np.testing.assert_allclose(plain, jax.jit(goal)(frame), rtol=1e-5)


def test_distances_may_be_of_what_members_compute(frames):
    outputs = np.random.default_rng(0).normal(size=(3, 8, 2))

    def by_outputs(frame):
        return similarity.cka(outputs)

    found = novelty(2, distance=by_outputs)(frames([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(found, similarity.cka(outputs).sum(axis=1) / 2, rtol=1e-5)


def test_cells_of_genes_and_amounts(frames):
    frame = on_a_line(frames, [0.1] * 4, [0, 2.4, 2.6, 10], [1, 0, 1, 0], cost=[1, 10, 100, 1000])
    assert diversity.cells(frame, ("place",), 4).tolist() == [0, 0, 1, 3]
    assert diversity.cells(frame, ("place", "size"), 4).tolist() == [1, 0, 3, 6]
    assert diversity.cells(frame, ("cost",), 3).tolist() == [0, 1, 2, 2]
    same = frame._replace(cost=jnp.ones(4))
    assert diversity.cells(same, ("cost",), 3).tolist() == [0] * 4
    with pytest.raises(
        InputError, match="no axis 'depth'; known: place, size, slot, cost, parameters"
    ):
        diversity.cells(frame, ("depth",), 4)


def test_exploitation_stays_within_cells(frames, decide):
    values = [0.9, 0.5, 0.4, 0.1, 0.2, 0.3]
    frame = on_a_line(frames, values, [1, 1, 1, 9, 9, 9])
    plan = decide(niches("place", bins=2), frame)
    # In each cell the worst takes over from the best, though the second is bad all over.
    assert plan.parent.tolist() == [0, 1, 0, 5, 4, 5]
    # One alone, and one of unknown fitness, are left alone.
    frame = on_a_line(frames, [0.9, 0.1, nan], [1, 9, 9])
    assert decide(niches("place", bins=2), frame).parent.tolist() == [0, 1, 2]


def test_the_dead_of_a_cell(frames, decide):
    alive = [True, False, False]
    frame = on_a_line(frames, [0.5, nan, nan], [1, 1, 9], alive=alive)
    plan = decide(niches("place", bins=2), frame)
    assert plan.parent.tolist() == [0, 0, 2] and plan.fresh.tolist() == [False, False, True]
    assert plan.genome["place"][2] != 9


def test_parents_are_the_best_share_of_a_cell(frames, decide):
    frame = on_a_line(frames, np.linspace(0, 1, 10), [1] * 10)
    drawn = set()
    for seed in range(12):
        plan = decide(niches("place", "size", fraction=0.3), frame, seed=seed)
        assert np.flatnonzero(plan.parent != np.arange(10)).tolist() == [0, 1, 2]
        drawn |= set(plan.parent[:3].tolist())
    assert drawn == {7, 8, 9}


NICHES = jax.jit(niches("place", "cost", bins=3).update)


@given(
    # Compiled programs take subnormal numbers for zero.
    arrays(np.float32, 8, elements=st.floats(0, 1, width=32, allow_subnormal=False) | st.just(nan)),
    arrays(bool, 8),
    arrays(np.float32, 8, elements=st.floats(0, 10, width=32)),
    arrays(np.float32, 8, elements=st.floats(1, 64, width=32)),
)
def test_laws_of_niches(frames, values, alive, places, cost):
    frame = on_a_line(frames, values, places, alive=alive, cost=cost)
    plan = jax.device_get(NICHES(jax.random.key(0), keep(frame), frame, ())[0])
    check_plan(plan, frame)
    cell = np.asarray(diversity.cells(frame, ("place", "cost"), 3))
    own, known = np.arange(8), np.asarray(alive) & np.isfinite(values)
    copied = plan.parent != own
    assert (cell[plan.parent] == cell).all() and known[plan.parent[copied]].all()
    beaten = copied & known
    assert (values[plan.parent[beaten]] >= values[beaten]).all()
    for one in np.unique(cell):
        mine = cell == one
        assert (plan.fresh == ~alive)[mine].all() or known[mine].any()
        assert (copied == ~alive)[mine & ~alive].all() or not known[mine].any()
        if known[mine].any():
            best = np.flatnonzero(mine & known & (values == values[mine & known].max()))
            assert (plan.parent[best] == best).any()


def taken(frame, parent, **changes):
    return keep(frame)._replace(parent=jnp.asarray(parent, jnp.int32), **changes)


def test_children_beyond_the_cap_go_on_as_they_are(frames, decide):
    frame = frames([0.1, 0.2, 0.3, 0.8, 0.9], lineage=[0, 1, 2, 3, 4])
    genome = {name: jnp.roll(values, 1) for name, values in keep(frame).genome.items()}
    plan = taken(frame, [4, 4, 4, 3, 4], genome=genome)
    after = decide(lineage_cap(2), frame, plan=plan)
    # One child is enough; ties go to the lower slot.
    assert after.parent.tolist() == [4, 1, 2, 3, 4]
    for name, values in frame.genome.items():
        changed = np.asarray(plan.genome[name])
        expected = np.where([False, True, True, False, False], values, changed)
        np.testing.assert_array_equal(after.genome[name], expected)


def test_the_children_of_the_best_parents_come_first(frames, decide):
    frame = frames([0.1, 0.2, 0.8, 0.9], lineage=[0, 1, 5, 5])
    after = decide(lineage_cap(3), frame, plan=taken(frame, [2, 3, 2, 3]))
    assert after.parent.tolist() == [0, 3, 2, 3]

    def reverse(frame):
        return -accuracy(frame)

    after = decide(lineage_cap(3, goal=reverse), frame, plan=taken(frame, [2, 3, 2, 3]))
    assert after.parent.tolist() == [2, 1, 2, 3]


def test_who_leaves_makes_room(frames, decide):
    # Two swap lineages that are full: neither can go first. A third may follow who left.
    frame = frames([0.1, 0.2, 0.3, 0.9], lineage=[0, 0, 1, 2])
    after = decide(lineage_cap(2), frame, plan=taken(frame, [3, 1, 0, 3]))
    assert after.parent.tolist() == [3, 1, 0, 3]
    full = frames([0.1, 0.2], lineage=[0, 1])
    assert decide(lineage_cap(1), full, plan=taken(full, [1, 0])).parent.tolist() == [0, 1]


def test_within_a_lineage_anyone_may_be_a_parent(frames, decide):
    frame = frames([0.1, 0.2, 0.3], lineage=[7, 7, 7])
    assert decide(lineage_cap(1), frame, plan=taken(frame, [2, 2, 2])).parent.tolist() == [2] * 3


def test_the_dead_that_are_refused_start_fresh(frames, decide):
    frame = frames([nan, nan, 0.3], alive=[False, False, True], lineage=[0, 1, 2])
    after = decide(lineage_cap(2), frame, plan=taken(frame, [2, 2, 2]))
    assert after.parent.tolist() == [2, 1, 2] and after.fresh.tolist() == [False, True, False]
    assert after.genome["momentum"][1] != frame.genome["momentum"][1]


CAPS = {maximum: jax.jit(lineage_cap(maximum).update) for maximum in (1, 2, 4)}


@given(
    arrays(np.int32, 8, elements=st.integers(0, 5)),
    arrays(np.int32, 8, elements=st.integers(0, 7)),
    arrays(bool, 8),
    st.sampled_from(sorted(CAPS)),
)
def test_no_lineage_grows_beyond_the_cap(frames, lineage, parent, fresh, maximum):
    frame = frames(np.linspace(0.1, 0.9, 8), lineage=lineage)
    parent = np.where(fresh, np.arange(8), parent)
    plan = taken(frame, parent, fresh=jnp.asarray(fresh))
    after = jax.device_get(CAPS[maximum](jax.random.key(0), plan, frame, ())[0])
    check_plan(after, frame)
    assert ((after.parent == parent) | (after.parent == np.arange(8))).all()
    np.testing.assert_array_equal(after.fresh, fresh)
    owned, before = lineage[after.parent][~fresh], lineage
    for one in np.unique(lineage):
        assert (owned == one).sum() <= max(maximum, (before == one).sum())
    for member in np.flatnonzero(after.parent != parent):
        # It was refused because there is no room even now.
        assert (owned == lineage[parent[member]]).sum() >= maximum


def test_jit_agrees(frames, assert_jit_agrees):
    for policy in (niches("learning_rate", "depth"), lineage_cap(2)):
        assert_jit_agrees(policy, frames)


def test_bad_requests():
    for make, message in (
        (lambda: shared(accuracy, 0), "radius > 0, got 0"),
        (lambda: novelty(0), "k >= 1 neighbours, got 0"),
        (lambda: niches(), "needs an axis"),
        (lambda: niches("depth", bins=0), "0 bins"),
        (lambda: niches("depth", fraction=0.6), "0 < fraction <= 0.5, got 0.6"),
        (lambda: lineage_cap(0), "whole number >= 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            make()


def test_names_tell_how_they_were_made():
    assert shared(fitness.default, 0.2).__name__ == "shared(default, 0.2, by_genes)"
    assert niches("depth", "cost").name == "niches(depth, cost, bins=4, fraction=0.2)"
    assert lineage_cap(4).name == "lineage_cap(4)"
    assert lineage_cap(4, goal=accuracy).name == "lineage_cap(4, goal=accuracy)"


def test_outputs_and_predictions_tell_members_apart(frames):
    made = np.zeros((3, 4, 2), np.float16)
    made[0, :, 0] = made[1, :, 0] = [0.9, 0.8, 0.1, 0.2]
    made[2, :, 0] = [0.9, 0.1, 0.8, 0.2]
    made[..., 1] = 1 - made[..., 0]
    frame = frames([0.5] * 3)._replace(descriptor=made)
    apart = np.asarray(by_predictions(frame))
    assert apart.tolist() == [[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0]]
    apart = np.asarray(by_outputs(frame))
    assert apart[0, 1] == pytest.approx(0, abs=1e-3) and apart[0, 2] > 0.5


def test_predictions_of_numbers_are_refused(frames):
    frame = frames([0.5] * 3)._replace(descriptor=np.zeros((3, 4, 1), np.float16))
    with pytest.raises(InputError, match="needs classes"):
        by_predictions(frame)
