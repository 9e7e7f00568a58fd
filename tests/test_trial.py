import json
import math

import flax.linen as nn
import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import lanes, optimizers, placement, resources, trial
from swarmjax.cohorts import Costs
from swarmjax.compiling import Programs, Watch
from swarmjax.families import make_family
from swarmjax.members import Recipe
from swarmjax.models import flax_family
from swarmjax.placement import Layout

ONE = placement.make_mesh(devices=jax.devices()[:1])
LAYOUT = Layout(ONE, 8, 1)
SPACE = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1))
GENOME = SPACE.draw(0, 6)
CHUNKS = placement.chunks("cpu", even=True, deep=False)
COSTS = Costs(2.0, 1e9, 1e-4)
LONG, SHORT = 1e6, 59.0


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "swarmjax" / "machine.json"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Costs of this machine, what it took to find them, and the file that keeps them."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("measured")
        patch.setenv("XDG_CACHE_HOME", str(root))
        with Watch() as watch:
            costs = trial.machine_costs()
        return costs, watch.programs, root / "swarmjax" / "machine.json"


def make_engine(model, task):
    if isinstance(model, str):
        family = make_family(model, SPACE, task.train.x[:1], task.outputs)
    else:
        family = flax_family(SPACE, model, task.train.x[:1])
    recipe = Recipe(SPACE, family, optimizers.for_space(SPACE))
    deck = lanes.make_deck(task, 0, 0, 0)
    data = lanes.place_data((task.train, task.valid), ONE)
    return lanes.Engine(recipe, task, jax.random.key(0), data, lambda part: deck)


def images(channels=1):
    x = np.random.default_rng(0).normal(size=(60, 6, 6, channels)).astype(np.float32)
    return sj.tasks.arrays(x, np.arange(60) % 3, batch=8)


@pytest.fixture(scope="module")
def dense():
    return make_engine("mlp", images())


class Convolving(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Conv(8, (3, 3))(x)).mean(axis=(1, 2)))


