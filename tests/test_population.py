import flax.linen as nn
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import swarmjax as sj
from swarmjax import mlp, optimizers, placement, stacks
from swarmjax.crossover import OPERATORS
from swarmjax.members import Recipe
from swarmjax.models import architecture_of, flax_family
from swarmjax.policy import PlanError
from swarmjax.population import apply_plan
from swarmjax.swarm import Store, empty_swarm
from swarmjax.types import Plan

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-4, 1.0),
    depth=sj.structure(1, 2),
    width=sj.structure(8, 16),
)
RECIPE = Recipe(SPACE, mlp.mlp(SPACE, 5, 3), optimizers.for_space(SPACE))
N = 6
MESH = placement.make_mesh(devices=jax.devices()[:2])
STORE = Store(MESH, lane=4)
KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


def plan(genome, parent=None, fresh=()):
    own = np.arange(N, dtype=np.int32)
    return Plan(
        parent=own if parent is None else np.asarray(parent, np.int32),
        mate=own,
        operator=own * 0,
        steps=own * 0,
        devices=own * 0 + 1,
        fresh=np.isin(own, fresh),
        genome=genome,
    )


def genome(depth, width):
    """Genes by value, as option indices."""
    return {
        "learning_rate": np.full(N, 0.1, np.float32),
        "depth": np.asarray(depth, np.int32) - 1,
        "width": np.asarray(width, np.int32) // 16,
    }


MIXED = genome([1, 1, 2, 2, 1, 1], [8, 16, 8, 16, 8, 16])


def containers(joined=False):
    sizes = [(d, w) for d in (1, 2) for w in (8, 16)]
    box = lambda d, w: mlp.Box(2, 16) if joined else mlp.Box(d, w)  # noqa: E731
    return {(("depth", d), ("width", w)): box(d, w) for d, w in sizes}


def move(swarm, old, asked, joined=False, store=STORE):
    return apply_plan(RECIPE, containers(joined), KEY, swarm, old, asked, store)


def begin(genes=MIXED, joined=False, store=STORE):
    return marked(move(empty_swarm(N), genes, plan(genes, fresh=range(N)), joined, store))


def marked(swarm):
    """The swarm with optimizer moments and steps that tell members apart."""

    def mark(stack):
        state, shape = stack.optimizer, stack.step.shape
        marks = np.arange(stacks.rows_of(stack), dtype=np.int32).reshape(shape)
        raise_ = lambda leaf: like(leaf, np.asarray(leaf) + spread(marks, leaf) + 1)  # noqa: E731
        first = jax.tree.map(raise_, state.first)
        return stack._replace(
            optimizer=state._replace(first=first), step=like(stack.step, 10 + marks)
        )

    def spread(marks, leaf):
        return marks.reshape(*marks.shape, *[1] * (leaf.ndim - 2)).astype(leaf.dtype)

    def like(leaf, values):
        return values if isinstance(leaf, np.ndarray) else jax.device_put(values, leaf.sharding)

    swarm = swarm._replace(cohorts={kind: mark(stack) for kind, stack in swarm.cohorts.items()})
    return swarm._replace(step=np.asarray([member(swarm, i).step for i in range(N)]))


def member(swarm, slot):
    container, row = swarm.place(slot)
    device, place = stacks._address(row, MESH.size)
    return jax.tree.map(lambda leaf: np.array(leaf)[device, place], swarm.cohorts[container])


def outputs(swarm, genes, slot):
    numbers = SPACE.numbers({name: v[slot] for name, v in genes.items()})
    return RECIPE.family.apply(swarm.place(slot)[0], member(swarm, slot).variables, X, numbers)[0]


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_everyone_fresh_is_born_in_order_and_all_differ():
    swarm = move(empty_swarm(N), MIXED, plan(MIXED, fresh=range(N)))
    assert swarm.birth.tolist() == swarm.lineage.tolist() == list(range(N))
    assert swarm.step.tolist() == [0] * N and swarm.births == N
    assert len({float(outputs(swarm, MIXED, i).sum()) for i in range(N)}) == N


def test_a_network_does_not_depend_on_its_cohort():
    own, joined = begin(), begin(joined=True)
    for i in range(N):
        crop = lambda s, i=i: RECIPE.family.crop(  # noqa: E731
            member(s, i).variables, architecture_of(SPACE, SPACE.values(MIXED, i))
        )
        assert same(crop(own), crop(joined))


