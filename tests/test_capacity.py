from types import SimpleNamespace

import flax.linen as nn
import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import capacity, families, lanes, optimizers, placement, resources, trial
from swarmjax.capacity import Need, choose_storage, reckon
from swarmjax.cohorts import Costs
from swarmjax.members import Recipe, new_members
from swarmjax.mlp import Box
from swarmjax.models import flax_family
from swarmjax.train import LocalTrainer

MESH = placement.make_mesh()
ONE = placement.make_mesh(devices=jax.devices()[:1])
MIB = 2**20


def make_recipe(space, task, model="mlp"):
    family = families.make_family(model, space, task.train.x[:1], task.outputs)
    return Recipe(space, family, optimizers.for_space(space))


@pytest.fixture(scope="module")
def task():
    x = np.random.default_rng(0).normal(size=(200, 4))
    return sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)


SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1),
    optimizer=sj.choice("adam"),
    width=sj.structure(8, 16),
    depth=sj.structure(1),
)
GENOME = SPACE.draw(0, 4)


def state_bytes(width):
    """Of one MLP of one hidden layer, two outputs padded to eight columns, with Adam."""
    weights = (4 + 1) * width + (width + 1) * 8
    # Weights and two moments, the optimizer's count and the member's step.
    return 4 * (3 * weights + 2)


def test_the_state_is_weights_moments_and_counters_in_whole_blocks(task):
    need = reckon(make_recipe(SPACE, task), task, {Box(1, 8): 10}, ONE)
    assert need(10).state == 16 * state_bytes(8)
    assert need(16).state == 16 * state_bytes(8) and need(17).state == 24 * state_bytes(8)


def test_every_container_has_rows_of_its_own_on_every_device(task):
    counts = {Box(1, 8): 30, Box(1, 16): 70}
    need = reckon(make_recipe(SPACE, task), task, counts, MESH)
    # Eight devices keep eight rows each of the one, sixteen of the other.
    assert need(100).state == 8 * (8 * state_bytes(8) + 16 * state_bytes(16))
    assert need(1000).state == 8 * (40 * state_bytes(8) + 88 * state_bytes(16))


def test_the_state_is_what_members_really_take(task):
    recipe = make_recipe(SPACE, task)
    genes = {k: np.broadcast_to(np.asarray(v)[0], (1, 8)) for k, v in GENOME.items()}
    birth = np.zeros((1, 8), np.int32)
    members = new_members.eval_shape(recipe, Box(1, 8), ONE, jax.random.key(0), birth, genes)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(members))
    assert reckon(recipe, task, {Box(1, 8): 8}, ONE)(8).state == held


def test_every_device_has_all_examples(task):
    held = sum(a.size * a.dtype.itemsize for a in (*task.train, *task.valid))
    recipe = make_recipe(SPACE, task)
    for mesh, devices in ((ONE, 1), (MESH, 8)):
        assert reckon(recipe, task, {Box(1, 8): 8}, mesh)(8).data == devices * held


def test_the_need_never_falls_with_more_members(task):
    need = reckon(make_recipe(SPACE, task), task, {Box(1, 8): 3, Box(1, 16): 1}, MESH)
    totals = [sum(need(n)) for n in range(1, 3000, 37)]
    assert totals == sorted(totals) and totals[-1] > 3 * totals[0]


def images(n=60):
    x = np.random.default_rng(0).normal(size=(n, 6, 6, 1)).astype(np.float32)
    return sj.tasks.arrays(x, np.arange(n) % 3, batch=8)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_lane_takes_no_more_than_reckoned_and_not_much_less(model):
    """What XLA lays out for temporary values, of one training program."""
    task, space = images(), sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1))
    recipe, layout = make_recipe(space, task, model), placement.make_layout(8, ONE)
    container, genome = recipe.family.contain(()), space.draw(0, 8)
    deck = lanes.make_deck(task, 0, 0, 0)
    data = lanes.place_data((task.train, task.valid), ONE)
    key, numbers = jax.random.key(0), np.zeros((1, 8), np.int32)
    genes = {k: np.asarray(v)[None] for k, v in genome.items()}
    members = new_members.eval_shape(recipe, container, ONE, key, numbers, genes)
    program = lanes.train_lane.lower(
        recipe, task, layout, container, data, key, deck, np.asarray(True), members, numbers,
        genes, numbers, numbers[:, 0],
    ).compile()  # fmt: skip
    memory = program.memory_analysis()
    assert memory is not None
    reckoned = reckon(recipe, task, {container: 8}, ONE)(8)
    assert memory.temp_size_in_bytes <= reckoned.lane <= 5 * memory.temp_size_in_bytes


