import jax
import numpy as np
import pytest
from jax.sharding import AxisType

import swarmjax as sj
from swarmjax import lanes, mlp, optimizers
from swarmjax.members import Recipe, new_members
from swarmjax.models import architecture_of
from swarmjax.population import Swarm

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-4, 1.0),
    activation=sj.choice("relu", "tanh"),
    optimizer=sj.choice("sgd", "adam"),
    depth=sj.structure(1, 2),
    width=sj.structure(8, 16),
)
BOX = mlp.Box(2, 16)
N = 10


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5))
    return sj.tasks.arrays(x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0), batch=16)


@pytest.fixture(scope="module")
def recipe(task):
    return Recipe(SPACE, mlp.mlp(SPACE, 5, task.outputs), optimizers.for_space(SPACE))


@pytest.fixture(scope="module")
def genome():
    drawn = SPACE.sample(jax.random.key(1), N)
    return {name: np.asarray(values) for name, values in drawn.items()}


def engine(recipe, task, mesh=None, shift=0):
    deck = np.roll(lanes.make_deck(task, 0, 0, 0), -shift, axis=0)
    data = lanes.place_data(task, mesh)
    return lanes.Engine(recipe, task, jax.random.key(0), data, lambda part: deck)


def born(recipe, genome, box=BOX, slots=range(N)):
    """A swarm whose slot `i` holds the network born as number `i`, all in one cohort."""
    births = np.asarray(list(slots), np.int32)
    stack = new_members(
        recipe, box, jax.random.key(0), births, {k: v[births] for k, v in genome.items()}
    )
    stack = jax.tree.map(np.asarray, stack)
    rows = np.full(N, -1, np.int32)
    rows[births] = np.arange(len(births))
    own = np.arange(N, dtype=np.int32)
    return Swarm({box: stack}, (box,), own * 0, rows, own, own, np.zeros(N, np.int32), N)


def trained(
    recipe, task, genome, steps, *, slots=range(N), box=BOX, mesh=None, start=None, shift=0
):
    swarm = start or born(recipe, genome, box, slots)
    layout = lanes.make_layout(N, mesh=mesh)
    stack, reports = lanes.train_cohort(
        engine(recipe, task, mesh, shift), layout, swarm, box, np.asarray(list(slots)), genome,
        np.asarray(steps, np.int32),
    )  # fmt: skip
    stack = jax.tree.map(np.asarray, stack)
    return swarm._replace(cohorts={box: stack}), reports


def member(swarm, slot):
    (stack,) = swarm.cohorts.values()
    return jax.tree.map(lambda leaf: leaf[swarm.row[slot]], stack)


def same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


STEPS = np.asarray([3, 0, 7, 20, 1, 20, 2, 5, 11, 4])


@pytest.fixture(scope="module")
def together(recipe, task, genome):
    return trained(recipe, task, genome, STEPS)


def test_everyone_takes_exactly_its_grant(together):
    swarm, _ = together
    assert [int(member(swarm, i).step) for i in range(N)] == STEPS.tolist()
    assert [int(member(swarm, i).optimizer.count) for i in range(N)] == STEPS.tolist()


def test_a_member_without_steps_is_unchanged_but_evaluated(recipe, genome, together):
    swarm, reports = together
    assert same(member(swarm, 1), member(born(recipe, genome), 1))
    for places, report in reports:
        here = np.flatnonzero(places == 1)
        assert (report.loss[here] == 0).all() and np.isfinite(report.metrics["loss"][here]).all()


def test_training_equals_a_plain_loop(recipe, task, genome, together):
    slot = 2
    values = SPACE.values(genome, slot)
    model = recipe.family.build(values)
    first = member(born(recipe, genome), slot)
    architecture = architecture_of(SPACE, values)
    params = recipe.family.crop(first.variables, architecture)["params"]
    numbers = SPACE.numbers({name: v[slot] for name, v in genome.items()})
    optimizer = recipe.optimizer(numbers)
    state, deck = optimizer.init(params), lanes.make_deck(task, 0, 0, 0)

    @jax.jit
    def step(params, state, x, y):
        objective = lambda p: task.loss(model.apply({"params": p}, x), y).mean()  # noqa: E731
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        return jax.tree.map(lambda p, u: p + u, params, updates), state

    for i in range(STEPS[slot]):
        params, state = step(params, state, task.train.x[deck[i]], task.train.y[deck[i]])
    got = recipe.family.crop(member(together[0], slot).variables, architecture)["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), dict(params), got)


def test_a_member_is_the_same_to_the_bit_whoever_shares_its_lane(recipe, task, genome, together):
    for slots in ([3], [8, 2, 3]):
        alone, _ = trained(recipe, task, genome, STEPS, slots=slots)
        assert same(member(alone, 3), member(together[0], 3))


def test_a_round_may_be_cut_anywhere(recipe, task, genome, together):
    part, _ = trained(recipe, task, genome, np.minimum(STEPS, 5))
    whole, _ = trained(recipe, task, genome, np.maximum(STEPS - 5, 0), start=part, shift=5)
    assert all(same(member(whole, i), member(together[0], i)) for i in range(N))


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)


def test_two_devices_give_the_same_bits_as_eight(recipe, task, genome, together):
    assert lanes.device_mesh().size == 8
    mesh = jax.make_mesh((2,), ("member",), (AxisType.Auto,), devices=jax.devices()[:2])
    pair, _ = trained(recipe, task, genome, STEPS, mesh=mesh)
    assert all(same(member(pair, i), member(together[0], i)) for i in range(N))