def test_keeping_changes_nothing():
    before = begin()
    states = [member(before, i) for i in range(N)]
    after = move(before, MIXED, plan(MIXED))
    assert all(same(member(after, i), states[i]) for i in range(N))
    assert after.birth.tolist() == list(range(N)) and after.births == N


def test_a_copy_takes_weights_optimizer_step_and_lineage():
    before = begin()
    state = member(before, 0)
    after = move(before, MIXED, plan(MIXED, parent=[0, 1, 2, 3, 0, 5]))
    assert same(member(after, 4), state) and same(member(after, 0), state)
    assert after.birth.tolist() == [0, 1, 2, 3, 6, 5]
    assert after.lineage.tolist() == [0, 1, 2, 3, 0, 5]
    assert after.step[4] == after.step[0] == int(state.step)


def test_parents_are_read_before_anyone_is_overwritten():
    genes = genome([1] * N, [8] * N)
    before = begin(genes)
    states = [member(before, i) for i in range(N)]
    after = move(before, genes, plan(genes, parent=[1, 2, 3, 4, 5, 0]))
    assert all(same(member(after, i), states[(i + 1) % N]) for i in range(N))


def test_a_child_of_its_parents_architecture_moves_to_its_cohort():
    before = begin()
    state = member(before, 3)
    genes = MIXED | {"depth": MIXED["depth"].copy(), "width": MIXED["width"].copy()}
    genes["depth"][0], genes["width"][0] = genes["depth"][3], genes["width"][3]
    after = move(before, MIXED, plan(genes, parent=[3, 1, 2, 3, 4, 5]))
    assert after.place(0)[0] == mlp.Box(2, 16)
    assert same(member(after, 0), state) and same(member(after, 3), state)


def test_a_freed_row_is_used_again():
    genes = genome([1] * N, [8] * N)
    before = begin(genes)
    wide = genes | {"width": genes["width"].copy()}
    wide["width"][2] = 1
    away = move(before, genes, plan(wide, fresh=[2]))
    back = move(away, wide, plan(genes, fresh=[2]))
    assert len(back.cohorts) == 1
    assert sorted(back.row.tolist()) == list(range(N))


def test_a_wider_child_computes_what_its_parent_does_with_a_new_optimizer():
    before = begin()
    told = outputs(before, MIXED, 0)
    state = member(before, 0)
    after = move(before, MIXED, plan(MIXED, parent=[0, 0, 2, 3, 4, 5]))
    np.testing.assert_allclose(outputs(after, MIXED, 1), told, atol=1e-6)
    child = member(after, 1)
    assert after.step[1] == int(state.step) and int(child.optimizer.count) == 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(child.optimizer.first))


def test_a_shallower_child_starts_fresh_with_no_steps_behind_it():
    after = move(begin(), MIXED, plan(MIXED, parent=[2, 1, 2, 3, 4, 5]))
    assert after.step[0] == 0 and after.lineage[0] == 2
    told = member(move(empty_swarm(N), MIXED, plan(MIXED, fresh=range(N))), 0)
    assert not same(member(after, 0).variables, told.variables)


def test_growing_a_cohort_keeps_its_members():
    genes = genome([1, 1, 1, 2, 2, 2], [8] * N)
    before = begin(genes)
    states = [member(before, i) for i in range(N)]
    all_deep = genome([2] * N, [8] * N)
    after = move(before, genes, plan(all_deep, parent=[3, 4, 5, 3, 4, 5]))
    assert all(same(member(after, i), states[3 + i % 3]) for i in range(N))
    assert set(after.cohorts) == {mlp.Box(2, 8)}


@pytest.mark.parametrize("joined", [False, True])
def test_cohorts_may_work_concurrently(joined):
    from concurrent.futures import ThreadPoolExecutor

    asked = plan(MIXED, parent=[4, 5, 2, 2, 4, 1], fresh=[3])
    alone = move(begin(joined=joined), MIXED, asked, joined)
    with ThreadPoolExecutor(3) as pool:
        both = apply_plan(
            RECIPE, containers(joined), KEY, begin(joined=joined), MIXED, asked, STORE,
            each=pool.map,
        )  # fmt: skip
    assert all(same(member(alone, i), member(both, i)) for i in range(N))