class Deep(nn.Module):
    """Eight layers of sixty-four units: what is held for the backward pass grows layer by layer."""

    layers: int

    @nn.compact
    def __call__(self, x):
        for _ in range(self.layers):
            x = nn.tanh(nn.Dense(64)(x))
        return nn.Dense(2)(x)


def test_activations_of_all_layers_are_held_for_the_backward_pass(task):
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), layers=sj.structure(2, 10))
    family = flax_family(space, Deep, task.train.x[:1])
    recipe = Recipe(space, family, optimizers.for_space(space))

    def lane(layers):
        counts = {(("layers", layers),): 8}
        return reckon(recipe, task, counts, ONE)(8).lane

    # Eight members, eight more layers, sixteen examples, sixty-four numbers.
    assert lane(10) - lane(2) > 8 * 8 * 16 * 64 * 4


def linear(state=MIB, data=MIB, lane=MIB):
    return lambda members: Need(members * state, data, lane)


@pytest.fixture
def memory(monkeypatch):
    """Sets how much may be used of devices and host, in MiB."""

    def set_memory(device, host):
        monkeypatch.setattr(capacity, "_SHARE", 1.0)
        monkeypatch.setattr(resources, "free_memory", lambda _: device * MIB)
        monkeypatch.setattr(resources, "free_host_memory", lambda: host * MIB)

    return set_memory


GPUS = [SimpleNamespace(platform="gpu")] * 2
CPUS = [SimpleNamespace(platform="cpu")] * 2


@pytest.mark.parametrize(
    ("devices", "members", "wish", "device", "host", "on_host"),
    [
        (GPUS, 8, "auto", 5, 0, False),
        (GPUS, 8, "device", 5, 0, False),
        (GPUS, 9, "auto", 5, 9, True),
        (GPUS, 8, "host", 1, 8, True),
        (CPUS, 8, "auto", 99, 10, False),
        (CPUS, 8, "device", 99, 10, False),
        (CPUS, 8, "host", 0, 10, True),
    ],
)
def test_members_are_kept_where_asked_or_where_they_fit(
    memory, devices, members, wish, device, host, on_host
):
    memory(device, host)
    assert choose_storage(linear(), members, wish, devices) is on_host


@pytest.mark.parametrize(
    ("devices", "wish", "device", "host", "words"),
    [
        (GPUS, "device", 5, 99, "102 MiB on the devices .100 MiB of it .*10 MiB can be used.*8 me"),
        (GPUS, "device", 5, 99, "or let storage be auto"),
        (GPUS, "auto", 5, 7, "100 MiB on the host and 2 MiB on the devices.*7 MiB and 10.*8 mem"),
        (GPUS, "host", 5, 7, "about 7 members"),
        (GPUS, "auto", 5, 40, "about 40 members"),
        (GPUS, "host", 0.5, 999, "not one would fit: lower the sizes"),
        (CPUS, "auto", 99, 22, "102 MiB of memory .100 MiB.*22 MiB can be used.*20 members"),
        (CPUS, "host", 99, 22, "about 20 members"),
        (CPUS, "device", 99, 2, "not one would fit"),
    ],
)
def test_what_does_not_fit_is_refused_in_numbers(memory, devices, wish, device, host, words):
    memory(device, host)
    with pytest.raises(sj.InputError, match="^100 members need .*" + words) as caught:
        choose_storage(linear(), 100, wish, devices)
    assert "\n" not in str(caught.value)


