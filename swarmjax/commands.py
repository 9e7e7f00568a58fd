"""What can be said on the command line, and what its help says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from swarmjax.experiment import SIZES, Experiment


def _option(kind: str, default: object) -> Any:
    """How `--help` shows an option that is None where it is not given: its type and default."""
    return tyro.conf.arg(metavar=kind, help_behavior_hint=f"(default: {default})")


def _by_model(place: int) -> str:
    """As in `64; cnn 32, transformer 16`: a number of `SIZES`, for the usual model and others."""
    usual, *others = ((name, f"{sizes[place]:,}") for name, sizes in SIZES.items())
    return f"{usual[1]}; {', '.join(f'{name} {value}' for name, value in others)}"


@dataclass(frozen=True)
class Options:
    """Settings that replace those of the experiment.

    Attributes:
        members: networks alive at a time.
        budget: training steps of all members together.
        model: a built-in family of networks: mlp, cnn or transformer.
        policy: a preset (swarm, pbt, random_search, grid_search, successive_halving, hyperband, pb2
            or regularised_evolution), or a chain such as 'tournament(size=3), rank, resample'.
        goal: what the policy maximises, such as 'accuracy=0.7, efficiency=0.3' or
            'pareto(accuracy=1, parameters=-1)', with limits after it, such as ', parameters<=1e5'.
        directory: where the run is stored.
        seed: of everything random.
        metrics: what to measure on validation data instead of the task's own: accuracy,
            balanced_accuracy, f1 (mean over classes), mae, perplexity, r2 or rmse.
        trace: members whose every step is kept.
        parameters: patterns of paths of parameters to keep of the traced members, such as
            'Dense_*/kernel'.
        window: steps that become one row of what is kept of every member; a power of two.
        checkpoint_seconds: that pass at least between checkpoints; 0 makes one after every round.
        checkpoints: how many are kept, the latest.
        islands: trains on so many islands, in Ray.
        address: of a Ray cluster that runs, auto or HOST:PORT; without one a Ray is started for
            this machine only.
        resume: goes on with the run in --directory, whatever ended it.
        dashboard: opens the dashboard beside the run.
    """

    members: Annotated[int | None, _option("INT", _by_model(0))] = None
    budget: Annotated[int | None, _option("INT", _by_model(1))] = None
    model: Annotated[str | None, _option("NAME", "mlp; for the task text transformer")] = None
    policy: Annotated[str | None, _option("NAME", Experiment.policy)] = None
    goal: Annotated[str | None, _option("GOAL", "the policy's own")] = None
    directory: Annotated[Path | None, _option("DIR", "a new one below runs")] = None
    seed: Annotated[int | None, _option("INT", Experiment.seed)] = None
    metrics: Annotated[tuple[str, ...] | None, _option("[NAME ...]", "the task's own")] = None
    trace: Annotated[tuple[int, ...] | None, _option("[INT ...]", "none")] = None
    parameters: Annotated[tuple[str, ...] | None, _option("[PATTERN ...]", "none")] = None
    window: Annotated[int | None, _option("INT", Experiment.window)] = None
    checkpoint_seconds: Annotated[float | None, _option("FLOAT", Experiment.checkpoint_seconds)] = (
        None
    )
    checkpoints: Annotated[int | None, _option("INT", Experiment.checkpoints)] = None
    islands: Annotated[int | None, _option("INT", "none, in this process")] = None
    address: Annotated[str | None, _option("HOST:PORT", "none")] = None
    resume: bool = False
    dashboard: bool = False


@dataclass(frozen=True)
class Run:
    """Trains a swarm: a built-in task (digits, digits-noisy, spirals, teacher, text) or FILE.py.

    The defaults of a FILE.py are what its experiment says.

    Attributes:
        experiment: what to run.
    """

    experiment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK|FILE.py")]
    options: Annotated[Options, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class Runs:
    """Lists the runs at or below a directory.

    Attributes:
        directory: where to look, two levels deep.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")] = Path("runs")


@dataclass(frozen=True)
class Export:
    """Writes the best network of a run, params.npz and genome.json, to a new directory.

    Attributes:
        directory: the run.
        out: the new directory.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]


@dataclass(frozen=True)
class Replay:
    """Rebuilds the networks of a round from seed and Plans, and checks that they are the same.

    Numbers are compared with those that the run stored; weights with their hashes, which are kept
    of rounds with a checkpoint and of the last.

    Attributes:
        directory: the run.
        round: which; the last where it is not given.
        member: only this one is compared.
        experiment: what was run, where it was no built-in task.
        from_seed: begins with the seed instead of the nearest checkpoint.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    round: Annotated[int | None, _option("INT", "the last")] = None
    member: Annotated[int | None, _option("INT", "all")] = None
    experiment: Annotated[str | None, _option("TASK|FILE.py", "as the run says")] = None
    from_seed: bool = False


@dataclass(frozen=True)
class Steer:
    """Asks something of a running swarm, or lists what was asked and what became of it.

    pause | resume | stop | kill 17 | freeze 17 | thaw 17 | pin 17 | unpin 17 | boost 17 4 |
    clone 17 [into 3] | breed 3 5 [union] [into 9] | set 17 learning_rate=0.01 |
    turn goal.accuracy=0.5 | add 2 [width=64] | note [17] 'some text' | undo 12

    It is done before the next round. A number is a member, and means the network that lives there
    now.

    Attributes:
        directory: the run.
        words: what is asked; without any, the latest directives are listed.
        who: is written down as the one who asks.
        wait: seconds to wait for what becomes of it.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    words: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="WORDS")] = ()
    who: Annotated[str | None, _option("NAME", "the user's name")] = None
    wait: float = 0.0


@dataclass(frozen=True)
class Schema:
    """Tells every column of the tables of a run, and every field of what nodes send."""


@dataclass(frozen=True)
class Dashboard:
    """Serves the live view of a run on this machine, until Ctrl-C.

    Attributes:
        directory: the run.
        port: to listen on, of this machine only.
        browser: opens the page too.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    port: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: 0, any that is free)")] = 0
    browser: bool = False
