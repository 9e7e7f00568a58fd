"""How a run begins: anew, or where the process before it ended.

A run that is resumed goes on from the latest whole checkpoint. Rounds after it whose Plans are
stored are trained once more by these Plans, while the policy and whoever is at the helm see the
same Frames as before, so that afterwards everything is as if nothing had happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from swarmjax import anatomy, checkpoints, elsewhere, naming, store, telemetry
from swarmjax.champion import Champion, kept
from swarmjax.checkpoints import Checkpoint
from swarmjax.experiment import Experiment, Setup, check
from swarmjax.helm import Helm
from swarmjax.mixed import part_of
from swarmjax.naming import Named, named
from swarmjax.planner import Choices
from swarmjax.reopening import reopen, rewind
from swarmjax.replaying import check_same_run, described, take_up
from swarmjax.rounds import Make, begin
from swarmjax.stored import Reader, open_run
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
        known: round -> the Frame of the members that nodes train, of a run that goes on.
    """

    setup: Setup
    trainer: Any
    first: Frame
    frame: Frame
    writer: store.Writer
    plans: Mapping[int, Plan] = {}
    checkpoint: Checkpoint | None = None
    told: tuple[str, ...] = ()
    known: Mapping[int, Frame] = {}


def anew(experiment: Experiment, make: Make | None = None) -> Beginning:
    """The beginning of a new run, with the trainer that `make` makes, see `rounds.begin`.

    Raises:
        InputError: it cannot be run as given; nothing was written.
    """
    setup = check(experiment)
    trainer, frame = begin(setup, make=make)
    local = setup.experiment.members - setup.experiment.nodes
    trainer.check_memory({name: values[:local] for name, values in frame.genome.items()})
    with closed_on_error(trainer):
        writer = store.create(setup.directory, described(setup), setup.recipe.space)
    return Beginning(setup, trainer, frame, frame, writer, told=setup.notes)


def again(experiment: Experiment, make: Make | None = None) -> Beginning:
    """Where the run in the experiment's directory goes on; `make` as in `anew`.

    Raises:
        InputError: there is none, it is another one, it is finished, or it cannot be resumed.
    """
    if experiment.directory is None:
        raise InputError("to resume a run its directory is needed; give --directory")
    setup = check(replace(experiment, directory=None))
    setup = setup._replace(directory=Path(experiment.directory))
    with contextlib.closing(open_run(setup.directory)) as reader:
        check_same_run(setup, reader, "policy", "nodes")
        writer = reopen(setup.directory)
        try:
            return _found(setup, reader, writer, make)
        except BaseException:
            writer.close()
            raise


@contextlib.contextmanager
def closed_on_error(trainer: Any) -> Iterator[None]:
    """Closes a trainer that is not of this process if what is done here fails."""
    try:
        yield
    except BaseException:
        if close := getattr(trainer, "close", None):
            close()
        raise


def describer(setup: Setup) -> anatomy.Describer:
    """What describes the architectures of a run that its directory says nothing of yet."""
    with contextlib.closing(open_run(setup.directory)) as reader:
        try:
            known = set(reader.summaries("layers")["architecture"].to_pylist())
        except InputError:
            known = set()
    experiment = setup.experiment
    members = experiment.members - experiment.nodes
    return anatomy.Describer(setup.recipe, setup.task.train.x[:1], members, known)


def remember(
    trainer: Any, frame: Frame, state: State, helm: Helm, champion: Champion | None
) -> tuple[Named, dict[str, Any]]:
    """All that a run is after a round, as arrays by name, and facts; not what nodes hold."""
    best, facts = kept(champion)
    arrays = trainer.arrays() | named(frame, "frame")
    arrays |= named(state, "policy") | helm.orders() | best
    return arrays, {"best": facts, "weak": naming.weak(state, "policy")}


def _found(setup: Setup, reader: Reader, writer: store.Writer, make: Make | None) -> Beginning:
    if reader.status().state == "finished":
        raise InputError(f"{setup.directory} is finished; there is nothing to resume")
    checkpoint, told = checkpoints.latest(setup.directory)
    since = checkpoint.round if checkpoint else 0
    plans = {round: telemetry.plan_from_table(table) for round, table in reader.plans()}
    if missing := set(range(1, since + 1)) - set(plans):
        raise InputError(f"{setup.directory} is damaged: it lacks the Plan of {min(missing)}")
    trainer, first = begin(setup, _choices(reader), make)
    with closed_on_error(trainer):
        frame = first
        if checkpoint is not None:
            followed = [plans[round] for round in range(1, since + 1)]
            frame = take_up(trainer, first, followed, checkpoint)
    trainer.decide_freely()
    coming = {round: plan for round, plan in plans.items() if round > since}
    known = _shown(setup, reader, first, coming)
    rewind(writer, since, checkpoint.facts["event"] if checkpoint else 0)
    place = f"the checkpoint of round {since}" if checkpoint else "the first round"
    ahead = f", whose next {len(coming)} rounds are known" if coming else ""
    return Beginning(
        setup, trainer, first, frame, writer, coming, checkpoint,
        (*told, f"resumed from {place}{ahead}"), known,
    )  # fmt: skip


def _shown(
    setup: Setup, reader: Reader, first: Frame, coming: Mapping[int, Plan]
) -> Mapping[int, Frame]:
    """What nodes showed in every round that is trained once more, but perhaps in the last."""
    members, nodes = setup.experiment.members, setup.experiment.nodes
    if not nodes:
        return {}
    like = part_of(first, slice(members - nodes, members), 1)
    parts = reader.parts(min(coming, default=0))
    known = {round: elsewhere.unpacked(blob, like) for round, blob in parts.items()}
    begun = max(coming, default=0)
    if missing := sorted(set(coming) - set(known) - {begun}):
        raise InputError(
            f"{setup.directory} lacks what nodes showed in round {missing[0]}; it cannot be resumed"
        )
    return known


def _choices(reader: Reader) -> Choices | None:
    """What was decided about speed, if the run came so far."""
    try:
        described = reader.engine()
    except InputError:
        return None
    return Choices.from_json(described)