def test_not_all_of_what_is_free_is_used(monkeypatch):
    monkeypatch.setattr(resources, "free_host_memory", lambda: 10 * MIB)
    assert not choose_storage(linear(), 6, "auto", CPUS)
    with pytest.raises(sj.InputError, match="about 6 members"):
        choose_storage(linear(), 7, "auto", CPUS)


@pytest.fixture
def small(monkeypatch):
    """A machine with ten MiB that can be used."""
    monkeypatch.setattr(capacity, "_SHARE", 1.0)
    monkeypatch.setattr(resources, "free_host_memory", lambda: 10 * MIB)


def begin(task, members, directory, **changes):
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(32))
    given = {"task": task, "space": space, "members": members, "budget": members}
    return sj.run(**given | {"directory": directory} | changes)


def test_a_run_that_does_not_fit_writes_nothing_and_says_what_would(task, tmp_path, small):
    with pytest.raises(sj.InputError, match="^5000 members need .*about [0-9]+ members") as caught:
        begin(task, 5000, tmp_path / "large")
    assert list(tmp_path.iterdir()) == []
    fitting = int(str(caught.value).split("about ")[1].split()[0])
    result = begin(task, fitting, tmp_path / "fits")
    assert result.frame.steps.sum() == fitting
    with pytest.raises(sj.InputError, match=f"about {fitting} members"):
        begin(task, fitting + 1, tmp_path / "large")
    assert [path.name for path in tmp_path.iterdir()] == ["fits"]


def test_a_swarm_is_not_refused_for_its_one_large_member(task, monkeypatch):
    """All as large as the largest would not fit; what there is does."""
    monkeypatch.setattr(capacity, "_SHARE", 1.0)
    # So cheap a compilation that no two architectures share a program.
    monkeypatch.setattr(trial, "machine_costs", lambda *_: Costs(compile_seconds=1e-9))
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(4, 256))
    rates, width = np.full(256, 0.01, np.float32), np.asarray([1] + [0] * 255, np.int32)
    genome, recipe = {"learning_rate": rates, "width": width}, make_recipe(space, task)
    everyone = sum(reckon(recipe, task, {Box(2, 256): 256}, MESH)(256))
    needed = sum(reckon(recipe, task, {Box(2, 4): 255, Box(2, 256): 1}, MESH)(256))
    trainer = LocalTrainer(recipe, task, members=256, budget=256, seed=0)
    assert needed < everyone
    monkeypatch.setattr(resources, "free_host_memory", lambda: needed)
    trainer.check_memory(genome)
    monkeypatch.setattr(resources, "free_host_memory", lambda: needed - 1)
    with pytest.raises(sj.InputError, match="^256 members need"):
        trainer.check_memory(genome)


def test_architectures_that_may_share_a_program_are_reckoned_as_large_as_that(task, monkeypatch):
    """A deep one and a wide one together need more than either."""
    monkeypatch.setattr(capacity, "_SHARE", 1.0)
    # So dear a compilation that all architectures share one program.
    monkeypatch.setattr(trial, "machine_costs", lambda *_: Costs(compile_seconds=1e9))
    space = sj.Space(
        learning_rate=sj.log_uniform(1e-3, 1e-1),
        depth=sj.structure(1, 4),
        width=sj.structure(8, 64),
    )
    rates, pair = np.full(64, 0.01, np.float32), np.asarray([0, 1] * 32, np.int32)
    genome = {"learning_rate": rates, "depth": pair, "width": 1 - pair}
    recipe = make_recipe(space, task)
    shared = sum(reckon(recipe, task, {Box(4, 64): 64}, MESH)(64))
    trainer = LocalTrainer(recipe, task, members=64, budget=64, seed=0)
    monkeypatch.setattr(resources, "free_host_memory", lambda: shared - 1)
    with pytest.raises(sj.InputError, match="^64 members need"):
        trainer.check_memory(genome)


def test_a_storage_there_is_none_of_is_refused(task, tmp_path):
    with pytest.raises(sj.InputError, match="storage must be auto, device or host, got 'elsewhere"):
        begin(task, 4, tmp_path / "e", storage="elsewhere")
    assert list(tmp_path.iterdir()) == []
