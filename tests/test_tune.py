import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax import space
from swarmjax.policy import keep
from swarmjax.tune import grid, perturb, random
from swarmjax.types import InputError

MEMBERS = 64


def orphaned(frame, fresh=()):
    """A Plan in which every member of the first half is a child of the second half."""
    members = len(frame.alive)
    parent = np.arange(members, dtype=np.int32)
    parent[: members // 2] += members // 2
    flags = np.isin(np.arange(members), fresh)
    return keep(frame)._replace(parent=jnp.asarray(parent), fresh=jnp.asarray(flags))


def test_perturb_multiplies_or_divides(frames, decide):
    frame = frames(np.full(MEMBERS, 0.5))
    plan = orphaned(frame)
    after = decide(perturb(factor=1.5, resample=0.0), frame, plan=plan).genome
    ratio = after["learning_rate"] / np.asarray(frame.genome["learning_rate"])
    edge = np.isin(after["learning_rate"], np.float32([1e-4, 1e-1]))
    half = MEMBERS // 2
    moved = np.isclose(ratio, 1.5, rtol=1e-5) | np.isclose(ratio, 1 / 1.5, rtol=1e-5)
    assert (moved | edge)[:half].all()
    assert {True, False} == set((ratio[:half] > 1).tolist())
    step = after["momentum"] - np.asarray(frame.genome["momentum"])
    edge = np.isin(after["momentum"], [-1.0, 1.0])
    assert (np.isclose(abs(step), 1.0, atol=1e-5) | edge)[:half].all()
    for name in ("learning_rate", "momentum"):
        np.testing.assert_array_equal(after[name][half:], frame.genome[name][half:])
    for name in ("activation", "depth", "width"):
        np.testing.assert_array_equal(after[name], frame.genome[name])


def test_perturb_resamples_choices_but_never_structure(frames, decide):
    frame = frames(np.full(MEMBERS, 0.5))
    after = decide(perturb(resample=1.0), frame, plan=orphaned(frame)).genome
    half = MEMBERS // 2
    changed = after["activation"] != np.asarray(frame.genome["activation"])
    assert 0.5 < changed[:half].mean() < 1.0
    assert not changed[half:].any()
    assert (after["learning_rate"] != np.asarray(frame.genome["learning_rate"]))[:half].all()
    for name in ("depth", "width"):
        np.testing.assert_array_equal(after[name], frame.genome[name])


def test_perturb_resamples_at_the_given_rate(frames, decide):
    members = 2000
    frame = frames(np.full(members, 0.5))
    after = decide(perturb(resample=0.25), frame, plan=orphaned(frame)).genome
    changed = after["activation"] != np.asarray(frame.genome["activation"])
    # A redraw hits another of the four options three times in four.
    assert abs(changed[: members // 2].mean() - 0.25 * 0.75) < 0.05


def test_perturb_leaves_the_fresh_and_the_kept_alone(frames, decide):
    frame = frames([np.nan, 0.5, 0.5, 0.5], alive=[False, True, True, True])
    plan = orphaned(frame, fresh=[0, 1])
    after = decide(perturb(resample=0.5), frame, plan=plan)
    for name, values in frame.genome.items():
        np.testing.assert_array_equal(after.genome[name], values)
    for frame in (frames([0.3]), frames([0.3, 0.4])):
        after = decide(perturb(), frame)
        assert jax.tree.all(jax.tree.map(np.array_equal, after, keep(frame)))


def test_perturb_stays_legal_however_often_it_is_applied(frames, decide):
    frame = frames(np.full(8, 0.5))
    for seed in range(20):
        plan = decide(perturb(factor=5.0), frame, seed=seed, plan=orphaned(frame))
        frame = frame._replace(genome=plan.genome)


@pytest.mark.parametrize("policy", [perturb(), random(), grid()], ids=lambda p: p.name)
def test_jit_agrees(frames, assert_jit_agrees, policy):
    assert_jit_agrees(policy, frames)


def test_perturb_of_a_space_of_structure_only(frames, decide):
    frame = frames([0.1, 0.2], space=space.Space(depth=space.structure(1, 2)))
    after = decide(perturb(), frame, plan=orphaned(frame))
    np.testing.assert_array_equal(after.genome["depth"], frame.genome["depth"])


def test_random_draws_the_free_genes_before_the_first_round(frames, decide):
    frame = frames(np.full(MEMBERS, np.nan), round=0)
    after = decide(random(), frame, seed=11).genome
    drawn = frame.space.sample(jax.random.key(11), MEMBERS)
    for name in ("learning_rate", "momentum", "activation"):
        np.testing.assert_allclose(after[name], drawn[name], rtol=1e-6)
    for name in ("depth", "width"):
        np.testing.assert_array_equal(after[name], frame.genome[name])


def test_grid_writes_every_gene_before_the_first_round(frames, decide):
    frame = frames(np.full(MEMBERS, np.nan), round=0)
    after = decide(grid(), frame).genome
    for name, values in frame.space.grid(MEMBERS).items():
        np.testing.assert_allclose(after[name], values, rtol=1e-6)
    assert set(after["depth"]) == {0, 1, 2}


@pytest.mark.parametrize("policy", [random(), grid()], ids=lambda p: p.name)
def test_searches_do_nothing_later(frames, decide, policy):
    frame = frames([0.5, np.nan, 0.7], round=1, alive=[True, False, True])
    after = decide(policy, frame)
    assert jax.tree.all(jax.tree.map(np.array_equal, after, keep(frame)))


@pytest.mark.parametrize("factor", [1.0, 0.5, np.nan, np.inf])
def test_bad_factor(factor):
    with pytest.raises(InputError, match="finite factor > 1"):
        perturb(factor=factor)


@pytest.mark.parametrize("resample", [-0.1, 1.5, np.nan])
def test_bad_resample(resample):
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        perturb(resample=resample)


def test_names():
    assert perturb().name == "perturb(factor=1.2, resample=0.25)"
    assert (random().name, grid().name) == ("random()", "grid()")
