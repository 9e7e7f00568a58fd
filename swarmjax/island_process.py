"""What runs in the processes of Ray: the body of an island, and the pulse that hears them all."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from swarmjax import clock
from swarmjax.clock import Exchange
from swarmjax.dealing import Order
from swarmjax.island import Harvest, IslandTrainer, OutOfStepError, Prepared, Settings
from swarmjax.moving import Crate
from swarmjax.planner import Choices
from swarmjax.rounds import prepare_jax
from swarmjax.types import Genome
from swarmjax.usage import Usage

# Seconds between signs of life, and that one may take to be heard.
BEAT, LATE = 1.0, 10.0


class Pulse:
    """Hears the signs of life of all islands beside the controller, whose clock it reads."""

    def __init__(self):
        self._last: dict[tuple[int, int], float] = {}
        self._clock = clock.controller_clock()

    def beat(self, island: int, life: int) -> tuple[int, int]:
        """A sign of life; nanoseconds when it was received, and answered."""
        received = self._clock()
        self._last[island, life] = time.monotonic()
        return received, self._clock()

    def ages(self) -> dict[tuple[int, int], float]:
        """(island, life) -> seconds since the last sign."""
        now = time.monotonic()
        return {who: now - then for who, then in self._last.items()}


class Body:
    """The process of an island; calls come one at a time, in order."""

    def __init__(self, settings: Settings, cores: int, pulse: Any, island: int, life: int):
        # Too late where a backend runs.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cores)
        prepare_jax()
        self._trainer, self._usage = IslandTrainer(settings), Usage()
        self._last: Harvest | None = None
        self._exchanges: deque[Exchange] = deque(maxlen=clock.KEPT)
        beat = threading.Thread(target=self._beat, args=(pulse, island, life), daemon=True)
        beat.start()

    def _beat(self, pulse: Any, island: int, life: int) -> None:
        import ray

        while True:
            # Without the controller nobody is there to hear it; Ray ends the process.
            with contextlib.suppress(Exception):
                sent = time.monotonic_ns()
                received, answered = ray.get(pulse.beat.remote(island, life), timeout=LATE)
                exchange = Exchange(sent, received, answered, time.monotonic_ns())
                self._exchanges.append(clock.check_exchange(exchange))
            time.sleep(BEAT)

    def settle(self, choices: Choices) -> None:
        """As in `IslandTrainer`."""
        self._trainer.settle(choices)

    def decide(self, genome: Genome) -> Prepared:
        """As in `IslandTrainer`."""
        return self._trainer.decide(genome)

    def hold(self, round: int, slots: np.ndarray, birth: np.ndarray, crates: list[Crate]) -> None:
        """As in `IslandTrainer`."""
        self._last = None
        self._trainer.hold(round, slots, birth, crates)

    def pack(self, slots: np.ndarray) -> list[Crate]:
        """As in `IslandTrainer`."""
        return self._trainer.pack(slots)

    def send(self, round: int, parts: Sequence[np.ndarray]) -> tuple[list[Crate], ...]:
        """The networks in each of `parts`, as after a round."""
        return tuple(self.send_one(round, slots) for slots in parts)

    def send_one(self, round: int, slots: np.ndarray) -> list[Crate]:
        """The networks in `slots`, as after a round."""
        if round != self._trainer.done:
            raise OutOfStepError(f"round {round} is asked for in round {self._trainer.done}")
        return self._trainer.pack(slots)

    def follow(self, order: Order, *crates: list[Crate]) -> Harvest:
        """A round; if that is what was done last, what it brought in."""
        if self._last is not None and self._last.round == order.round + 1:
            return self._last
        found = self._trainer.follow(order, [crate for some in crates for crate in some])
        now = clock.read()
        known = clock.estimate(list(self._exchanges), now.monotonic)
        self._last = found._replace(used=self._usage.sample(), stamp=clock.stamp(now, known))
        return self._last
