"""Compiled lanes: members train side by side, each for exactly the steps it was granted.

Every group of devices walks through its chunks of a lane (see `placement`); a chunk of vmapped
members runs until its longest grant is done, members with shorter grants frozen meanwhile. The
chunk's size is fixed and short chunks are padded, so a member's result is the same to the last bit
whoever shares its lane. A group of several devices splits every batch among them, by the same text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from swarmjax import anomaly, stacks
from swarmjax.anomaly import Detector
from swarmjax.data import Data
from swarmjax.members import Member, Recipe, new_members
from swarmjax.placement import Layout
from swarmjax.swarm import Swarm
from swarmjax.tasks import Task
from swarmjax.training import evaluate, measures, probed, step
from swarmjax.types import Array, Genome, Key
from swarmjax.watch import Series, Wanted, joined, places, watch

# Rows of the table of batches that one call may use; longer grants take several calls.
DECK = 512


class Engine(NamedTuple):
    """What all lanes of a run share.

    Attributes:
        recipe: what all members share.
        task: loss and metrics.
        key: the run's member key.
        data: training and validation examples, on every device; from `place_data`.
        decks: `decks(part) -> [DECK, batch]` batches of this round; from `make_deck`.
        wanted: what is kept of single steps.
    """

    recipe: Recipe
    task: Task
    key: Key
    data: tuple[Data, Data]
    decks: Callable[[int], Array]
    wanted: Wanted = Wanted()


class Report(NamedTuple):
    """What a lane showed, leaves `[L]`.

    Attributes:
        loss: sum of the training loss over the steps taken.
        gradient_norm: sum of the gradient norm over the steps taken.
        metrics: name -> validation metric after the last step.
        finite: losses, gradients and all weights are finite.
        descriptor: `[L, P, C]` as in `Frame`.
        detector: what is remembered of the steps; None within compiled programs.
        flags: alarms of the steps; None as well.
        shown: what single steps showed; None as well.
    """

    loss: Array
    gradient_norm: Array
    metrics: Mapping[str, Array]
    finite: Array
    descriptor: Array
    detector: Any = None
    flags: Any = None
    shown: Any = None


def place_data(data: tuple[Data, Data], mesh: Mesh) -> tuple[Data, Data]:
    """Training and validation examples on every device."""
    return jax.device_put(data, NamedSharding(mesh, P()))


def make_deck(task: Task, seed: int, round: int, part: int) -> np.ndarray:
    """Example numbers `[DECK, batch]` of the batches of a round, shuffled epoch by epoch.

    All members see the same batch at the same step of a round.
    """
    rng = np.random.default_rng([seed, round, part])
    examples, wanted = len(task.train.x), DECK * task.batch
    epochs = [rng.permutation(examples) for _ in range(-(-wanted // examples))]
    return np.concatenate(epochs)[:wanted].reshape(DECK, task.batch).astype(np.int32)


def train_cohort(
    engine: Engine,
    layout: Layout,
    swarm: Swarm,
    container: Any,
    lanes: Sequence[np.ndarray],
    genome: Genome,
    steps: np.ndarray,
    detector: Detector,
) -> tuple[Member, list[Report]]:
    """Trains and evaluates members of one cohort.

    Args:
        engine: what all lanes share.
        layout: of this cohort's lanes.
        swarm: where the members are; this cohort is consumed.
        container: which cohort.
        lanes: slots `[G, L]` of it to train and evaluate, -1 for none; from `placement.schedule`.
        genome: `[N]` genes.
        steps: `[N]` grants; 0 only evaluates.
        detector: `[N]` what is remembered of every member's steps.

    Returns:
        The cohort afterwards, and a Report for every lane.
    """
    stack, reports = swarm.cohorts[container], []
    for lane in lanes:
        real = lane >= 0
        filled = np.where(real, lane, lane[real][0])
        rows = np.where(real, swarm.row[filled], -1).astype(np.int32)
        own = np.arange(layout.groups)[:, None]
        kept = stacks.device_of(rows, layout.mesh.size) // layout.share
        near = bool((~real | (kept == own)).all())
        genes = {name: np.asarray(values)[filled] for name, values in genome.items()}
        granted = np.where(real, steps[filled], 0)
        members = stacks.take(stack, layout.mesh, rows, near)
        seen = jax.tree.map(lambda values, at=filled: values[at], detector)
        members, report = _run_lane(
            engine, layout, container, lane, members, swarm.birth[filled], genes, granted, seen
        )
        stack = stacks.put(stack, layout.mesh, rows, members, near)
        reports.append(report)
    return stack, reports


def _run_lane(engine, layout, container, lane, members, birth, genes, steps, detector):
    busy = (lane >= 0).reshape(layout.groups, layout.chunks, layout.chunk).any(axis=2)
    chunks = busy.sum(axis=1).astype(np.int32)
    static = (engine.recipe, engine.task, layout, container)
    shared = (place_data(engine.data, layout.mesh), engine.key)
    parts, reports = max(1, -(-int(steps.max()) // DECK)), []
    flags, shown, chosen = anomaly.silent(*steps.shape), [], places(engine.wanted.traced, lane)
    for part in range(parts):
        left = np.clip(steps - part * DECK, 0, DECK).astype(np.int32)
        members, report, series = train_lane(
            *static, *shared, engine.decks(part), np.asarray(part + 1 == parts),
            members, birth, genes, left, chunks,
        )  # fmt: skip
        watched = watch(detector, flags, series, left, chosen, engine.wanted.window)
        detector, flags, *some = jax.device_get(watched)
        shown.append((*some, time.time_ns(), time.monotonic_ns()))
        reports.append(jax.device_get(report))
    told = joined(shown, int(steps.max()), engine.wanted.window, chosen >= 0)
    report = reduce(_join, reports)
    return members, report._replace(detector=detector, flags=flags, shown=told)


def compile_lane(engine: Engine, layout: Layout, container: Any) -> None:
    """Compiles the program of a container before its members exist."""
    mesh, recipe = layout.mesh, engine.recipe
    numbers = np.zeros((layout.groups, layout.chunk * layout.chunks), np.int32)
    genes = recipe.space.blank(*numbers.shape)
    spread = NamedSharding(mesh, P("member"))
    members = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spread),
        new_members.eval_shape(recipe, container, mesh, engine.key, numbers, genes),
    )
    lowered = train_lane.lower(
        recipe, engine.task, layout, container, place_data(engine.data, mesh), engine.key,
        np.zeros((DECK, engine.task.batch), np.int32), np.asarray(True),
        members, numbers, genes, numbers, numbers[:, 0],
    )  # fmt: skip
    lowered.compile()
    series = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spread),
        lowered.out_info[2],
    )
    nothing = anomaly.init(*numbers.shape), anomaly.silent(*numbers.shape)
    nobody = places(engine.wanted.traced, numbers - 1)
    watch.lower(*nothing, series, numbers, nobody, engine.wanted.window).compile()


def _join(before: Report, after: Report) -> Report:
    loss, norm = before.loss + after.loss, before.gradient_norm + after.gradient_norm
    finite = after.finite & np.isfinite(loss) & np.isfinite(norm)
    return after._replace(loss=loss, gradient_norm=norm, finite=finite)


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=8)
def train_lane(
    recipe: Recipe,
    task: Task,
    layout: Layout,
    container: Any,
    data: tuple[Data, Data],
    key: Key,
    deck: Array,
    last: Array,
    members: Member,
    birth: Array,
    genome: Genome,
    steps: Array,
    chunks: Array,
) -> tuple[Member, Report, Series]:
    """Trains the members `[G, L]` of a lane for `steps` `[G, L]` each: one program.

    They are evaluated if this is the `last` call of a lane. `chunks` `[G]` are in use.
    """

    def shard(shared, mine, count):
        split = jax.tree.map(lambda a: a.reshape(-1, layout.chunk, *a.shape[2:]), mine)
        run = partial(_train_chunk, recipe, task, layout.mesh, container, shared)
        shape = split[1].shape
        nothing = _blank(recipe, task, shape), jnp.zeros((*shape, DECK))
        out = _walk(run, split, count[0], (nothing[0], Series(nothing[1], nothing[1])))
        return jax.tree.map(lambda a: a.reshape(1, -1, *a.shape[2:]), out)

    return jax.shard_map(
        shard,
        mesh=layout.mesh,
        axis_names={"member"},
        in_specs=(P(), P("member"), P("member")),
        out_specs=P("member"),
        check_vma=False,
    )((data, key, deck, last), (members, birth, genome, steps), chunks)


def _walk(run, chunks, count, blank):
    """`run` on the first `count` chunks; the others keep their members and give what is `blank`.

    The count is traced, so the compiler cannot take a loop of one chunk apart: every lane then runs
    the same instructions, and gives the same bits, however many chunks it has.
    """
    members, *fixed = chunks

    def at(tree, i):
        cut = partial(jax.lax.dynamic_index_in_dim, index=i, keepdims=False)
        return jax.tree.map(cut, tree)

    def body(i, done):
        new = run((at(done[0], i), *at(fixed, i)))
        # Not `.at[i].set`, whose scatter takes longer to compile.
        write = partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0)
        return jax.tree.map(write, done, new)

    return jax.lax.fori_loop(0, count, body, (members, *blank))


def _blank(recipe: Recipe, task: Task, shape: tuple[int, ...]) -> Report:
    """A report of zeros; made by hand, since tracing a chunk for its shapes would take as long."""
    zeros = jnp.zeros(shape)
    metrics = {name: zeros for name in measures(recipe, task)}
    descriptor = jnp.zeros((*shape, *probed(task)), jnp.float16)
    return Report(zeros, zeros, metrics, jnp.zeros(shape, bool), descriptor)


def _train_chunk(recipe, task, mesh, container, shared, mine) -> tuple[Member, Report, Series]:
    (train, valid), key, deck, last = shared
    members, birth, genome, steps = mine
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, birth)
    deepest = _deepest(recipe, container, genome)
    copies = recipe.family.copies
    batched: Any = Data(0 if copies else None, None)  # pyright: ignore[reportArgumentType]
    one_step = jax.vmap(partial(step, recipe, task, container, deepest), (batched, 0, 0, 0, 0))

    def body(i, carry):
        members, loss, norm, series = carry
        batch = _split(mesh, Data(train.x[deck[i]], train.y[deck[i]]))
        if copies:
            copied = jnp.broadcast_to(batch.x[None], (len(steps), *batch.x.shape))
            # Else the compiler would join the members' products into one, and turn weights about.
            batch = batch._replace(x=jax.lax.optimization_barrier(copied))
        members, new_loss, new_norm = one_step(batch, keys, i < steps, genome, members)
        write = partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0)
        series = jax.tree.map(write, series, Series(new_loss, new_norm))
        return members, loss + new_loss, norm + new_norm, series

    zero, empty = jnp.zeros(len(steps)), jnp.zeros((DECK, len(steps)))
    begun = members, zero, zero, Series(empty, empty)
    members, loss, norm, series = jax.lax.fori_loop(0, jnp.max(steps), body, begun)
    score = jax.vmap(partial(evaluate, recipe, task, container, valid, deepest=deepest))
    nothing = _blank(recipe, task, steps.shape)
    blank = nothing.metrics, nothing.finite, nothing.descriptor
    metrics, finite, descriptor = jax.lax.cond(last, score, lambda *_: blank, genome, members)
    finite &= jnp.isfinite(loss) & jnp.isfinite(norm)
    report = Report(loss, norm, metrics, finite, descriptor)
    return members, report, jax.tree.map(jnp.transpose, series)


def _split(mesh: Mesh, batch: Data) -> Data:
    """The batch, spread over the devices of a group; XLA adds the exchange of gradients."""
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, P("batch")))


def _deepest(recipe: Recipe, container: Any, genome: Genome) -> Any:
    """Layers of the deepest member of a chunk; the others skip what it does not have either."""
    layers = recipe.family.layers
    if layers is None:
        return None
    return jnp.max(jax.vmap(lambda genes: layers(container, recipe.space.numbers(genes)))(genome))
