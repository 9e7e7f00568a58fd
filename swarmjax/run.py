"""The loop: policy turns Frames into Plans, trainer turns Plans into Frames, all is stored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from swarmjax import (
    anomaly,
    champion,
    checkpoints,
    elsewhere,
    outcome,
    progress,
    resources,
    resuming,
    stopping,
    store,
    strain,
    telemetry,
)
from swarmjax.archipelago import Archipelago
from swarmjax.backlog import Backlog
from swarmjax.champion import Champion
from swarmjax.compiling import Watch
from swarmjax.experiment import Experiment
from swarmjax.helm import Helm
from swarmjax.journal import Journal
from swarmjax.keeping import Keeper
from swarmjax.mixed import Mixed, with_nodes
from swarmjax.naming import Named, rebuilt
from swarmjax.outcome import DivergedError, Result
from swarmjax.policy import PlanError, guarded
from swarmjax.result import main_metric, score_on, stored_best
from swarmjax.rounds import budgeted, check_made, decider, policy_bits, prepare_jax
from swarmjax.succession import lineages
from swarmjax.train import LocalTrainer
from swarmjax.types import Frame, Plan


def run(
    experiment: Experiment | None = None,
    *,
    display: progress.Display | None = None,
    started: Callable[[Path], None] = lambda directory: None,
    resume: bool = False,
    trainer: Any = None,
    **settings: Any,
) -> Result:
    """Trains a swarm until its budget is spent.

    Args:
        experiment: what to run, changed by `settings`, or None to build it from them alone.
        display: shown what happens; None for silence.
        started: called with the run's directory once it exists.
        resume: goes on with the run in the directory, whatever ended it, instead of a new one.
        trainer: where members train, such as `sj.islands(2)`; None: in this process. What it
            began stays open for the result; `result.trainer.close()` ends it.
        settings: fields of `Experiment`.

    Raises:
        InputError: the experiment cannot be run as given; nothing was written.
        PlanError: the policy made a Plan that cannot be followed.
        StoppedError: Ctrl-C or SIGTERM ended it between two rounds.
    """
    experiment = replace(experiment, **settings) if experiment else Experiment(**settings)
    prepare_jax()
    make = None if trainer is None else trainer.make
    begun = resuming.again(experiment, make) if resume else resuming.anew(experiment, make)
    display = display or progress.Silent()
    writer: Any = Backlog(begun.writer, display.note)
    watch = Watch(display.compiling)
    with (
        resuming.closed_on_error(begun.trainer), contextlib.closing(writer),
        store.reported(writer), store.alive(writer), display, watch,
        stopping.polite(display.note) as wish,
    ):  # fmt: skip
        started(begun.setup.directory)
        with _joined(begun, writer, display) as trainer:
            loop = _Loop(begun, trainer, writer, display, watch, wish)
            with contextlib.closing(loop.keeper):
                return loop.run()


class _Loop:
    """One run in progress: the records of the last round, and what is best so far."""

    def __init__(
        self,
        begun: resuming.Beginning,
        trainer: LocalTrainer | Mixed | Archipelago,
        writer: Any,
        display: progress.Display,
        watch: Watch,
        wish: stopping.Wish,
    ):
        setup, self._frame, self._known = begun.setup, begun.frame, begun.plans
        self._setup, self._writer, self._display, self._watch = setup, writer, display, watch
        self._trainer, self._wish = trainer, wish
        self._trainer.report, self._chosen = partial(self._say, "compiled"), None
        self._islands = trainer if isinstance(trainer, Archipelago) else None
        if self._islands is not None:
            self._islands.tell = partial(self._say, "island")
            self._islands.convoy.recall = partial(checkpoints.arrays_of_latest, setup.directory)
        if begun.checkpoint is None:
            # In the background: meanwhile the policy is compiled and makes the first Plan.
            self._trainer.prepare(self._frame.genome)
        self._policy = policy = guarded(setup.policy)
        self._state, self._told = policy.init(begun.first), watch.programs
        self._decide = decider(policy)
        self._champion: Champion | None = None
        self._strain, self._journal = strain.init(2), Journal(writer, resuming.describer(setup))
        resizes = setup.recipe.family.sizes is not None
        writer.steering(setup.dials, resizes)
        self._helm = Helm(
            writer.ledger, setup.recipe.space, setup.dials, resizes, setup.experiment.seed,
            setup.goal, tell=partial(self._event, "steered"), announce=self._announce,
            leaving=lambda: bool(wish), nodes=setup.experiment.nodes,
        )  # fmt: skip
        experiment = setup.experiment
        seconds, keep = experiment.checkpoint_seconds, experiment.checkpoints
        self.keeper = Keeper(writer, seconds, keep, partial(self._say, "checkpoint"))
        if begun.checkpoint is not None:
            self._recall(begun.checkpoint.arrays, begun.checkpoint.facts)
        for note in begun.told:
            self._say("note", note)

    def _recall(self, arrays: Named, facts: dict[str, Any]) -> None:
        """Takes up what `resuming.remember` kept."""
        self._state = rebuilt(self._state, arrays, "policy", facts["weak"])
        self._helm.take_over(arrays, len(self._frame.alive))
        self._champion = champion.found_again(self._setup, self._trainer, arrays, facts["best"])

    def _remember(self) -> tuple[Named, dict[str, Any]]:
        arrays, facts = resuming.remember(
            self._trainer, self._frame, self._state, self._helm, self._champion
        )
        return arrays, facts | {"event": self._writer.last_event()}

    def run(self) -> Result:
        """Rounds until the budget is spent, a person stops it, or nobody lives or is revived."""
        self._announce("running")
        while self._frame.remaining > 0 and self._going():
            plan = self._plan(int(self._frame.round) + 1)
            if not plan.steps.any():
                break
            self._round(plan)
            self.keeper.after(int(self._frame.round), self._remember)
            if self._islands is not None and self.keeper.latest is not None:
                self._islands.convoy.saved(self.keeper.latest)
        return self._finish()

    def _going(self) -> bool:
        """Whether there is another round; raises StoppedError if the process is to end instead."""
        going = bool(self._wish) or self._helm.hear(self._frame)
        if not self._wish:
            return going
        round = int(self._frame.round)
        saved = round > 0 and self.keeper.now(round, self._remember)
        rest = "" if saved else f", from the {'last checkpoint' if round else 'start'}"
        raise stopping.StoppedError(
            f"stopped after round {round}; give --resume with --directory "
            f"{self._setup.directory} to go on{rest}", self._wish.code,
        )  # fmt: skip

    def _round(self, plan: Plan) -> None:
        before, experiment = self._frame, self._setup.experiment
        round = int(before.round) + 1
        if round not in self._known:
            self._writer.plan(round, telemetry.plan_table(plan))
        frame = self._trainer.round(plan, before)
        if isinstance(self._trainer, Mixed) and self._trainer.away is not None:
            self._writer.part(round, elsewhere.packed(self._trainer.away))
        if self._chosen != self._trainer.choices:
            self._chosen = self._trainer.choices
            self._writer.engine(self._chosen.to_json())
        self._frame = budgeted(frame, int(frame.remaining), experiment)
        table = telemetry.frame_table(plan, self._frame, time.time())
        self._writer.frame(round, table)
        islands = None if self._islands is None else self._islands.table()
        self._journal.write(round, table, self._frame, self._trainer.shown, islands)
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
        before, seen = self._state, self._helm.seen(self._frame)
        plan, self._state = self._decide(bits, seen, before)
        if round == 1:
            everyone = np.ones(len(self._frame.alive), bool)
            plan = plan._replace(fresh=everyone)
        plan = self._helm.steer(jax.tree.map(np.asarray, plan), self._frame)
        # What was done is done again, even where the policy goes by times that have changed.
        plan = self._known.get(round, plan)
        check_made(plan, self._frame, self._policy, bits, seen, before)
        if not plan.steps.any() and (plan.fresh | self._frame.alive).any():
            raise PlanError(f"round {round}: {self._setup.policy.name} grants no member a step")
        return plan

    def _keep_best(self) -> None:
        before, held = self._champion, self._held()
        self._champion = champion.challenge(before, self._setup, self._trainer, self._frame, held)
        if self._champion is not None and self._champion is not before:
            self._writer.best(*stored_best(self._champion.best))

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
                text = f"memory of {of} keeps growing ({grown:.3g} > {bound:g})"
                self._event("memory", text, None, float(grown), bound)

    def _tell_programs(self) -> None:
        """Writes down how much was compiled so far, if that is news."""
        if self._watch.programs.ready > self._told.ready:
            self._told = self._watch.programs
            self._event("compiled", str(self._told))

    def _finish(self) -> Result:
        if self._champion is None:
            raise DivergedError(
                f"all {len(self._frame.alive)} members diverged in round {self._frame.round}; "
                "lower the learning rates of the space"
            )
        (within, _), network, best = self._champion
        if not within:
            told = "nobody ever kept within the limits of the goal; the best network breaks them"
            self._say("note", told)
        best = best._replace(scores=best.scores | score_on(self._setup, network, "test"))
        self._writer.best(*stored_best(best))
        self.keeper.hash(int(self._frame.round), self._trainer)
        together = outcome.together(self._setup, self._trainer, self._held())
        for kind, found in zip(("ensemble", "soup"), together, strict=True):
            if found is not None:
                self._event(kind, str(found))
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

    def _done(self) -> int:
        return self._setup.experiment.budget - int(self._frame.remaining)

    def _announce(self, state: str) -> None:
        experiment, frame = self._setup.experiment, self._frame
        name = main_metric(self._setup.task)
        status = store.Status(
            state, int(frame.round), self._done(), experiment.budget,
            self._champion.best.scores[name] if self._champion else None,
            int(frame.alive.sum()), experiment.members, time.time(), lineages(frame),
        )  # fmt: skip
        self._writer.status(status)
        self._display.show(status)

    def _say(self, kind: str, text: str) -> None:
        self._event(kind, text)
        self._display.note(text)

    def _event(self, kind: str, text: str, *about: Any) -> None:
        """Stores an event of this round; `about` as of `store.Writer.event`."""
        self._writer.event(int(self._frame.round), kind, text, *about)


def _joined(
    begun: resuming.Beginning, writer: Any, display: progress.Display
) -> contextlib.AbstractContextManager[Any]:
    """The trainer together with the nodes of the run, if it has any."""
    setup, experiment = begun.setup, begun.setup.experiment

    def tell(text: str) -> None:
        writer.event(writer.rounds, "node", text)
        display.note(text)

    members = experiment.members - experiment.nodes, experiment.nodes
    return with_nodes(
        begun.trainer, setup.recipe.space, members, setup.directory, bus=experiment.bus,
        swarm=experiment.swarm, patience=experiment.patience, tell=tell,
        done=max([int(begun.frame.round), *begun.known]), known=begun.known,
    )  # fmt: skip
