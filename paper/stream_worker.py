"""A process of the row `stream`.

python -m paper.stream_worker produce URL DIR MEMBERS SECONDS RATE     stores and tells rounds
python -m paper.stream_worker follow URL DIR                           follows them to their end

Each prints its CPU seconds at the end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from swarmjax import ipc, store, telemetry
from swarmjax.bus import open_bus
from swarmjax.clock import Stamp, read
from swarmjax.mirror import follow
from swarmjax.relay import Relay
from swarmjax.space import Space, log_uniform
from swarmjax.usage import Usage

SWARM = "stream"


def rows(random: np.random.Generator, round: int, members: int) -> pa.Table:
    """A frame table of so many members that never differ but in their scores."""
    own = np.arange(members, dtype=np.int32)
    whole = dict.fromkeys(("member", "birth", "lineage", "parent"), own)
    whole |= {
        name: np.full(members, value, np.int32)
        for name, value in (("round", round), ("alarm", 0), ("steps", 10), ("step", 10 * round),
                            ("parameters", 1000))
    }  # fmt: skip
    names = ("cost", "bytes", "seconds", "train_loss", "gradient_norm", "valid_loss",
             "valid_accuracy", "learning_rate")  # fmt: skip
    numbers = {name: random.random(members).astype(np.float32) for name in names}
    flags = {"fresh": np.zeros(members, bool), "alive": np.ones(members, bool)}
    return ipc.table(whole | numbers | flags | {"time": np.full(members, time.time())})


def windows(random: np.random.Generator, round: int, members: int) -> pa.Table:
    """A window table with one window of ten steps of each."""
    own, now = np.arange(members, dtype=np.int32), time.time_ns()
    fixed = {"round": round, "member": own, "birth": own, "step": 10 * round, "steps": 10}
    fixed |= {"wall_ns": now, "monotonic_ns": now}
    return ipc.table({
        name: np.broadcast_to(fixed.get(name, random.random(members)), members).astype(
            made.to_pandas_dtype()
        )
        for name, made in telemetry.TYPES["windows"].items()
    })  # fmt: skip


def produce(url: str, directory: str, members: str, seconds: str, rate: str) -> None:
    """Stores rounds as a trainer does, `rate` of them a second, and tells them."""
    count, total = int(members), int(float(seconds) * float(rate))
    space = Space(learning_rate=log_uniform(1e-4, 1.0))
    config = {"members": count, "budget": 10 * count * total, "task": "made up"}
    writer = store.create(Path(directory), config, space)
    writer.steering({}, True)
    relay, random, begun = Relay(Path(directory), open_bus(url), SWARM), _random(), time.time()
    usage = Usage()
    for round in range(1, total + 1):
        time.sleep(max(begun + round / float(rate) - time.time(), 0))
        writer.frame(round, rows(random, round, count))
        writer.rows("windows", round, windows(random, round, count))
        used = telemetry.usage_table(round, 1 / float(rate), usage.sample(), Stamp(*read(), 0, 0))
        writer.summary("usage", round, used)
        state = "running" if round < total else "finished"
        writer.status(store.Status(
            state, round, 10 * count * round, 10 * count * total, None, count, count, time.time()
        ))  # fmt: skip
    relay.close(300)
    writer.close()


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


if __name__ == "__main__":
    if sys.argv[1] == "produce":
        produce(*sys.argv[2:])
    else:
        follow(Path(sys.argv[3]), open_bus(sys.argv[2]), SWARM)
    print(time.process_time())
