"""How well the streamed alarms of `swarmjax.anomaly` find faults that are put into real trainings.

Small MLPs train side by side on one task. Half of them suffer a fault at a step of their own:

- `rate`: the learning rate times 100 from then on;
- `batch`: the inputs of one batch times 100;
- `labels`: every label replaced by the next class from then on;
- `weights`: a layer's weights are no longer numbers.

The others are controls, half of them on a plateau: their learning rate falls to a hundredth. The
first alarm of a member is true if it comes after its fault, false otherwise; a fault is found if
its true alarm comes within `PATIENCE` steps. Not every fault does harm: a gentle learning rate
survives a hundredfold, and wrong labels are nothing to a network that has learned nothing. So every
training is repeated without its fault, and recall is told twice: of all faults, and of those whose
mean loss in the `PATIENCE` steps from the fault is `HARM` times that without it, or not finite.

Constants of the detectors were chosen on `TUNED`, by other seeds and half as long trainings, and
never on the tasks that the bars are about.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from paper.measure import Row, at_least, at_most, median, progress
from swarmjax.types import Genome

TASKS, TUNED = ("spirals", "teacher", "digits-noisy"), "digits"
FAULTS = ("none", "plateau", "rate", "batch", "labels", "weights")
STEPS, PATIENCE, EARLIEST, LATEST, HARM = 800, 50, 200, 700, 1.5

# Learning rates that train, for each optimizer.
RATES = {"sgd": (3e-2, 3e-1), "momentum": (3e-3, 5e-2), "adam": (3e-4, 1e-2), "adamw": (3e-4, 1e-2)}


class Cases(NamedTuple):
    """Trainings to be watched.

    Attributes:
        fault: `[N]` index into `FAULTS`.
        onset: `[N]` step at which it begins.
        genome: gene -> `[N]`.
    """

    fault: np.ndarray
    onset: np.ndarray
    genome: Genome


class Watched(NamedTuple):
    """What came of the cases.

    Attributes:
        fault: `[N]` index into `FAULTS`.
        onset: `[N]` step at which it began.
        harmed: `[N]` bool, it did harm.
        first: `[N]` step of the first alarm, -1 without any.
    """

    fault: np.ndarray
    onset: np.ndarray
    harmed: np.ndarray
    first: np.ndarray


def anomalies() -> Row:
    """Precision, recall and median delay, in steps, over the tasks not used for tuning."""

    def targets(quick: bool):
        del quick
        return {
            "anomaly-precision": at_least(0.95),
            "anomaly-recall": at_least(0.85),
            "anomaly-delay": at_most(5),
        }

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        members, raw, held_out = (64 if quick else 192), {}, []
        for name in (*TASKS, TUNED):
            watched = watch(name, members, seed=len(name))
            raw[name] = {"all": score(watched), "faults": by_fault(watched)}
            progress(f"{name}: {raw[name]['all']}")
            held_out += [watched] if name in TASKS else []
        pooled = Watched._make(map(np.concatenate, zip(*held_out, strict=True)))
        raw["held out"] = {"all": score(pooled), "faults": by_fault(pooled)}
        bars = ("precision", "recall", "delay")
        return {f"anomaly-{key}": raw["held out"]["all"][key] for key in bars}, raw

    return Row(targets, measure)


def draw_cases(members: int, seed: int) -> Cases:
    """Random trainings; of every eight, two controls of each kind and one of each fault."""
    rng = np.random.default_rng(seed)
    fault = np.asarray([0, 0, 1, 1, 2, 3, 4, 5])[np.arange(members) % 8]
    optimizer = rng.integers(0, len(RATES), members)
    low, high = np.log(np.asarray(list(RATES.values()))).T[:, optimizer]
    rate = np.exp(rng.uniform(low, high)).astype(np.float32)
    genome: Genome = {
        "learning_rate": rate,
        "optimizer": optimizer.astype(np.int32),
        "activation": rng.integers(0, 3, members).astype(np.int32),
        "depth": rng.integers(0, 2, members).astype(np.int32),
    }
    return Cases(fault, rng.integers(EARLIEST, LATEST, members).astype(np.int32), genome)


def train(name: str, cases: Cases, seed: int, steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Losses and gradient norms `[steps, N]` of the cases on the task called `name`."""
    import jax

    from swarmjax import families, lanes, optimizers, tasks
    from swarmjax.members import Recipe
    from swarmjax.space import Space, choice, log_uniform, structure

    task = tasks.TASKS[name]()
    space = Space(
        learning_rate=log_uniform(1e-6, 1e2),
        optimizer=choice(*RATES),
        activation=choice("relu", "gelu", "tanh"),
        depth=structure(1, 2),
    )
    family = families.make_family("mlp", space, task.train.x[:1], task.outputs)
    recipe = Recipe(space, family, optimizers.for_space(space))
    parts = range(-(-steps // lanes.DECK))
    deck = np.concatenate([lanes.make_deck(task, seed, 0, part) for part in parts])[:steps]
    run = jax.jit(partial(_train, recipe, task))
    return jax.device_get(run(task.train, deck, jax.random.key(seed), cases))


def _train(recipe, task, data, deck, key, cases: Cases):
    import jax
    import jax.numpy as jnp

    from swarmjax import training
    from swarmjax.members import new_member

    container = recipe.family.contain((("depth", 2), ("width", 32)))
    births = jnp.arange(len(cases.fault))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, births)
    make = jax.vmap(partial(new_member, recipe, container), (None, 0, 0))

    def one(batch, t, key, case, member):
        batch, genome, member = suffer(batch, t, task.outputs, case, member)
        return training.step(recipe, task, container, None, batch, key, True, genome, member)

    def body(members, now):
        t, rows = now
        batch = jax.tree.map(lambda values: jnp.asarray(values)[rows], data)
        members, loss, norm = jax.vmap(one, (None, None, 0, 0, 0))(batch, t, keys, cases, members)
        return members, (loss, norm)

    members = make(key, births, cases.genome)
    return jax.lax.scan(body, members, (jnp.arange(len(deck)), deck))[1]


def suffer(batch, t, classes: int, case: Cases, member):
    """What one training step of one case is given: batch, genes and member after its fault."""
    import jax
    import jax.numpy as jnp

    def strikes(name, when):
        return (case.fault == FAULTS.index(name)) & when

    began, now = t >= case.onset, t == case.onset
    x = batch.x * jnp.where(strikes("batch", now), 100.0, 1.0)
    y = jnp.where(strikes("labels", began), (batch.y + 1) % classes, batch.y)
    factor = jnp.where(strikes("rate", began), 100.0, 1.0)
    factor = jnp.where(strikes("plateau", began), 0.01, factor)
    genome = case.genome | {"learning_rate": case.genome["learning_rate"] * factor}
    hurt = jnp.where(strikes("weights", now), jnp.nan, 0.0)
    params = jax.tree.map(lambda leaf: leaf + hurt, member.variables["params"])
    member = member._replace(variables=member.variables | {"params": params})
    return batch._replace(x=x, y=y), genome, member


def first_alarms(loss: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """The step `[N]` of every member's first alarm, -1 without any."""
    import jax
    import jax.numpy as jnp

    from swarmjax import anomaly

    members = loss.shape[1]

    def body(carry, now):
        detector, flags = carry
        detector, new = anomaly.observe(detector, now[0], now[1], jnp.ones(members, bool))
        return (detector, anomaly.join(flags, new)), None

    begun = anomaly.init(members), anomaly.silent(members)
    (_, flags), _ = jax.jit(lambda traces: jax.lax.scan(body, begun, traces))((loss, norm))
    step = np.asarray(flags.step)
    first = np.where(step >= 0, step, len(loss)).min(axis=1)
    return np.where(first < len(loss), first, -1)


def watch(name: str, members: int, seed: int) -> Watched:
    """Trains random cases with and without their faults, and watches them by the detectors."""
    cases = draw_cases(members, seed)
    loss, norm = train(name, cases, seed)
    sound, _ = train(name, cases._replace(fault=np.zeros_like(cases.fault)), seed)
    after = cases.onset[:, None] + np.arange(PATIENCE)
    with np.errstate(invalid="ignore"):
        hurt, well = (np.take_along_axis(a.T, after, axis=1).mean(axis=1) for a in (loss, sound))
        harmed = ~(hurt < HARM * well)
    return Watched(cases.fault, cases.onset, harmed, first_alarms(loss, norm))


def score(watched: Watched) -> dict[str, float]:
    """Precision and recall of first alarms, and the median delay of true ones, in steps."""
    faulty, alarmed = watched.fault >= FAULTS.index("rate"), watched.first >= 0
    delay = watched.first - watched.onset
    true, harmed = faulty & alarmed & (delay >= 0), faulty & watched.harmed
    found = true & (delay <= PATIENCE)
    return {
        "precision": _share(true, alarmed),
        "recall": _share(found, harmed),
        "recall_all": _share(found, faulty),
        "delay": float(median(delay[true])) if true.any() else float("nan"),
        "cases": len(delay),
        "faults": int(faulty.sum()),
        "harmful": int(harmed.sum()),
    }


def by_fault(watched: Watched) -> dict[str, dict[str, float]]:
    """As `score` for every kind of fault; of controls only the share that raised an alarm."""
    told: dict[str, dict[str, float]] = {}
    for index, name in enumerate(FAULTS):
        mine = watched.fault == index
        few = Watched._make(values[mine] for values in watched)
        told[name] = score(few)
        if index < FAULTS.index("rate"):
            told[name] = {"alarmed": _share(few.first >= 0, mine[mine]), "cases": len(few.fault)}
    return told


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float((part & whole).sum() / max(1, whole.sum()))
