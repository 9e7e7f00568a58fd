import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax.crossover import OPERATORS
from swarmjax.evolve import exploit
from swarmjax.mating import breed, mutate
from swarmjax.policy import chain, check_plan, keep, stateless
from swarmjax.types import InputError

SCORES = [0.1, 0.2, 0.9, 0.8, 0.7, 0.6]
# Slots 0 and 1 take over the weights of 2 and 3.
PARENTS = [2, 3, 2, 3, 4, 5]


def adopt(parents=PARENTS, fresh=()):
    """The policy that makes children of these parents, with their genes."""

    def rule(key, plan, frame):
        parent = jnp.asarray(parents, jnp.int32)
        return plan._replace(
            parent=parent,
            fresh=jnp.isin(jnp.arange(len(parents)), jnp.asarray(fresh, int)),
            genome={name: jnp.asarray(v)[parent] for name, v in plan.genome.items()},
        )

    return stateless(rule, "adopt")


def related(frames, lineage, scores=SCORES, **known):
    return frames(scores, **known)._replace(lineage=np.asarray(lineage, np.int32))


def test_the_mate_is_the_best_other_of_the_lineage(frames, decide):
    frame = related(frames, [7, 2, 7, 9, 7, 3])
    plan = decide(chain(adopt(), breed(probability=1.0)), frame)
    assert plan.mate.tolist() == [4, 1, 2, 3, 4, 5], "member 3 has no relative"
    assert plan.operator.tolist() == [OPERATORS.index("average"), *([0] * 5)]
    check_plan(plan, frame._replace(quota=np.int32(10)))


def test_the_replaced_member_itself_may_be_the_mate(frames, decide):
    """It ranks low, but its weights are as related to the parent's as any."""
    frame = related(frames, [7, 9, 7, 9, 3, 3])
    plan = decide(chain(adopt(), breed(probability=1.0)), frame)
    assert plan.mate.tolist() == [0, 1, 2, 3, 4, 5] and plan.operator[0] > 0


def test_a_parent_that_is_not_the_best_has_the_best_as_a_mate(frames, decide):
    frame = related(frames, [7] * 6)
    plan = decide(chain(adopt([3, 4, 2, 3, 4, 5]), breed("union", 1.0)), frame)
    assert plan.mate.tolist() == [2, 2, 2, 3, 4, 5]


@pytest.mark.parametrize("mates", ["lineage", "any"])
def test_the_dead_and_the_unknown_are_no_mates(frames, decide, mates):
    scores, alive = [0.1, 0.2, 0.9, np.nan, 0.7, np.nan], [True] * 5 + [False]
    frame = related(frames, [7] * 6, scores, alive=alive)
    policy = chain(adopt([2, 2, 2, 3, 4, 4]), breed(probability=1.0, mates=mates))
    for seed in range(10):
        plan = decide(policy, frame, seed=seed)
        assert plan.mate[0] == plan.mate[1] == 4 and plan.mate[5] == 2


def test_any_mate_is_another_of_the_best_fifth(frames, decide):
    scores = np.linspace(0.0, 1.0, 20)
    frame, parents = frames(scores), np.arange(20)
    parents[:4], found = [19, 19, 17, 3], set()
    parents[3] = 10
    for seed in range(40):
        policy = chain(adopt(parents), breed(probability=1.0, mates="any"))
        plan = decide(policy, frame, seed=seed)
        assert (plan.mate[4:] == np.arange(4, 20)).all()
        assert (plan.mate[:4] != parents[:4]).all()
        found |= {(i, int(plan.mate[i])) for i in range(4)}
    best = {16, 17, 18, 19}
    assert found == {(i, m) for i in range(4) for m in best - {parents[i]}}


def test_children_with_a_mate_are_as_many_as_asked(frames, decide):
    frame = related(frames, [7] * 6)
    policy = chain(adopt(), breed(probability=0.3))
    bred = [(decide(policy, frame, seed=s).operator[:2] > 0).mean() for s in range(150)]
    assert 0.2 < np.mean(bred) < 0.4
    nobody = decide(chain(adopt(), breed(probability=0.0)), frame)
    assert (nobody.operator == 0).all() and (nobody.mate == np.arange(6)).all()


