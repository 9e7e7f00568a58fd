import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import anomaly, lanes, mlp, optimizers, placement, stacks, training
from swarmjax.members import Recipe, new_members
from swarmjax.models import architecture_of
from swarmjax.swarm import Swarm

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


MESH = placement.make_mesh()


def some(count, share=1):
    return placement.make_mesh(share, jax.devices()[:count])


def engine(recipe, task, mesh=MESH, shift=0):
    deck = np.roll(lanes.make_deck(task, 0, 0, 0), -shift, axis=0)
    data = lanes.place_data((task.train, task.valid), mesh)
    return lanes.Engine(recipe, task, jax.random.key(0), data, lambda part: deck)


def born(recipe, genome, box=BOX, slots=range(N), mesh=MESH):
    """A swarm whose slot `i` holds the network born as number `i`, all in one cohort."""
    births = np.asarray(list(slots), np.int32)
    groups, lane = mesh.shape["member"], -(-N // mesh.shape["member"])
    places = np.full((groups, lane), -1)
    places.reshape(-1)[: len(births)] = births
    filled = np.where(places >= 0, places, births[0])
    members = new_members(
        recipe, box, mesh, jax.random.key(0), filled.astype(np.int32),
        {name: values[filled] for name, values in genome.items()},
    )  # fmt: skip
    rows = np.full(N, -1, np.int32)
    rows[births] = np.arange(len(births))
    stack = stacks.new_stack(members, mesh, len(births), host=False)
    target = np.where(places >= 0, rows[filled], -1).astype(np.int32)
    stack = stacks.put(stack, mesh, target, members, near=False)
    own = np.arange(N, dtype=np.int32)
    return Swarm({box: stack}, (box,), own * 0, rows, own, own, np.zeros(N, np.int32), N)


def trained(
    recipe, task, genome, steps, *, slots=range(N), box=BOX, mesh=MESH, start=None, shift=0, **how
):
    swarm = start or born(recipe, genome, box, slots, mesh)
    return in_layout(
        engine(recipe, task, mesh, shift), placement.make_layout(N, mesh, **how), swarm, box,
        np.asarray(list(slots)), genome, np.asarray(steps, np.int32),
    )  # fmt: skip


def in_layout(engine, layout, swarm, box, slots, genome, steps):
    flops = np.asarray([1.0 + d for d in genome["depth"]])
    home = stacks.device_of(swarm.row[slots], layout.mesh.size)
    job = placement.Job(layout, slots, steps[slots], flops[slots], home)
    (made,), _ = placement.schedule([job], layout.mesh.size)
    stack, reports = lanes.train_cohort(
        engine, layout, swarm, box, made, genome, steps, anomaly.init(N)
    )
    return swarm._replace(cohorts={box: stack}), list(zip(made, reports, strict=True))


def member(swarm, slot):
    (stack,) = swarm.cohorts.values()
    device, place = stacks._address(swarm.row[slot], stack.step.shape[0])
    return jax.tree.map(lambda leaf: np.asarray(leaf)[device, place], stack)


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
        here = places == 1
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


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_so_it_is_in_smaller_chunks(recipe, task, genome, chunk):
    whole, _ = trained(recipe, task, genome, STEPS, chunk=chunk)
    for slots in ([3], [8, 2, 3]):
        alone, _ = trained(recipe, task, genome, STEPS, slots=slots, chunk=chunk)
        assert same(member(alone, 3), member(whole, 3))
    swapped, _ = trained(recipe, task, genome, STEPS[::-1].copy(), chunk=chunk)
    part, _ = trained(recipe, task, genome, np.minimum(STEPS[::-1], 4), chunk=chunk)
    rest = np.maximum(STEPS[::-1] - 4, 0)
    whole, _ = trained(recipe, task, genome, rest, start=part, shift=4, chunk=chunk)
    assert all(same(member(whole, i), member(swapped, i)) for i in range(N))


def test_a_round_may_be_cut_anywhere(recipe, task, genome, together):
    part, _ = trained(recipe, task, genome, np.minimum(STEPS, 5))
    whole, _ = trained(recipe, task, genome, np.maximum(STEPS - 5, 0), start=part, shift=5)
    assert all(same(member(whole, i), member(together[0], i)) for i in range(N))


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)


def test_two_devices_give_the_same_bits_as_eight(recipe, task, genome, together):
    assert MESH.size == 8
    pair, _ = trained(recipe, task, genome, STEPS, mesh=some(2))
    assert all(same(member(pair, i), member(together[0], i)) for i in range(N))