PARENTS = st.lists(st.integers(0, N - 1), min_size=N, max_size=N)
NUMBERS = st.lists(st.integers(0, 1), min_size=N, max_size=N)


@settings(max_examples=25)
@given(PARENTS, NUMBERS, NUMBERS, st.sets(st.integers(0, N - 1)), st.booleans(), st.booleans())
def test_any_plan_gives_every_slot_what_it_asked_for(parents, deep, wide, fresh, joined, host):
    """Copies, resized and fresh networks in any pattern, however rows are reused meanwhile."""
    store = STORE._replace(host=host)
    before = begin(joined=joined, store=store)
    states = [member(before, i) for i in range(N)]
    genes = genome(np.asarray(deep) + 1, 8 + 8 * np.asarray(wide))
    asked = plan(genes, parent=parents, fresh=list(fresh))
    after = move(before, MIXED, asked, joined, store)
    for i in range(N):
        same_kind = all(genes[k][i] == MIXED[k][parents[i]] for k in ("depth", "width"))
        if i not in fresh and same_kind:
            assert same(member(after, i), states[parents[i]])
        else:
            count = int(member(after, i).optimizer.count)
            assert count == 0 and int(member(after, i).step) == after.step[i]
        assert after.step[i] == member(after, i).step
    born = [i for i in range(N) if i in fresh or parents[i] != i]
    assert after.birth[born].tolist() == list(range(N, N + len(born)))


def bred(genes, operator, mate, parent=None, **new):
    """A plan in which members with a mate are bred by the operator."""
    asked = plan(genes | new, parent=parent)
    mate, own = np.asarray(mate, np.int32), np.arange(N)
    number = OPERATORS.index(operator)
    return asked._replace(mate=mate, operator=np.where(mate != own, number, 0).astype(np.int32))


def mean_of(swarm, genes, slots):
    return np.mean([np.asarray(outputs(swarm, genes, slot)) for slot in slots], axis=0)


@pytest.mark.parametrize("joined", [False, True])
def test_a_child_of_two_has_the_mean_of_their_weights(joined):
    before = begin(joined=joined)
    expected = [
        jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *[params(before, i) for i in pair])
        for pair in ((0, 4), (5, 1))
    ]
    # Member 0 carries on with 4 as a mate; member 4 starts from 5 with 1, although 4 is read.
    wider = genome([1] * N, [8, 16, 8, 16, 16, 16])["width"]
    asked = bred(MIXED, "average", [4, 1, 2, 3, 1, 5], [0, 1, 2, 3, 5, 5], width=wider)
    swarm = move(before, MIXED, asked, joined)
    for slot, mean in zip((0, 4), expected, strict=True):
        jax.tree.map(np.testing.assert_allclose, params(swarm, slot), mean)
        assert (member(swarm, slot).optimizer.first == 0).all(), "its optimizer starts anew"
    assert swarm.birth.tolist() == [6, 1, 2, 3, 7, 5] and swarm.births == 8
    assert swarm.lineage.tolist() == [0, 1, 2, 3, 5, 5]
    assert swarm.step[[0, 4]].tolist() == begin(joined=joined).step[[0, 5]].tolist()


def params(swarm, slot):
    return jax.device_get(member(swarm, slot).variables["params"])


def test_everybody_may_be_a_mate_of_everybody_at_once():
    """Rows are read before they are written, whoever lives in them."""
    genes = genome([2] * N, [16] * N)
    before = begin(genes)
    weights = [params(before, i) for i in range(N)]
    parent, mate = [1, 2, 3, 4, 5, 0], [3, 4, 5, 0, 1, 2]
    swarm = move(before, genes, bred(genes, "average", mate, parent))
    for slot, pair in enumerate(zip(parent, mate, strict=True)):
        mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *[weights[i] for i in pair])
        jax.tree.map(np.testing.assert_allclose, params(swarm, slot), mean)


def test_a_union_across_cohorts_is_the_mean_of_the_outputs():
    old = genome([1, 1, 2, 2, 1, 1], [8] * N)
    before = begin(old)
    expected = mean_of(before, old, (0, 4))
    asked = bred(old, "union", [4, 1, 2, 3, 4, 5], width=genome([1] * N, [16] + [8] * 5)["width"])
    swarm = move(before, old, asked)
    assert swarm.place(0)[0] == mlp.Box(1, 16)
    np.testing.assert_allclose(outputs(swarm, asked.genome, 0), expected, rtol=1e-5, atol=1e-6)


