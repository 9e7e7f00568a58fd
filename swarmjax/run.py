"""The loop: policy turns Frames into Plans, trainer turns Plans into Frames, all is stored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax import anomaly, fitness, progress, resources, store, strain, telemetry
from swarmjax.compiling import QUICK, Watch
from swarmjax.ensemble import Ensemble, Soup, choose_ensemble, choose_soup, ranked
from swarmjax.experiment import Experiment, Setup, check
from swarmjax.helm import Helm
from swarmjax.mixed import Mixed, with_nodes
from swarmjax.policy import PlanError, check_plan, guarded
from swarmjax.replaying import described
from swarmjax.result import Best, describe_best, main_metric, score_on, stored_best
from swarmjax.rounds import begin, budgeted, decide, policy_bits, prepare_jax
from swarmjax.succession import lineages
from swarmjax.train import LocalTrainer, Network
from swarmjax.types import Frame, Plan


class DivergedError(RuntimeError):
    """No member ever reached a finite validation score."""


class Result(NamedTuple):
    """What a run returns.

    Attributes:
        best: the best network the run has seen.
        ensemble: the best few that live after the last round, who vote; None where nobody does, or
            none was asked for.
        soup: the mean of the last round's best network and its relatives; None as before.
        frame: the last Frame.
        directory: where everything is stored.
        trainer: holds the weights of all members but nodes; `trainer.network(slot, frame.genome)`.
    """

    best: Best
    ensemble: Ensemble | None
    soup: Soup | None
    frame: Frame
    directory: Path
    trainer: LocalTrainer | Mixed


def run(
    experiment: Experiment | None = None,
    *,
    display: progress.Display | None = None,
    started: Callable[[Path], None] = lambda directory: None,
    **settings: Any,
) -> Result:
    """Trains a swarm until its budget is spent.

    Args:
        experiment: what to run, changed by `settings`, or None to build it from them alone.
        display: shown what happens; None for silence.
        started: called with the run's directory once it exists.
        settings: fields of `Experiment`.

    Raises:
        InputError: the experiment cannot be run as given; nothing was written.
        PlanError: the policy made a Plan that cannot be followed.
    """
    experiment = replace(experiment, **settings) if experiment else Experiment(**settings)
    prepare_jax()
    setup = check(experiment)
    begun = begin(setup)
    local = setup.experiment.members - setup.experiment.nodes
    begun[0].check_memory({name: values[:local] for name, values in begun[1].genome.items()})
    display = display or progress.Silent()
    writer = store.create(setup.directory, described(setup), setup.recipe.space)
    watch = Watch(display.compiling)
    with contextlib.closing(writer), store.reported(writer), store.alive(writer), display, watch:
        started(setup.directory)
        with _joined(setup, begun, writer, display) as trainer:
            return _Loop(setup, (trainer, begun[1]), writer, display, watch).run()


class _Loop:
    """One run in progress: the records of the last round, and what is best so far."""

    def __init__(
        self,
        setup: Setup,
        begun: tuple[LocalTrainer | Mixed, Frame],
        writer: store.Writer,
        display: progress.Display,
        watch: Watch,
    ):
        self._setup, self._writer, self._display, self._watch = setup, writer, display, watch
        self._trainer, self._frame = begun
        self._trainer.report, self._chosen = self._note, None
        # In the background: meanwhile the policy is compiled and makes the first Plan.
        self._trainer.prepare(self._frame.genome)
        policy = guarded(setup.policy)
        self._state, self._told = policy.init(self._frame), watch.programs
        self._decide = partial(decide, policy)
        if not policy.host:
            # A policy's arithmetic is small: it is worth compiling fast, not running fast.
            self._decide = jax.jit(self._decide, compiler_options=QUICK)
        self._best: tuple[tuple[bool, float], Network, Best] | None = None
        self._strain = strain.init(2)
        resizes = setup.recipe.family.sizes is not None
        writer.steering(setup.dials, resizes)
        self._helm = Helm(
            writer.ledger, setup.recipe.space, setup.dials, resizes, setup.experiment.seed,
            setup.goal, tell=partial(self._event, "steered"), announce=self._announce,
            nodes=setup.experiment.nodes,
        )  # fmt: skip

    def run(self) -> Result:
        """Rounds until the budget is spent, a person stops it, or nobody lives or is revived."""
        self._announce("running")
        for note in self._setup.notes:
            self._event("note", note)
            self._display.note(note)
        while self._frame.remaining > 0 and self._helm.hear(self._frame):
            plan = self._plan(int(self._frame.round) + 1)
            if not plan.steps.any():
                break
            self._round(plan)
        return self._finish()

    def _round(self, plan: Plan) -> None:
        before, experiment = self._frame, self._setup.experiment
        round = int(before.round) + 1
        self._writer.plan(round, telemetry.plan_table(plan))
        frame = self._trainer.round(plan, before)
        if self._chosen != self._trainer.choices:
            self._chosen = self._trainer.choices
            self._writer.engine(self._chosen.to_json())
        self._frame = budgeted(frame, int(frame.remaining), experiment)
        self._writer.frame(round, telemetry.frame_table(plan, self._frame, time.time()))
        self._writer.descriptors(round, self._frame.birth, self._frame.descriptor)
        lived = before.alive | (self._frame.birth != before.birth)
        for member in np.flatnonzero(lived & ~self._frame.alive):
            self._event("died", f"member {member} is no longer finite", int(member))
        alarms = anomaly.events(before, self._frame, self._trainer.flags, self._trainer.measured)
        # What is no longer finite was told above.
        for line in anomaly.told([alarm for alarm in alarms if alarm.kind != "nonfinite"]):
            self._event(*line)
        self._watch_memory()
        self._keep_best()
        self._tell_programs()
        self._helm.report(before, self._frame)
        self._announce("running")

    def _plan(self, round: int) -> Plan:
        bits = policy_bits(self._setup.experiment.seed, round)
        plan, self._state = self._decide(bits, self._helm.seen(self._frame), self._state)
        if round == 1:
            everyone = np.ones(len(self._frame.alive), bool)
            plan = plan._replace(fresh=everyone)
        plan = self._helm.steer(jax.tree.map(np.asarray, plan), self._frame)
        check_plan(plan, self._frame)
        if not plan.steps.any() and (plan.fresh | self._frame.alive).any():
            raise PlanError(f"round {round}: {self._setup.policy.name} grants no member a step")
        return plan

    def _keep_best(self) -> None:
        """Copies the best living network out of the swarm if it beats all before it.

        Whoever keeps within the limits of the goal comes before everyone who does not.
        """
        frame = self._held()
        scores = np.asarray(fitness.worst_if_dead(fitness.default(frame), frame))
        within = fitness.feasible(self._setup.goal, frame) & np.isfinite(scores)
        member = int(np.where(within | ~within.any(), scores, -np.inf).argmax())
        if not np.isfinite(scores[member]):
            return
        worth = bool(within[member]), float(scores[member])
        if self._best is not None and worth <= self._best[0]:
            return
        network = self._trainer.network(member, self._frame.genome)
        best = describe_best(self._setup, self._frame, member, network)
        self._best = worth, network, best
        self._writer.best(*stored_best(best))

    def _held(self) -> Frame:
        """The Frame without the nodes, whose networks are not held here."""
        experiment, alive = self._setup.experiment, self._frame.alive
        local = np.arange(experiment.members) < experiment.members - experiment.nodes
        return self._frame._replace(alive=alive & local)

    def _watch_memory(self) -> None:
        """Tells of memory that keeps growing: that of this process, and that on accelerators."""
        used, unknown = np.asarray(resources.memory_in_use()), np.full(2, np.nan)
        self._strain, values = strain.observe(self._strain, unknown, used)
        for of, grown in zip(("this process", "the devices"), values["memory"], strict=True):
            if grown:
                bound = anomaly.THRESHOLDS["memory"]
                self._event("memory", f"memory of {of} keeps growing ({grown:.3g} > {bound:g})")

    def _tell_programs(self) -> None:
        """Writes down how much was compiled so far, if that is news."""
        if self._watch.programs.ready > self._told.ready:
            self._told = self._watch.programs
            self._event("compiled", str(self._told))

    def _finish(self) -> Result:
        if self._best is None:
            raise DivergedError(
                f"all {len(self._frame.alive)} members diverged in round {self._frame.round}; "
                "lower the learning rates of the space"
            )
        (within, _), network, best = self._best
        if not within:
            self._note(
                "nobody ever kept within the limits of the goal; the best network breaks them"
            )
        best = best._replace(scores=best.scores | score_on(self._setup, network, "test"))
        self._writer.best(*stored_best(best))
        together = self._together()
        self._tell_programs()
        self._display.note(str(self._told))
        text = f"{self._done()} member-steps in {self._frame.round} rounds"
        alone = "" if self._frame.alive.any() else "; nobody is left alive"
        stopped = self._helm.stopped if self._frame.remaining > 0 else ""
        by = f"; stopped by {stopped}" if stopped else ""
        state = "stopped" if stopped else "finished"
        self._event(state, text + alone + by)
        self._announce(state)
        return Result(best, *together, self._frame, self._setup.directory, self._trainer)

    def _together(self) -> tuple[Ensemble | None, Soup | None]:
        """What the members of the last round are worth together, written down."""
        size, frame = self._setup.experiment.ensemble, self._held()
        if not size or not ranked(self._setup, frame):
            return None, None
        ensemble = choose_ensemble(self._setup, self._trainer, frame, size)
        soup = choose_soup(self._setup, self._trainer, frame)
        self._event("ensemble", str(ensemble))
        self._event("soup", str(soup))
        return ensemble, soup

    def _done(self) -> int:
        return self._setup.experiment.budget - int(self._frame.remaining)

    def _announce(self, state: str) -> None:
        experiment, frame = self._setup.experiment, self._frame
        name = main_metric(self._setup.task)
        status = store.Status(
            state, int(frame.round), self._done(), experiment.budget,
            self._best[2].scores[name] if self._best else None,
            int(frame.alive.sum()), experiment.members, time.time(), lineages(frame),
        )  # fmt: skip
        self._writer.status(status)
        self._display.show(status)

    def _note(self, text: str) -> None:
        self._event("compiled", text)
        self._display.note(text)

    def _event(self, kind: str, text: str, member: int | None = None) -> None:
        self._writer.event(int(self._frame.round), kind, text, member)


def _joined(
    setup: Setup, begun: tuple[LocalTrainer, Frame], writer: store.Writer, display: progress.Display
) -> contextlib.AbstractContextManager[LocalTrainer | Mixed]:
    """The trainer together with the nodes of the run, if it has any."""
    experiment = setup.experiment

    def tell(text: str) -> None:
        writer.event(writer.rounds, "node", text)
        display.note(text)

    return with_nodes(
        begun[0], setup.recipe.space, (experiment.members - experiment.nodes, experiment.nodes),
        setup.directory, bus=experiment.bus, swarm=experiment.swarm, tell=tell,
    )  # fmt: skip