def test_one_device_gives_the_same_as_eight_up_to_rounding(recipe, task, genome, together):
    single, _ = trained(recipe, task, genome, STEPS, mesh=some(1))
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
        int(s): bool(f)
        for places, r in reports
        for s, f in zip(places.ravel(), r.finite.ravel(), strict=True)
    }
    assert not finite[5] and all(finite[i] for i in range(N) if i != 5)
    assert all(same(member(swarm, i), member(together[0], i)) for i in range(N) if i != 5)


def test_grants_longer_than_the_deck_take_several_calls(recipe, task, genome):
    steps = np.zeros(N, np.int32)
    steps[0] = lanes.DECK + 3
    swarm, reports = trained(recipe, task, genome, steps)
    assert int(member(swarm, 0).step) == lanes.DECK + 3
    (places, report), *_ = reports
    assert report.loss[places == 0] > 0 and np.isfinite(report.metrics["loss"][places == 0])


@pytest.mark.parametrize("share", [2, 8])
def test_devices_that_share_a_batch_give_the_same_up_to_rounding(
    recipe, task, genome, together, share
):
    """The tolerance that README states, after up to twenty steps."""
    mesh = placement.make_mesh(share)
    several, reports = trained(recipe, task, genome, STEPS, mesh=mesh, chunk=1)
    for i in range(N):
        assert int(member(several, i).step) == STEPS[i]
        close(member(several, i), member(together[0], i))
    told = {s: r.loss.ravel()[i] for p, r in reports for i, s in enumerate(p.ravel()) if s >= 0}
    for places, report in together[1]:
        for place, slot in enumerate(places.ravel()):
            if slot >= 0:
                np.testing.assert_allclose(told[slot], report.loss.ravel()[place], rtol=1e-4)


def test_members_trained_away_from_home_come_back_the_same(recipe, task, genome, together):
    """Eight equal members, all kept on one of two devices: half of them must be sent."""
    mesh, steps = some(2), np.full(N, 9)
    near, _ = trained(recipe, task, genome, steps, mesh=mesh, slots=range(8))
    sent = born(recipe, genome, slots=[*range(8)], mesh=mesh)
    assert (stacks.device_of(sent.row[:8], 2) == 0).all()
    layout = placement.Layout(mesh, chunk=4, chunks=1)
    away, reports = in_layout(
        engine(recipe, task, mesh), layout, sent, BOX, np.arange(8), genome, steps.astype(np.int32)
    )
    assert len(reports) == 1 and (reports[0][0] >= 0).all(), "four are on the other device"
    for i in range(8):
        close(member(away, i), member(near, i))
        assert int(member(away, i).step) == 9


def test_deck_shows_every_example_once_an_epoch(task):
    deck = lanes.make_deck(task, 0, 3, 0).reshape(-1)
    n = len(task.train.x)
    assert sorted(deck[:n].tolist()) == list(range(n))
    assert (lanes.make_deck(task, 0, 3, 0) == lanes.make_deck(task, 0, 3, 0)).all()
    assert (lanes.make_deck(task, 0, 3, 0) != lanes.make_deck(task, 0, 4, 0)).any()


def test_layers_beyond_the_deepest_of_a_chunk_are_not_computed(recipe, task, genome):
    """NaN in a layer that nobody of the chunk has would spread if it were multiplied."""
    shallow = [i for i in range(N) if SPACE.values(genome, i)["depth"] == 1]
    swarm = born(recipe, genome, slots=shallow)
    layer = swarm.cohorts[BOX].variables["params"]["Dense_1"]
    layer["kernel"] = layer["kernel"] * np.nan
    _, reports = trained(recipe, task, genome, STEPS, slots=shallow, start=swarm)
    for places, report in reports:
        assert np.isfinite(report.loss[places >= 0]).all()


def test_members_are_described_by_what_they_make_of_the_first_examples(
    recipe, task, genome, together
):
    swarm, reports = together
    examples, outputs = training.probed(task)
    for places, report in reports:
        for at in np.argwhere(places >= 0):
            slot = places[tuple(at)]
            described = report.descriptor[tuple(at)]
            assert described.shape == (examples, outputs) and described.dtype == np.float16
            numbers = SPACE.numbers({name: v[slot] for name, v in genome.items()})
            made = recipe.family.apply(
                BOX, member(swarm, slot).variables, task.valid.x[:examples], numbers
            )[0]
            np.testing.assert_allclose(described, jax.nn.softmax(made), atol=2e-3)


def test_detectors_see_every_step_a_member_takes(together):
    for places, report in together[1]:
        real = places >= 0
        assert report.detector.count[real].tolist() == STEPS[places[real]].tolist()
        assert (report.flags.alarm[real] == 0).all()