class Hidden(nn.Module):
    """Its convolution lies inside a loop."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, 1, 1))

        def again(x, _):
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
            return x, None

        x, _ = jax.lax.scan(again, x, length=2)
        return nn.Dense(3)(x.reshape(len(x), -1))


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))


def choose(engine, seconds, layout=LAYOUT, chunks=CHUNKS):
    container = engine.recipe.family.contain(())
    return trial.choose_chunk(engine, container, layout, GENOME, seconds, COSTS, chunks)


def choose_devices(engine, seconds, devices=8):
    layout = Layout(placement.make_mesh(devices=jax.devices()[:devices]), 4, 1)
    container = engine.recipe.family.contain(())
    return trial.choose_devices(engine, container, layout, GENOME, seconds, COSTS)


@pytest.fixture
def timed(monkeypatch):
    """Trials that take the given seconds, by chunk or devices, instead of being made.

    Returns those that were made, each with the members of its lanes.
    """
    made = []

    def set_times(times, of=lambda layout: layout.chunk):
        def step_seconds(engine, container, genome, layout):
            made.append((of(layout), layout.groups * layout.chunk * layout.chunks))
            return times[of(layout)]

        monkeypatch.setattr(trial, "_step_seconds", step_seconds)
        return made

    return set_times


@pytest.fixture
def timed_devices(timed):
    return lambda times: timed(times, lambda layout: layout.mesh.size)


def test_costs_are_those_of_a_machine(measured):
    costs, programs, _ = measured
    assert programs.ready >= 2
    assert 0.05 < costs.compile_seconds < 600 and costs.chunk == Costs().chunk
    assert 1e7 < costs.flops_per_second < 1e16 and 1e-9 < costs.step_seconds < 1


def test_costs_are_measured_once(measured, monkeypatch):
    costs, _, path = measured
    monkeypatch.setenv("XDG_CACHE_HOME", str(path.parents[1]))
    with Watch() as watch:
        assert trial.machine_costs() == costs
    assert watch.programs == Programs()
    assert [part.name for part in path.parent.iterdir()] == ["machine.json"]


def test_rate_and_fixed_time_come_from_a_tiny_and_a_wide_program(monkeypatch):
    """A step of work `w` that takes `fixed + w / rate` gives both back, times the devices."""
    rate, fixed = 2e9, 3e-4

    def measure(mesh, box):
        work = 1e5 * box.width
        return lambda: fixed + work / rate, work

    monkeypatch.setattr(trial, "_measure", measure)
    costs = trial._measure_costs(placement.make_mesh())
    assert costs.flops_per_second == pytest.approx(8 * rate)
    assert costs.step_seconds == pytest.approx(fixed / 8)


def test_a_disturbed_measurement_promises_no_miracles(monkeypatch):
    """The tiny program seemed slower than the wide one."""
    monkeypatch.setattr(
        trial, "_measure", lambda mesh, box: (lambda: 1e-3 if box.width > 8 else 2e-3, box.width)
    )
    costs = trial._measure_costs(ONE)
    assert costs.flops_per_second <= 10 * 128 / 1e-3 and costs.step_seconds > 0


@pytest.mark.parametrize(("seconds", "repeats"), [(0.1, 3), (1.5, 2), (60.0, 1)])
def test_what_takes_long_is_not_measured_often(monkeypatch, seconds, repeats):
    clock = [0.0]
    monkeypatch.setattr(trial, "_now", lambda: (clock[0], 8 * clock[0]))
    calls = []

    def program():
        calls.append(0)
        clock[0] += seconds

    found = trial._best_time(program, placement.make_mesh())
    assert found == pytest.approx(seconds / 20) and len(calls) == repeats


def test_waiting_for_cores_that_others_hold_does_not_count(monkeypatch):
    """In ten seconds two cores of ours worked for six in all: three, had they been free."""
    monkeypatch.setattr(trial, "_now", lambda: (10.0, 6.0))
    assert trial._since((0.0, 0.0), busy=2) == 3.0
    assert trial._since((0.0, 0.0), busy=1) == 6.0
    assert trial._since((0.0, 0.0), busy=None) == 10.0


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1, 2]", "null", '{"MACHINE": 3}', '{"MACHINE": {"costs": [1, 2, 3, 4]}}',
        '{"MACHINE": {"costs": {"compile_seconds": 1}}}',
        '{"MACHINE": {"costs": {"compile_seconds": "1", "flops_per_second": 1, "step_seconds": 1, '
        '"chunk": 8}}}',
        '{"MACHINE": {"costs": {"compile_seconds": NaN, "flops_per_second": 1, "step_seconds": 1, '
        '"chunk": 8}}}',
        '{"MACHINE": {"costs": {"compile_seconds": -1, "flops_per_second": 1, "step_seconds": 1, '
        '"chunk": 8}}}',
        '{"MACHINE": {"costs": {"compile_seconds": 1, "flops_per_second": 1, "step_seconds": 1, '
        '"chunk": 8.5}}}',
    ],
)  # fmt: skip
def test_what_is_no_record_of_costs_is_replaced_by_one(cache, monkeypatch, text):
    monkeypatch.setattr(trial, "_measure_costs", lambda mesh: COSTS)
    cache.parent.mkdir()
    cache.write_text(text.replace("MACHINE", "here"))
    monkeypatch.setattr(resources, "machine_name", lambda: "here")
    assert trial.machine_costs() == COSTS
    assert json.loads(cache.read_text())["here"]["costs"] == COSTS._asdict()


def test_a_guess_does_where_the_costs_do_not_matter(cache, monkeypatch):
    guesses = []
    with Watch() as watch:
        found = trial.machine_costs(lambda guess: bool(guesses.append(guess)))
    assert [found] == guesses and found != Costs()
    assert watch.programs == Programs() and not cache.exists()
    monkeypatch.setattr(trial, "_measure_costs", lambda mesh: COSTS)
    assert trial.machine_costs(lambda guess: True) == COSTS
    # What was measured is used from then on.
    assert trial.machine_costs(lambda guess: False) == COSTS


def test_a_short_run_tries_and_compiles_nothing(cache, dense):
    with Watch() as watch:
        chunk, why = choose(dense, SHORT)
    assert chunk == 8 and "too short" in why
    assert watch.programs == Programs() and not cache.exists()


class Sized(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1))))


@pytest.mark.parametrize(("widths", "chunk"), [((4,), 8), ((4, 8), 1)])
def test_modules_of_several_sizes_run_one_by_one_since_chunks_would_not_fill(
    cache, timed, widths, chunk
):
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(*widths))
    task = images()
    recipe = Recipe(space, flax_family(space, Sized, task.train.x[:1]), optimizers.for_space(space))
    engine = make_engine("mlp", task)._replace(recipe=recipe)
    container = recipe.family.contain((("width", 4),))
    timed({1: 2.0, 8: 1.0, 32: 3.0})
    for seconds in (SHORT, LONG):
        found = trial.choose_chunk(
            engine, container, LAYOUT, space.draw(0, 6), seconds, COSTS, CHUNKS
        )
        assert found[0] == chunk


def test_a_long_run_takes_the_fastest_and_remembers_it(cache, dense, timed):
    made = timed({1: 5e-6, 8: 3e-6, 32: 2e-6})
    chunk, why = choose(dense, LONG)
    assert chunk == 32 and "1: 5, 8: 3, 32: 2" in why
    # As many members in a lane of each.
    assert made == [(1, 32), (8, 32), (32, 32)]
    timed({1: 1e-6, 8: 3e-6, 32: 2e-6})
    assert choose(dense, LONG) == choose(dense, SHORT) == (32, "tried before on this machine")
    assert len(made) == 3


def test_what_was_found_among_some_chunks_is_not_taken_among_others(cache, dense, timed):
    made = timed({1: 2e-6, 2: 1e-6, 8: 1e-7, 32: 1e-8})
    assert choose(dense, LONG, chunks=(1, 2))[0] == 2
    # Enough members for a trial to tell something of.
    assert made == [(1, 32), (2, 32)]
    assert choose(dense, LONG)[0] == 32 and len(made) == 5
    assert choose(dense, SHORT, chunks=(1, 2))[0] == 2 and len(made) == 5
    assert choose(dense, LONG, chunks=(1,))[0] == 1 and len(made) == 5


def test_a_trial_is_made_from_where_the_run_repays_it(cache, dense, timed):
    made = timed({1: 1e-6, 8: 3e-6, 32: 2e-6})
    assert choose(dense, 10 * 3 * COSTS.compile_seconds - 1e-6)[0] == 8 and not made
    assert choose(dense, 10 * 3 * COSTS.compile_seconds)[0] == 1 and made


@pytest.mark.parametrize("kept", [7, 8.0, True, "8", [8], None, 10**9])
def test_a_remembered_chunk_that_is_none_is_tried_anew(cache, dense, timed, kept):
    timed({1: 1e-6, 8: 3e-6, 32: 2e-6})
    choose(dense, LONG)
    known = json.loads(cache.read_text())
    (machine,) = known
    (name,) = known[machine]
    known[machine][name] = kept
    cache.write_text(json.dumps(known))
    chunk, why = choose(dense, LONG)
    assert chunk == 1 and type(chunk) is int and why.startswith("tried, ")


def test_what_was_found_for_one_network_is_not_taken_for_another(cache, dense, timed):
    made = timed({1: 1e-6, 8: 3e-6, 32: 2e-6})
    choose(dense, LONG)
    choose(make_engine("mlp", images(channels=2)), LONG)
    assert len(made) == 6


def test_a_chunk_that_does_not_fit_is_not_taken(cache, dense, monkeypatch):
    def program(engine, container, layout, genome):
        if layout.chunk == 32:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return lambda: None

    monkeypatch.setattr(trial, "_program", program)
    assert choose(dense, LONG)[0] in (1, 8)

    def broken(engine, container, layout, genome):
        raise jax.errors.JaxRuntimeError("INTERNAL: no such thing")

    monkeypatch.setattr(trial, "_program", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        choose(make_engine("mlp", images(channels=3)), LONG)


@pytest.mark.parametrize(("all_", "one", "best"), [(2e-6, 3e-6, 8), (3e-6, 2e-6, 1)])
def test_a_long_run_trains_on_as_many_devices_as_is_fastest(
    cache, dense, timed_devices, all_, one, best
):
    made = timed_devices({8: all_, 1: one})
    count, why = choose_devices(dense, LONG)
    assert count == best and f"8: {1e6 * all_:.0f}, 1: {1e6 * one:.0f}" in why
    # As many members in a lane of each.
    assert made == [(8, 32), (1, 32)]
    assert choose_devices(dense, SHORT) == (best, "tried before on this machine")
    assert len(made) == 2


def test_devices_are_tried_from_where_the_run_repays_it(cache, dense, timed_devices):
    made = timed_devices({8: 2e-6, 1: 1e-6})
    enough = 10 * 2 * COSTS.compile_seconds
    count, why = choose_devices(dense, enough - 1e-6)
    assert count == 8 and "too short" in why and not made and not cache.exists()
    assert choose_devices(dense, enough)[0] == 1 and made


def test_a_single_device_is_not_tried(cache, dense, timed_devices):
    made = timed_devices({})
    assert choose_devices(dense, LONG, devices=1)[0] == 1
    assert not made and not cache.exists()


@pytest.mark.parametrize("kept", [0, 2, 8.0, True, "8", None])
def test_remembered_devices_that_are_none_are_tried_anew(cache, dense, timed_devices, kept):
    timed_devices({8: 1e-6, 1: 3e-6})
    choose_devices(dense, LONG)
    known = json.loads(cache.read_text())
    (machine,) = known
    (name,) = known[machine]
    known[machine][name] = kept
    cache.write_text(json.dumps(known))
    count, why = choose_devices(dense, LONG)
    assert count == 8 and type(count) is int and why.startswith("tried, ")


@pytest.mark.parametrize(("model", "chunk"), [(Convolving, 1), (Hidden, 1), (Dense, 8), ("cnn", 8)])
def test_convolutions_of_users_run_one_by_one_where_nothing_is_tried(cache, model, chunk):
    with Watch() as watch:
        got, why = choose(make_engine(model, images()), SHORT)
    assert got == chunk and (chunk == 8 or why == "convolutions: one by one")
    assert watch.programs == Programs()


def test_the_trial_itself_measures_every_chunk(cache):
    engine = make_engine(Convolving, images())
    chunk, why = choose(engine, LONG)
    times = dict(part.split(": ") for part in why.split("by chunk: ")[1].split(", "))
    assert list(times) == ["1", "8", "32"] and chunk in (1, 8, 32)
    fastest = min(map(float, times.values()))
    assert float(times[str(chunk)]) == fastest > 0 and math.isfinite(fastest)
    (found,) = json.loads(cache.read_text()).values()
    assert list(found.values()) == [chunk]


def test_the_trial_itself_measures_all_devices_and_one(cache):
    count, why = choose_devices(make_engine("mlp", images()), LONG, devices=2)
    assert count in (1, 2) and why.startswith("tried, ")
