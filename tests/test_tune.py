import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from random_spaces import spaces

from swarmjax import space
from swarmjax.policy import keep
from swarmjax.tune import differential, grid, perturb, random, resample, sobol
from swarmjax.types import InputError

MEMBERS = 64
nan = np.nan


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


@pytest.mark.parametrize(
    "policy", [perturb(), random(), grid(), resample(), differential()], ids=lambda p: p.name
)
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


UNIT = space.Space(
    a=space.uniform(0.0, 1.0), b=space.uniform(0.0, 1.0), kind=space.choice("x", "y", "z")
)


def test_resample_draws_anew_at_the_given_rate(frames, decide):
    members = 2000
    frame = frames(np.full(members, 0.5))
    after = decide(resample(0.25), frame, plan=orphaned(frame, fresh=[0, 1])).genome
    changed = after["learning_rate"] != np.asarray(frame.genome["learning_rate"])
    assert abs(changed[: members // 2].mean() - 0.25) < 0.05
    assert not changed[members // 2 :].any() and not changed[:2].any()
    for name in ("depth", "width"):
        np.testing.assert_array_equal(after[name], frame.genome[name])


def test_differential_by_hand(frames, decide):
    # Of three living the two others of slot 0 are 1 and 2, in either order; the best is 2.
    genome = {"a": np.float32([0.2, 0.1, 0.5]), "b": np.float32([0.2, 0.9, 0.1])}
    genome["kind"] = np.int32([0, 1, 2])
    frame = frames([0.1, 0.5, 0.9], space=UNIT, genome=genome)
    plan = keep(frame)._replace(parent=jnp.array([1, 1, 2], jnp.int32))
    seen = set()
    for seed in range(12):
        after = decide(differential(0.5, 1.0), frame, seed=seed, plan=plan).genome
        seen.add((round(float(after["a"][0]), 3), round(float(after["b"][0]), 3)))
        assert after["a"][1:].tolist() == genome["a"][1:].tolist()
    # a: 0.2 + 0.15 -+ 0.2; b: 0.2 - 0.05 +- 0.4, reflected at 0.
    assert seen == {(0.15, 0.55), (0.55, 0.25)}


def test_differential_moves_choices_to_those_of_donors(frames, decide):
    genome = {"a": np.zeros(4, np.float32), "b": np.ones(4, np.float32)}
    genome["kind"] = np.int32([0, 1, 1, 1])
    frame = frames([0.1, 0.5, 0.9, 0.7], space=UNIT, genome=genome)
    plan = keep(frame)._replace(parent=jnp.array([1, 1, 2, 3], jnp.int32))
    kinds = [
        int(decide(differential(0.5, 1.0), frame, seed=seed, plan=plan).genome["kind"][0])
        for seed in range(40)
    ]
    assert set(kinds) == {0, 1} and 8 < sum(kinds) < 32


def test_differential_crosses_at_least_one_gene(frames, decide):
    members = 600
    frame = frames(np.linspace(0.1, 0.9, members), space=UNIT)
    after = decide(differential(crossover=0.0), frame, plan=orphaned(frame)).genome
    half, old = members // 2, frame.genome
    moved = np.stack([after[name] != np.asarray(old[name]) for name in ("a", "b", "kind")])
    assert (moved[:, :half].sum(axis=0) <= 1).all() and not moved[:, half:].any()
    # A third of the children each, though a choice may be met by its own option.
    assert abs(moved[0, :half].mean() - 1 / 3) < 0.1 and abs(moved[1, :half].mean() - 1 / 3) < 0.1


def test_differential_needs_three_living_and_ignores_the_dead(frames, decide):
    frame = frames([0.1, 0.2, nan, nan], alive=[True, True, False, False])
    plan = keep(frame)._replace(parent=jnp.array([1, 1, 1, 1], jnp.int32))
    after = decide(differential(), frame, plan=plan).genome
    for name, values in frame.genome.items():
        np.testing.assert_array_equal(after[name], values)
    genome = {name: np.array(values) for name, values in frames([0.0] * 5).genome.items()}
    genome["momentum"] = np.float32([0.5, 0.5, 0.5, -1.0, -1.0])
    frame = frames([0.1, 0.2, 0.3, nan, nan], alive=[True] * 3 + [False] * 2, genome=genome)
    plan = keep(frame)._replace(
        parent=jnp.array([2, 1, 2, 2, 2], jnp.int32),
        genome=genome | {"momentum": np.full(5, 0.5, np.float32)},
    )
    for seed in range(5):
        after = decide(differential(crossover=1.0), frame, seed=seed, plan=plan).genome
        np.testing.assert_allclose(after["momentum"], 0.5, atol=1e-6)


def test_sobol_covers_more_evenly_than_random(frames, decide):
    frame = frames(np.full(50, nan), round=0)
    after = decide(sobol(), frame).genome
    for name in ("depth", "width"):
        np.testing.assert_array_equal(after[name], frame.genome[name])
    for name in ("learning_rate", "momentum"):
        unit = np.asarray(frame.space[name].encode(after[name]))
        # Each half of the first 32 points, and each sixteenth of them, holds its share.
        assert np.histogram(unit[:32], 16, (0, 1))[0].tolist() == [2] * 16
    assert np.bincount(after["activation"][:32]).tolist() == [8] * 4
    again, other = decide(sobol(), frame).genome, decide(sobol(), frame, seed=1).genome
    np.testing.assert_array_equal(after["momentum"], again["momentum"])
    assert (after["momentum"] != other["momentum"]).all()


def test_sobol_of_structure_and_of_few(frames, decide):
    frame = frames(np.full(48, nan), round=0)
    after = decide(sobol(structural=True), frame).genome
    assert np.bincount(after["width"][:32]).tolist() == [8] * 4
    for members in (1, 2, 3):
        decide(sobol(), frames([nan] * members, round=0))
    only = frames([nan] * 2, round=0, space=space.Space(depth=space.structure(1, 2)))
    np.testing.assert_array_equal(decide(sobol(), only).genome["depth"], only.genome["depth"])
    later = frames([0.1, 0.2])
    assert jax.tree.all(jax.tree.map(np.array_equal, decide(sobol(), later), keep(later)))


@given(spaces, st.sampled_from([0.1, 0.5, 2.0]), st.integers(0, 99))
@settings(max_examples=5)
def test_values_never_leave_their_ranges(frames, decide, searched, scale, seed):
    frame = frames(np.linspace(0, 1, 6), space=searched)
    for policy in (differential(scale, 1.0), resample(1.0)):
        decide(policy, frame, seed=seed, plan=orphaned(frame))
    decide(sobol(structural=True), frame._replace(round=np.int32(0)), seed=seed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resample(1.5), r"resample needs a probability in \[0, 1\], got 1.5"),
        (lambda: differential(scale=0), "differential needs 0 < scale <= 2, got 0"),
        (lambda: differential(scale=nan), "differential needs 0 < scale <= 2, got nan"),
        (lambda: differential(crossover=-1), r"differential needs a crossover in \[0, 1\]"),
    ],
)
def test_bad_explorers(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_names_of_explorers():
    assert resample().name == "resample(probability=0.25)"
    assert differential().name == "differential(scale=0.5, crossover=0.9)"
    assert sobol().name == "sobol(structural=False)" and sobol().host
