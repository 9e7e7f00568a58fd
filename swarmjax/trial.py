"""Short trials of this machine: what programs cost here, and which layout trains fastest.

Each is made once and then kept: `machine`. What a run chose is in its record, so that a replay does
not depend on what is kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from swarmjax import lanes, machine, optimizers, placement, resources, tasks, training
from swarmjax.cohorts import UPDATE, Costs
from swarmjax.members import Recipe, new_member, new_members, shapes
from swarmjax.mlp import Box, mlp
from swarmjax.placement import Layout
from swarmjax.space import Choice, Space, choice, log_uniform, structure
from swarmjax.types import Genome

# Of a usual core: seconds to compile a program, operations per second, seconds of the least step.
_COMPILE_SECONDS, _CORE_FLOPS, _STEP_SECONDS = 3.0, 4e10, 2e-4

# Layouts are tried only where the training takes so many times as long as the trial.
_REPAYS = 10

# Members of a device that are tried at least, steps and repetitions.
_TRIED, _STEPS, _REPEATS = 32, 20, 3

_BEFORE = "tried before on this machine"

# Seconds after which a measurement is not repeated.
_ENOUGH = 2.0


def machine_costs(matter: Callable[[Costs], bool] = lambda guess: True) -> Costs:
    """The cost model's numbers for this machine, measured once and then kept.

    Args:
        matter: whether it may be worth while to measure instead of using a guess.
    """
    mesh = placement.make_mesh()
    kept = machine.recall("costs")
    if _are_costs(kept):
        return Costs(**kept)
    guess = Costs(_COMPILE_SECONDS, mesh.size * _CORE_FLOPS, _STEP_SECONDS / mesh.size)
    if mesh.devices.flat[0].platform == "cpu" and not matter(guess):
        return guess
    costs = _measure_costs(mesh)
    machine.keep("costs", costs._asdict())
    return costs


def choose_chunk(
    engine: lanes.Engine,
    container: Any,
    layout: Layout,
    genome: Genome,
    seconds: float,
    costs: Costs,
    chunks: Sequence[int],
) -> tuple[int, str]:
    """Members to vmap together for a container, and how that was decided.

    Args:
        engine: of the run.
        container: what is trained.
        layout: that a trial may change the chunk of.
        genome: `[N]` genes, some of which the trial uses.
        seconds: training expected of this container.
        costs: of the machine.
        chunks: what may be tried, from `placement.chunks`.
    """
    platform = layout.mesh.devices.flat[0].platform
    if platform == "cpu" and _scatters(engine.recipe):
        return 1, "an architecture of its own for few networks each: one by one"
    if len(chunks) == 1:
        return chunks[0], "each for as long and as deep as it is"
    name = f"chunk among {tuple(chunks)} {_fingerprint(engine, container)}"
    if known := _known(name, chunks):
        return known, _BEFORE
    if seconds < _REPAYS * len(chunks) * costs.compile_seconds:
        if platform == "cpu" and _convolves(engine, container, genome):
            return 1, "convolutions: one by one"
        return layout.chunk, "too short a run to try other chunks"
    # Lanes of equally many members, whatever the chunk.
    longest = max(*chunks, _TRIED)
    tried = {c: Layout(layout.mesh, c, longest // c) for c in chunks}
    return _fastest(name, "chunk", tried, partial(_step_seconds, engine, container, genome))


def choose_devices(
    engine: lanes.Engine,
    container: Any,
    layout: Layout,
    genome: Genome,
    seconds: float,
    costs: Costs,
) -> tuple[int, str]:
    """How many of the devices a run trains on, and how that was decided.

    On a CPU each core is a device. A single device for all of them splits every product among the
    cores, which may suit few and large networks.

    Args:
        engine: of the run.
        container: what most of the time is spent on.
        layout: of its lanes on all devices.
        genome: `[N]` genes, some of which the trial uses.
        seconds: training expected of this container.
        costs: of the machine.
    """
    devices = list(layout.mesh.devices.flat)
    if len(devices) == 1 or devices[0].platform != "cpu":
        return len(devices), "all there are"
    name = f"devices for {layout.chunk} {_fingerprint(engine, container)}"
    if known := _known(name, (1, len(devices))):
        return known, _BEFORE
    if seconds < _REPAYS * 2 * costs.compile_seconds:
        return len(devices), "too short a run to try one alone"
    # Lanes of equally many members.
    tried = {
        n: Layout(placement.make_mesh(devices=devices[:n]), layout.chunk, len(devices) // n)
        for n in (len(devices), 1)
    }
    return _fastest(name, "devices", tried, partial(_step_seconds, engine, container, genome))


def _known(name: str, options: Collection[int]) -> int | None:
    """Which of these options an earlier trial found to be fastest; None where none was made."""
    known = machine.recall(name)
    return known if type(known) is int and known in options else None


def _fastest(
    name: str, by: str, tried: dict[int, Layout], seconds: Callable[[Layout], float]
) -> tuple[int, str]:
    """The option whose layout takes the fewest seconds a network's step, kept under `name`."""
    each = {option: seconds(layout) for option, layout in tried.items()}
    best = min(each, key=each.__getitem__)
    machine.keep(name, best)
    times = ", ".join(f"{option}: {1e6 * t:.0f}" for option, t in each.items())
    return best, f"tried, microseconds a network's step by {by}: {times}"


