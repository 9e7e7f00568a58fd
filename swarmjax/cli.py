"""The command line: run, runs, steer, export, replay, schema, dashboard."""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import inspect
import json
import shutil
import sqlite3
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from swarmjax import (
    bulletins,
    clock,
    fitness,
    ledger,
    progress,
    proof,
    records,
    replaying,
    spoken,
    steerable,
    store,
    stored,
    telemetry,
    windows,
)
from swarmjax.commands import Dashboard, Export, Options, Replay, Run, Runs, Schema, Steer
from swarmjax.experiment import Experiment, builtin
from swarmjax.island_protocol import IslandError
from swarmjax.islands import Islands, islands
from swarmjax.outcome import DivergedError, Result
from swarmjax.policy import PlanError
from swarmjax.remote import Elsewhere, Follow, Node, run_follow, run_node
from swarmjax.rescue import ProgramError
from swarmjax.run import run
from swarmjax.space import Option
from swarmjax.stopping import StoppedError
from swarmjax.tasks import TASKS
from swarmjax.types import InputError


class ReplayError(RuntimeError):
    """What was rebuilt is not what was stored."""


# Seconds without a sign of life after which a trainer counts as gone.
GONE = 30.0


def command_line(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 bad input, 130 or 143 stopped."""
    command = tyro.cli(
        Run | Runs | Steer | Export | Replay | Schema | Dashboard | Elsewhere,  # pyright: ignore[reportArgumentType]
        args=arguments,
        prog="swarmjax",
        description="Train, watch and steer a swarm of neural networks.",
    )
    actions = {
        Run: _run, Runs: _runs, Steer: _steer, Export: _export, Replay: _replay,
        Schema: _schema, Dashboard: _dashboard,
    }  # fmt: skip
    actions = {**actions, Follow: run_follow, Node: run_node}
    sys.exit(_guarded(lambda: actions[type(command)](command)))


def main(experiment: Experiment, arguments: list[str] | None = None) -> None:
    """Makes an experiment file a program: it runs `experiment` as the command line asks."""
    names = ("members", "budget", "seed")
    own = ", ".join(f"{name} {getattr(experiment, name):,}" for name in names)
    description = f"Runs this experiment ({own}); options replace what its file says."
    options = tyro.cli(Options, args=arguments, description=description)
    sys.exit(_guarded(lambda: _train(experiment, options)))


def _guarded(action) -> int:
    """Runs `action`; what a person can mend is told in one line instead of a traceback."""
    try:
        action()
    except InputError as error:
        return _told(error, 2)
    except (DivergedError, PlanError, ProgramError, ReplayError, IslandError) as error:
        return _told(error, 1)
    except (OSError, sqlite3.Error) as error:
        return _told(error, 1)
    except StoppedError as error:
        return _told(error, error.code)
    except KeyboardInterrupt:
        print("swarmjax: stopped", file=sys.stderr)
        return 130
    return 0


def _told(error: BaseException, code: int) -> int:
    print(f"swarmjax: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _run(command: Run) -> None:
    _train(_named(command.experiment, command.options.model), command.options)


def _named(name: str, model: str | None = None) -> Experiment:
    """The experiment of a built-in task, or that of a file."""
    if name.endswith(".py"):
        return load(Path(name))
    if name in TASKS:
        return builtin(name, model)
    known = ", ".join(TASKS)
    raise InputError(f"experiment {name!r} is neither a task ({known}) nor a file FILE.py")


def load(path: Path) -> Experiment:
    """The `experiment` that a Python file defines; raises InputError if it does not."""
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    # Registered under a name of its own, as dataclasses want, beside the modules it may import.
    spec = importlib.util.spec_from_file_location(f"_experiment_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except Exception as error:
        frames = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if Path(f.filename).resolve() == path.resolve()
        ]
        line = f" line {frames[-1].lineno}" if frames else ""
        raise InputError(f"{path}{line}: {type(error).__name__}: {error}") from error
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise InputError(f"{path} must define `experiment = sj.Experiment(...)`")
    return experiment


def _train(experiment: Experiment, options: Options) -> None:
    others = ("dashboard", "resume", "islands", "address")
    given = {name: getattr(options, name) for name in vars(options) if name not in others}
    if options.resume and options.directory is not None:
        with contextlib.closing(stored.open_run(options.directory)) as reader:
            experiment = replace(experiment, **replaying.numbers(reader))
    experiment = replace(experiment, **{k: v for k, v in given.items() if v is not None})
    trainer = _islands(options)
    viewers: list[subprocess.Popen] = []

    def started(directory: Path) -> None:
        print(f"storing the run in {directory}", file=sys.stderr)
        if options.dashboard:
            # -P: a file of the user's called viz.py must not stand in for the dashboard.
            command = [sys.executable, "-P", "-m", "swarmjax", "dashboard", str(directory)]
            viewers.append(subprocess.Popen([*command, "--browser"]))

    try:
        display = progress.Terminal()
        _conclude(
            run(
                experiment, display=display, started=started, resume=options.resume,
                trainer=trainer,
            )
        )  # fmt: skip
        for viewer in viewers:
            print("the dashboard stays open until Ctrl-C")
            viewer.wait()
    finally:
        for viewer in viewers:
            viewer.terminate()


def _islands(options: Options) -> Islands | None:
    """Where members train, if not in this process; raises InputError if they cannot."""
    if options.address is not None and options.islands is None:
        raise InputError("--address is that of a Ray cluster for islands; give --islands, too")
    if options.islands is None:
        return None
    # Accelerators belong to the islands.
    jax.config.update("jax_platforms", "cpu")
    return islands(options.islands, options.address)


def _conclude(result: Result) -> None:
    """The best members, where the run is, and how to look at it."""
    frame, console = result.frame, Console()
    score = np.asarray(fitness.worst_if_dead(fitness.default(frame), frame))
    order = [int(i) for i in np.argsort(-score, kind="stable")[:10]]
    columns = {**frame.metrics, "step": frame.total_steps}
    for table in progress.best_tables(frame.space, frame.genome, columns, order, console.width):
        console.print(table)
    best = ", ".join(f"{name} {value:.4f}" for name, value in sorted(result.best.scores.items()))
    console.print(f"best ever: member {result.best.member} in round {result.best.round}: {best}")
    genes = ", ".join(f"{name}={_short(value)}" for name, value in result.best.genome.items())
    console.print(f"  with {genes}", markup=False, highlight=False)
    for name, found in (("ensemble", result.ensemble), ("soup", result.soup)):
        if found is not None:
            console.print(f"{name}: {found}", markup=False, highlight=False)
    # Without an activated environment the plain name would not be found.
    program = "swarmjax" if shutil.which("swarmjax") else f"{sys.executable} -m swarmjax"
    directory = escape(str(result.directory))
    console.print(f"run directory: {directory}", soft_wrap=True)
    console.print(f"dashboard: {escape(program)} dashboard {directory}", soft_wrap=True)


def _short(value: Option) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _runs(command: Runs) -> None:
    rows = [_row(directory) for directory in stored.list_runs(command.directory)]
    if not rows:
        raise InputError(f"no run at or below {command.directory}")
    longest = max(len(row[0]) for row in rows)
    table = Table(box=None)
    # A path cut into pieces could not be copied: rather let the terminal wrap the lines.
    table.add_column("directory", no_wrap=True, min_width=longest)
    table.add_column("state", overflow="fold", max_width=40)
    for column in ("task", "members", "rounds", "member-steps", "best"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(text) for text in row))
    Console(width=max(Console().width, longest + 130)).print(table)


def _row(directory: Path) -> tuple[str, ...]:
    try:
        reader = stored.open_run(directory)
        config, status = reader.config, reader.status()
        reader.close()
    except (InputError, ValueError, TypeError, sqlite3.Error) as error:
        return (str(directory), f"unreadable: {error}")
    best = "-" if status.best is None else f"{config.get('metric', '')} {status.best:.4f}"
    done = f"{status.done:,} of {status.budget:,}"
    state = "trainer gone" if _gone(status) else status.state
    return (str(directory), state, str(config.get("task", "")), str(status.members),
            str(status.round), done, best)  # fmt: skip


def _gone(status: store.Status) -> bool:
    return status.state in ledger.STEERABLE and time.time() - status.heartbeat > GONE


def _steer(command: Steer) -> None:
    with contextlib.closing(stored.open_run(command.directory)) as reader:
        if command.words:
            _ask(command, reader)
        elif entries := reader.directives(100):
            Console().print(spoken.ledger_table(entries))
        else:
            print(f"nothing was asked of {command.directory} yet")


def _ask(command: Steer, reader: stored.Reader) -> None:
    scene = reader.scene()
    directive = spoken.parse(command.words, scene)
    steerable.check(directive, scene)
    who = getpass.getuser() if command.who is None else command.who
    (number,) = ledger.queue(reader.directory / store.DATABASE, who, [directive])
    if _gone(reader.status()):
        print("swarmjax: the trainer gives no sign of life; it may be gone", file=sys.stderr)
    end = time.monotonic() + command.wait
    while (entry := reader.directive(number)).state == "queued" and time.monotonic() < end:
        time.sleep(0.1)
    Console().print(spoken.ledger_table([entry]))


def _export(command: Export) -> None:
    with contextlib.closing(stored.open_run(command.directory)) as reader:
        params, record = reader.best()
    if command.out.exists():
        raise InputError(f"{command.out} exists already; choose another place")
    try:
        command.out.mkdir(parents=True)
        np.savez(command.out / "params.npz", **params)  # pyright: ignore[reportArgumentType]
        (command.out / "genome.json").write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {command.out}: {error}") from None
    print(f"wrote {command.out / 'params.npz'} and {command.out / 'genome.json'}")


def _replay(command: Replay) -> None:
    experiment = None
    if command.experiment is not None:
        with contextlib.closing(stored.open_run(command.directory)) as reader:
            experiment = replace(_named(command.experiment), **replaying.numbers(reader))
    with progress.rounds() as tell:
        found = proof.prove(
            command.directory, experiment, round=command.round, member=command.member,
            nearest=not command.from_seed, tell=tell,
        )  # fmt: skip
    if found.faults:
        more = len(found.faults) - 1
        raise ReplayError(found.faults[0] + (f" (and {more} more)" if more else ""))
    who = "all members" if found.member is None else f"member {found.member}"
    what = "numbers and weights" if found.hashed else "numbers (no hash of its weights was kept)"
    print(f"round {found.round} rebuilt: {what} are those of the run, for {who}")
    if found.member is not None:
        print(f"hash of its weights: {found.hashes[found.member].tobytes().hex()}")


def _schema(command: Schema) -> None:
    del command
    print(f"Version {store.VERSION} of run directories, {records.VERSION} of messages.\n")
    print(*(module.__doc__ for module in (telemetry, store, windows, records, bulletins)), sep="\n")
    told = (bulletins.Rows, bulletins.Said, bulletins.About, bulletins.Follow)
    for record in (records.Announce, records.Report, records.Layer, clock.Stamp, *told):
        print(f"{record.__name__}: {inspect.getdoc(record)}\n")


def _dashboard(command: Dashboard) -> None:
    # The accelerator belongs to the trainer.
    jax.config.update("jax_platforms", "cpu")
    # Imported here: training needs none of the dashboard's libraries.
    from viz.app import serve

    serve(command.directory, port=command.port, open_browser=command.browser)
