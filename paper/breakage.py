"""Members that break, disks that fill up and trainers that meet: the others are as if alone."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import swarmjax as sj
from paper.measure import MissingData, Row, Target, at_least, at_most
from swarmjax import checkpoints
from swarmjax.policy import stateless
from swarmjax.progress import Silent
from swarmjax.stored import open_run
from swarmjax.types import InputError

MEMBERS = 8


class Small(nn.Module):
    """One hidden layer."""

    width: int

    @nn.compact
    def __call__(self, x):
        """The logits."""
        return nn.Dense(2)(nn.relu(nn.Dense(self.width)(x)))


def poison() -> Row:
    """Healthy members that are not what they are without sick ones, of runs with 1, N/2, N-1."""

    def targets(quick: bool):
        del quick
        return {"nan-others-changed": at_most(0), "nan-completed": at_least(3)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        del quick
        healthy, found = _sick(0), {}
        for sick in (1, MEMBERS // 2, MEMBERS - 1):
            networks = _sick(sick)
            pairs = zip(networks[sick:], healthy[sick:], strict=True)
            found[sick] = sum(not _same(*pair) for pair in pairs)
        values = {"nan-others-changed": sum(found.values()), "nan-completed": len(found)}
        return {name: float(value) for name, value in values.items()}, found

    return Row(targets, measure)


def disk() -> Row:
    """A run on a small file system that is filled up and emptied again while it trains."""

    def targets(quick: bool) -> dict[str, Target]:
        del quick
        names = ("disk-run-completed", "disk-told-in-a-round", "disk-older-intact", "disk-later")
        return dict.fromkeys(names, at_least(1))

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        del quick
        with _small_disk() as place:
            filling = Filling(place)
            result = sj.run(**_settings(), display=filling, directory=place / "run",
                            checkpoint_seconds=0)  # fmt: skip
            held, _ = checkpoints.latest(place / "run")
            rounds = int(result.frame.round)
            with contextlib.closing(open_run(place / "run")) as reader:
                complete = reader.rounds() == list(range(1, rounds + 1))
        told = [round for round, text in filling.notes if "cannot write" in text]
        values = {
            "disk-run-completed": complete,
            "disk-told-in-a-round": bool(told) and told[0] - filling.full[0] <= 1,
            "disk-older-intact": filling.intact,
            "disk-later": held is not None and held.round == rounds,
        }
        # Where the small disk was is of no interest to anybody else.
        notes = [(round, text.replace(f"{place}/run", "RUN")) for round, text in filling.notes]
        return {name: float(value) for name, value in values.items()}, {"notes": notes}

    return Row(targets, measure)


def rivals() -> Row:
    """Second trainers that were let in, and reads of eight readers that were not consistent."""

    def targets(quick: bool):
        del quick
        return {"rivals-let-in": at_most(0), "readers-inconsistent": at_most(0),
                "reads": at_least(100)}  # fmt: skip

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        del quick
        with tempfile.TemporaryDirectory() as folder:
            meeting = Meeting(Path(folder) / "run")
            sj.run(**_settings(budget=6000), display=meeting, directory=meeting.directory)
            meeting.over.set()
            for reader in meeting.readers:
                reader.join()
        values = {"rivals-let-in": meeting.let_in, "readers-inconsistent": len(meeting.faults),
                  "reads": meeting.reads}  # fmt: skip
        return {k: float(v) for k, v in values.items()}, {"faults": meeting.faults[:20]}

    return Row(targets, measure)


class Filling(Silent):
    """Fills the disk after the third round and makes room after the sixth."""

    def __init__(self, place: Path):
        self._place, self._round = place, 0
        self.notes: list[tuple[int, str]] = []
        self.full: list[int] = []
        self.intact = False

    def note(self, text: str) -> None:
        """Keeps what a person would read."""
        self.notes.append((self._round, text))

    def show(self, status) -> None:
        """Fills and empties."""
        if status.state != "running":
            return
        self._round, block = status.round, self._place / "block"
        if status.round in (3, 4, 5):
            self.full.append(status.round)
            # What is left over by others is taken, too.
            with contextlib.suppress(OSError), block.open("ab") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
        if status.round == 6:
            self.intact = checkpoints.latest(self._place / "run")[0] is not None
            block.unlink()


class Meeting(Silent):
    """A second trainer in every round, and readers all the time."""

    def __init__(self, directory: Path):
        self.directory, self.over = directory, threading.Event()
        self.let_in, self.reads, self.faults, self.readers = 0, 0, [], []

    def show(self, status) -> None:
        """Tries to train here, too."""
        if status.state != "running" or not status.round:
            return
        if not self.readers:
            self.readers = [threading.Thread(target=self._read) for _ in range(8)]
            for reader in self.readers:
                reader.start()
        for resume in (False, True):
            try:
                sj.run(**_settings(budget=6000), directory=self.directory, resume=resume)
                self.let_in += 1
            except InputError:
                pass

    def _read(self) -> None:
        while not self.over.is_set():
            try:
                with contextlib.closing(open_run(self.directory)) as reader:
                    rows = reader.frames()
                    windows = reader.windows()
                whole = len(rows) == MEMBERS * (rows["round"].to_numpy().max())
                steps = windows["steps"].to_numpy().sum() >= rows["steps"].to_numpy().sum()
                if not (whole and steps):
                    self.faults.append(f"{len(rows)} rows, windows {steps}")
            except Exception as error:  # noqa: BLE001 - which is what is counted
                self.faults.append(f"{type(error).__name__}: {error}")
            self.reads += 1


def _settings(budget: int = 800) -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(200, 4))
    task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)
    rate, poison = sj.log_uniform(1e-3, 1e-2), sj.choice(0, 1)
    space = sj.Space(rate=rate, poison=poison, width=sj.structure(4))
    return {
        "task": task, "space": space, "model": Small, "optimizer": _optimizer, "seed": 3,
        "members": MEMBERS, "budget": budget, "round_steps": 10, "policy": _dose(0),
    }  # fmt: skip


def _optimizer(genes):
    """SGD whose steps are not finite for whoever has the poison."""
    return optax.sgd(genes["rate"] * jnp.where(genes["poison"] > 0, jnp.nan, 1.0))


def _dose(members: int):
    def rule(key, plan, frame):
        del key
        sick = (frame.round >= 2) & (jnp.arange(MEMBERS) < members)
        poison = jnp.where(sick, 1, 0).astype(plan.genome["poison"].dtype)
        # As many steps for everyone, whoever lives: else the healthy would train longer.
        steps = jnp.minimum(10, frame.quota // MEMBERS) + 0 * plan.steps
        return plan._replace(steps=steps, genome={**plan.genome, "poison": poison})

    return stateless(rule, f"dose({members})")


def _sick(members: int) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        given = _settings() | {"policy": _dose(members), "directory": Path(folder) / "run"}
        result = sj.run(**given)
        networks = result.trainer.networks(range(MEMBERS), result.frame.genome)
        return [network.member for _, network in sorted(networks, key=lambda item: item[0])]


def _same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@contextlib.contextmanager
def _small_disk() -> Iterator[Path]:
    """A file system of a few megabytes."""
    place = Path(tempfile.mkdtemp())
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "swarmjax", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        shutil.rmtree(place)
        raise MissingData("only root can mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
        place.rmdir()
