"""How a run begins: anew, or where the process before it ended.

A run that is resumed goes on from the latest whole checkpoint. Rounds after it whose Plans are
stored are trained once more by these Plans, while the policy and whoever is at the helm see the
same Frames as before, so that afterwards everything is as if nothing had happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from swarmjax import checkpoints, holding, naming, store, telemetry
from swarmjax.champion import Champion, kept
from swarmjax.checkpoints import Checkpoint
from swarmjax.experiment import Experiment, Setup, check
from swarmjax.helm import Helm
from swarmjax.naming import Named, named
from swarmjax.reopening import reopen, rewind
from swarmjax.replaying import check_same_run, described, take_up
from swarmjax.rounds import begin
from swarmjax.stored import Reader, open_run
from swarmjax.train import Choices, LocalTrainer
from swarmjax.types import Frame, InputError, Plan, State


class Beginning(NamedTuple):
    """What the first round of a process starts from.

    Attributes:
        setup: of the run.
        trainer: holds the networks.
        first: the Frame before anything was trained.
        frame: the last Frame.
        writer: of the run directory.
        plans: round -> the Plan it followed, of rounds after that Frame.
        checkpoint: that the run goes on from; None: it begins.
        told: a line on each thing that is worth knowing.
    """

    setup: Setup
    trainer: LocalTrainer
    first: Frame
    frame: Frame
    writer: store.Writer
    plans: Mapping[int, Plan] = {}
    checkpoint: Checkpoint | None = None
    told: tuple[str, ...] = ()


def anew(experiment: Experiment) -> Beginning:
    """The beginning of a new run.

    Raises:
        InputError: it cannot be run as given; nothing was written.
    """
    setup = check(experiment)
    trainer, frame = begin(setup)
    local = setup.experiment.members - setup.experiment.nodes
    trainer.check_memory({name: values[:local] for name, values in frame.genome.items()})
    writer = store.create(setup.directory, described(setup), setup.recipe.space)
    return Beginning(setup, trainer, frame, frame, writer, told=setup.notes)


def again(experiment: Experiment) -> Beginning:
    """Where the run in the experiment's directory goes on.

    Raises:
        InputError: there is none, it is another one, it is finished, or it cannot be resumed.
    """
    if experiment.directory is None:
        raise InputError("to resume a run its directory is needed; give --directory")
    if experiment.nodes:
        raise InputError("a run with nodes cannot be resumed: their networks are kept elsewhere")
    setup = check(replace(experiment, directory=None))
    setup = setup._replace(directory=Path(experiment.directory))
    with contextlib.closing(open_run(setup.directory)) as reader:
        check_same_run(setup, reader, "policy")
        writer = reopen(setup.directory)
        try:
            return _found(setup, reader, writer)
        except BaseException:
            writer.close()
            raise


def remember(
    trainer: LocalTrainer, frame: Frame, state: State, helm: Helm, champion: Champion | None
) -> tuple[Named, dict[str, Any]]:
    """All that a run is after a round, as arrays by name, and facts."""
    swarm, detector = trainer.state
    best, facts = kept(champion)
    arrays = holding.arrays_of(swarm) | named(detector, "detector") | named(frame, "frame")
    arrays |= named(state, "policy") | helm.orders() | best
    return arrays, {"best": facts, "weak": naming.weak(state, "policy")}


def _found(setup: Setup, reader: Reader, writer: store.Writer) -> Beginning:
    if reader.status().state == "finished":
        raise InputError(f"{setup.directory} is finished; there is nothing to resume")
    checkpoint, told = checkpoints.latest(setup.directory)
    since = checkpoint.round if checkpoint else 0
    plans = {round: telemetry.plan_from_table(table) for round, table in reader.plans()}
    trainer, first = begin(setup, _choices(reader))
    frame = first
    if checkpoint is not None:
        if missing := set(range(1, since + 1)) - set(plans):
            raise InputError(f"{setup.directory} is damaged: it lacks the Plan of {min(missing)}")
        frame = take_up(trainer, first, plans[1].genome, checkpoint)
    trainer.decide_freely()
    coming = {round: plan for round, plan in plans.items() if round > since}
    rewind(writer, since, checkpoint.facts["event"] if checkpoint else 0)
    place = f"the checkpoint of round {since}" if checkpoint else "the first round"
    known = f", whose next {len(coming)} rounds are known" if coming else ""
    return Beginning(
        setup, trainer, first, frame, writer, coming, checkpoint,
        (*told, f"resumed from {place}{known}"),
    )  # fmt: skip


def _choices(reader: Reader) -> Choices | None:
    """What was decided about speed, if the run came so far."""
    try:
        described = reader.engine()
    except InputError:
        return None
    return Choices.from_json(described)