def test_one_device_gives_the_same_as_eight_up_to_rounding(recipe, task, genome, together):
    mesh = jax.make_mesh((1,), ("member",), (AxisType.Auto,), devices=jax.devices()[:1])
    single, _ = trained(recipe, task, genome, STEPS, mesh=mesh)
    for i in range(N):
        close(member(single, i), member(together[0], i))


def test_skipped_layers_change_no_bit_and_padded_width_only_rounding(
    recipe, task, genome, together
):
    shallow = [i for i in range(N) if SPACE.values(genome, i)["depth"] == 1]
    wide = [i for i in shallow if SPACE.values(genome, i)["width"] == 16]
    narrow = [i for i in shallow if SPACE.values(genome, i)["width"] == 8]
    assert wide and narrow, "the sample holds both"

    def crop(swarm, slot):
        architecture = architecture_of(SPACE, SPACE.values(genome, slot))
        return recipe.family.crop(member(swarm, slot).variables, architecture)

    tight, _ = trained(recipe, task, genome, STEPS, slots=wide, box=mlp.Box(1, 16))
    assert all(same(crop(tight, i), crop(together[0], i)) for i in wide)
    tight, _ = trained(recipe, task, genome, STEPS, slots=narrow, box=mlp.Box(1, 8))
    for i in narrow:
        close(crop(tight, i), crop(together[0], i))


def test_a_diverging_member_disturbs_nobody(recipe, task, genome, together):
    wild = genome | {"learning_rate": genome["learning_rate"].copy()}
    wild["learning_rate"][5] = np.inf
    swarm, reports = trained(recipe, task, wild, STEPS)
    finite = {
        int(s): bool(f) for places, r in reports for s, f in zip(places, r.finite, strict=True)
    }
    assert not finite[5] and all(finite[i] for i in range(N) if i != 5)
    assert all(same(member(swarm, i), member(together[0], i)) for i in range(N) if i != 5)


def test_grants_longer_than_the_deck_take_several_calls(recipe, task, genome):
    steps = np.zeros(N, np.int32)
    steps[0] = lanes.DECK + 3
    swarm, reports = trained(recipe, task, genome, steps)
    assert int(member(swarm, 0).step) == lanes.DECK + 3
    (places, report), *_ = reports
    assert report.loss[np.flatnonzero(places == 0)[0]] > 0


def test_pack_puts_like_grants_in_one_chunk_and_deals_chunks_to_devices():
    mesh = jax.make_mesh((2,), ("member",), (AxisType.Auto,), devices=jax.devices()[:2])
    layout = lanes.Layout(mesh, chunk=2, chunks=2)
    steps = np.asarray([5, 9, 1, 7, 3, 8, 2])
    (lane,) = lanes.pack(np.arange(7), steps, layout)
    # by grant: 1 5 | 3 0 | 4 6 | 2; the first device has chunks one and three
    assert lane.tolist() == [1, 5, 4, 6, 3, 0, 2, -1]


def test_pack_fills_as_many_lanes_as_needed():
    layout = lanes.make_layout(1)
    lanes_ = list(lanes.pack(np.arange(150), np.ones(150, int), layout))
    slots = np.concatenate(lanes_)
    assert all(len(lane) == layout.lane for lane in lanes_)
    assert sorted(slots[slots >= 0].tolist()) == list(range(150))


def test_layout_has_room_for_its_members_up_to_a_bound():
    assert lanes.make_layout(1).chunks == 1
    assert lanes.make_layout(64 * 3).chunks == 4
    assert lanes.make_layout(10**6).chunks == 16


def test_deck_shows_every_example_once_an_epoch(task):
    deck = lanes.make_deck(task, 0, 3, 0).reshape(-1)
    n = len(task.train.x)
    assert sorted(deck[:n].tolist()) == list(range(n))
    assert (lanes.make_deck(task, 0, 3, 0) == lanes.make_deck(task, 0, 3, 0)).all()
    assert (lanes.make_deck(task, 0, 3, 0) != lanes.make_deck(task, 0, 4, 0)).any()


@pytest.mark.parametrize("count", [1023, 1024, 1025, 2500])
def test_many_examples_are_evaluated_in_parts_with_the_same_outputs(count):
    x = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    seen = []

    def function(part):
        seen.append(len(part))
        return part.sum(axis=1, keepdims=True)

    outputs = lanes._in_parts(function, x, 1024)
    np.testing.assert_allclose(outputs, x.sum(axis=1, keepdims=True))
    assert max(seen) <= 1024


def test_layers_beyond_the_deepest_of_a_chunk_are_not_computed(recipe, task, genome):
    """NaN in a layer that nobody of the chunk has would spread if it were multiplied."""
    shallow = [i for i in range(N) if SPACE.values(genome, i)["depth"] == 1]
    swarm = born(recipe, genome, slots=shallow)
    poison = jax.tree.map(lambda leaf: leaf, swarm.cohorts[BOX])
    poison.variables["params"]["Dense_1"]["kernel"] = np.full_like(
        poison.variables["params"]["Dense_1"]["kernel"], np.nan
    )
    _, reports = trained(recipe, task, genome, STEPS, slots=shallow, start=swarm)
    for places, report in reports:
        assert np.isfinite(report.loss[places >= 0]).all()
