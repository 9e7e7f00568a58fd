"""Islands as Ray actors: who runs where, and what tells a crash from silence.

Ray is imported when islands are asked for, and never before. Its processes send each other Python
objects, so a cluster belongs to those who trust each other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from swarmjax.errors import one_line
from swarmjax.island import OutOfStepError, Settings
from swarmjax.island_process import BEAT, Body, Pulse
from swarmjax.island_protocol import Lost

# Seconds without a sign of life after which a person is told.
QUIET = 10.0
# Seconds in which an island must have begun, and in which there must be a host for it: one that is
# gone may be back soon.
BEGINNING, ROOM = 600.0, 60.0


def alive(ray: Any) -> dict[str, Mapping[str, float]]:
    """Hosts of a cluster -> what they have."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def places(hosts: Iterable[Mapping[str, float]], each: Mapping[str, float]) -> int:
    """How many islands that take `each` of everything find a place on hosts."""
    wanted = {name: amount for name, amount in each.items() if amount > 0}
    return sum(
        min((int(host.get(name, 0) / amount + 1e-9) for name, amount in wanted.items()), default=0)
        for host in hosts
    )


def vacancies(
    hosts: Mapping[str, Mapping[str, float]],
    known: Collection[str],
    each: Mapping[str, float],
    islands: int,
) -> int:
    """How many islands find a place on those of the `hosts` that were not `known`.

    Beside so many `islands` there must be room for them all.
    """
    fresh = [had for host, had in hosts.items() if host not in known]
    return max(min(places(fresh, each), places(hosts.values(), each) - islands), 0)


class RayCrew:
    """Islands in the Ray that this process is connected to.

    Args:
        settings: of all islands.
        cores: that each takes, as Ray counts them, and CPU devices that it has.
        gpus: that each takes.
        patience: seconds without a sign of life after which an island is given up.
        say: told in a line of silence.
        leave: closes what was opened for the islands.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        cores: int,
        gpus: float,
        patience: float,
        say: Callable[[str], None] = lambda text: None,
        leave: Callable[[], None] = lambda: None,
    ):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._settings, self._leave = ray, ray.put(settings), leave
        self._cores, self._gpus, self._patience, self.say = cores, gpus, patience, say
        self._each = {"CPU": cores, "GPU": gpus}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        make: Any = ray.remote(Pulse)
        self._pulse = make.options(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
        ).remote()
        self._bodies: dict[int, Any] = {}
        self._lives: dict[int, int] = {}
        self._hired: dict[int, float] = {}
        self._quiet: set[int] = set()
        self._hosts = set(alive(ray))

    def hire(self, island: int) -> None:
        """As in `Crew`."""
        self.dismiss(island)
        life = self._lives[island] = self._lives.get(island, 0) + 1
        make: Any = self._ray.remote(Body)
        # SPREAD: one host after the other, as long as there are several.
        self._bodies[island] = make.options(
            num_cpus=self._cores, num_gpus=self._gpus, max_restarts=0, max_task_retries=0,
            scheduling_strategy="SPREAD",
        ).remote(self._settings, self._cores, self._pulse, island, life)  # fmt: skip
        self._hired[island] = time.monotonic()

    def newcomers(self) -> int:
        """As in `Crew`."""
        hosts, known = alive(self._ray), self._hosts
        self._hosts = known | set(hosts)
        return vacancies(hosts, known, self._each, len(self._bodies))

    def dismiss(self, island: int) -> None:
        """As in `Crew`."""
        body = self._bodies.pop(island, None)
        if body is not None:
            # What is cut off is dead to everyone else, too.
            with contextlib.suppress(Exception):
                self._ray.kill(body)
        self._quiet.discard(island)

    def call(self, island: int, method: str, *arguments: Any) -> Any:
        """As in `Crew`."""
        return getattr(self._bodies[island], method).remote(*arguments)

    def send(self, island: int, round: int, parts: Sequence[np.ndarray]) -> list[Any]:
        """As in `Crew`."""
        body = self._bodies[island]
        if len(parts) == 1:
            # Ray takes a tuple apart only where there are several.
            return [body.send_one.remote(round, parts[0])]
        return list(body.send.options(num_returns=len(parts)).remote(round, parts))

    def answered(self, reference: Any, island: int) -> Any:
        """As in `Crew`."""
        ready, _ = self._ray.wait([reference], timeout=0)
        return self._outcome(reference, island) if ready else None

    def wait(self, pending: Mapping[Any, int]) -> tuple[Any, Any]:
        """As in `Crew`; tells of silence, and gives up who is silent for too long."""
        while True:
            ready, _ = self._ray.wait(list(pending), num_returns=1, timeout=BEAT)
            if ready:
                return ready[0], self._outcome(ready[0], pending[ready[0]])
            for reference, island in pending.items():
                if lost := self._silence(island):
                    return reference, lost

    def _outcome(self, reference: Any, island: int) -> Any:
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except errors.RayTaskError as error:
            return self._failed(error)
        except (errors.RayActorError, errors.ObjectLostError) as error:
            why = one_line(error, 200)
            if isinstance(error, errors.ActorUnavailableError):
                time.sleep(BEAT)
                return Lost(False, why, again=True)
            return Lost(isinstance(error, errors.RayActorError), why)
        if island in self._quiet:
            self._quiet.discard(island)
            self.say(f"island {island} answers again")
        return answer

    def _failed(self, error: Any) -> Lost:
        """What an island could not do for want of something; raises what is its own fault."""
        cause, errors = error.cause, self._ray.exceptions
        if isinstance(cause, OutOfStepError | errors.RayError):
            return Lost(False, one_line(cause, 200))
        raise cause if isinstance(cause, Exception) else error

    def _silence(self, island: int) -> Lost | None:
        """Tells of an island without a sign of life; what it is given up as, if it is."""
        ages = self._ray.get(self._pulse.ages.remote())
        since_hired = time.monotonic() - self._hired[island]
        heard = ages.get((island, self._lives[island]))
        age = since_hired if heard is None else heard
        patience = max(self._patience, BEGINNING) if heard is None else self._patience
        if age > patience or (heard is None and age > ROOM and self._crowded()):
            self.dismiss(island)
            why = f"no sign of life for {age:.0f} s"
            return Lost(True, why, nowhere=heard is None)
        if heard is not None and age > QUIET and island not in self._quiet:
            self._quiet.add(island)
            self.say(
                f"island {island} gives no sign of life, but has not crashed: it may be cut off; "
                f"waiting for it, at most {self._patience:.0f} s"
            )
        return None

    def _crowded(self) -> bool:
        """Whether the living hosts are too few for all islands."""
        return places(alive(self._ray).values(), self._each) < len(self._bodies)

    def close(self) -> None:
        """As in `Crew`; the Ray that was started for the islands is shut down."""
        for island in list(self._bodies):
            self.dismiss(island)
        with contextlib.suppress(Exception):
            self._ray.kill(self._pulse)
        self._leave()
