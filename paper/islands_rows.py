"""Rows of the benchmark of islands: what they cost, and what they must not change."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import swarmjax as sj
from paper.measure import ROOT, Row, at_most, median, need, progress
from paper.scaling import made_up_frame
from paper.workers import Worker, serve
from swarmjax import dealing, proof
from swarmjax.experiment import Experiment
from swarmjax.rounds import decide, policy_bits, prepare_jax

MILLION = 1_000_000
# Of the row `together`: about a second of work for a core, which a round should be at least.
_CASE = {"kind": "mlp", "members": 64, "width": 64, "steps": 400}
_MOVED = {"kind": "mlp", "members": 2 * 88, "width": 128, "steps": 1}


def together() -> Row:
    """Time of rounds on two islands over that of two processes that know nothing of each other.

    Both sides take turns, so that what else the machine does hits both alike; so do their cores'
    seconds, which that hardly changes.
    """

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        need("ray")
        repeats = 5 if quick else 15
        half = {**_CASE, "members": _CASE["members"] // 2}
        one = {"JAX_NUM_CPU_DEVICES": "1"}
        apart = [Worker("paper.side_engine", "8", "1", environment=one) for _ in range(2)]
        with Worker("paper.side_islands") as islands, apart[0], apart[1]:
            islands.ask(case={"what": "rounds", **_CASE})
            for worker in apart:
                worker.ask(case=half)
            seconds: dict[str, list[float]] = {"islands": [], "apart": []}
            for turn in range(repeats + 1):
                both = {"islands": partial(_timed, [islands]), "apart": partial(_timed, apart)}
                for name, go in both.items():
                    spent = go()
                    # Programs are compiled in the first round.
                    if turn:
                        seconds[name].append(spent)
        ratios = [a / b for a, b in zip(seconds["islands"], seconds["apart"], strict=True)]
        progress(f"together: {median(ratios):.3f}")
        return {"islands-time-ratio": median(ratios)}, {**seconds, "ratios": ratios, **_CASE}

    return Row(lambda quick: {"islands-time-ratio": at_most(1.10)}, measure)


def same() -> Row:
    """Networks of a run on islands that are not, to the last bit, those of one process."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        need("ray")
        found = {}
        for islands in (2,) if quick else (2, 3):
            with tempfile.TemporaryDirectory() as folder:
                settings = _settings(Path(folder) / "run")
                trainer: Any = sj.run(**settings, trainer=sj.islands(islands, cpus=1)).trainer
                trainer.close()
                proved = proof.prove(
                    Path(folder) / "run", Experiment(**settings), round=None, member=None,
                    nearest=False,
                )  # fmt: skip
                assert proved.hashed, "a finished run keeps the hashes of its networks"
                found[islands] = list(proved.faults)
            progress(f"same: {islands} islands: {len(found[islands])} faults")
        return {"islands-differing": float(sum(map(len, found.values())))}, found

    return Row(lambda quick: {"islands-differing": at_most(0)}, measure)


def moving() -> Row:
    """Time of 10 MB of weights from one island into another over that of the object store alone."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        need("ray")
        seconds: dict[str, list[float]] = {"islands": [], "actors": [], "put-get": []}
        size = 0
        with Worker("paper.side_islands") as worker:
            worker.ask(case={"what": "moving", **_MOVED})
            for turn in range(11 if quick else 41):
                for how, some in seconds.items():
                    found = worker.ask(arguments={"how": how})["found"]
                    size = found["bytes"]
                    if turn:
                        some.append(found["seconds"])
        ratios = [a / b for a, b in zip(seconds["islands"], seconds["actors"], strict=True)]
        told = ", ".join(f"{how} {1e3 * median(some):.1f} ms" for how, some in seconds.items())
        progress(f"moving {size / 1e6:.1f} MB: {told}")
        return {"islands-moving-ratio": median(ratios)}, {**seconds, "bytes": size}

    return Row(lambda quick: {"islands-moving-ratio": at_most(3)}, measure)


def million() -> Row:
    """Seconds in which a chain decides for a million members, and their Plan is cut up."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        found: dict[str, Any] = {}
        repeats = 3 if quick else 9
        for what in ("swarm", "islands", "deal"):
            with Worker("paper.islands_rows") as worker:
                worker.ask(case={"what": what, "members": MILLION})
                cold = worker.ask()
                warm = [worker.ask() for _ in range(repeats)]
            found[what] = {
                "cold": cold["seconds"], "warm": [each["seconds"] for each in warm],
                "cpu": [each["cpu_seconds"] for each in warm], "found": warm[-1]["found"],
            }  # fmt: skip
            progress(f"million, {what}: {median(found[what]['warm']):.3g} s")
        return {"million-policy-seconds": median(found["swarm"]["warm"])}, found

    return Row(lambda quick: {"million-policy-seconds": at_most(1)}, measure)