def _scatters(recipe: Recipe) -> bool:
    """Whether members are spread over many programs, whose chunks would seldom be full.

    So it is where networks are not padded and their sizes differ. It does not depend on how many
    there are, as no member's result may.
    """
    sizes = [
        len(g.options) for _, g in recipe.space.genes if isinstance(g, Choice) and g.structural
    ]
    return recipe.family.layers is None and max(sizes, default=1) > 1


def _convolves(engine: lanes.Engine, container: Any, genome: Genome) -> bool:
    """Whether a step has convolutions of XLA, whose vmapped form is slower than a loop on CPUs.

    Padded families have none: theirs are products.
    """
    if engine.recipe.family.layers is not None:
        return False
    task, (x, y) = engine.task, engine.task.train
    batch: Any = tasks.Data(x[: task.batch], y[: task.batch])
    genes = {name: np.asarray(values)[0] for name, values in genome.items()}

    def step(key, birth):
        member = new_member(engine.recipe, container, key, birth, genes)
        return training.step(engine.recipe, task, container, None, batch, key, True, genes, member)

    made = jax.make_jaxpr(step)(engine.key, np.zeros((), np.int32))
    return _has(made.jaxpr, "conv_general_dilated")


def _has(jaxpr: Any, primitive: str) -> bool:
    return any(
        equation.primitive.name == primitive
        or any(_has(inner, primitive) for inner in jaxprs_in_params(equation.params))
        for equation in jaxpr.eqns
    )


def _measure_costs(mesh: Any) -> Costs:
    """From two programs of networks of one layer, one tiny and one wide."""
    boxes = (Box(1, 8), Box(1, 128))
    start = _now()
    with ThreadPoolExecutor(2) as pool:
        # Side by side, as in a run.
        measured = list(pool.map(lambda box: _measure(mesh, box), boxes))
    compile_seconds = _since(start, min(len(boxes), resources.cores())) / len(boxes)
    (tiny, wide), works = [run() for run, _ in measured], [work for _, work in measured]
    # A disturbed measurement must not promise what no machine can do.
    rate = (works[1] - works[0]) / max(wide - tiny, 0.1 * wide)
    overhead = max(tiny - works[0] / rate, 1e-6)
    return Costs(compile_seconds, rate * mesh.size, overhead / mesh.size)