def test_fresh_networks_and_those_that_carry_on_are_left_alone(frames, decide):
    frame = related(frames, [7] * 6)
    plan = decide(chain(adopt(fresh=[0]), breed(probability=1.0)), frame)
    assert plan.operator[0] == 0 and (plan.operator[2:] == 0).all() and plan.operator[1] > 0
    same = decide(breed(probability=1.0), frame)
    assert (same.operator == 0).all() and (same.mate == keep(frame).mate).all()


def test_genes_come_from_either_parent_and_structure_from_the_first(frames, decide):
    frame = related(frames, [7] * 6)
    seen = {name: set() for name, _ in frame.space.genes}
    for seed in range(40):
        plan = decide(chain(adopt(), breed(probability=1.0)), frame, seed=seed)
        for name, values in frame.genome.items():
            values = np.asarray(values)
            from_mate = plan.genome[name][1] == values[plan.mate[1]]
            assert from_mate or plan.genome[name][1] == values[3]
            if values[plan.mate[1]] != values[3]:
                seen[name].add(bool(from_mate))
    for name, gene in frame.space.genes:
        assert seen[name] <= ({False} if gene.structural else {False, True})
    assert seen["learning_rate"] == {False, True}
    alone, whole = (
        decide(chain(adopt(), breed(operator, 1.0)), frame) for operator in ("clone", "layer")
    )
    assert (alone.operator == 0).all() and whole.operator[0] > 0
    assert jax.tree.all(jax.tree.map(np.array_equal, alone.genome, whole.genome))
    kept = decide(chain(adopt(), breed(probability=1.0, genes=False)), frame)
    for name, values in frame.genome.items():
        np.testing.assert_array_equal(kept.genome[name], np.asarray(values)[PARENTS])


def test_a_union_is_as_wide_as_both_or_the_widest_there_is(frames, decide):
    frame = related(frames, [7] * 6)
    options = np.asarray(frame.space["width"].options)
    width = np.asarray([0, 0, 0, len(options) - 1, 1, 0], np.int32)
    frame = frame._replace(genome=frame.genome | {"width": width})
    plan = decide(chain(adopt([4, 3, 2, 3, 4, 5]), breed("union", 1.0)), frame)
    assert plan.mate[:2].tolist() == [2, 2]
    sums = [options[width[p]] + options[width[2]] for p in (4, 3)]
    expected = [min([w for w in options if w >= s] or [options.max()]) for s in sums]
    assert options[plan.genome["width"][:2]].tolist() == expected
    assert plan.genome["width"][2:].tolist() == width[2:].tolist()


@pytest.mark.parametrize(
    "policy", [breed(), breed("union", mates="any"), mutate("perturb")], ids=lambda p: p.name
)
def test_jit_agrees(frames, assert_jit_agrees, policy):
    assert_jit_agrees(chain(exploit(0.4), policy), frames)


def test_mutation_is_for_children_of_one_parent(frames, decide):
    frame = related(frames, [7] * 6)
    plan = decide(chain(adopt(fresh=[0]), mutate("noise", 1.0)), frame)
    assert plan.operator.tolist() == [0, OPERATORS.index("noise"), 0, 0, 0, 0]
    plan = decide(chain(adopt(), breed(probability=1.0), mutate(probability=1.0)), frame)
    assert plan.operator.tolist() == [OPERATORS.index("average")] * 2 + [0] * 4
    bred = [
        (decide(chain(adopt(), mutate(probability=0.5)), frame, seed=s).operator[:2] > 0).mean()
        for s in range(100)
    ]
    assert 0.35 < np.mean(bred) < 0.65


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: breed("noise"), "operator to be one of clone, aligned, .*; got 'noise'"),
        (lambda: breed(mates="all"), "mates to be one of lineage, any; got 'all'"),
        (lambda: breed(probability=1.5), "probability between 0 and 1, got 1.5"),
        (lambda: mutate("union"), "mutate needs operator to be one of noise, perturb, shrink"),
        (lambda: mutate(probability=-0.1), "mutate needs a probability between 0 and 1"),
    ],
)
def test_what_it_cannot_do_is_refused(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()