def test_a_mate_that_does_not_fit_is_left_out():
    """Of a deeper network nothing can be taken into a shallower one."""
    before = begin()
    expected = params(before, 0)
    swarm = move(before, MIXED, bred(MIXED, "average", [2, 1, 2, 3, 4, 5]))
    jax.tree.map(np.testing.assert_array_equal, params(swarm, 0), expected)


def test_a_child_of_two_sizes_has_the_parents_function_with_the_mate_as_far_as_it_fits():
    """A narrow mate is widened to the parent's size first."""
    before = begin()
    narrow, wide = params(before, 0), params(before, 1)
    padded = jax.tree.map(
        lambda x, like: np.pad(x, [(0, b - a) for a, b in zip(x.shape, like.shape, strict=True)]),
        narrow, wide,
    )  # fmt: skip
    mean = jax.tree.map(lambda a, b: (a + b) / 2, wide, padded)
    swarm = move(before, MIXED, bred(MIXED, "average", [0, 0, 2, 3, 4, 5]))
    jax.tree.map(np.testing.assert_allclose, params(swarm, 1), mean)


def test_on_the_host_children_of_two_are_the_same():
    device, host = (
        move(begin(store=store), MIXED, bred(MIXED, "aligned", [4, 5, 2, 3, 0, 1]), store=store)
        for store in (STORE, STORE._replace(host=True))
    )
    for slot in range(N):
        assert same(member(device, slot), member(host, slot))


def test_other_networks_breed_by_what_knows_no_units():
    class Net(nn.Module):
        depth: int
        width: int

        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.relu(nn.Dense(self.width)(x)))

    recipe = RECIPE._replace(family=flax_family(SPACE, Net, X[:1]))
    sizes = {k: k for k in containers()}
    start = plan(MIXED, fresh=range(N))
    before = apply_plan(recipe, sizes, KEY, empty_swarm(N), MIXED, start, STORE)
    weights = [params(before, i) for i in range(N)]
    # Member 1 has another width than its mate, which is therefore left out.
    asked = bred(MIXED, "average", [4, 0, 2, 3, 4, 5])
    with pytest.raises(PlanError, match=r"plan.operator: member 0 has union, which only the model"):
        apply_plan(recipe, sizes, KEY, before, MIXED, bred(MIXED, "union", asked.mate), STORE)
    swarm = apply_plan(recipe, sizes, KEY, before, MIXED, asked, STORE)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, weights[0], weights[4])
    jax.tree.map(np.testing.assert_allclose, params(swarm, 0), mean)
    jax.tree.map(np.testing.assert_array_equal, params(swarm, 1), weights[1])


@pytest.mark.parametrize("joined", [True, False], ids=["to smaller ones", "to a larger one"])
def test_whoever_stays_is_the_same_in_another_container(joined):
    before = begin(joined=joined)
    held = [member(before, i) for i in range(N)]
    after = move(before, MIXED, plan(MIXED), not joined)
    assert set(after.cohorts) == set(containers(not joined).values())
    for name in ("birth", "lineage", "step"):
        assert getattr(after, name).tolist() == getattr(before, name).tolist()
    between = [member(after, i) for i in range(N)]
    # And back: all that does not belong to padding is what it was, moments too.
    again = move(after, MIXED, plan(MIXED), joined)
    for slot in range(N):
        box, other = again.place(slot)[0], member(again, slot)
        architecture = architecture_of(SPACE, SPACE.values(MIXED, slot))
        for mine, theirs in ((held[slot], other), (held[slot], between[slot])):
            cropped = [RECIPE.family.crop(m.variables, architecture) for m in (mine, theirs)]
            jax.tree.map(np.testing.assert_array_equal, *cropped)
            assert int(mine.step) == int(theirs.step)
        assert int(other.optimizer.count) == int(held[slot].optimizer.count)
        small = RECIPE.family.contain(architecture)
        if small == box:
            np.testing.assert_array_equal(other.optimizer.first, held[slot].optimizer.first)
