"""Directives by the hundred, right and wrong, asked of a run that trains: what comes of each."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from paper.browsing import ROOT
from paper.measure import Row, at_least, at_most
from swarmjax import ledger, steering, store, stored

MEMBERS = 16
BUDGET = 400_000
# So many are asked after every round: of a run that compiles, all would wait for its end.
AT_ONCE = 10
# What becomes of a directive that is not applied; the last is what Undo does to one that waits.
ENDS = ("refused", "withdrawn")


def asked() -> Row:
    """Directives that are settled, and rounds between the one that was asked in and the effect."""
    return Row(
        lambda quick: {
            "directives settled with a reason": at_least(1.0),
            "directives applied, share": at_least(0.2),
            "rounds from click to effect, most": at_most(1),
        },
        _measure,
    )


def _measure(quick: bool) -> tuple[dict[str, float], Any]:
    count = 100 if quick else 1000
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        command = [sys.executable, "-m", "swarmjax", "run", "spirals", "--members", str(MEMBERS)]
        command += ["--budget", str(BUDGET), "--directory", str(directory)]
        with (Path(folder) / "run.log").open("w") as log:
            training = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            return _asked_of(directory, training, count)
        finally:
            training.kill()
            training.wait()


def _asked_of(
    directory: Path, training: subprocess.Popen, count: int
) -> tuple[dict[str, float], Any]:
    reader = _first_round(directory, training)
    chance, began, last = random.Random(0), {}, 0
    for _ in range(0, count, AT_ONCE):
        last = _round_after(last, reader, training)
        births = reader.scene().birth.tolist()
        directives = [_any(chance, births) for _ in range(AT_ONCE)]
        numbers = ledger.queue(directory / store.DATABASE, "benchmark", directives)
        began |= dict.fromkeys(numbers, last)
    ledger.queue(directory / store.DATABASE, "benchmark", [steering.Stop()])
    training.wait(600)
    entries = [entry for entry in reader.directives(count + 1) if entry.id in began]
    reader.close()
    settled = [e for e in entries if e.state == "applied" or (e.state in ENDS and e.told)]
    applied = [entry for entry in settled if entry.state == "applied"]
    # The round that was being trained when it was asked for is over before anything can be done.
    late = [entry.round - began[entry.id] - 2 for entry in applied if entry.round is not None]
    found = {
        "directives settled with a reason": len(settled) / len(began),
        "directives applied, share": len(applied) / len(began),
        "rounds from click to effect, most": float(max(late) + 1),
    }
    kinds = Counter(
        (steering.decode(entry.body).__class__.__name__, entry.state) for entry in entries
    )
    return found, {" ".join(kind): number for kind, number in sorted(kinds.items())}


def _first_round(directory: Path, training: subprocess.Popen) -> stored.Reader:
    end = time.monotonic() + 600
    while not list(directory.glob("frames/r*.parquet")):
        if training.poll() is not None or time.monotonic() > end:
            raise RuntimeError("the run did not begin")
        time.sleep(0.1)
    return stored.open_run(directory)


def _round_after(last: int, reader: stored.Reader, training: subprocess.Popen) -> int:
    """The latest round that is stored, once there is one after `last`."""
    end = time.monotonic() + 120
    while (found := reader.rounds()[-1]) <= last:
        if training.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the run did not go on after round {last}")
        time.sleep(0.01)
    return found


def _any(chance: random.Random, births: list[int]) -> steering.Directive:
    """A directive for a network that lives, has gone, or never was; with values right or wrong."""
    slot = chance.randrange(len(births) + 1)
    birth = births[slot] if slot < len(births) and chance.random() < 0.9 else 10**6
    one = steering.Member(slot, birth)
    other = steering.Member(0, births[0])
    rate = chance.choice([1e-3, 1e-2, 7.0, -1.0])
    makes = [
        lambda: steering.Boost(one, chance.choice([1.0, 2.0, 16.0])), lambda: steering.Freeze(one),
        lambda: steering.Thaw(one), lambda: steering.Pin(one), lambda: steering.Unpin(one),
        lambda: steering.Clone(one), lambda: steering.Breed(one, other),
        lambda: steering.Set(one, {"learning_rate": rate}), lambda: steering.Kill(one),
        lambda: steering.Turn({"softmax.temperature": chance.choice([0.5, 1.0, -3.0])}),
        lambda: steering.Note("a remark", one), lambda: steering.Undo(chance.randrange(1, 50)),
    ]  # fmt: skip
    return chance.choice(makes)()
