"""What runs, replays and searches share: the first Frame, and a round's key, Plan and quota."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from swarmjax import machine, resources
from swarmjax.compiling import QUICK
from swarmjax.experiment import Experiment, Setup
from swarmjax.frames import first_frame
from swarmjax.planner import Choices
from swarmjax.policy import PlanError, check_plan, culprit, keep
from swarmjax.train import LocalTrainer
from swarmjax.types import Array, Frame, Key, Plan, Policy, State
from swarmjax.watch import Wanted

# Makes the trainer of a run from what was decided about speed, if anything was.
Make = Callable[[Setup, Choices | None], Any]


def prepare_jax() -> None:
    """One CPU device per core, and a compilation cache on disk, unless the user chose otherwise."""
    # Too late once a backend runs: then its devices are used as they are.
    with contextlib.suppress(RuntimeError):
        if jax.config.jax_num_cpu_devices < 1:  # pyright: ignore[reportAttributeAccessIssue]
            jax.config.update("jax_num_cpu_devices", resources.cores())
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(machine.cache_directory() / "compiled"))
        # Small programs too: loading one takes a tenth of the time to compile it.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def begin(
    setup: Setup, choices: Choices | None = None, make: Make | None = None
) -> tuple[Any, Frame]:
    """The trainer, that of this process unless `make` makes another, and the first Frame."""
    experiment = setup.experiment
    genome = setup.recipe.space.draw(experiment.seed, experiment.members)
    frame = first_frame(setup.recipe, setup.task, experiment.members, genome)
    trainer = (make or local)(setup, choices)
    return trainer, budgeted(frame, experiment.budget, experiment)


def local(setup: Setup, choices: Choices | None) -> LocalTrainer:
    """The trainer of this process."""
    experiment = setup.experiment
    return LocalTrainer(
        setup.recipe, setup.task, members=experiment.members - experiment.nodes,
        budget=experiment.budget,
        seed=experiment.seed, storage=experiment.storage, choices=choices,
        wanted=Wanted(experiment.window, tuple(experiment.trace), tuple(experiment.parameters)),
        even=setup.even,
    )  # fmt: skip


def decide(policy: Policy, bits: Array, frame: Frame, state: State) -> tuple[Plan, State]:
    """What `policy` makes of `frame`; `bits` `[2]` are those of its key."""
    return policy.update(_key(bits), keep(frame), frame, state)


Decide = Callable[[Array, Frame, State], tuple[Plan, State]]


def decider(policy: Policy) -> Decide:
    """`decide` of one policy, compiled once for all runs of this process that follow it."""
    if policy.host:
        return partial(decide, policy)
    try:
        return _kept(policy)
    except TypeError:
        # What a user made may hold what has no hash.
        return _compiled(policy)


def _compiled(policy: Policy) -> Decide:
    # A policy's arithmetic is small: it is worth compiling fast, not running fast.
    return jax.jit(partial(decide, policy), compiler_options=QUICK)


_kept = lru_cache(maxsize=8)(_compiled)


def check_made(
    plan: Plan, frame: Frame, policy: Policy, bits: Array, seen: Frame, state: State
) -> None:
    """Checks a Plan that `policy` made of `seen`, to be followed after `frame`.

    Raises:
        PlanError: it cannot be; the message also names who in the chain is to blame.
    """
    try:
        check_plan(plan, frame)
    except PlanError as error:
        if name := culprit(policy, _key(bits), seen, state):
            raise PlanError(f"policy {name}: {error}") from None
        raise


def _key(bits: Array) -> Key:
    return jax.random.wrap_key_data(bits, impl="threefry2x32")  # pyright: ignore[reportArgumentType]


def policy_bits(seed: int, round: int) -> np.ndarray:
    """The bits of a round's key, made on the host, which needs no compiled program."""
    return np.random.SeedSequence(seed, spawn_key=(round,)).generate_state(2, np.uint32)


def budgeted(frame: Frame, remaining: int, experiment: Experiment) -> Frame:
    """The Frame with so many member-steps left, and what the next round may take of them."""
    quota = min(remaining, experiment.members * experiment.round_steps)
    return frame._replace(
        remaining=np.asarray(remaining, np.int32), quota=np.asarray(quota, np.int32)
    )