def imports() -> Row:
    """Modules of Ray that a run without islands has imported in the end."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        del quick
        with tempfile.TemporaryDirectory() as folder:
            place = str(Path(folder) / "run")
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", _DEFAULT, place], cwd=ROOT, capture_output=True, text=True,
                check=True,
            )  # fmt: skip
            seconds = time.perf_counter() - begun
        count = int(done.stdout.split()[-1])
        return {"ray-imported": float(count)}, {"seconds": seconds}

    return Row(lambda quick: {"ray-imported": at_most(0)}, measure)


_DEFAULT = """
import sys
import swarmjax.cli
from swarmjax.cli import command_line

try:
    command_line(["run", "spirals", "--members", "4", "--budget", "40", "--directory", sys.argv[1]])
except SystemExit as end:
    assert end.code == 0, end.code
print(sum(name.partition(".")[0] == "ray" for name in sys.modules))
"""


def _timed(workers: list[Worker]) -> float:
    """Seconds until all have computed a round side by side."""
    begun = time.perf_counter()
    for worker in workers:
        worker.send()
    for worker in workers:
        worker.receive()
    return time.perf_counter() - begun


def _settings(directory: Path) -> dict[str, Any]:
    space = sj.Space(
        learning_rate=sj.log_uniform(1e-3, 1e-1), optimizer=sj.choice("momentum", "adam"),
        activation=sj.choice("relu", "tanh"), depth=sj.structure(1, 2), width=sj.structure(8, 16),
    )  # fmt: skip
    policy = sj.chain(sj.softmax(), sj.exploit(0.3), sj.perturb(), sj.breed(), sj.migrate(3))
    return {
        "task": "spirals", "space": space, "members": 24, "budget": 24 * 20 * 10,
        "round_steps": 20, "seed": 3, "policy": policy, "directory": directory,
    }  # fmt: skip


def prepare(what: str, members: int) -> Callable[[], Any]:
    """`swarm`: the default policy decides; `islands`: one with migration; `deal`: what it decided
    is dealt to 64 islands, and cut up for one of them.
    """
    prepare_jax()
    frame = made_up_frame(members)
    chains = {
        "islands": sj.chain(sj.softmax(), sj.niches("slot", bins=64), sj.migrate(64, every=1))
    }
    policy = chains.get(what, sj.preset("swarm"))
    update, state = jax.jit(partial(decide, policy)), policy.init(frame)
    # Numbers of the random keys differ, so that nothing but the program is used again.
    seeds = iter(range(2**20))

    def decided() -> Any:
        return update(policy_bits(next(seeds), 1), frame, state)[0]

    def granted() -> int:
        return int(np.asarray(decided().steps).sum())

    return _dealt(frame, jax.tree.map(np.asarray, decided())) if what == "deal" else granted


def _dealt(frame: Any, plan: Any) -> Callable[[], Any]:
    from paper.searches import case
    from swarmjax import descent
    from swarmjax.experiment import check
    from swarmjax.following import Homes

    some = case("digits-noisy")
    recipe = check(Experiment(task=some.task, space=some.space, members=16)).recipe
    owner, pace = dealing.blocks(MILLION, 64), np.full(64, 1e-9)
    pace[3] *= 2

    def go() -> dict[str, int]:
        line = descent.descent(recipe, frame.genome, plan)
        born = descent.numbered(np.asarray(frame.birth), MILLION, line.newborn)
        work = dealing.work_of(plan, frame)
        after = dealing.deal(owner, work, pace, np.zeros(MILLION), np.ones(64, bool))
        order = dealing.order_for(0, after, plan, line, frame, born, Homes())
        borrowed = sum(map(len, dealing.borrowed(order, owner, 0).values()))
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(order) if hasattr(leaf, "nbytes"))
        moved = int((after != owner).sum())
        return {"moved": moved, "own": order.own, "borrowed": borrowed, "order_bytes": size}

    return go


if __name__ == "__main__":
    serve(prepare)
