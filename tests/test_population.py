import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import swarmjax as sj
from swarmjax import mlp, optimizers, placement, stacks
from swarmjax.members import Recipe
from swarmjax.models import architecture_of
from swarmjax.population import Store, apply_plan, empty_swarm
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