def _measure(mesh: Any, box: Box) -> tuple[Callable[[], float], float]:
    """A compiled program's seconds a step of a lane, when called, and operations of a chunk."""
    rng, batch = np.random.default_rng(0), 64
    x = rng.normal(size=(4 * batch, 64))
    # A number that is new every time, so that the program does not come from the cache on disk.
    scale = 1.0 + 1e-3 * (time.time() % 1.0)
    loss = lambda outputs, y: scale * tasks.cross_entropy(outputs, y)  # noqa: E731
    task = tasks.arrays(x, np.arange(len(x)) % 10, batch=batch, loss=loss)
    space = Space(
        learning_rate=log_uniform(1e-4, 1e-2), width=structure(box.width),
        activation=choice("relu", "gelu"), optimizer=choice("momentum", "adam"),
    )  # fmt: skip
    recipe = Recipe(space, mlp(space, 64, 10), optimizers.for_space(space))
    data = lanes.place_data((task.train, task.valid), mesh)
    deck = lanes.make_deck(task, 0, 0, 0)
    engine = lanes.Engine(recipe, task, jax.random.key(0), data, lambda part: deck)
    layout = Layout(mesh, 8, 1)
    genes: Genome = {name: np.asarray(v) for name, v in space.grid(8).items()}
    program = _program(engine, box, layout, genes)
    family, shape = recipe.family, (("depth", 1), ("width", box.width))
    step = batch * family.flops(box, shape) + UPDATE * family.parameters(box)
    work = layout.chunk * step
    return lambda: _best_time(program, mesh), work


def _step_seconds(engine, container, genome: Genome, layout: Layout) -> float:
    """Seconds of one step of one member in full lanes of this layout; inf if they do not fit."""
    try:
        program = _program(engine, container, layout, genome)
        return _best_time(program, layout.mesh) / (layout.groups * layout.chunk * layout.chunks)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return float("inf")


def _best_time(program: Callable[[], None], mesh: Any) -> float:
    """Seconds of one step of a lane, the least of a few measurements; of one if it takes long."""
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    busy = min(mesh.size, resources.cores()) if on_cpu else None
    times = []
    while len(times) < _REPEATS and sum(times) < _ENOUGH:
        start = _now()
        program()
        times.append(_since(start, busy))
    return min(times) / _STEPS


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float], busy: int | None) -> float:
    """Seconds since `start`; where `busy` cores worked, without waiting for those others held."""
    wall, worked = (now - then for now, then in zip(_now(), start, strict=True))
    return wall if busy is None else min(wall, worked / busy)


def _program(engine, container, layout: Layout, genome: Genome) -> Callable[[], None]:
    """Trains a lane of members of no swarm for some steps; compiled when this returns."""
    shape = (layout.groups, layout.chunk * layout.chunks)
    birth = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
    members = len(next(iter(genome.values())))
    genes = {name: np.asarray(values)[birth % members] for name, values in genome.items()}
    state = [new_members(engine.recipe, container, layout.mesh, engine.key, birth, genes)]
    static = (engine.recipe, engine.task, layout, container)
    data = lanes.place_data(engine.data, layout.mesh)
    chunks = np.full(layout.groups, layout.chunks, np.int32)

    def run(count=_STEPS):
        steps = np.full(shape, count, np.int32)
        state[0], *_ = lanes.train_lane(
            *static, data, engine.key, engine.decks(0), np.asarray(False), state[0], birth, genes,
            steps, chunks,
        )  # fmt: skip
        jax.block_until_ready(state[0])

    run(1)
    return run


def _fingerprint(engine: lanes.Engine, container: Any) -> str:
    """Names what is trained by its container and the shapes of a member and of the data."""
    held, task = (shapes(engine.recipe, container), engine.task.train), engine.task
    kinds = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(held)]
    text = repr((container, kinds, task.batch, task.outputs))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _are_costs(kept: Any) -> bool:
    return (
        isinstance(kept, dict)
        and set(kept) == set(Costs._fields)
        and all(type(v) in (int, float) and 0 < v < float("inf") for v in kept.values())
        and type(kept["chunk"]) is int
    )
